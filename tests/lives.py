"""A process over a log in memory: it recovers, opens the epoch that is due, and can go on from there."""

from __future__ import annotations

from collections import deque

from headrace.streams.checkpoint import Checkpoint
from headrace.streams.errors import Lost
from headrace.streams.identity.canonical import state_hash
from headrace.streams.journal import write
from headrace.streams.log import Record
from headrace.streams.models.snapshots import Sealed
from headrace.streams.recovery import recover
from headrace.streams.savepoints import copy
from headrace.streams.task import Task, Version
from headrace.streams.topology import group_of
from tests.small import NOW_MS, event, known

__all__ = ["Life", "Log", "named", "publish", "publish_day"]


class Log:
    """Topics of one partition, each beginning at an offset; reader and producer in one."""

    def __init__(self, lows=()):
        self.lows = dict(lows)
        self.records = {}

    def watermarks(self, topic, partition):
        low = self.lows.get(topic, 0)
        return low, low + len(self.records.get(topic, ()))

    def stable(self, topic, partition):
        return self.watermarks(topic, partition)[1]

    def read(self, topic, partition, start=None, end=None):
        low, high = self.watermarks(topic, partition)
        start, end = low if start is None else start, high if end is None else end
        if start < low:
            raise Lost(f"{topic}: offset {start} is gone")
        yield from self.records.get(topic, [])[start - low : end - low]

    def close(self):
        pass

    def begin(self):
        pass

    def commit(self):
        pass

    def send(self, topic, partition, key, value, headers=None):
        found = self.records.setdefault(topic, [])
        found.append(Record(topic, partition, self.watermarks(topic, 0)[1], key, value, NOW_MS, headers))


class Life:
    """One process over the log: recovers, opens the epoch that is due, and can go on from there."""

    def __init__(self, log, pipeline, *, stages=None, key=None, committed=(), accept_change=False):
        self.log, self.version = log, Version.of(pipeline)
        codec = None if key is None else Sealed(key, {key.key_id: key.verify_key}, any_libraries=True)
        self.task = Task(pipeline, group_of(stages), 0, topics=named, codec=codec)
        given = {"reader": log, "version": self.version, "topics": named, "new_reader": lambda: log}
        deque(self._recovered(**given, committed=dict(committed), accept_change=accept_change), maxlen=0)
        if self.found.epoch_due:
            self._journal(self.task.open_epoch(self.version, first=self.task.seq == 0))

    def _recovered(self, **given):
        self.found = yield from recover(self.task, **given)

    @property
    def committed(self):
        return {source.topic: at for source, at in zip(self.task.chain.sources, self.task.positions, strict=True)}

    @property
    def state(self):
        return state_hash(self.task.chain.stores.contents())

    def work(self, batch=50):
        for rank, source in enumerate(self.task.chain.sources):
            for r in self.log.read(source.topic, 0, self.task.positions[rank]):
                self.task.feed(rank, r.offset, r.key, r.value, r.timestamp_ms)
            self.task.merge.end(rank)
        while (done := self.task.run(batch)) is not None:
            for role, key, value, headers in done.outputs:
                self.log.send(role, 0, key, value, headers)
            self._journal(done.entry)

    def checkpoint(self, outputs=None):
        """As a worker's first one: it names where the journal was read from."""
        end, start = self.log.watermarks("journal", 0)[1], self.found.journal_offset
        Checkpoint(self.task, self.version, start, "state", self.log, outputs, journal_end=end).write(None)

    def savepoint(self, seconds=0.0):
        self.checkpoint({role: self.log.watermarks(role, 0)[1] for role in self.task.group.outputs})
        copy(self.task.group.name, 0, named, self.log, self.log, iter((0.0, seconds)).__next__)

    def _journal(self, entry):
        self.log.send("journal", 0, self.task.group.name.encode(), write(entry))


def named(role):
    return role


def publish(log, events=(), labels=()):
    for topic, records in (("events", events), ("labels", labels)):
        for key, value in records:
            log.send(topic, 0, key, value)


def publish_day(log, day):
    """Forty events in shops of their own, and the labels of the day before."""
    publish(
        log,
        [event(f"{day}-{i}", 24 * day + i / 40, shop=f"{day}{i % 7}") for i in range(40)],
        [known(f"{day - 1}-{i}", 24 * day + i / 40) for i in range(40)] if day else [],
    )
