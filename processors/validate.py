"""Validate: is this event new? (Its types and ranges were settled when it was decoded.)"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from headrace.processors.base import State, StoreSpec

__all__ = ["Validate"]

_SWEEPS = 16
"""Ids are forgotten so many times within a horizon, not one by one."""


class Validate:
    """Notices an event id that was already accepted within the horizon, in stream time.

    Parameters
    ----------
    horizon_ms
        How long an id is remembered, counted from stream time at its arrival (so a late event's id is not forgotten
        before the event's own deadline); after that it counts as new.
    """

    def __init__(self, horizon_ms: int) -> None:
        self.horizon_ms = horizon_ms

    def stores(self) -> tuple[StoreSpec, ...]:
        """Ids seen, in order of arrival."""
        return (StoreSpec("seen", "log"),)

    def process(self, event_id: Any, stream_time_ms: int, state: State) -> bool:
        """Whether this event is new; it is remembered if so."""
        return self.compile(state)(event_id, stream_time_ms)

    def compile(self, state: State) -> Callable[[Any, int], bool]:
        """`process` on this state, with its look-ups done once."""
        seen, horizon_ms = state["seen"], self.horizon_ms
        known_at, put = seen.get, seen.put
        stride_ms = max(1, horizon_ms // _SWEEPS)
        due_ms = -math.inf

        def is_new(event_id: Any, stream_time_ms: int) -> bool:
            nonlocal due_ms
            cutoff = stream_time_ms - horizon_ms
            if cutoff >= due_ms:
                due_ms = cutoff - cutoff % stride_ms + stride_ms
                _forget(seen, due_ms - stride_ms)
            known = known_at(event_id)
            if known is not None and known >= cutoff:
                return False
            put(event_id, stream_time_ms)
            return True

        return is_new


def _forget(seen: Any, before_ms: float) -> None:
    """Drop ids that arrived before; they stand in the order of their arrival."""
    old = []
    for event_id, arrived_ms in seen.items():
        if arrived_ms >= before_ms:
            break
        old.append(event_id)
    for event_id in old:
        seen.pop(event_id)
