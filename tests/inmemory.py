"""A log in memory with the reader that audit, explain and rebuild ask for, and a lane that has written to it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

import msgspec

from headrace.streams.journal import write
from headrace.streams.log import Record
from headrace.streams.pipeline import Pipeline
from headrace.streams.stages.retraining import adoptions, logged
from headrace.streams.task import Task, Version
from headrace.streams.topology import group_of
from tests.small import NOW_MS

__all__ = ["Lane", "Log", "topic"]


def topic(role: str) -> str:
    """What a topic is called here."""
    return f"t.{role}"


class Log:
    """Committed records by topic and partition; reader and transactional producer in one."""

    suspicious = False

    def __init__(self) -> None:
        self.records: dict[tuple[str, int], list[Record]] = {}
        self.lows: dict[tuple[str, int], int] = {}
        self._open: list[tuple[Any, ...]] = []

    def watermarks(self, topic: str, partition: int) -> tuple[int, int]:
        """The first offset still there, and the end."""
        return self.lows.get((topic, partition), 0), len(self.records.get((topic, partition), ()))

    def stable(self, topic: str, partition: int) -> int:
        """The end: nothing is ever open."""
        return self.watermarks(topic, partition)[1]

    def ends(self, places: Iterable[tuple[str, int]]) -> dict[tuple[str, int], tuple[int, int]]:
        """Both ends of each."""
        return {place: (self.stable(*place), self.watermarks(*place)[1]) for place in places}

    def read(self, topic: str, partition: int, start: int | None = None, end: int | None = None) -> Iterator[Record]:
        """Records from `start` to before `end`."""
        low, high = self.watermarks(topic, partition)
        found = self.records.get((topic, partition), [])
        yield from found[low if start is None else start : high if end is None else end]

    def begin(self) -> None:
        """Open a transaction."""
        self._open = []

    def send(self, topic: str, partition: int, key: Any, value: Any, headers: Any = None) -> None:
        """Add a record to it."""
        self._open.append((topic, partition, key, value, headers))

    def commit(self) -> None:
        """Make what was sent readable."""
        for name, partition, key, value, headers in self._open:
            found = self.records.setdefault((name, partition), [])
            found.append(Record(name, partition, len(found), key, value, NOW_MS, headers))
        self._open = []

    def drop(self) -> None:
        """Forget what is open."""
        self._open = []

    def close(self) -> None:
        """Nothing to release."""

    def reader(self) -> Log:
        """Itself."""
        return self

    def producer(self, transactional_id: str, timeout_ms: int = 0) -> Log:
        """Itself."""
        return self

    def flip(self, role: str, offset: int, position: int, bit: int, part: str = "value") -> Log:
        """A copy in which one bit of one record is another; part is key or value."""
        other = Log()
        other.records = {name: list(found) for name, found in self.records.items()}
        found = other.records[topic(role), 0]
        changed = bytearray(getattr(found[offset], part))
        changed[position] ^= 1 << bit
        found[offset] = found[offset]._replace(**{part: bytes(changed)})
        return other


class Lane:
    """A lane, or some of its stages, that processes what is in a log and publishes to it, one transaction a batch."""

    def __init__(
        self, pipeline: Pipeline, log: Log | None = None, codec: Any = None, stages: Iterable[str] | None = None
    ) -> None:
        self.pipeline, self.log = pipeline, log or Log()
        history = partial(logged, self.log.reader, topic, 0)
        self.task = Task(pipeline, group_of(stages), 0, topics=topic, codec=codec, tolerant=True, history=history)
        self._journal(self.task.open_epoch(Version.of(pipeline), first=True))

    def publish(self, events: Any = (), labels: Any = ()) -> None:
        """Inputs, as (key, value)."""
        self.log.begin()
        for role, records in (("labels", labels), ("events", events)):
            for key, value in records:
                self.log.send(topic(role), 0, key, value)
        self.log.commit()

    def work(self, batch: int = 50, after: Any = lambda lane: None) -> Lane:
        """Process all there is; `after` is called after each batch."""
        for rank, source in enumerate(self.task.chain.sources):
            for r in self.log.read(source.topic, 0, self.task.positions[rank]):
                self.task.feed(rank, r.offset, r.key, r.value, r.timestamp_ms)
            self.task.merge.end(rank)
        read = self.log.watermarks(topic("registry"), 0)[1]
        while (done := self.task.run(batch)) is not None:
            self.log.begin()
            for role, key, value, headers in done.outputs:
                self.log.send(topic(role), 0, key, value, headers)
            self.log.send(topic("journal"), 0, self.task.group.name.encode(), write(done.entry))
            for command in adoptions(self.task):
                self.log.send(topic("registry"), 0, None, msgspec.json.encode(command))
            self.log.commit()
            read = self._registry(read)
            after(self)
        return self

    def _registry(self, start: int) -> int:
        """Read the registry back, commands and facts, as they come; returns where it ends."""
        for r in self.log.read(topic("registry"), 0, start) if self.task.group.back else ():
            self.task.feed(0, r.offset, r.key, r.value, r.timestamp_ms)
        return self.log.watermarks(topic("registry"), 0)[1]

    def _journal(self, entry: Any) -> None:
        self.log.begin()
        self.log.send(topic("journal"), 0, self.task.group.name.encode(), write(entry))
        self.log.commit()
