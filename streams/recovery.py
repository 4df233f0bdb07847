"""Recovery: the one way in which a task comes to its state, at the first start as after any trouble.

1. The state topic, to its end: the last checkpoint. Nothing there, or a snapshot that is refused: an empty state.
2. The journal from the place that the checkpoint names, to its end.
3. The specification, environment and code that wrote them must be the ones that run here, unless a change is accepted.
4. The inputs over the journal entries since, outputs suppressed; digests of the present epoch compared.
5. The place reached is the group's, or beyond it where its offsets were lost or set back: the journal knows better.

Whoever calls it has initialised its producers first (so that a predecessor's open transactions are ended) and holds
the partition. It is a generator: it yields now and then, so that its caller can keep its membership alive, and may
simply be dropped.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import Any

from headrace.schemas.records import Command
from headrace.streams import failpoints
from headrace.streams.carrying import carry, still
from headrace.streams.checkpoint import LastSavepoint, fold
from headrace.streams.errors import Diverged, Lost, SpecChanged, UsageError
from headrace.streams.journal import Entry, Epoch, numbers
from headrace.streams.journal import read as read_entry
from headrace.streams.models.snapshots import SnapshotError
from headrace.streams.pipeline import Pipeline
from headrace.streams.stages.retraining import drafted
from headrace.streams.stores import ObjectCodec
from headrace.streams.task import Task, Version, damage_told
from headrace.streams.topics import group_name
from headrace.streams.topology import STAGES, group_known, group_of

__all__ = ["Recovered", "recover", "restored"]

log = logging.getLogger("headrace.recovery")

_Saved = dict[tuple[str, str, Any], bytes]

_ANEW = "`headrace reset` starts anew, and says what is lost."
_OTHERS = (
    "If the topics are another pipeline's, give this one a name of its own: a reset would delete what that one learned."
)
_KEY = " Bring back the key that signed it, or trust its public half (`headrace keys trust`); else"


@dataclass(slots=True)
class Recovered:
    """What a recovery found: the checkpoint's journal number, and what had to be replayed since.

    `changed` names what is not as the journal has it, and was accepted; an epoch is due then.

    `beginning` says that an epoch was opened, and nothing read since. `savepoint` is the last one that the checkpoint
    knew of; `uncopied` the epoch with whose checkpoint another one was to come, if none is known to have.

    `refused` says why a snapshot in the checkpoint was not used, so that all was rebuilt from the journal's beginning.
    """

    checkpoint_seq: int | None = None
    journal_offset: int = 0
    state_end: int = 0
    journalled: int = 0
    replayed: int = 0
    seconds: float = 0.0
    epoch_due: bool = False
    changed: list[str] = field(default_factory=list)
    beginning: bool = False
    uncopied: int | None = None
    refused: str | None = None
    savepoint: LastSavepoint | None = None


def recover(
    task: Task,
    reader: Any,
    version: Version,
    topics: Callable[[str], str],
    committed: Mapping[str, int | None],
    *,
    accept_change: bool = False,
    new_reader: Callable[[], Any],
    clock: Callable[[], float] = time.monotonic,
) -> Generator[None, None, Recovered]:
    """Bring `task` to the state that the log says it has.

    `clock` tells how long it took: seconds, monotonic.
    """
    began = clock()
    found = Recovered()
    with _next_step(found):
        saved, marker, found.state_end = _saved(task, reader, topics("state"))
        last, entries, others = _journal(task, reader, topics("journal"), marker, found)
        failpoints.hit("recover.journal")
        yield
        found.changed = _check_version(last, version, accept_change)
        found.epoch_due = last is None or last.hash != version.hash
        try:
            _restore(task, saved, marker, version)
        except SnapshotError as error:
            found.refused = str(error)
            log.error(
                "the checkpoint of %s/%s is refused (%s): rebuilding by replay", task.group.name, task.shard, error
            )
            task.reset()
            task.chain.stores.outdated(saved)
            marker = None
            _, entries, others = _journal(task, reader, topics("journal"), None, found)
        if marker is not None:
            found.checkpoint_seq = marker["seq"]
            found.savepoint = LastSavepoint(*marker["savepoint"]) if marker.get("savepoint") else None
            if "outputs" in marker and found.savepoint is not None and found.savepoint.epoch != marker["epoch"]:
                found.uncopied = marker["epoch"]
        failpoints.hit("recover.state")
        yield
        found.journalled = len(entries)
        if marker is None and not entries:
            _refuse_overlap(task, others)
            _first_start(task, reader, committed)
        else:
            if marker is None:
                _begin(task, entries, reader, committed)
            for _ in drafted(task.chain, _adopted(task, reader)):
                yield
            for records in _replay(task, entries, new_reader, found, accept_change=accept_change):
                found.replayed += records
                failpoints.hit("recover.replaying")
                yield
            failpoints.hit("recover.replayed")
            _check_position(task, committed)
            found.beginning = task.epoch > 0 and bool(entries) and isinstance(entries[-1], Epoch)
            if found.epoch_due:
                _check_champion(task)
        found.seconds = clock() - began
        task.start()
        return found


@contextmanager
def _next_step(found: Recovered) -> Iterator[None]:
    """What is lost is told with why it is needed, and with what can be done about it."""
    try:
        yield
    except Lost as error:
        if error.advised:
            raise
        why = f" It is needed, as the checkpoint is refused ({found.refused})." if found.refused else ""
        key = _KEY if (found.refused or "").startswith("untrusted") else ""
        raise Lost(f"{error}{why}{key} {_ANEW}", advised=True) from error


def restored(pipeline: Pipeline, cluster: Any, topics: Callable[[str], str], codec: ObjectCodec) -> Task:
    """The first shard's task of the whole chain as its last checkpoint has it, to be looked at."""
    task = Task(pipeline, group_of(), 0, topics=topics, codec=codec)
    with closing(cluster.reader()) as reader:
        _restore(task, *_saved(task, reader, topics("state"))[:2], Version.of(pipeline))
    return task


def _journal(
    task: Task, reader: Any, topic: str, marker: dict[str, Any] | None, found: Recovered
) -> tuple[Version | None, list[Entry | Epoch], set[bytes | None]]:
    """The version that wrote last, the records that follow the checkpoint, and whose other records there are."""
    seq, last = 0, None
    if marker:
        seq, last = marker["seq"], Version(marker["spec_hash"], marker["spec"], marker["environment"])
    start = _journal_from(task, reader, topic, marker)
    found.journal_offset = start or 0
    oldest: int | None = None
    entries: list[Entry | Epoch] = []
    others: set[bytes | None] = set()
    for record in reader.read(topic, task.shard, start):
        if record.key != task.group.name.encode():
            others.add(record.key)
            continue
        entry = read_entry(record.value)
        oldest = entry.seq if oldest is None else oldest
        if entry.seq < seq:
            continue
        entries.append(entry)
        if isinstance(entry, Epoch):
            last = Version(entry.spec_hash, entry.spec, entry.environment)
    if marker and start != marker["journal_offset"]:
        _check_journal(task, topic, marker, oldest, reader.watermarks(topic, task.shard))
    return last, entries, others


def _journal_from(task: Task, reader: Any, topic: str, marker: dict[str, Any] | None) -> int | None:
    """Where to read the journal from: the place that the checkpoint names, or the first one left beyond it.

    It is named from the checkpoint before on; retention may have taken what lies between.
    """
    if not marker:
        return None
    low, end = reader.watermarks(topic, task.shard)
    _check_copy(topic, task.shard, end, marker.get("journal_end", -1))
    return int(max(low, marker["journal_offset"]))


def _check_copy(topic: str, shard: int, end: int, place: int) -> None:
    """Raise `Lost` where a topic ends before a place in it that was reached: no offset means in it what it meant."""
    if end < place:
        raise Lost(
            f"{topic}/{shard} ends at offset {end}, and was known up to {place}: it has lost records, was made anew, "
            "or is another cluster's copy, in which offsets are others."
        )


def _check_journal(task: Task, topic: str, marker: dict[str, Any], oldest: int | None, marks: tuple[int, int]) -> None:
    """Raise `Lost` where records that followed the checkpoint may be among those that are gone.

    They are not where the oldest record left is one that the checkpoint has, or the next; nor where none of this group
    is left, but all that others have journalled since; nor where nothing has come since: at most the end of the
    transaction that was the last one then.
    """
    low, end = marks
    then = marker.get("journal_end", -1)
    if (low > then and end > then + 1) if oldest is None else oldest > marker["seq"]:
        raise Lost(
            f"{topic}/{task.shard}: record {marker['seq']} of {task.group.name}'s journal, with which the checkpoint "
            f"goes on, is gone; the first offset left is {low}."
        )


def _adopted(task: Task, reader: Any) -> set[str]:
    """Models that catch up, and whose adoption was asked for: in what is to be replayed, or in what comes next."""
    decisions = task.chain.decisions
    if decisions is None or not decisions.catching_up:
        return set()
    rank = task.group.inputs.index("registry")
    source, start = task.chain.sources[rank], task.positions[rank]
    commands = [source.decode(record.value) for record in reader.read(source.topic, task.shard, start)]
    return {str(each.model) for each in commands if isinstance(each, Command) and each.kind == "adopt"}


def _saved(task: Task, reader: Any, topic: str) -> tuple[_Saved, dict[str, Any] | None, int]:
    """The state and marker of the last checkpoint, and the offset after what was read."""
    end = 0

    def records() -> Iterator[tuple[bytes | None, bytes | None]]:
        nonlocal end
        for record in reader.read(topic, task.shard):
            end = record.offset + 1
            yield record.key, record.value

    saved, marker = fold(records(), task.group.name)
    return saved, marker, end


def _restore(task: Task, entries: _Saved, marker: dict[str, Any] | None, version: Version) -> None:
    if marker is None:
        return
    if not marker:
        raise SnapshotError("malformed", "its marker says nothing")
    if marker["spec_hash"] == version.hash:
        task.restore(entries, marker)
        return
    before, after = marker["spec"], version.spec
    with damage_told():
        task.restore(still(entries, before, after), marker)
        carry(task.chain, entries, before, after)


def _check_version(last: Version | None, now: Version, accept_change: bool) -> list[str]:
    """What changed since the journal was written; raises `SpecChanged` unless that was accepted."""
    if last is None or last.hash == now.hash:
        return []
    what = last.changed(now)
    if "task" in what:
        raise SpecChanged(
            f"The state is that of a {last.spec['task']} pipeline, and means nothing to a {now.spec['task']} one. "
            f"Start anew with `headrace reset`, or restore the task. {_OTHERS}"
        )
    renamed = [path for path in what if path in ("topics.events", "topics.labels")]
    if renamed:
        raise SpecChanged(
            f"The journal is about other inputs: {', '.join(renamed)} changed, and offsets of the old topic mean "
            "nothing in the new one. Start anew with `headrace reset`, or restore the old name."
        )
    if not accept_change:
        raise SpecChanged(
            f"The journal was written by another specification: {', '.join(what[:8])} changed. Go on with "
            "--accept-change (a new epoch, the state is kept), start anew with `headrace reset`, or restore the old."
            + (f" {_OTHERS}" if "events.id" in what else "")
        )
    return what or ["specification"]


def _first_start(task: Task, reader: Any, committed: Mapping[str, int | None]) -> None:
    """Begin at the first record there is, once only: an offset without a journal is somebody else's."""
    for rank, source in enumerate(task.chain.sources):
        if committed.get(source.topic) is not None:
            raise Lost(
                f"The group has committed offset {committed[source.topic]} of {source.topic}/{task.shard}, but the "
                "journal that led there is gone: `headrace reset` starts anew.",
                advised=True,
            )
        task.positions[rank] = reader.watermarks(source.topic, task.shard)[0]


def _refuse_overlap(task: Task, others: set[bytes | None]) -> None:
    """Stages that another group has run would publish everything a second time, to the same topics."""
    known = [group for group in map(group_known, others) if group is not None]
    for group in sorted(known, key=lambda group: group.name):
        shared = [stage for stage in group.stages if stage in task.group.stages]
        if shared:
            before = f"`--stages {','.join(group.stages)}`" if group.stages != STAGES else "no `--stages`"
            raise UsageError(
                f"The journal says that {', '.join(shared)} ran before with {before}: run the same stages together "
                "again, or start anew with `headrace reset`."
            )


def _begin(task: Task, entries: list[Entry | Epoch], reader: Any, committed: Mapping[str, int | None]) -> None:
    """An epoch was opened, and nothing read since: go on from where the first start began."""
    if any(isinstance(entry, Entry) for entry in entries):
        return
    for rank, source in enumerate(task.chain.sources):
        offset = committed.get(source.topic)
        task.positions[rank] = reader.watermarks(source.topic, task.shard)[0] if offset is None else offset


def _replay(
    task: Task,
    entries: list[Entry | Epoch],
    new_reader: Callable[[], Any],
    found: Recovered,
    *,
    accept_change: bool,
) -> Iterator[int]:
    """Run the journal; yields the number of records after each entry.

    What was written before the last epoch was opened was made by something else, so it is not compared.
    """
    opened = max((i for i, entry in enumerate(entries) if isinstance(entry, Epoch)), default=-1)
    batches = [entry for entry in entries if isinstance(entry, Entry)]
    ends = batches[-1].ends if batches else task.positions
    starts = batches[0].starts if batches else task.positions
    readers = [new_reader() for _ in ends] if batches else []
    try:
        inputs = [task.read_again(rank, reader, starts[rank], ends[rank]) for rank, reader in enumerate(readers)]
        if task.seq == 0:
            task.positions = list(starts)
        for i, entry in enumerate(entries):
            if isinstance(entry, Epoch):
                if entry.seq != task.seq:
                    raise Lost(f"Journal record {task.seq} of {task.group.name}/{task.shard} is missing.")
                task.seq, task.epoch = entry.seq + 1, entry.epoch
                continue
            try:
                task.replay(entry, inputs, compare=i > opened and not found.epoch_due)
            except Diverged as error:
                if not accept_change:
                    raise
                log.warning("going on with a new epoch: %s", error)
                found.epoch_due = True
                found.changed = found.changed or ["what a replay publishes"]
            yield sum(numbers(entry.runs))
    finally:
        for reader in readers:
            reader.close()


def _check_champion(task: Task) -> None:
    """Who retired has missed examples, and is not declared the champion."""
    decisions = task.chain.decisions
    heir = None if decisions is None else decisions.heir
    if decisions is None or heir is None or decisions.status(heir) != "retired":
        return
    if decisions.registry["models"][heir]["hash"] == task.chain.declared.model_hashes[heir]:
        raise SpecChanged(
            f"{heir} has retired, and cannot be the champion: declare another champion=, or the same model under "
            "another name."
        )


def _check_position(task: Task, committed: Mapping[str, int | None]) -> None:
    """The journal's place is the group's: both were committed in one transaction.

    Offsets that expired, or that a late copy of an older transaction's request has set back, are no loss: the journal
    knows better. Offsets beyond it are somebody else's.
    """
    for rank, source in enumerate(task.chain.sources):
        offset, position = committed.get(source.topic), task.positions[rank]
        if offset is not None and offset > position:
            name = group_name(task.chain.declared, task.group)
            raise Lost(
                f"{source.topic}/{task.shard}: the group has committed offset {offset}, the journal ends at "
                f"{position}: one of them was changed by hand. If it was the offset, have the group forgotten "
                f"(kafka-consumer-groups --delete --group {name}), as the journal knows the place; if the journal has "
                "lost records, `headrace reset` starts anew.",
                advised=True,
            )
        if offset is not None and offset < position:
            log.warning(
                "%s/%s: committed %s, journalled %s: going on there", source.topic, task.shard, offset, position
            )
