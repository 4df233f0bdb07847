"""Hours: what a signal was like in the same hour of the same weekday (UTC), older weeks counting less."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from headrace.processors import ring
from headrace.processors.findings import Row
from headrace.processors.twosample import Counts

__all__ = ["begin", "clear", "known"]

_WEEK_HOURS = 168
_HOUR_MS = 3_600_000
_LEAST = 50  # values that an hour of the week must have had before it is a reference


def clear(state: dict[str, Any], bins: int) -> None:
    """Nothing is known of the hour that begins."""
    state["first"], state["hour"] = np.zeros(bins), np.zeros(bins)


def begin(rows: Sequence[Row], at: int, state: dict[str, Any], weeks: int) -> int:
    """The hour of the week that row `at` is in begins, if it does; answers where the next one begins."""
    now = state["now"] if state["now"] is not None else rows[at][1]
    slot = None
    for i in range(at, len(rows)):
        now = max(now, rows[i][1])
        current = now // _HOUR_MS % _WEEK_HOURS
        if slot is None:
            slot = current
            if slot != state["slot"]:
                _next(slot, state, weeks)
        elif current != slot:
            return i
        state["now"] = now
    return len(rows)


def known(state: dict[str, Any]) -> Counts | None:
    """Count the block to its hour; what weeks before had at this hour, or None where that is too little."""
    state["hour"] += np.array(state["block"], dtype=np.float64)
    before: Counts | None = state["slots"].get(state["slot"])
    return None if before is None or before.sum() < _LEAST else before


def _next(slot: int, state: dict[str, Any], weeks: int) -> None:
    """Put the last hour's counts to what its slot knows, older weeks counting less; drop a part of a block."""
    slots = state["slots"]
    if state["slot"] is not None:
        state["hour"] += np.array(state["block"], dtype=np.float64)
        before = slots.get(state["slot"])
        kept = 0.0 if before is None else before * (1.0 - 1.0 / weeks)
        slots[state["slot"]] = kept + state["hour"]
    state["hour"] = np.zeros(len(state["first"]))
    ring.start_block(state)
    state["slot"] = slot
