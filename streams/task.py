"""A task: one chain over one partition, its merge, its place in the inputs and in the journal.

It knows neither Kafka nor the clock. `feed` it what was read; `run` processes a batch and returns what must be
published with the journal entry that lets anybody make it again; `replay` does that over an entry.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

from headrace.schemas.records import REASONS, Input
from headrace.schemas.wire import BadRecord, guess_format
from headrace.streams.errors import Diverged, HeadraceError, Lost, WrongFormat
from headrace.streams.identity.hashing import environment
from headrace.streams.journal import Entry, Epoch, changes, digest, numbers, spec_hash, varints
from headrace.streams.merge import Batch, Merge, ranks_of, runs_of
from headrace.streams.models.snapshots import SnapshotError
from headrace.streams.pipeline import Events, Labels, Pipeline
from headrace.streams.stages.chain import Chain
from headrace.streams.stages.context import Output
from headrace.streams.stages.retraining import History
from headrace.streams.stores import ObjectCodec
from headrace.streams.topology import Group

__all__ = ["Intake", "Processed", "Task", "Version", "damage_told"]

_SAMPLE = 200
_BEGINNING = 20_000  # bytes of a record, to tell what it is
_LOOKS = {"json": "JSON objects", "avro": "Avro "}
"""The formats that can be declared, and how `guess_format` begins to speak of them."""
_STAGES = {"events": "validate", "labels": "join"}
"""Inputs that somebody else writes, and the stage that reads each."""
_READ = ("bad_label", "orphan", "late_label")
"""Why a record that could be read became a dead letter of the stage that reads it."""


class Version(NamedTuple):
    """What determines outputs: the specification and the environment it runs in."""

    hash: str
    spec: dict[str, Any]
    environment: dict[str, Any]

    @classmethod
    def of(cls, pipeline: Pipeline) -> Version:
        """The version that runs here and now."""
        spec, here = pipeline.spec(), environment()
        return cls(spec_hash(spec, here), spec, here)

    def changed(self, now: Version) -> list[str]:
        """What is not as it was, by its path: a new feature is news, its place is not."""
        of_environment = [f"environment.{path}" for path in changes(self.environment, now.environment)]
        what = changes(self.spec, now.spec) + of_environment
        return [path for path in what if not path.startswith("order.")] or what


class Processed(NamedTuple):
    """A batch: the records, what they made, and the journal entry for both."""

    batch: Batch
    outputs: list[Output]
    entry: Entry


@contextmanager
def damage_told() -> Iterator[None]:
    """Whatever the entries of a checkpoint raise that are not what we wrote is a `SnapshotError`."""
    try:
        yield
    except (HeadraceError, MemoryError):
        raise
    except Exception as error:
        raise SnapshotError("malformed", f"an entry is damaged ({type(error).__name__}: {error})") from error


class Intake:
    """Turns an input's records into `Input`s, and notices a format that nobody declared, of events or labels.

    `read(partition, offset, key, value, at_ms)` is one record with its time; it raises `WrongFormat` when 200 since the
    last start, and all but a few since the very first, are unreadable. Topics of ours are in our format: what is not,
    is of a declaration before, or somebody else's.
    """

    def __init__(self, chain: Chain, rank: int, *, tolerant: bool = False) -> None:
        self._source, self._pipeline = chain.sources[rank], chain.pipeline
        self._good = _readable(chain.counts, self._source.role)
        self._bad: list[bytes | None] = []
        read = self._source.reader(chain.clock[1][rank])
        self.read = self._suspicious(read) if not tolerant and self._source.role in _STAGES else read

    def _suspicious(self, read: Callable[..., Input]) -> Callable[..., Input]:
        good, suspect = self._good, self._suspect

        def watched(partition: int, offset: int, key: bytes | None, value: bytes | None, at_ms: int) -> Input:
            nonlocal good
            item = read(partition, offset, key, value, at_ms)
            if type(item[6]) is BadRecord:
                suspect(item, good)
            else:
                good += 1
            return item

        return watched

    def _suspect(self, item: Input, good: int) -> None:
        self._bad.append(item.value and item.value[:_BEGINNING])
        if len(self._bad) >= _SAMPLE and good * 50 < len(self._bad):
            p, events = self._pipeline, self._source.role == "events"
            looks = guess_format(self._bad, p.event_schema if events else p.label_schema)
            raise WrongFormat(
                f"{len(self._bad)} of {len(self._bad) + good} records of {self._source.topic} cannot "
                f"be read ({item.payload.reason}: {item.payload.detail}); they look like {looks}. "
                f"{_correction(item.payload.reason, looks, p.events if events else p.labels)}, "
                "or pass --keep-going to dead-letter them."
            )
        del self._bad[_SAMPLE * 4 :]


def _correction(reason: str, looks: str, declared: Events | Labels) -> str:
    """What to do about records that look so: their format, time or fields are others than declared."""
    for format_, begin in _LOOKS.items():
        if format_ != declared.format and looks.startswith(begin):
            return f'Declare format="{format_}"'
    if reason == "far_future":
        return f"Correct the unit of {declared.time}, or the producer's clock"
    return "Correct what is published, or the schema"


class Task:
    """One partition of a group of stages.

    `positions[rank]` is the offset after the last record processed of that input, `seq` the number of the next journal
    record.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        group: Group,
        shard: int,
        *,
        topics: Callable[[str], str],
        codec: ObjectCodec | None = None,
        tolerant: bool = False,
        history: Callable[[Chain], History] | None = None,
    ) -> None:
        self.group, self.shard = group, shard
        self._new_chain: Callable[[], Chain] = partial(Chain, pipeline, group, shard, topics=topics, codec=codec)
        self._history = history
        self._tolerant = tolerant
        self.reset()

    def reset(self) -> None:
        """Forget everything: an empty state, before the first record."""
        self.chain = self._new_chain()
        if self._history is not None:
            self.chain.history = self._history(self.chain)
        self.positions = [0] * len(self.group.inputs)
        self.seq = 0
        self.epoch = 0
        self.start()

    def start(self) -> None:
        """Empty buffers, to be fed from `positions` on; also after a restore."""
        self.chain.bind()
        self.merge = Merge(len(self.group.inputs), self.group.leading)
        self.feeds = [self._feed(rank) for rank in range(len(self.group.inputs))]

    def feed(self, rank: int, offset: int, key: bytes | None, value: bytes | None, at_ms: int) -> None:
        """A record arrived on the input with this rank."""
        self.feeds[rank](offset, key, value, at_ms)

    def read_again(self, rank: int, reader: Any, start: int, end: int | None = None) -> Iterator[Input]:
        """What `replay` takes as the input with this rank: its records from `start` to before `end` (None: to its end).

        Most of them unreadable is no `WrongFormat` here: they were read before.
        """
        read = Intake(self.chain, rank, tolerant=True).read
        for r in reader.read(self.chain.sources[rank].topic, self.shard, start, end):
            yield read(r.partition, r.offset, r.key, r.value, r.timestamp_ms)

    def run(self, limit: int) -> Processed | None:
        """Process the next batch in merge order, or None when there is none to be had yet."""
        batch = self.merge.take(limit)
        if not batch:
            return None
        starts = list(self.positions)
        outputs = self._process(batch, self.epoch, starts)
        runs = varints(runs_of([rank for rank, _ in batch], len(starts), self.group.leading))
        entry = Entry(self.seq, self.epoch, starts, list(self.positions), runs, len(outputs), digest(outputs))
        self.seq += 1
        return Processed(batch, outputs, entry)

    def replay(self, entry: Entry, inputs: list[Iterator[Input]], *, compare: bool = True) -> Processed:
        """Process what a journal entry says, in its order; raises `Diverged` when other bytes come out."""
        if entry.seq != self.seq:
            raise Lost(
                f"Journal record {self.seq} of {self.group.name}/{self.shard} is missing; the next is {entry.seq}."
            )
        if len(entry.starts) != len(self.group.inputs):
            raise Lost(
                f"Journal record {entry.seq} of {self.group.name}/{self.shard} was written by a version of Headrace "
                "that read other inputs: start anew with `headrace reset`.",
                advised=True,
            )
        if list(entry.starts) != self.positions or entry.epoch != self.epoch:
            raise Lost(
                f"Journal record {entry.seq} of {self.group.name}/{self.shard} does not follow the one before it: it "
                f"begins at {list(entry.starts)} in epoch {entry.epoch}, the last one ended at {self.positions} in "
                f"epoch {self.epoch}."
            )
        batch: Batch = []
        for rank in ranks_of(numbers(entry.runs), len(inputs), self.group.leading):
            item = next(inputs[rank], None)
            if item is None or not entry.starts[rank] <= item.offset < entry.ends[rank]:
                raise Lost(
                    f"{self.chain.sources[rank].topic}/{self.shard}: records between {entry.starts[rank]} and "
                    f"{entry.ends[rank]} that journal record {entry.seq} names are gone."
                )
            batch.append((rank, item))
        outputs = self._process(batch, entry.epoch, entry.starts)
        if self.positions != list(entry.ends):
            raise Lost(
                f"Journal record {entry.seq} of {self.group.name}/{self.shard} is damaged: its records end at "
                f"{self.positions}, not at {list(entry.ends)}."
            )
        self.seq += 1
        if compare and (len(outputs) != entry.outputs or digest(outputs) != entry.digest):
            raise Diverged(
                f"Replaying journal record {entry.seq} of {self.group.name}/{self.shard} made other bytes than it "
                "says: code or environment changed since; --accept-change opens a new epoch."
            )
        return Processed(batch, outputs, entry)

    def open_epoch(self, version: Version, *, first: bool) -> Epoch:
        """The journal record that says what holds from here on."""
        self.epoch = 0 if first else self.epoch + 1
        epoch = Epoch(self.seq, self.epoch, version.hash, version.spec, version.environment)
        self.seq += 1
        return epoch

    def marker(self) -> dict[str, Any]:
        """What a checkpoint says of itself: where in the journal and the inputs its state stands."""
        return {"seq": self.seq, "epoch": self.epoch, "positions": list(self.positions)}

    def restore(self, entries: dict[tuple[str, str, Any], bytes], marker: dict[str, Any]) -> None:
        """Take the state of a checkpoint; raises `SnapshotError` for what is none of this task's."""
        if len(marker["positions"]) != len(self.group.inputs):
            raise SnapshotError("malformed", "its marker is about other inputs")
        with damage_told():
            self.chain.load(entries)
        self.seq, self.epoch, self.positions = marker["seq"], marker["epoch"], list(marker["positions"])

    def _feed(self, rank: int) -> Callable[[int, bytes | None, bytes | None, int], None]:
        """`feed` for one input, its look-ups done once."""
        read = Intake(self.chain, rank, tolerant=self._tolerant).read
        shard, append, ended = self.shard, self.merge.buffers[rank].append, self.merge.ended
        if rank < self.group.leading:

            def lead(offset: int, key: bytes | None, value: bytes | None, at_ms: int) -> None:
                append(read(shard, offset, key, value, at_ms))

            return lead

        def feed(offset: int, key: bytes | None, value: bytes | None, at_ms: int) -> None:
            append(read(shard, offset, key, value, at_ms))
            ended[rank] = False

        return feed

    def _process(self, batch: Batch, epoch: int, starts: Sequence[int]) -> list[Output]:
        for rank, item in self.chain.process(batch, epoch, starts).items():
            self.positions[rank] = item.offset + 1
        return self.chain.take()


def _readable(counts: dict[str, int], role: str) -> int:
    """How many records of this input could be read so far."""
    unread = (counts.get(f"dead.{_STAGES.get(role)}.{reason}", 0) for reason in REASONS if reason not in _READ)
    return counts.get(role, 0) - sum(unread)
