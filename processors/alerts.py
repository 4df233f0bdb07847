"""Alerts: what becomes of findings, so that people are told of a matter once, when it grows, and when it is over.

Of one watched signal at most one alert is open. It is *opened* by a finding, *updated* by later ones, at most once in a
cool-down unless it has become twice as strong, and *resolved* when none has come for a cool-down. After that the next
is held back until another cool-down has passed. All by the signal's own stream time: a pure function of its values,
however they come in batches, and at most a handful of records in a cool-down, whatever the detector does.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import Any

from headrace.processors.findings import Finding, Row
from headrace.schemas.records import Alert

__all__ = ["SEVERITIES", "Lifecycle"]

SEVERITIES: tuple[str, str, str] = ("info", "warning", "critical")


class Lifecycle:
    """Turns the findings about one signal into alerts.

    Parameters
    ----------
    kind, signal, detector
        As the alerts give them.
    topic
        The input topic that offsets refer to.
    severity
        "info", "warning" or "critical".
    cooldown_ms
        In stream time.
    """

    def __init__(
        self, kind: str, signal: str, detector: str, topic: str, severity: str = "warning", cooldown_ms: int = 3_600_000
    ) -> None:
        if severity not in SEVERITIES:
            raise ValueError(f"severity must be one of {', '.join(SEVERITIES)}; got {severity!r}")
        if cooldown_ms < 0:
            raise ValueError(f"cooldown_ms must not be negative; got {cooldown_ms!r}")
        self.kind, self.signal, self.detector, self.topic = kind, signal, detector, topic
        self.severity, self.cooldown_ms = severity, cooldown_ms

    def fresh(self) -> dict[str, Any]:
        """The state before anything was found."""
        return {"now": None, "open": None, "cool_until": None, "held": None}

    def run(
        self, rows: Sequence[Row], found: Sequence[tuple[int, Finding]], state: dict[str, Any]
    ) -> list[tuple[int, Alert]]:
        """The alerts of these rows, each with the place of the row at which it is published."""
        if not found and state["open"] is None and state["held"] is None:
            return []
        alerts: list[tuple[int, Alert]] = []
        at = 0
        for place, finding in found:
            self._pass(rows, at, place + 1, state, alerts)
            at = place + 1
            self._take(place, finding, state, alerts)
        self._pass(rows, at, len(rows), state, alerts)
        return alerts

    def _pass(
        self, rows: Sequence[Row], start: int, end: int, state: dict[str, Any], alerts: list[tuple[int, Alert]]
    ) -> None:
        """Time passes over these rows: what is open is resolved, what was held back is opened."""
        for i in range(start, end):
            current = state["open"]
            if current is None and state["held"] is None:
                return
            now = state["now"]
            if now is None or rows[i][1] > now:
                now = state["now"] = rows[i][1]
            if current is not None and now >= current["quiet_at"]:
                alerts.append((i, self._record("resolved", current, now)))
                state["open"], state["cool_until"] = None, now + self.cooldown_ms
            elif current is None and now >= state["cool_until"]:
                finding, count = state["held"]
                state["held"] = None
                self._open(i, Finding(*finding), count, now, state, alerts)

    def _take(self, place: int, finding: Finding, state: dict[str, Any], alerts: list[tuple[int, Alert]]) -> None:
        now = finding.time_ms if state["now"] is None else max(finding.time_ms, state["now"])
        state["now"], current = now, state["open"]
        if current is None:
            if state["cool_until"] is not None and now < state["cool_until"]:
                state["held"] = (tuple(finding), 1 if state["held"] is None else state["held"][1] + 1)
            else:
                held = state["held"]
                state["held"] = None
                self._open(place, finding, 1 if held is None else held[1] + 1, now, state, alerts)
            return
        current["findings"] += 1
        current["last"], current["quiet_at"] = tuple(finding), now + self.cooldown_ms
        worse = current["better"] and not self._better(finding)
        current["better"] = self._better(finding)
        if worse or now >= current["told_ms"] + self.cooldown_ms or finding.strength >= 2 * current["strength"]:
            current["told_ms"], current["strength"] = now, max(current["strength"], finding.strength)
            alerts.append((place, self._record("updated", current, now)))

    def _open(
        self, place: int, finding: Finding, count: int, now: int, state: dict[str, Any], alerts: list[tuple[int, Alert]]
    ) -> None:
        evidence = (self.kind, self.signal, self.detector, *map(str, finding[1:4]))
        current = state["open"] = {
            "id": blake2b("\x1f".join(evidence).encode(), digest_size=16).hexdigest(),
            "first_offset": finding.first_offset,
            "last": tuple(finding),
            "opened_ms": now,
            "told_ms": now,
            "quiet_at": now + self.cooldown_ms,
            "strength": finding.strength,
            "findings": count,
            "better": self._better(finding),
            "acted": False,
        }
        alerts.append((place, self._record("opened", current, now)))

    def _better(self, finding: Finding) -> bool:
        told = finding.statistic
        return self.kind == "error_drift" and told.get("after", 0.0) < told.get("before", 0.0)

    def _record(self, status: str, current: dict[str, Any], now: int) -> Alert:
        last = Finding(*current["last"])
        said = f"{self.signal}: {last.said}"
        if status == "resolved":
            count = current["findings"]
            said += f"; nothing new since {count} finding{'s' if count != 1 else ''}"
        return Alert(
            alert_id=current["id"],
            kind=self.kind,
            signal=self.signal,
            severity="info" if self._better(last) else self.severity,
            status=status,
            message=said,
            detector=self.detector,
            statistic=last.statistic,
            strength=last.strength,
            n=last.n,
            topic=self.topic,
            partition=last.partition,
            first_offset=current["first_offset"],
            last_offset=last.last_offset,
            opened_ms=current["opened_ms"],
            time_ms=now,
            findings=current["findings"],
            examples=list(last.examples),
        )
