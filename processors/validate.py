"""Validate: is this event new? (Its types and ranges were settled when it was decoded.)"""

from __future__ import annotations

from collections import deque
from typing import Any

from headrace.processors.base import State, StoreSpec

__all__ = ["Validate"]


class Validate:
    """Notices an event id that was already accepted within the horizon, in stream time.

    Parameters
    ----------
    horizon_ms
        How long an id is remembered. A second event with the id of one whose time lies less than this behind
        stream time is a duplicate; after that the id counts as new.
    """

    def __init__(self, horizon_ms: int) -> None:
        self.horizon_ms = horizon_ms

    def stores(self) -> tuple[StoreSpec, ...]:
        """Ids seen, in order of arrival."""
        return (StoreSpec("seen", "log", index=_arrivals),)

    def process(self, event_id: Any, time_ms: int, stream_time_ms: int, state: State) -> bool:
        """Whether this event is new; it is remembered if so."""
        seen = state["seen"]
        cutoff = stream_time_ms - self.horizon_ms
        arrivals: deque[tuple[int, Any]] = state["seen.index"]
        while arrivals and arrivals[0][0] < cutoff:
            old_ms, old = arrivals.popleft()
            if seen.get(old) == old_ms:
                seen.pop(old)
        known = seen.get(event_id)
        if known is not None and known >= cutoff:
            return False
        seen.put(event_id, time_ms)
        arrivals.append((time_ms, event_id))
        return True


def _arrivals(seen: Any) -> deque[tuple[int, Any]]:
    return deque((time_ms, event_id) for event_id, time_ms in seen.items())
