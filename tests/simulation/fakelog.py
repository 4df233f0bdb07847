"""The seam that `streams/kafka/` offers to the runtime, over the simulated broker.

Every call passes `process.seam`, where the scheduler may kill the process, or stop it for a while and run others.
Produced records travel in the background: they reach the log at any time between `send` and `commit`, and an error that
they meet is told at the next call that waits for the broker, as with librdkafka.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from headrace.streams.errors import Aborted, Expelled, Fault, Fenced, Lost, Stalled
from headrace.streams.kafka import SLOW_S
from headrace.streams.log import END, Record
from tests.simulation.broker import OFFSETS, TP, Partition
from tests.simulation.groups import Member, Metadata

__all__ = ["FakeCluster", "FakeConsumer", "FakeProducer", "FakeReader"]


class FakeCluster:
    """What one process sees of the cluster."""

    def __init__(self, world: Any, process: Any) -> None:
        self.world, self.process = world, process
        self._member: FakeConsumer | None = None

    def consumer(self, group: str, slot: str, *, gather_s: float, **callbacks: Callable[..., None]) -> FakeConsumer:
        """A static member of `group`, the only one of its process; what there is is there at once."""
        assert self._member is None or self._member.closed, "a member joins beside the one before"
        self._member = FakeConsumer(self, group, slot, **callbacks)
        return self._member

    def producer(self, transactional_id: str, timeout_ms: int = 20_000) -> FakeProducer:
        """A producer that has fenced whoever used this id before."""
        return FakeProducer(self, transactional_id, timeout_ms)

    def reader(self) -> FakeReader:
        """A reader of ranges."""
        return FakeReader(self)

    def offsets_of(self, group: str) -> list[TP]:
        """Where a group's offsets are."""
        return [OFFSETS]

    def commit_rest(self, transactional_id: str, places: Sequence[TP]) -> list[TP]:
        """Commit what the id's last transaction has open in these partitions, if it was decided to be committed."""
        self.process.seam("rest")
        if self.world.chance("timeout"):
            raise Aborted("_TIMED_OUT: no answer of the coordinator")
        return self.world.broker.commit_rest(transactional_id, list(places))

    def committed(self, group: str) -> dict[TP, int]:
        """What a group has committed."""
        self.process.seam("admin")
        return dict(self.world.broker.offsets.get(group, {}))


class FakeConsumer:
    """A static member of a consumer group."""

    def __init__(
        self,
        cluster: FakeCluster,
        group: str,
        slot: str,
        *,
        on_assign: Callable[[list[TP]], None],
        on_revoke: Callable[[list[TP]], None],
        on_lost: Callable[[list[TP]], None],
    ) -> None:
        self._world, self._process = cluster.world, cluster.process
        self._group, self._slot = group, slot
        self._on_assign, self._on_revoke, self._on_lost = on_assign, on_revoke, on_lost
        self._topics: list[str] = []
        self._member: Member | None = None
        self._held: list[TP] | None = None
        self._offered: list[TP] | None = None
        self._generation = -1
        self._positions: dict[TP, int] = {}
        self._ended: dict[TP, int] = {}
        self._paused: set[TP] = set()
        self._queue: deque[Record] = deque()
        self.closed = self._expelled = self._told = False
        self.polled = 0.0

    @property
    def beating(self) -> bool:
        """Whether the process behind it sends heartbeats now."""
        return self._process.alive and not self._process.frozen and not self.closed

    def assigned(self, partitions: list[TP], generation: int) -> None:
        """The coordinator has an assignment; the application hears of it at its next fetch."""
        self._offered, self._generation = list(partitions), generation

    def subscribe(self, topics: Sequence[str]) -> None:
        """Join the group."""
        self._process.seam("subscribe")
        self._topics = list(topics)
        self.polled = self._world.clock.now
        self._member = self._world.coordinator.join(self._group, self._slot, self, self._topics)

    def fetch(self, limit: int, timeout_s: float) -> list[Record]:
        """What has arrived; rebalances are told from in here."""
        self._process.seam("fetch")
        self.polled = self._world.clock.now
        self._rebalance()
        self._prefetch()
        out: list[Record] = []
        most = min(limit, self._world.chunk())
        while self._queue and len(out) < most:
            out.append(self._queue.popleft())
        if not out and timeout_s:
            self._world.advance(timeout_s)
        return out

    def seek(self, offsets: Mapping[TP, int]) -> None:
        """Read these partitions from these offsets on, and no others."""
        self._process.seam("seek")
        self._positions = dict(offsets)
        self._ended, self._paused, self._queue = {}, set(), deque()

    def pause(self, topic: str, partition: int) -> None:
        """Receive nothing more of a partition; what was fetched ahead is dropped."""
        self._process.seam("pause")
        self._paused.add((topic, partition))
        self._queue = deque(r for r in self._queue if (r.topic, r.partition) != (topic, partition))

    def resume(self, topic: str, partition: int, offset: int) -> None:
        """Receive a partition again from `offset` on."""
        self._process.seam("resume")
        self._paused.discard((topic, partition))
        self._positions[topic, partition] = offset
        self._ended.pop((topic, partition), None)

    def committed(self, partitions: Sequence[TP], timeout_s: float = 30.0) -> dict[TP, int | None]:
        """The group's offsets, once no open transaction holds any of them."""
        self._process.seam("committed")
        world, wanted = self._world, list(partitions)
        if not world.wait(
            self._process, lambda: not world.broker.unstable(self._group, wanted), world.clock.now + timeout_s
        ):
            raise Aborted("_TIMED_OUT: offsets are pending")
        if world.chance("timeout"):
            raise Aborted("_TIMED_OUT: no answer")
        found = world.broker.offsets.get(self._group, {})
        return {tp: found.get(tp) for tp in wanted}

    def metadata(self) -> Metadata:
        """What fences a transaction's offsets."""
        return self._group, self._slot, self._member.id if self._member else "", self._generation

    def close(self) -> None:
        """Stop: the callback is served once more, as librdkafka does; the place in the group is kept."""
        if self.closed:
            return
        if self._held is not None and self._process.alive:
            held, self._held = self._held, None
            self._on_revoke(held)
        self.closed = True

    def _rebalance(self) -> None:
        coordinator = self._world.coordinator
        if self._member is None:
            return
        status = coordinator.status(self._group, self._member)
        if status == "unknown" and not self._expelled and self._world.expels():
            # Its client has noticed first, and sends one more heartbeat, of no member: fatal (librdkafka 2.16).
            self._expelled = True
            if self._held is not None and self._world.tells_first():
                held, self._held = self._held, None
                self._on_lost(held)
        if status == "fenced" or self._expelled:
            self._expelled = True
            self._empty()
            if self._told:
                return  # it is said once; whoever does not hear it reads nothing for ever
            self._told = True
            raise Expelled("FENCED_INSTANCE_ID")
        if self._offered is not None and status != "unknown":
            self._held, self._offered = self._offered, None
            self._empty()
            self._on_assign(list(self._held))
        if status == "ok":
            return
        if self._held is not None:
            held, self._held = self._held, None
            self._empty()
            (self._on_lost if status == "unknown" else self._on_revoke)(held)
        if status == "unknown":
            self._offered, self._generation = None, -1
            self._member = coordinator.join(self._group, self._slot, self, self._topics)
        else:
            coordinator.rejoin(self._group, self._member)

    def _empty(self) -> None:
        self._positions, self._ended, self._queue = {}, {}, deque()
        self._paused = set()

    def _prefetch(self) -> None:
        world = self._world
        for tp, position in list(self._positions.items()):
            if tp in self._paused or world.rng.random() < 0.3 or len(self._queue) > 60:
                continue
            partition: Partition = world.broker.partitions[tp]
            if position < partition.low:
                raise Lost(f"{tp}: offset {position} is gone")
            rows = world.rows(partition, position, world.chunk())
            if rows:
                self._queue.extend(Record(tp[0], tp[1], r.offset, r.key, r.value, r.timestamp_ms) for r in rows)
                self._positions[tp] = rows[-1].offset + 1
            elif self._ended.get(tp) != world.end(partition):
                self._ended[tp] = self._positions[tp] = world.end(partition)
                self._queue.append(Record(tp[0], tp[1], self._ended[tp], None, END, 0))


class FakeProducer:
    """A transactional producer."""

    def __init__(self, cluster: FakeCluster, name: str, timeout_ms: int) -> None:
        self._world, self._process = cluster.world, cluster.process
        self._name = name
        self._doubtful = False
        self._open = False
        self._added: set[TP] = set()
        self._queue: list[tuple[TP, bytes | None, bytes | None, Any]] = []
        self._failed: Fault | None = None
        self._process.seam("init")
        if self._world.chance("init"):
            raise Aborted("_TIMED_OUT: no producer id")
        self._began, self._timeout_s, self._undecided = 0.0, timeout_ms / 1000, False
        self._epoch = self._world.broker.start_id(name, self._timeout_s)
        self._process.seam("initialised")

    @property
    def suspicious(self) -> bool:
        """Whether a request may have been sent twice; asking serves callbacks."""
        self._serve()
        return self._doubtful

    def begin(self) -> None:
        """Open a transaction; the broker hears of it with the first record."""
        self._process.seam("begin")
        self._raise()
        if self._open:
            raise Aborted("_STATE: a transaction is open")
        self._open, self._added, self._queue = True, set(), []
        self._began = self._world.clock.now

    def send(self, topic: str, partition: int, key: bytes | None, value: bytes | None, headers: Any = None) -> None:
        """Add a record to the transaction."""
        self._process.seam("send")
        self._raise()
        if not self._open:
            raise Aborted("_STATE: no transaction")
        self._queue.append(((topic, partition), key, value, headers))
        if self._world.rng.random() < 0.15:
            self._flush(self._world.rng.randint(1, len(self._queue)))

    def offsets(self, offsets: Mapping[TP, int], metadata: Metadata) -> None:
        """Add the consumed offsets."""
        self._process.seam("offsets")
        self._raise()
        world = self._world
        if world.chance("lost_request"):
            raise Aborted("_TIMED_OUT: offsets were not taken")
        world.broker.add(self._name, self._epoch, None)
        world.check_generation(metadata)
        world.broker.write_offsets(self._name, self._epoch, metadata[0], dict(offsets))
        if world.chance("late"):
            self._doubtful = True
            self._later(("offsets", metadata, dict(offsets)))
        self._added.add(("", 0))
        if world.chance("lost_response"):
            raise Aborted("_TIMED_OUT: no answer to the offsets")

    def prove(self, place: TP, group: str) -> None:
        """Raise `Fenced` if another producer has started under this id since, and `Aborted` where nobody can tell."""
        self._process.seam("prove")
        world = self._world
        if self._undecided or (self._open and world.clock.now - self._began > 0.9 * self._timeout_s):
            raise Aborted("_STATE: nobody can tell")
        if world.chance("lost_request"):
            raise Aborted("_TIMED_OUT: no answer of the coordinator")
        world.broker.add(self._name, self._epoch, None)
        world.broker.end(self._name, self._epoch, commit=False)
        self._process.seam("unproven")
        world.broker.add(self._name, self._epoch, None)
        world.broker.write_offsets(self._name, self._epoch, group, {place: 0})
        self._open = True

    def commit(self) -> None:
        """Commit, with all that can happen to an EndTxn on its way."""
        self._process.seam("flush")
        self._flush(len(self._queue))
        self._raise()
        if not self._open:
            raise Aborted("_STATE: no transaction")
        self._process.seam("commit")
        world = self._world
        began, self._undecided = world.clock.now, True
        if self._added:
            if world.chance("lost_request"):
                if world.rng.random() < 0.5:
                    self._later(("end", None, None))
                if world.rng.random() < 0.3:
                    self._process.kill("commit under way")
                raise Aborted("_TIMED_OUT: no answer to the commit")
            passes = world.forgets()
            world.broker.end(self._name, self._epoch, commit=True, passes=passes)
            self._doubtful |= passes is not None
            world.ended()
            if world.chance("late"):
                self._retried()
            if world.chance("lost_response"):
                raise Aborted("_TIMED_OUT: no answer to the commit")
        self._open = self._undecided = False
        if world.clock.now - began > SLOW_S:
            self._doubtful = True
        self._process.seam("done")

    def flush(self) -> None:
        """Wait until the records are in the log."""
        self._process.seam("flush")
        self._flush(len(self._queue))
        self._raise()

    def poll(self) -> None:
        """Serve callbacks."""
        self._process.seam("poll")
        self._serve()

    def drop(self) -> None:
        """Forget what was queued; whatever is open stays so until the successor starts."""
        self._queue = []
        if self._open:
            self._failed = self._failed or Aborted("_PURGE_QUEUE")

    def _retried(self) -> None:
        """The client sent EndTxn twice and was answered; the other copy is still on its way."""
        self._later(("end", None, None))
        if self._world.rng.random() < 0.5:
            self._doubtful = True
        else:
            self._world.slow(self._process, self._world.rng.uniform(10.5, 40.0))

    def _later(self, request: tuple[Any, ...]) -> None:
        world = self._world
        delay = world.rng.choice((0.01, 0.1, 1.0, 10.0, 60.0)) * world.rng.random()
        world.broker.late.append((world.clock.now + delay, self._name, self._epoch, request))

    def _flush(self, count: int) -> None:
        batch, self._queue = self._queue[:count], self._queue[count:]
        broker = self._world.broker
        try:
            for tp, key, value, headers in batch:
                if tp not in self._added:
                    broker.add(self._name, self._epoch, tp)
                    self._added.add(tp)
                broker.write(self._name, self._epoch, tp, key, value, headers)
        except Fault as error:
            self._failed = self._failed or error.with_traceback(None)

    def _serve(self) -> None:
        if isinstance(self._failed, Fenced):  # what failed otherwise is told by the next call
            self._raise()

    def _raise(self) -> None:
        if self._failed is not None:
            raise type(self._failed)(*self._failed.args)  # the one that is kept keeps no frames, nor what these hold


class FakeReader:
    """Reads ranges of committed records, to the high watermark at the time, waiting out open transactions."""

    def __init__(self, cluster: FakeCluster, stall_s: float = 60.0) -> None:
        self._world, self._process = cluster.world, cluster.process
        self._stall_s = stall_s
        self._reading = 0

    def watermarks(self, topic: str, partition: int) -> tuple[int, int]:
        """The first offset still there, and the high watermark."""
        self._process.seam("watermarks")
        log = self._world.broker.partitions[topic, partition]
        return log.low, log.high

    def stable(self, topic: str, partition: int) -> int:
        """The last stable offset."""
        self._process.seam("stable")
        return int(self._world.broker.partitions[topic, partition].stable)

    def ends(self, places: Sequence[TP]) -> dict[TP, tuple[int, int]]:
        """The last stable offset and the high watermark of each; the latter is asked for first."""
        ends = self._world.broker.ends
        self._process.seam("watermarks")
        high = {tp: ends(tp)[1] for tp in places}
        self._process.seam("stable")
        return {tp: (ends(tp)[0], end) for tp, end in high.items()}

    def highs(self, places: Sequence[TP]) -> dict[TP, int]:
        """The high watermark of each."""
        self._process.seam("watermarks")
        return {tp: self._world.broker.partitions[tp].high for tp in places}

    def read(self, topic: str, partition: int, start: int | None = None, end: int | None = None) -> Iterator[Record]:
        """Committed records from `start` (or the first) to before `end` (or the high watermark as it is now)."""
        low, high = self.watermarks(topic, partition)
        start = low if start is None else start
        end = self._world.restore_end(topic, partition, high) if end is None else end
        if start < low:
            raise Lost(f"{topic}/{partition}: offset {start} is gone, the first one left is {low}.")
        if start >= end:
            return
        self._reading += 1
        mine = self._reading
        log = self._world.broker.partitions[topic, partition]
        log.readers += 1
        try:
            yield from self._range(log, topic, partition, start, end, mine)
        finally:
            log.readers -= 1

    def _range(self, log: Partition, topic: str, number: int, start: int, end: int, mine: int) -> Iterator[Record]:
        world, position = self._world, start
        while True:
            self._process.seam("read")
            stable = log.stable
            for row in world.rows(log, position, end=min(end, stable)):
                position = row.offset + 1
                yield Record(topic, number, row.offset, row.key, row.value, row.timestamp_ms, row.headers)
                assert mine == self._reading, "one reader was made to read two ranges at once"
            position = max(position, min(end, stable))
            if stable >= end:
                return
            deadline = world.clock.now + self._stall_s
            if not world.wait(self._process, lambda before=stable: log.stable > before, deadline):
                raise Stalled(f"{topic}/{number}: nothing for {self._stall_s:.0f} s before offset {end}")

    def close(self) -> None:
        """Release it."""
