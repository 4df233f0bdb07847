"""Audit: make everything again from the inputs and the journal, and compare it with what was published.

For each task of each group found in the journal: from an empty state, the inputs in the journalled order, and then the
records made against the records in the topics, one by one, in order: key, value and headers, byte for byte.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import zip_longest
from typing import Any

import msgspec

from headrace.schemas.records import Input
from headrace.streams.context import Output
from headrace.streams.errors import Lost, SpecChanged
from headrace.streams.journal import Entry, Epoch, changes, digest
from headrace.streams.journal import read as read_entry
from headrace.streams.log import Record
from headrace.streams.pipeline import Pipeline
from headrace.streams.savepoints import savepoints
from headrace.streams.state import ObjectCodec
from headrace.streams.task import Intake, Task, Version
from headrace.streams.topology import STAGES, Group, group_named

__all__ = ["Audit", "audit"]


class Audit(msgspec.Struct):
    """What was compared, and what was found to differ.

    `ranges` names, for each task, the input offsets that were covered. `journal_batches` counts transactions;
    `live_batches` those that read from one input only (a sign of live traffic). `ended` says where an audit
    ended before the journal did: at an epoch of another specification, which only that one can recompute.
    """

    compared: int = 0
    different: int = 0
    by_topic: dict[str, dict[str, int]] = {}
    ranges: dict[str, dict[str, list[int]]] = {}
    journal_batches: int = 0
    live_batches: int = 0
    first: list[str] = []
    ended: dict[str, str] = {}

    def differ(self, topic: str, what: str) -> None:
        """Note one difference; the first twenty are kept with their place."""
        self.different += 1
        self.by_topic[topic]["different"] += 1
        if len(self.first) < 20:
            self.first.append(f"{topic}: {what}")


def audit(
    pipeline: Pipeline,
    new_reader: Callable[[], Any],
    topics: Callable[[str], str],
    *,
    codec: ObjectCodec,
    observe: Callable[[Task], None] = lambda task: None,
    progress: Callable[[int], None] = lambda done: None,
) -> Audit:
    """Recompute all that was published and compare; see `Audit`.

    Workers may go on meanwhile. The ends are taken in this order: journal, outputs, journal again. What the first part
    of the journal says must have been published; what the rest of it says may have been, and nothing else may.
    """
    result = Audit()
    version = Version.of(pipeline)
    for shard in range(pipeline.partitions):
        for group in _groups(new_reader, topics, shard):
            task = Task(pipeline, group, shard, topics=topics, codec=codec, tolerant=True)
            starts = _begin(task, new_reader, topics, version)
            settled = _end(new_reader, topics("journal"), shard)
            comparing = _Comparison(task, new_reader, topics, result, starts)
            for offset, outputs in _replay(task, new_reader, topics, version, result):
                comparing.see(outputs, offset < settled)
                progress(len(outputs))
            comparing.finish()
            observe(task)
    return result


def _end(new_reader: Callable[[], Any], topic: str, shard: int) -> int:
    reader = new_reader()
    try:
        return int(reader.watermarks(topic, shard)[1])
    finally:
        reader.close()


def _groups(new_reader: Callable[[], Any], topics: Callable[[str], str], shard: int) -> list[Group]:
    """The groups that have a journal in this partition, upstream first."""
    reader = new_reader()
    try:
        names = dict.fromkeys(r.key.decode() for r in reader.read(topics("journal"), shard))
    finally:
        reader.close()
    return sorted(map(group_named, names), key=lambda group: STAGES.index(group.stages[0]))


def _replay(
    task: Task, new_reader: Callable[[], Any], topics: Callable[[str], str], version: Version, result: Audit
) -> Iterator[tuple[int, list[Output]]]:
    """What each journal record made, with the offset of that record."""
    journal = new_reader()
    readers: list[Any] = []
    inputs: list[Iterator[Input]] = []
    try:
        for record in journal.read(topics("journal"), task.shard):
            if record.key != task.group.name.encode():
                continue
            entry = read_entry(record.value)
            if entry.seq < task.seq:
                continue
            if isinstance(entry, Epoch):
                if task.seq and entry.spec_hash != version.hash:
                    result.ended[f"{task.group.name}/{task.shard}"] = f"epoch {entry.epoch} is of another specification"
                    return
                _open_epoch(task, entry, version)
                continue
            if not inputs:
                if entry.seq != task.seq:
                    _gone(task, entry)
                task.positions = list(entry.starts)
                readers = [new_reader() for _ in entry.starts]
                inputs = [_input(task, rank, reader, entry.starts[rank]) for rank, reader in enumerate(readers)]
            _note(task, entry, result)
            outputs = task.replay(entry, inputs, compare=False)
            if len(outputs) != entry.outputs or digest(outputs) != entry.digest:
                result.by_topic.setdefault("journal", {"compared": 0, "different": 0})
                result.differ("journal", f"record {entry.seq} of {task.group.name}/{task.shard} says other bytes")
            yield record.offset, outputs
    finally:
        for reader in (journal, *readers):
            reader.close()


def _open_epoch(task: Task, epoch: Epoch, version: Version) -> None:
    if epoch.spec_hash != version.hash:
        what = changes(epoch.spec, version.spec) + changes(epoch.environment, version.environment)
        raise SpecChanged(
            f"Epoch {epoch.epoch} was written by another specification ({', '.join(what[:8])}): audit it with that one."
        )
    if epoch.seq != task.seq:
        raise Lost(
            f"The journal of {task.group.name}/{task.shard} begins at {epoch.seq}: audit reaches no further back."
        )
    task.seq, task.epoch = epoch.seq + 1, epoch.epoch


def _begin(
    task: Task, new_reader: Callable[[], Any], topics: Callable[[str], str], version: Version
) -> dict[str, int] | None:
    """Start where the log still allows: at the very beginning, else at the oldest savepoint that everything follows.

    Returns where the output topics stood then; None means at their beginning.
    """
    reader = new_reader()
    try:
        lows = [reader.watermarks(source.topic, task.shard)[0] for source in task.chain.sources]
        entries = _entries(task, reader, topics)
        first = next(entries, None)
        batch = first if isinstance(first, Entry) else next((e for e in entries if isinstance(e, Entry)), None)
        if first is None or batch is None:
            return None
        ours = isinstance(first, Epoch) and first.seq == 0 and first.spec_hash == version.hash
        if ours and _reach(batch.starts, lows):
            return None
        for savepoint in savepoints(task.group.name, task.shard, topics, reader):
            marker = savepoint.marker
            follows = _reach(marker["positions"], lows) and first.seq <= marker["seq"]
            if follows and marker["spec_hash"] == version.hash:
                task.restore(savepoint.entries, marker)
                task.start()
                return dict(marker["outputs"])
        if isinstance(first, Epoch) and first.spec_hash != version.hash:
            _open_epoch(task, first, version)
        raise Lost(
            f"Audit of {task.group.name}/{task.shard} has nowhere to start: the first records of its inputs or journal "
            "are gone, and no savepoint is as young as what is left."
        )
    finally:
        reader.close()


def _reach(positions: list[int] | tuple[int, ...], lows: list[int]) -> bool:
    return all(low <= position for low, position in zip(lows, positions, strict=True))


def _entries(task: Task, reader: Any, topics: Callable[[str], str]) -> Iterator[Entry | Epoch]:
    for record in reader.read(topics("journal"), task.shard):
        if record.key == task.group.name.encode():
            yield read_entry(record.value)


def _gone(task: Task, entry: Entry) -> None:
    raise Lost(
        f"journal record {task.seq} of {task.group.name}/{task.shard} is gone; the next one left is {entry.seq}."
    )


def _input(task: Task, rank: int, reader: Any, start: int) -> Iterator[Input]:
    intake = Intake(task.chain, rank, tolerant=True)
    for r in reader.read(task.chain.sources[rank].topic, task.shard, start):
        yield intake.read(r.partition, r.offset, r.key, r.value, r.timestamp_ms)


def _note(task: Task, entry: Entry, result: Audit) -> None:
    result.journal_batches += 1
    read = [end > start for start, end in zip(entry.starts, entry.ends, strict=True)]
    result.live_batches += sum(read) == 1
    ranges = result.ranges.setdefault(f"{task.group.name}/{task.shard}", {})
    for source, start, end in zip(task.chain.sources, entry.starts, entry.ends, strict=True):
        first, _ = ranges.get(source.topic, [start, end])
        ranges[source.topic] = [first, end]


class _Comparison:
    """Published records of one task, beside those that the replay makes."""

    def __init__(
        self,
        task: Task,
        new_reader: Callable[[], Any],
        topics: Callable[[str], str],
        result: Audit,
        starts: dict[str, int] | None,
    ) -> None:
        self._task, self._result = task, result
        self._readers: list[Any] = []
        self._published: dict[str, Iterator[Record]] = {}
        for role in task.group.outputs:
            reader = new_reader()
            self._readers.append(reader)
            end = reader.watermarks(topics(role), task.shard)[1]
            published = reader.read(topics(role), task.shard, None if starts is None else starts[role], end)
            self._published[role] = filter(_made_by(task), published) if role == "dead-letter" else published
            result.by_topic.setdefault(role, {"compared": 0, "different": 0})

    def see(self, outputs: list[Output], settled: bool) -> None:
        """The next records that the replay made; `settled` says that all of them must have been published."""
        for role, key, value, headers in outputs:
            found = next(self._published[role], None)
            if found is not None or settled:
                self._compare(role, (key, value, headers or []), found)

    def finish(self) -> None:
        """Nothing more may have been published."""
        ended = f"{self._task.group.name}/{self._task.shard}" in self._result.ended
        for role, published in self._published.items() if not ended else ():
            for extra, _ in zip_longest(published, ()):
                self._compare(role, None, extra)
        for reader in self._readers:
            reader.close()

    def _compare(self, role: str, made: Any, found: Record | None) -> None:
        self._result.compared += 1
        self._result.by_topic[role]["compared"] += 1
        if found is None:
            self._result.differ(role, f"a record with key {made[0]!r} was not published")
        elif made is None:
            self._result.differ(role, f"offset {found.offset} was published but not made")
        elif made != (found.key, found.value, [(name, value) for name, value in found.headers or []]):
            self._result.differ(role, f"offset {found.offset} differs")


def _made_by(task: Task) -> Callable[[Record], bool]:
    """Several groups write dead letters; the header says which stage did."""
    stages = {stage.encode() for stage in task.group.stages}
    return lambda record: dict(record.headers or []).get("stage") in stages
