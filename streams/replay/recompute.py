"""Recompute: everything that was published made again from the inputs and the journal, beside what was published.

For each task of each group found in the journal: from an empty state (or the oldest savepoint that everything left
follows, or one that is given), the inputs in the journalled order; each record that comes out is paired with the one in
its topic. `audit` counts the pairs that differ, `explain` follows some events through them.

Workers may go on meanwhile. The ends are taken in this order: journal, outputs, journal again. What the first part of
the journal says must have been published; what the rest of it says may have been, and nothing else may.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from itertools import zip_longest
from typing import Any, NamedTuple

from headrace.schemas.records import Input
from headrace.streams.errors import Lost, SpecChanged
from headrace.streams.journal import Entry, Epoch, digest, spec_hash
from headrace.streams.journal import read as read_entry
from headrace.streams.log import Record
from headrace.streams.merge import Batch
from headrace.streams.models.snapshots import SnapshotError
from headrace.streams.pipeline import Pipeline
from headrace.streams.savepoints import Savepoint, savepoints
from headrace.streams.stages.context import Output
from headrace.streams.stages.retraining import logged
from headrace.streams.stores import ObjectCodec
from headrace.streams.task import Task, Version
from headrace.streams.topology import STAGES, Group, group_known

__all__ = ["Pair", "Recomputation", "Step", "recomputations"]


class Pair(NamedTuple):
    """A record that the replay made (None: none) beside the one that was published in its place (None: none yet)."""

    role: str
    made: Output | None
    found: Record | None

    @property
    def difference(self) -> str | None:
        """What differs, in words; None if nothing does."""
        made, found = self.made, self.found
        if found is None:
            return None if made is None else f"a record with key {made[1]!r} was not published"
        if made is None:
            return f"offset {found.offset} was published but not made"
        key, value, headers = made[1:]
        if (key, value, headers or []) == (found.key, found.value, [(k, v) for k, v in found.headers or []]):
            return None
        return f"offset {found.offset} differs"


class Step(NamedTuple):
    """One journal record: what it read, and the pairs it made.

    `settled`: all of these must have been published by now. `sound`: its digest is that of what came out.
    """

    entry: Entry
    batch: Batch
    pairs: list[Pair]
    settled: bool
    sound: bool


class Recomputation:
    """One task made again: iterate over its steps, then `close`.

    `begun` says from where on the journal is covered, and why not from its beginning; `ended`, once the steps are
    over, why they ended before it did; None if neither. `starts` is where each output topic stood at the start; None
    means at its beginning. `begin` is a savepoint to start from; the constructor raises `SnapshotError` where that
    cannot be.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        group: Group,
        shard: int,
        new_reader: Callable[[], Any],
        topics: Callable[[str], str],
        codec: ObjectCodec,
        begin: Savepoint | None = None,
    ) -> None:
        history = partial(logged, new_reader, topics, shard)
        self.task = Task(pipeline, group, shard, topics=topics, codec=codec, tolerant=True, history=history)
        self.begun: str | None = None
        self.ended: str | None = None
        self._version = Version.of(pipeline)
        self._new_reader, self._topics = new_reader, topics
        self._readers: list[Any] = []
        self._journal: int | None = None
        self.starts = self._begin() if begin is None else self._begin_at(begin)
        self._settled = self._open().watermarks(topics("journal"), shard)[1]
        self._published = {role: self._outputs(role) for role in group.outputs}

    @property
    def name(self) -> str:
        """What the task is called."""
        return f"{self.task.group.name}/{self.task.shard}"

    def __iter__(self) -> Iterator[Step]:
        task, inputs = self.task, list[Iterator[Input]]()
        for record in self._open().read(self._topics("journal"), task.shard, self._journal):
            if record.key != task.group.name.encode():
                continue
            entry = read_entry(record.value)
            if entry.seq < task.seq and not inputs:
                continue
            if isinstance(entry, Epoch):
                if task.seq and entry.spec_hash != self._version.hash:
                    self.ended = f"epoch {entry.epoch} is of another specification"
                    return
                self._open_epoch(entry)
                continue
            if not inputs:
                if entry.seq != task.seq:
                    raise Lost(f"Journal record {task.seq} of {self.name} is gone; the next one left is {entry.seq}.")
                if self.starts is None:
                    task.positions = list(entry.starts)
                inputs = [task.read_again(rank, self._open(), start) for rank, start in enumerate(entry.starts)]
            batch, outputs, _ = task.replay(entry, inputs, compare=False)
            pairs = self._pairs(outputs, record.offset < self._settled)
            sound = len(outputs) == entry.outputs and digest(outputs) == entry.digest
            yield Step(entry, batch, pairs, record.offset < self._settled, sound)

    def resume(self) -> str | None:
        """After the steps `ended`: go to the next savepoint of this specification; says what is left out, or None."""
        task, end = self.task, self.task.seq
        task.reset()
        starts = self._begin_at_one(self._open(), lambda marker: bool(marker["seq"] > end))
        if starts is None:
            return None
        self.starts, self.ended = starts, None
        self._published = {role: self._outputs(role) for role in task.group.outputs}
        return f"records {end} to {task.seq - 1} of the journal"

    def rest(self) -> Iterator[Pair]:
        """What was published beyond what all steps made; nothing when the steps `ended` early."""
        for role, published in self._published.items() if self.ended is None else ():
            for extra, _ in zip_longest(published, ()):
                yield Pair(role, None, extra)

    def knows(self, event_ids: Iterable[Any]) -> bool:
        """Whether the state as it stands has heard of one of these events: its label waits for it, say."""
        join = self.task.chain.stores.states.get("join", {})
        kept = [join[name] for name in ("pending", "early", "done") if name in join]
        return any(store.get(event_id) is not None for event_id in event_ids for store in kept)

    def close(self) -> None:
        """Release the readers."""
        for reader in self._readers:
            reader.close()
        self._readers = []

    def _open(self) -> Any:
        self._readers.append(self._new_reader())
        return self._readers[-1]

    def _pairs(self, outputs: list[Output], settled: bool) -> list[Pair]:
        pairs = []
        for output in outputs:
            found = next(self._published[output[0]], None)
            if found is not None or settled:
                pairs.append(Pair(output[0], output, found))
        return pairs

    def _outputs(self, role: str) -> Iterator[Record]:
        reader, topic, shard = self._open(), self._topics(role), self.task.shard
        end = reader.watermarks(topic, shard)[1]
        published: Iterator[Record] = reader.read(topic, shard, None if self.starts is None else self.starts[role], end)
        return filter(_OURS[role](self.task), published) if role in _OURS else published

    def _begin(self) -> dict[str, int] | None:
        """Start where the log still allows: at the very beginning, else at the oldest savepoint that all else follows.

        Returns where the output topics stood then; None means at their beginning.
        """
        task, reader, version = self.task, self._open(), self._version
        lows = [reader.watermarks(source.topic, task.shard)[0] for source in task.chain.sources]
        entries = self._entries(reader)
        first = next(entries, None)
        batch = first if isinstance(first, Entry) else next((e for e in entries if isinstance(e, Entry)), None)
        if first is None or batch is None:
            return None
        others = isinstance(first, Epoch) and first.spec_hash != version.hash
        if isinstance(first, Epoch) and first.seq == 0 and not others and _reach(batch.starts, lows):
            return None
        oldest = first.seq
        starts = self._begin_at_one(reader, lambda at: _reach(at["positions"], lows) and oldest <= at["seq"])
        if starts is not None:
            why = "of another specification: ask with that one" if others else "gone"
            self.begun = f"record {task.seq} of the journal on, as what came before is {why}"
            return starts
        if isinstance(first, Epoch) and others:
            self._open_epoch(first)
        raise Lost(
            f"A replay of {self.name} has nowhere to start: the first records of its inputs or journal are gone, and "
            "no savepoint is as young as what is left. A worker writes one an hour while records come: from the next "
            "one on it can begin."
        )

    def _begin_at_one(self, reader: Any, fits: Callable[[Mapping[str, Any]], bool]) -> dict[str, int] | None:
        """Start at the oldest savepoint of this specification whose marker `fits`; None where there is none."""
        task = self.task
        for savepoint in savepoints(task.group.name, task.shard, self._topics, reader):
            if savepoint.marker["spec_hash"] == self._version.hash and fits(savepoint.marker):
                try:
                    return self._begin_at(savepoint)
                except SnapshotError:  # a later one may do
                    task.reset()
        return None

    def _begin_at(self, savepoint: Savepoint) -> dict[str, int]:
        """Start there; returns where the output topics stood then."""
        task, marker = self.task, savepoint.marker
        task.restore(savepoint.entries, marker)
        task.start()
        low, _ = self._open().watermarks(self._topics("journal"), task.shard)
        self._journal = max(low, marker["journal_offset"])
        return dict(marker["outputs"])

    def _entries(self, reader: Any) -> Iterator[Entry | Epoch]:
        for record in reader.read(self._topics("journal"), self.task.shard):
            if record.key == self.task.group.name.encode():
                yield read_entry(record.value)

    def _open_epoch(self, epoch: Epoch) -> None:
        task, version = self.task, self._version
        if epoch.spec_hash != version.hash:
            what = Version(epoch.spec_hash, epoch.spec, epoch.environment).changed(version)
            raise SpecChanged(
                f"Epoch {epoch.epoch} was written by another specification ({', '.join(what[:8])}): only that one "
                "can recompute it."
            )
        if spec_hash(epoch.spec, epoch.environment) != epoch.spec_hash:
            raise Lost(f"The journal record of {self.name} that opens epoch {epoch.epoch} is damaged.")
        if epoch.seq != task.seq:
            raise Lost(f"The journal of {self.name} begins at {epoch.seq}: audit reaches no further back.")
        if epoch.epoch != (task.epoch + 1 if task.seq else 0):
            raise Lost(f"The journal of {self.name} goes from epoch {task.epoch} to {epoch.epoch}: one is gone.")
        task.seq, task.epoch = epoch.seq + 1, epoch.epoch


def recomputations(
    pipeline: Pipeline,
    new_reader: Callable[[], Any],
    topics: Callable[[str], str],
    codec: ObjectCodec,
    begins: Mapping[int, Mapping[Group, Savepoint]] | None = None,
) -> Iterator[Recomputation]:
    """Every task that the journal knows, upstream first; each is closed when the next one is asked for.

    With `begins`, the tasks that it names, by partition and group, each from its savepoint on.
    """
    for shard in range(pipeline.partitions) if begins is None else sorted(begins):
        given: Mapping[Group, Savepoint] = {} if begins is None else begins[shard]
        for group in _groups(new_reader, topics, shard) if begins is None else _in_order(given):
            made = Recomputation(pipeline, group, shard, new_reader, topics, codec, given.get(group))
            try:
                yield made
            finally:
                made.close()


def _groups(new_reader: Callable[[], Any], topics: Callable[[str], str], shard: int) -> list[Group]:
    """The groups that have a journal in this partition, upstream first."""
    with contextlib.closing(new_reader()) as reader:
        names = dict.fromkeys(record.key for record in reader.read(topics("journal"), shard))
    known = [group for group in map(group_known, names) if group is not None]
    return _in_order(known)


def _in_order(groups: Iterable[Group]) -> list[Group]:
    """Upstream first."""
    return sorted(groups, key=lambda group: STAGES.index(group.stages[0]))


def _reach(positions: list[int] | tuple[int, ...], lows: list[int]) -> bool:
    return all(low <= position for low, position in zip(lows, positions, strict=True))


def _facts(task: Task) -> Callable[[Record], bool]:
    """Commands share the topic with facts, but nobody here makes them."""
    return lambda record: (record.value or b"").startswith(b'{"record":"fact"')


def _of_the_log(task: Task) -> Callable[[Record], bool]:
    """Alerts about operations are no function of the log; their header says so."""
    return lambda record: dict(record.headers or []).get("stage") != b"operations"


def _evaluated_by(task: Task) -> Callable[[Record], bool]:
    """The group that predicts writes evaluations, and the one that watches writes proxies, if it is another."""
    back, watches = task.group.back, task.group.watches
    return lambda record: watches if b'"window":"proxy' in (record.value or b"") else back


def _made_by(task: Task) -> Callable[[Record], bool]:
    """Several groups write dead letters; the header says which stage did."""
    stages = {stage.encode() for stage in task.group.stages}
    return lambda record: dict(record.headers or []).get("stage") in stages


_OURS: dict[str, Callable[[Task], Callable[[Record], bool]]] = {
    "dead-letter": _made_by,
    "alerts": _of_the_log,
    "evaluations": _evaluated_by,
    "registry": _facts,
}
"""Role → which records of such a topic a replay of this task makes."""
