"""Alerts and their records, for tests of what becomes of them."""

from __future__ import annotations

from typing import Any

import msgspec

from headrace.schemas.records import Alert
from headrace.streams.control.agents import Incoming

__all__ = ["alert", "record"]


def alert(name: str = "a1", status: str = "opened", findings: int = 1, **more: Any) -> Alert:
    """An alert record."""
    told: dict[str, Any] = {
        "alert_id": name,
        "kind": "error_drift",
        "signal": "error",
        "severity": "warning",
        "status": status,
        "message": f"error: {name} {status}",
        "detector": "ADWIN()",
        "statistic": {"score": 2.0},
        "strength": 1.5,
        "n": 100,
        "topic": "p.labels",
        "partition": 0,
        "first_offset": 10,
        "last_offset": 20,
        "opened_ms": 1_000,
        "time_ms": 2_000,
        "findings": findings,
        "examples": ["e1", 2],
    }
    return Alert(**(told | more))


def record(offset: int, value: Alert | bytes | None, time_ms: int | None = None, topic: str = "p.alerts") -> Incoming:
    """A record of the alerts topic; Kafka's time goes with the offset unless it is given."""
    raw = msgspec.json.encode(value) if isinstance(value, Alert) else value
    return Incoming(topic, 0, offset, b"k", raw, 1_700_000_000_000 + 1_000 * offset if time_ms is None else time_ms)
