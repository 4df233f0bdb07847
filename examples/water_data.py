"""Two months of hourly flow through a water main, to be predicted six hours ahead (River's `WaterFlow`).

An event is a measurement; its label is the flow six hours after it, and is known then: a delay that no declaration
invents. Where the gauge was silent at that hour (34 of 1,268), the label never comes. The data ship inside River.
Times are milliseconds since 1970-01-01T00:00:00Z.
"""

from __future__ import annotations

from typing import Any

import pandas as pd
from river.datasets import WaterFlow

__all__ = ["AHEAD_MS", "EVENT_COLUMNS", "LABEL_COLUMNS", "events", "frame", "labels"]

AHEAD_MS = 6 * 3_600_000
"""How far ahead the flow is to be predicted."""

EVENT_COLUMNS = ("event_id", "branch", "measured_at", "flow")
LABEL_COLUMNS = ("event_id", "known_at", "flow_ahead")

_BRANCH = "main"  # River's file is one branch of the pipeline, without a name


def frame(limit: int | None = None) -> pd.DataFrame:
    """The first `limit` measurements (all: None), one row each, in the order of their time.

    `known_at` and `flow_ahead` are null where the gauge was silent six hours later. They do not depend on `limit`.
    """
    if limit is not None and limit < 0:
        raise ValueError(f"limit is {limit}; it must be None or at least 0")
    flow_at = {int(x["Time"].timestamp() * 1000): float(y) for x, y in WaterFlow()}
    rows = [_row(time_ms, flow_at) for time_ms in sorted(flow_at)[:limit]]
    columns = dict.fromkeys(EVENT_COLUMNS + LABEL_COLUMNS)
    return pd.DataFrame(rows, columns=list(columns)).astype({"measured_at": "int64", "known_at": "Int64"})


def events(measurements: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of `frame()` as events, in the order of the frame."""
    return _records(measurements, EVENT_COLUMNS)


def labels(measurements: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of `frame()` that have a label, as labels in the order in which they become known."""
    return _records(measurements[measurements["known_at"].notna()], LABEL_COLUMNS)


def _row(time_ms: int, flow_at: dict[int, float]) -> tuple[Any, ...]:
    event_id = f"{_BRANCH}-{pd.Timestamp(time_ms, unit='ms'):%Y-%m-%dT%H:%MZ}"
    known_ms = time_ms + AHEAD_MS
    ahead = flow_at.get(known_ms)
    return event_id, _BRANCH, time_ms, flow_at[time_ms], None if ahead is None else known_ms, ahead


def _records(measurements: pd.DataFrame, names: tuple[str, ...]) -> list[dict[str, Any]]:
    columns = [measurements[name].astype(object).tolist() for name in names]
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]
