"""Join: which label belongs to which prediction, and what becomes of those that never meet.

Every label has exactly one outcome, counted under its name:

``labelled``   it met its pending event: an example (``early`` counts those that had to wait for the event)
``duplicate``  the same label for an event that has one
``corrected``  another label for an event that has one: the first has trained, this one is only counted
``late``       its event had already expired (dead letter `late_label`)
``orphan``     no event with its id came within the time to live (dead letter `orphan`)

Every event has exactly one outcome as well: ``labelled``, ``expired``, or it is still ``pending``.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from headrace.processors.base import State, StoreSpec

__all__ = ["Early", "Join"]

_EXPIRED = ("expired",)


class Early(NamedTuple):
    """A label that came before its event, with what a dead letter about it would need."""

    time_ms: int
    offset: int
    partition: int
    y: Any
    key: bytes | None
    value: bytes | None


class Join:
    """Matches labels to pending events by id within a time to live, in stream time.

    An event expires when stream time has passed its time + `ttl_ms`; a label at exactly that time is in time. Ids are
    remembered for another `ttl_ms` after their outcome, so that duplicates, corrections and late labels are told apart
    from labels of unknown events.
    """

    def __init__(self, ttl_ms: int) -> None:
        self.ttl_ms = ttl_ms

    def stores(self) -> tuple[StoreSpec, ...]:
        """Pending events, labels waiting for their event, and the outcomes of late."""
        return (
            StoreSpec("pending", "log", index=_deadlines),
            StoreSpec("early", "log", index=_deadlines),
            StoreSpec("done", "log", index=_arrivals),
        )

    def process(self, event_id: Any, entry: tuple[Any, ...], state: State) -> Early | None:
        """Wait for this event's label; if the label is already here, it is returned and nothing waits.

        `entry` is what to keep meanwhile; its first two items are the event's time and offset.
        """
        return self.compile(state)[0](event_id, entry)

    def update(self, event_id: Any, label: Early, state: State) -> tuple[str, tuple[Any, ...] | None]:
        """The outcome of this label, and the pending entry when it is ``labelled``."""
        return self.compile(state)[1](event_id, label)

    def compile(self, state: State) -> tuple[Callable[..., Early | None], Callable[..., tuple[str, Any]]]:
        """`process` and `update` on this state, with their look-ups done once."""
        pending, early, done = state["pending"], state["early"], state["done"]
        deadlines, early_deadlines, done_times = state["pending.index"], state["early.index"], state["done.index"]
        put, take, remember = pending.put, pending.pop, done.put
        await_, await_early, await_done = deadlines.add, early_deadlines.add, done_times.add

        def process(event_id: Any, entry: tuple[Any, ...]) -> Early | None:
            if len(early):
                found = early.pop(event_id)
                if found is not None:
                    label = Early(*found)
                    time_ms = max(entry[0], label.time_ms)
                    remember(event_id, (time_ms, label.y))
                    await_done((time_ms, event_id))
                    return label
            put(event_id, entry)
            await_((entry[0], entry[1], event_id))
            return None

        def update(event_id: Any, label: Early) -> tuple[str, tuple[Any, ...] | None]:
            entry = take(event_id)
            if entry is not None:
                remember(event_id, (label[0], label[3]))
                await_done((label[0], event_id))
                return "labelled", entry
            known = done.get(event_id)
            if known is not None:
                if known[1] == _EXPIRED:
                    return "late", None
                return ("duplicate" if known[1] == label.y else "corrected"), None
            waiting = early.get(event_id)
            if waiting is not None:
                return ("duplicate" if Early(*waiting).y == label.y else "corrected"), None
            early.put(event_id, tuple(label))
            await_early((label.time_ms, label.offset, event_id))
            return "early", None

        return process, update

    def expire(self, stream_time_ms: int, state: State) -> list[tuple[Any, tuple[Any, ...] | Early]]:
        """What stream time has overtaken, oldest first: pending entries, then labels that found no event."""
        return self.compile_expire(state)(stream_time_ms)

    def compile_expire(self, state: State) -> Callable[[int], list[tuple[Any, tuple[Any, ...] | Early]]]:
        """`expire` on this state, with its look-ups done once."""
        pending, early, done = state["pending"], state["early"], state["done"]
        deadlines, early_deadlines, done_times = state["pending.index"], state["early.index"], state["done.index"]
        ttl_ms = self.ttl_ms

        def expire(stream_time_ms: int) -> list[tuple[Any, tuple[Any, ...] | Early]]:
            out: list[tuple[Any, tuple[Any, ...] | Early]] = []
            cutoff = stream_time_ms - ttl_ms
            for time_ms, offset, event_id in deadlines.before(cutoff):
                entry = pending.get(event_id)
                if entry is not None and entry[0] == time_ms and entry[1] == offset:
                    pending.pop(event_id)
                    done.put(event_id, (stream_time_ms, _EXPIRED))
                    done_times.add((stream_time_ms, event_id))
                    out.append((event_id, entry))
            for time_ms, offset, event_id in early_deadlines.before(cutoff):
                label = early.get(event_id)
                if label is not None and label[0] == time_ms and label[1] == offset:
                    early.pop(event_id)
                    out.append((event_id, Early(*label)))
            for time_ms, event_id in done_times.before(cutoff):
                known = done.get(event_id)
                if known is not None and known[0] == time_ms:
                    done.pop(event_id)
            return out

        return expire


class Deadlines:
    """Tuples that begin with a time, taken out in order: a queue of those that come in order, a heap of the others."""

    __slots__ = ("_heap", "_queue", "add")

    def __init__(self, entries: Iterable[tuple[Any, ...]]) -> None:
        self._queue: deque[tuple[Any, ...]] = deque(sorted(entries))
        self._heap: list[tuple[Any, ...]] = []
        self.add = self._adder()

    def _adder(self) -> Callable[[tuple[Any, ...]], None]:
        queue, heap = self._queue, self._heap
        append = queue.append

        def add(entry: tuple[Any, ...]) -> None:
            if not queue or entry >= queue[-1]:
                append(entry)
            else:
                heapq.heappush(heap, entry)

        return add

    def before(self, cutoff: int) -> list[tuple[Any, ...]]:
        """Take out those whose time is before `cutoff`, in order."""
        queue, heap = self._queue, self._heap
        out: list[tuple[Any, ...]] = []
        while queue and queue[0][0] < cutoff:
            if heap and heap[0] < queue[0]:
                out.append(heapq.heappop(heap))
            else:
                out.append(queue.popleft())
        while heap and heap[0][0] < cutoff:
            out.append(heapq.heappop(heap))
        return out


def _deadlines(store: Any) -> Deadlines:
    """By (time, offset, id): ties by offset, so the order does not depend on a restore."""
    return Deadlines((value[0], value[1], event_id) for event_id, value in store.items())


def _arrivals(done: Any) -> Deadlines:
    return Deadlines((value[0], event_id) for event_id, value in done.items())
