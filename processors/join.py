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
import math
from collections import deque
from collections.abc import Callable, Container, Iterable, Sequence
from typing import Any, NamedTuple

from headrace.processors.base import State, StoreSpec

__all__ = ["EXPIRED", "Early", "Join"]

EXPIRED = ("expired",)
"""In place of a label, in what is remembered of an event without one."""
_SWEEPS = 16
"""Outcomes are forgotten so many times within a time to live, not one by one."""


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
            StoreSpec("done", "log", index=_Remembered),
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
        remembered = state["done.index"]
        put, take, remember, labels = pending.put, pending.pop, done.put, early.data
        await_, await_early = state["pending.index"].add, state["early.index"].add

        def process(event_id: Any, entry: tuple[Any, ...]) -> Early | None:
            if labels:
                found = early.pop(event_id)
                if found is not None:
                    label = Early(*found)
                    remember(event_id, (max(entry[0], label.time_ms), label.y))
                    return label
            put(event_id, entry)
            await_((entry[0], entry[1], event_id))
            return None

        def update(event_id: Any, label: Early) -> tuple[str, tuple[Any, ...] | None]:
            entry = take(event_id)
            if entry is not None:
                remember(event_id, (label[0], label[3]))
                return "labelled", entry
            known = done.get(event_id)
            if known is not None and known[0] >= remembered.since_ms:
                if known[1] == EXPIRED:
                    return "late", None
                return ("duplicate" if known[1] == label.y else "corrected"), None
            waiting = early.get(event_id)
            if waiting is not None:
                return ("duplicate" if Early(*waiting).y == label.y else "corrected"), None
            early.put(event_id, tuple(label))
            await_early((label.time_ms, label.offset, event_id))
            return "early", None

        return process, update

    def expire(self, stream_time_ms: int, state: State) -> Sequence[tuple[Any, tuple[Any, ...] | Early]]:
        """What stream time has overtaken, oldest first: pending entries, then labels that found no event."""
        return self.compile_expire(state, state["done.index"].since_ms + self.ttl_ms)(stream_time_ms)

    def compile_expire(
        self, state: State, stream_time_ms: int
    ) -> Callable[[int], Sequence[tuple[Any, tuple[Any, ...] | Early]]]:
        """`expire` on this state, which stands at this stream time, with its look-ups done once."""
        pending, early, done, remembered = state["pending"], state["early"], state["done"], state["done.index"]
        deadlines, early_deadlines = state["pending.index"], state["early.index"]
        waits, ttl_ms, stride_ms = pending.data, self.ttl_ms, max(1, self.ttl_ms // _SWEEPS)
        remembered.since_ms = stream_time_ms - ttl_ms
        due_ms = remembered.since_ms - remembered.since_ms % stride_ms + stride_ms

        def expire(stream_time_ms: int) -> Sequence[tuple[Any, tuple[Any, ...] | Early]]:
            nonlocal due_ms
            remembered.since_ms = cutoff = stream_time_ms - ttl_ms
            if cutoff >= due_ms:
                due_ms = cutoff - cutoff % stride_ms + stride_ms
                _forget(done, due_ms - stride_ms)
            if deadlines.first_ms >= cutoff and early_deadlines.first_ms >= cutoff:
                return ()
            out: list[tuple[Any, tuple[Any, ...] | Early]] = []
            for time_ms, offset, event_id in deadlines.before(cutoff, waits):
                entry = pending.get(event_id)
                if entry is not None and entry[0] == time_ms and entry[1] == offset:
                    pending.pop(event_id)
                    done.put(event_id, (stream_time_ms, EXPIRED))
                    out.append((event_id, entry))
            for time_ms, offset, event_id in early_deadlines.before(cutoff, early.data):
                label = early.get(event_id)
                if label is not None and label[0] == time_ms and label[1] == offset:
                    early.pop(event_id)
                    out.append((event_id, Early(*label)))
            return out

        return expire


class _Remembered:
    """From which time on outcomes are remembered. Older ones may still be there, until they are swept."""

    __slots__ = ("since_ms",)

    def __init__(self, _: Any) -> None:
        self.since_ms = -(2**62)


def _forget(done: Any, before_ms: int) -> None:
    """Drop the oldest outcomes, up to the first that is to be remembered."""
    old = []
    for event_id, (time_ms, _) in done.items():
        if time_ms >= before_ms:
            break
        old.append(event_id)
    for event_id in old:
        done.pop(event_id)


class Deadlines:
    """(time, offset, id) in order: a queue of those that come in order, a heap of the others.

    `first_ms` is a time before which there is none.
    """

    __slots__ = ("_heap", "_queue", "add", "first_ms")

    def __init__(self, entries: Iterable[tuple[Any, ...]]) -> None:
        self._queue: deque[tuple[Any, ...]] = deque(sorted(entries))
        self._heap: list[tuple[Any, ...]] = []
        self.first_ms = self._queue[0][0] if self._queue else math.inf
        self.add = self._adder()

    def _adder(self) -> Callable[[tuple[Any, ...]], None]:
        queue, heap = self._queue, self._heap
        append = queue.append

        def add(entry: tuple[Any, ...]) -> None:
            if queue and entry >= queue[-1]:
                append(entry)
                return
            if queue:
                heapq.heappush(heap, entry)
            else:
                append(entry)
            self.first_ms = min(self.first_ms, entry[0])

        return add

    def before(self, cutoff: int, living: Container[Any]) -> list[tuple[Any, ...]]:
        """Take out those whose time is before `cutoff`, in order; also what follows and is no longer among `living`."""
        queue, heap = self._queue, self._heap
        out: list[tuple[Any, ...]] = []
        while queue and queue[0][0] < cutoff:
            if heap and heap[0] < queue[0]:
                out.append(heapq.heappop(heap))
            else:
                out.append(queue.popleft())
        while heap and heap[0][0] < cutoff:
            out.append(heapq.heappop(heap))
        while queue and queue[0][2] not in living:
            queue.popleft()
        firsts = [entries[0][0] for entries in (queue, heap) if entries]
        self.first_ms = min(firsts, default=math.inf)
        return out


def _deadlines(store: Any) -> Deadlines:
    """By (time, offset, id): ties by offset, so the order does not depend on a restore."""
    return Deadlines((value[0], value[1], event_id) for event_id, value in store.items())
