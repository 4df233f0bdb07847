"""Validate: is this event new? (Its types and ranges were settled when it was decoded.)"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from headrace.processors.base import State, StoreSpec

__all__ = ["Validate"]


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
        return (StoreSpec("seen", "log", index=_arrivals),)

    def process(self, event_id: Any, stream_time_ms: int, state: State) -> bool:
        """Whether this event is new; it is remembered if so."""
        return self.compile(state)(event_id, stream_time_ms)

    def compile(self, state: State) -> Callable[[Any, int], bool]:
        """`process` on this state, with its look-ups done once."""
        seen, arrivals, horizon_ms = state["seen"], state["seen.index"], self.horizon_ms
        known_at, put, append = seen.get, seen.put, arrivals.append

        def is_new(event_id: Any, stream_time_ms: int) -> bool:
            cutoff = stream_time_ms - horizon_ms
            while arrivals and arrivals[0][0] < cutoff:
                old_ms, old = arrivals.popleft()
                if known_at(old) == old_ms:
                    seen.pop(old)
            known = known_at(event_id)
            if known is not None and known >= cutoff:
                return False
            put(event_id, stream_time_ms)
            append((stream_time_ms, event_id))
            return True

        return is_new


def _arrivals(seen: Any) -> deque[tuple[int, Any]]:
    return deque((arrived_ms, event_id) for event_id, arrived_ms in seen.items())
