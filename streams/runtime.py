"""The worker: one consumer, one transactional producer, its tasks, and the cycle that makes them exactly-once.

One cycle, in one Kafka transaction (see `Worker._commit`, and docs/delivery.md for what a death after each step does):

1. fetch    what has arrived goes to the buffers of its task
2. process  each task takes a batch in merge order and processes it
3. begin    the transaction
4. publish  the outputs
5. journal  one record for each batch
6. offsets  the positions reached, with the group's current generation
7. commit

While a worker catches up, steps 3 to 7 run beside steps 1 and 2 of the next cycle (`committing.py`). Checkpoints go
beside both, in transactions of their own (`checkpoint.py`). Whatever goes wrong inside a transaction, the producer is
dropped and the tasks are rebuilt from the log (`recovery.py`), as after a crash.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from headrace.streams import failpoints
from headrace.streams.checkpoint import Checkpoint
from headrace.streams.committing import AtOnce, Beside, Committer
from headrace.streams.errors import Aborted, Fault, HeadraceError
from headrace.streams.folding import Folding
from headrace.streams.journal import write
from headrace.streams.leftovers import end_leftovers, follow, open_places
from headrace.streams.log import END
from headrace.streams.observe import Observer
from headrace.streams.pipeline import Pipeline
from headrace.streams.recovery import Recovered, recover
from headrace.streams.savepoints import copy as copy_checkpoint
from headrace.streams.state import ObjectCodec
from headrace.streams.task import Processed, Task, Version
from headrace.streams.topology import Group
from headrace.streams.versions import Frozen, Publisher, alert_of

__all__ = ["Settings", "Worker", "group_name", "transactional_id"]

log = logging.getLogger("headrace.runtime")

_AT_ONCE = AtOnce()

_CHECKPOINT_S = 20.0
"""A checkpoint under way for longer is written to its end at once: its transaction times out after 60 s."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How a worker works; none of it changes what comes out.

    Parameters
    ----------
    batch
        Most input records in one transaction.
    beside
        Records in a batch from which on it is committed beside the next one; smaller ones are committed at once.
    gather_s
        How long to gather records for a transaction: latency against throughput.
    buffer
        Most records waiting in a task's buffers for one input; beyond, the partition that runs ahead is paused.
    checkpoint_s
        Seconds between checkpoints.
    savepoint_s
        Seconds between savepoints: how far audit must go back at most, once the inputs before are gone.
    checkpoint_entries
        State entries written per cycle while a checkpoint is under way.
    stall_s
        Without progress for this long, the worker says so and ends.
    upstream_wait_s
        How long to wait for a group that feeds an input and has work left, before going on without it.
    """

    batch: int = 8_000
    beside: int = 1_000
    gather_s: float = 0.02
    buffer: int = 50_000
    checkpoint_s: float = 10.0
    checkpoint_entries: int = 2_000
    savepoint_s: float = 3_600.0
    stall_s: float = 120.0
    upstream_wait_s: float = 30.0


def group_name(pipeline: Pipeline, group: Group) -> str:
    """The consumer group of a group of stages."""
    return pipeline.name if group.name == "lane" else f"{pipeline.name}.{group.name}"


def transactional_id(pipeline: Pipeline, group: Group, slot: str) -> str:
    """Stable name of a worker's slot: its transactional id, and its static membership."""
    return f"{group_name(pipeline, group)}.{slot}"


class _Lane:
    """A task on this worker, with what only the worker knows of it."""

    def __init__(self, task: Task, found: Recovered, side: Any) -> None:
        self.task = task
        self.side = side
        self.checkpoint: Checkpoint | None = None
        self.checkpoint_began = 0.0
        self.checkpointed_at = 0.0
        self.checkpointed_seq = found.checkpoint_seq or 0
        self.savepoint_due_at = float("-inf")
        self.savepoint_follows = False
        self.models: list[Frozen] = []
        self.epoch_due = found.epoch_due
        self.journal_offset = self.journal_seen = found.journal_offset
        self.parked_at = -1
        self.paused: set[int] = set()
        self.end_offsets: dict[int, int] = {}
        self.waiting_since: float | None = None


def _in_thread(work: Callable[[], None]) -> None:
    threading.Thread(target=work, name="headrace-aside", daemon=True).start()


def _at_once(work: Callable[[], None]) -> None:
    work()


class Worker:
    """Runs a group of stages over the partitions that Kafka assigns to this slot.

    Parameters
    ----------
    cluster
        Makes consumers, producers and readers (`kafka.Cluster`, or a fake log).
    topics
        Role → topic name.
    codec
        How models are sealed in checkpoints.
    clock
        Seconds, monotonic; injected so that simulations can turn it.
    committer
        Commits batches while the worker catches up: beside it in a thread, unless a simulation does it at once.
    aside
        Runs what the cycle need not wait for (savepoints, versions): in a thread, unless a simulation runs it at once.
    versions
        Publishes versions of the models after checkpoints; None: nobody does.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        group: Group,
        cluster: Any,
        *,
        topics: Callable[[str], str],
        slot: str = "0",
        settings: Settings | None = None,
        codec: ObjectCodec | None = None,
        observer: Observer | None = None,
        accept_change: bool = False,
        tolerant: bool = False,
        clock: Callable[[], float] = time.monotonic,
        wall_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        committer: Committer | None = None,
        aside: Callable[[Callable[[], None]], None] = _in_thread,
        versions: Publisher | None = None,
    ) -> None:
        self.pipeline, self.group, self.cluster = pipeline, group, cluster
        self.topics, self.codec = topics, codec
        self.settings = settings or Settings()
        self.observer = observer or Observer()
        self.id = transactional_id(pipeline, group, slot)
        self.version = Version.of(pipeline)
        self.lanes: dict[int, _Lane] = {}
        self.stopping = False
        self.ready = False
        self.progress = 0
        self.ticks = 0
        self.versions = versions
        self._accept_change, self._tolerant = accept_change, tolerant
        self._clock, self._wall_ms, self._aside = clock, wall_ms, aside
        self._committer: Committer = Beside() if committer is None else committer
        self._folding = Folding(pipeline, cluster, topics, self.group_name, clock, lambda: self._committer.settle())
        self._lost: Fault | None = None
        self._ranks = {topics(role): rank for rank, role in enumerate(group.inputs)}
        self._parked: dict[int, _Lane] = {}
        self._followed = False
        self._held: list[int] | None = None
        self._assigned: list[int] | None = None
        self._recovering: Iterator[None] | None = None
        self._upstream_checked = 0.0
        self._finishing = False

    # -- life ----------------------------------------------------------------------------------------------------

    def run(self, until: Callable[[], bool] = lambda: False) -> None:
        """Work until `stop` is called or `until` says so; ends with a checkpoint."""
        self.open()
        try:
            while not self.stopping and not until():
                self.cycle()
            self.finish()
        finally:
            self.close()

    def open(self) -> None:
        """Fence this slot's predecessor, then join the group."""
        self.producer = self.cluster.producer(self.id)
        failpoints.hit("open.fenced")
        self.reader = self.cluster.reader()
        self.consumer = self.cluster.consumer(
            self.group_name, self.id, on_assign=self._on_assign, on_revoke=self._on_revoke
        )
        self.consumer.subscribe([self.topics(role) for role in self.group.inputs])
        failpoints.hit("open.joining")

    @property
    def group_name(self) -> str:
        """The consumer group."""
        return group_name(self.pipeline, self.group)

    def stop(self) -> None:
        """Ask `run` to end after this cycle."""
        self.stopping = True

    @property
    def waiting(self) -> bool:
        """Whether records that were fetched wait to be processed."""
        return any(len(lane.task.merge) for lane in self.lanes.values())

    def caught_up(self) -> bool:
        """Whether every input of the tasks here was read to its end, and everything read is processed and committed.

        An input that another group writes has ended when that group has nothing left to read either; one that is
        written here as well, when the last of that was read back.
        """
        if not self.ready or not self.lanes or self.waiting or self._committer.busy:
            return False
        ranks = range(len(self.group.inputs))
        if any(rank not in lane.end_offsets for lane in self.lanes.values() for rank in ranks):
            return False
        written = [*self.group.upstream.items(), *((role, "") for role in self.group.inputs[: self.group.leading])]
        return all(
            (not stage or self._upstream_idle(stage, shard))
            and self.reader.stable(self.topics(role), shard) == lane.end_offsets[self.group.inputs.index(role)]
            for shard, lane in self.lanes.items()
            for role, stage in written
        )

    def finish(self) -> None:
        """Checkpoint what there is, so that the successor has nothing to replay."""
        failpoints.hit("finish.begun")
        self._finishing = True
        try:
            self._committer.settle()
            self._distrust()
        except Aborted as error:
            log.warning("the last transaction did not happen, so there is no checkpoint of it: %s", error)
            return
        for lane in self.lanes.values():
            self._checkpoint_now(lane)
        failpoints.hit("finish.done")

    def close(self) -> None:
        """Release the clients; what is in memory may be ahead of the log, so the last revocation must not write it."""
        with contextlib.suppress(Fault):
            self._committer.settle()
        for lane in [*self.lanes.values(), *self._parked.values()]:
            lane.side.drop()
        self.lanes, self._parked = {}, {}
        if self.versions is not None:
            self.versions.close()
        self.producer.drop()
        self.consumer.close()
        self.reader.close()

    # -- the cycle -----------------------------------------------------------------------------------------------

    def cycle(self) -> None:
        """One cycle: fetch, process, commit; or a step of recovery."""
        self.ticks += 1
        try:
            self._end_leftovers(set())
            self._fetch()
            self._raise_lost()
            if self._assigned is not None or self._recovering is not None:
                self._recover_step()
                return
            failpoints.hit("cycle.fetched")
            self._end_inputs()
            done = self._process()
            self._committer.settle()
            if done:
                failpoints.hit("cycle.processed")
                work = partial(self._commit, done, self.consumer.metadata())
                (self._committer if self._catching_up(done) else _AT_ONCE).submit(work)
            else:
                self.observer.idle()
                self._distrust()
                self.producer.poll()
            self._checkpoint()
            self._retrain()
        except Aborted as error:
            self._rebuild(str(error))

    def _fetch(self) -> None:
        """Gather what arrives within `gather_s` into the buffers, up to a batch."""
        settings = self.settings
        waiting = any(len(lane.task.merge) and not lane.task.merge.waiting_for() for lane in self.lanes.values())
        fetched = self.consumer.fetch(settings.batch, 0.0 if waiting else settings.gather_s)
        lanes, ranks = self.lanes, self._ranks
        for record in fetched:
            topic, shard, offset, key, value, at_ms, _ = record
            lane = lanes.get(shard)
            if lane is None:
                continue
            if value is END:
                self._ended(lane, ranks[topic], offset)
                continue
            rank = ranks[topic]
            if lane.end_offsets:
                lane.end_offsets.pop(rank, None)
            lane.task.feeds[rank](offset, key, value, at_ms)
        for shard, lane in self.lanes.items():
            self._balance(shard, lane)

    def _ended(self, lane: _Lane, rank: int, offset: int) -> None:
        lane.end_offsets[rank] = offset
        if self.group.inputs[rank] not in self.group.upstream:
            lane.task.merge.end(rank)

    def _balance(self, shard: int, lane: _Lane) -> None:
        """Pause the inputs that run ahead of the others; resume them when half of the buffer is free."""
        for rank, buffer in enumerate(lane.task.merge.buffers):
            if rank not in lane.paused and len(buffer) > self.settings.buffer:
                self.consumer.pause(self.topics(self.group.inputs[rank]), shard)
                lane.paused.add(rank)
            elif rank in lane.paused and len(buffer) < self.settings.buffer // 2:
                lane.paused.discard(rank)
                self.consumer.resume(self.topics(self.group.inputs[rank]), shard, self._next_offset(lane, rank))

    @staticmethod
    def _next_offset(lane: _Lane, rank: int) -> int:
        buffer = lane.task.merge.buffers[rank]
        return buffer[-1].offset + 1 if buffer else lane.task.positions[rank]

    def _end_inputs(self) -> None:
        """An input that another group writes has ended only when that group has nothing left to read either."""
        now = self._clock()
        if not self.group.upstream or now - self._upstream_checked < 0.1:
            return
        for shard, lane in self.lanes.items():
            waiting = [rank for rank in lane.task.merge.waiting_for() if rank in lane.end_offsets]
            if not waiting or not len(lane.task.merge):
                lane.waiting_since = None
                continue
            self._upstream_checked = now
            lane.waiting_since = now if lane.waiting_since is None else lane.waiting_since
            overdue = now - lane.waiting_since > self.settings.upstream_wait_s
            for rank in waiting:
                role = self.group.inputs[rank]
                idle = overdue or self._upstream_idle(self.group.upstream[role], shard)
                if idle and self.reader.stable(self.topics(role), shard) == lane.end_offsets[rank]:
                    lane.task.merge.end(rank)

    def _upstream_idle(self, stage: str, shard: int) -> bool:
        """Whether the group that runs `stage` has read all but what may be transaction markers."""
        for group, roles in self._feeders(stage):
            committed = self.cluster.committed(group)
            for role in roles:
                topic = self.topics(role)
                if topic_lag(self.reader.stable(topic, shard), committed.get((topic, shard))) > 3:
                    return False
        return True

    def _feeders(self, stage: str) -> list[tuple[str, tuple[str, ...]]]:
        from headrace.streams.topology import group_of

        segments = [("validate", "featurize"), ("predict", "join", "train", "evaluate")]
        groups = [group_of(segment) for segment in segments if stage in segment]
        return [(group_name(self.pipeline, group), group.inputs) for group in groups]

    def _process(self) -> list[tuple[int, Processed]]:
        done = []
        for shard, lane in self.lanes.items():
            began = self._clock()
            processed = lane.task.run(self.settings.batch) if not lane.epoch_due else None
            if processed is not None:
                done.append((shard, processed))
                self.observer.processed(lane.task, processed, self._clock() - began)
        return done

    def _catching_up(self, done: list[tuple[int, Processed]]) -> bool:
        """Whether there is something to do while this is committed; live, a thread would only add to the latency."""
        return sum(len(processed.batch) for _, processed in done) >= self.settings.beside

    def _commit(self, done: list[tuple[int, Processed]], metadata: Any) -> None:
        """Steps 3 to 7: all of these batches take effect, or none. Nothing else uses the producer meanwhile."""
        began = self._clock()
        self._begin()
        failpoints.hit("commit.begun")
        offsets: dict[tuple[str, int], int] = {}
        for shard, processed in done:
            self._publish(shard, processed)
            for role, position in zip(self.group.inputs, processed.entry.ends, strict=True):
                offsets[self.topics(role), shard] = position
        failpoints.hit("commit.journaled")
        self.producer.offsets(offsets, metadata)
        failpoints.hit("commit.offsets")
        self.producer.commit()
        failpoints.hit("commit.done")
        self.progress += 1
        seconds = self._clock() - began
        self.observer.committed([(self.lanes[shard].task, p) for shard, p in done], seconds, self._wall_ms())

    def _begin(self) -> None:
        """Open the cycle's transaction, under a new epoch if a late copy of a request may end it or change it."""
        self._distrust()
        self.producer.begin()

    def _distrust(self) -> None:
        """After a suspicious transaction: a new producer, and everything from the log unless every marker is there."""
        if not self.producer.suspicious:
            return
        self._renew()
        self._followed = False
        found = self._end_leftovers(set(self.lanes))
        if self.lanes:
            self._forget_offsets(next(iter(self.lanes)))
        if found:
            raise Aborted(f"a transaction was open in {found[0][0]}/{found[0][1]}, which may have been the last one")

    def _end_leftovers(self, mine: set[int]) -> list[tuple[str, int]]:
        """End what this slot's earlier producers left open anywhere (`leftovers.py`); those found in `mine`."""
        if self._followed:
            return []
        roles = (*self.group.outputs, "journal")
        shards = range(self.pipeline.partitions)
        found = open_places(self.reader, [(self.topics(role), shard) for role in roles for shard in shards])
        if found:
            end_leftovers(self.producer, found)
            self._renew()
        self._followed = True
        return [place for place in found if place[1] in mine]

    def _forget_offsets(self, shard: int) -> None:
        """End what offsets an earlier transaction of this slot may have left pending.

        Offsets that reach the group's coordinator after their transaction was aborted stay pending for ever: nobody
        can read the committed ones, and this slot's next commit would make them real (KIP-890; the client lacks it).
        An abort that names the coordinator's partition ends them: a transaction with an offset, and a new producer.
        The offset is one that nobody reads, the journal's, as a late copy of this request may stay pending too.
        """
        self.producer.begin()
        self.producer.offsets({(self.topics("journal"), shard): 0}, self.consumer.metadata())
        self._renew()

    def _renew(self) -> None:
        """Follow our own producer by a new one under the same id, whose start aborts what is open."""
        self.producer.drop()
        self.producer = self.cluster.producer(self.id)

    def _publish(self, shard: int, processed: Processed) -> None:
        send = self.producer.send
        names = {role: self.topics(role) for role in self.group.outputs}
        for role, key, value, headers in processed.outputs:
            send(names[role], shard, key, value, headers)
        failpoints.hit("commit.outputs")
        send(self.topics("journal"), shard, self.group.name.encode(), write(processed.entry))

    def _retrain(self) -> None:
        """Let models catch up that are to be retrained."""
        for lane in self.lanes.values():
            decisions = lane.task.chain.decisions
            if decisions is not None and decisions.waiting:
                for work in self._folding.due(lane.task):
                    self._aside(work)

    # -- checkpoints ---------------------------------------------------------------------------------------------

    def _checkpoint(self) -> None:
        """Begin a checkpoint where one is due, and write the next part of those under way."""
        now = self._clock()
        for lane in self.lanes.values():
            if lane.checkpoint is None:
                self._distrust_side(lane)
                due = now - lane.checkpointed_at >= self.settings.checkpoint_s
                if due and lane.task.seq != lane.checkpointed_seq:
                    self._begin_checkpoint(lane)
            else:
                late = now - lane.checkpoint_began > _CHECKPOINT_S
                if lane.checkpoint.write(None if late else self.settings.checkpoint_entries):
                    self._end_checkpoint(lane)

    def _begin_checkpoint(self, lane: _Lane) -> None:
        """Freeze a lane's state, when nothing is in flight, and open the transaction that takes it.

        The journal is to be read from where it stood at the checkpoint before: we have committed since, so our records
        lie beyond. Where it stands now proves nothing: a successor may write to it already, if we were stopped for
        long. A new side producer may not be made here either: it would fence that successor.
        """
        failpoints.hit("checkpoint.due")
        self._committer.settle()
        self._distrust()
        stable = self.reader.stable(self.topics("journal"), lane.task.shard)
        lane.journal_offset, lane.journal_seen = lane.journal_seen, stable
        self._distrust_side(lane)
        lane.checkpoint_began = self._clock()
        lane.checkpointed_seq = lane.task.seq
        lane.savepoint_follows = self._clock() >= lane.savepoint_due_at
        due = self.versions is not None and self.versions.due(lane.task)
        lane.models = self.versions.frozen(lane.task) if self.versions is not None and due else []
        lane.checkpoint = Checkpoint(
            lane.task,
            self.version,
            lane.journal_offset,
            self.topics("state"),
            lane.side,
            outputs=self._output_ends(lane.task.shard) if lane.savepoint_follows else None,
            models=due,
        )

    @staticmethod
    def _distrust_side(lane: _Lane) -> None:
        if lane.side.suspicious:
            raise Aborted("the last checkpoint's requests may have been sent twice")

    def _end_checkpoint(self, lane: _Lane) -> None:
        done, lane.checkpoint = lane.checkpoint, None
        lane.checkpointed_at = self._clock()
        if done is not None:
            self.observer.checkpointed(
                lane.task, done.written, done.bytes, lane.checkpointed_at - lane.checkpoint_began
            )

        if lane.savepoint_follows:
            lane.savepoint_due_at = lane.checkpointed_at + self.settings.savepoint_s
            self._aside(partial(self._savepoint, lane.task.shard))
        if done is not None and lane.models and self.versions is not None:
            models = [model._replace(sealed=done.sealed[model.name]) for model in lane.models]
            work = partial(self.versions.publish, self.group_name, lane.task.shard, models)
            (_at_once if self._finishing else self._aside)(work)

    def _output_ends(self, shard: int) -> dict[str, int]:
        """Where the output topics stand: nothing of ours is in flight, so what comes next is beyond."""
        return {role: self.reader.watermarks(self.topics(role), shard)[1] for role in self.group.outputs}

    def _savepoint(self, shard: int) -> None:
        """Copy the checkpoint just made; audit can do without a savepoint, so trouble is only reported."""
        reader, producer = self.cluster.reader(), None
        try:
            name = f"{self.group_name}.savepoint.{shard}"
            producer, _ = follow(self.cluster, reader, name, [(self.topics("savepoints"), shard)])
            copy_checkpoint(self.group.name, shard, self.topics, reader, producer)
        except HeadraceError as error:
            log.warning("no savepoint of %s/%s: %s", self.group.name, shard, error)
        finally:
            reader.close()
            if producer is not None:
                producer.drop()

    def _checkpoint_now(self, lane: _Lane) -> None:
        """Finish the checkpoint under way, then write one of the present state."""
        if lane.checkpoint is not None:
            lane.checkpoint.write(None)
            self._end_checkpoint(lane)
        if lane.task.seq != lane.checkpointed_seq and not lane.side.suspicious:
            self._begin_checkpoint(lane)
            if lane.checkpoint is not None:
                lane.checkpoint.write(None)
            self._end_checkpoint(lane)

    # -- assignment and recovery ---------------------------------------------------------------------------------

    def _on_assign(self, partitions: list[tuple[str, int]]) -> None:
        failpoints.hit("assign.begun")
        self._held = self._assigned = sorted({shard for _, shard in partitions})
        self._recovering = None

    def _on_revoke(self, partitions: list[tuple[str, int]]) -> None:
        """What is in memory may come back untouched; meanwhile a checkpoint spares the next owner a replay."""
        failpoints.hit("revoke.begun")
        self.ready = False
        self._held = self._assigned = self._recovering = None
        try:
            self._committer.settle()
            self._distrust()
        except Fault as error:
            self._lose(error)
        for shard, lane in self.lanes.items():
            try:
                self._checkpoint_now(lane)
                lane.parked_at = self._journal_end(shard)
            except Fault as error:
                log.warning("no checkpoint of %s/%s on revoke: %s", self.group.name, shard, error)
                lane.side.drop()
                continue
            if lane.task.seq == lane.checkpointed_seq and not lane.side.suspicious:
                self._parked[shard] = lane
            else:
                lane.side.drop()
        self.lanes = {}
        failpoints.hit("revoke.parked")
        self.observer.assigned([])

    def _journal_end(self, shard: int) -> int:
        """Where the journal stands: a parked task that finds it there again was nobody else's meanwhile."""
        return int(self.reader.stable(self.topics("journal"), shard))

    def _lose(self, error: Fault) -> None:
        """The last transaction failed while partitions were taken away: what is in memory must not come back."""
        self._lost = error
        for lane in self.lanes.values():
            lane.side.drop()
        self.lanes = {}

    def _raise_lost(self) -> None:
        if self._lost is not None:
            error, self._lost = self._lost, None
            raise error

    def _rebuild(self, reason: str) -> None:
        """A transaction failed: drop the producer and everything in memory, and come back from the log."""
        failpoints.hit("rebuild.begun")
        with contextlib.suppress(Aborted):
            self._committer.settle()
        log.warning("recovering after: %s", reason)
        self.observer.aborted(reason)
        self.ready = False
        self.producer.drop()
        for lane in self.lanes.values():
            lane.side.drop()
        self.lanes = {}
        self.producer, self._followed = self.cluster.producer(self.id), False
        failpoints.hit("rebuild.fenced")
        self._assigned, self._recovering = self._held, None

    def _recover_step(self) -> None:
        if self._assigned is not None:
            shards, self._assigned = self._assigned, None
            self._recovering = self._recover(shards)
        try:
            if self._recovering is not None:
                next(self._recovering)
        except StopIteration:
            self._recovering = None
            self.ready = True

    def _recover(self, shards: list[int]) -> Iterator[None]:
        """Bring the assigned tasks to the state that the log says they have, then read on from there."""
        failpoints.hit("recover.begun")
        parked, self._parked = self._parked, {}
        lanes: dict[int, _Lane] = {}
        for lane in parked.values():
            lane.side.drop()
        sides = {}
        for shard in shards:
            sides[shard], clean = self._side(shard)
            if not clean:
                parked.pop(shard, None)
        failpoints.hit("recover.sides")
        self._end_requests(shards)
        inputs = [(self.topics(role), shard) for shard in shards for role in self.group.inputs]
        self._forget_offsets(shards[0] if shards else 0)
        committed = self.consumer.committed(inputs) if inputs else {}
        failpoints.hit("recover.committed")
        for shard in shards:
            yield
            mine = {topic: offset for (topic, partition), offset in committed.items() if partition == shard}
            kept = parked.get(shard)
            same = kept is not None and list(mine.values()) == kept.task.positions
            if kept is not None and same and self._journal_end(shard) == kept.parked_at:
                kept.task.start()
                lanes[shard] = self._anew(kept, sides[shard])
                continue
            task = Task(
                self.pipeline,
                self.group,
                shard,
                topics=self.topics,
                codec=self.codec,
                tolerant=self._tolerant,
                history=partial(self._folding.history, shard),
            )
            result = Recovered()
            steps = recover(
                task,
                self.reader,
                self.version,
                self.topics,
                mine,
                accept_change=self._accept_change,
                new_reader=self.cluster.reader,
                clock=self._clock,
            )
            for result in steps:  # noqa: B007 - the last one is the result
                yield
            lanes[shard] = self._recovered(task, result, sides[shard])
        self._resume(lanes)

    def _recovered(self, task: Task, found: Recovered, side: Any) -> _Lane:
        self.observer.recovered(task, found)
        if found.refused is not None and self.versions is not None:
            place = (self.topics("state"), task.shard, *self.reader.watermarks(self.topics("state"), task.shard))
            alert = alert_of(f"{self.group.name}/{task.shard}", found.refused, place, task.chain.stream_time_ms)
            self._aside(partial(self.versions.alert, self.group_name, task.shard, alert))
        lane = _Lane(task, found, side)
        lane.checkpointed_at = self._clock() if found.seconds < 1.0 else float("-inf")
        log.info(
            "%s/%s recovered: checkpoint %s, %d journal records, %.2f s",
            self.group.name,
            task.shard,
            found.checkpoint_seq,
            found.journalled,
            found.seconds,
        )
        return lane

    @staticmethod
    def _anew(kept: _Lane, side: Any) -> _Lane:
        kept.side, kept.paused, kept.end_offsets, kept.waiting_since = side, set(), {}, None
        return kept

    def _end_requests(self, shards: list[int]) -> None:
        """End what a predecessor left open when it asked for an adoption: nobody may have to ask again."""
        places = [(self.topics("registry"), shard) for shard in shards] if self.group.back else []
        for topic, shard in open_places(self.reader, places):
            follow(self.cluster, self.reader, f"{self.group_name}.retrain.{shard}", [(topic, shard)])[0].drop()

    def _side(self, shard: int) -> tuple[Any, bool]:
        """The producer of a task's checkpoints; whether nothing of its predecessors was open, which is ended else."""
        name = f"{self.group_name}.state.{shard}"
        side, found = follow(self.cluster, self.reader, name, [(self.topics("state"), shard)])
        return side, not found

    def _resume(self, lanes: dict[int, _Lane]) -> None:
        self.lanes = lanes
        failpoints.hit("resume.begun")
        self._open_epochs()
        self.consumer.seek(
            {
                (self.topics(role), shard): lane.task.positions[rank]
                for shard, lane in lanes.items()
                for rank, role in enumerate(self.group.inputs)
            }
        )
        failpoints.hit("resume.sought")
        self.observer.assigned(sorted(lanes))

    def _open_epochs(self) -> None:
        """The first journal record of an epoch is a transaction of its own."""
        due = {shard: lane for shard, lane in self.lanes.items() if lane.epoch_due}
        if not due:
            return
        self._begin()
        failpoints.hit("epoch.begun")
        offsets = {}
        for shard, lane in due.items():
            epoch = lane.task.open_epoch(self.version, first=lane.task.seq == 0)
            self.producer.send(self.topics("journal"), shard, self.group.name.encode(), write(epoch))
            for rank, role in enumerate(self.group.inputs):
                offsets[self.topics(role), shard] = lane.task.positions[rank]
        failpoints.hit("epoch.sent")
        self.producer.offsets(offsets, self.consumer.metadata())
        failpoints.hit("epoch.offsets")
        self.producer.commit()
        failpoints.hit("epoch.done")
        for lane in due.values():
            lane.epoch_due = False


def topic_lag(stable: int, committed: int | None) -> int:
    """Records between what a group has committed and the last stable offset."""
    return stable - (committed or 0)
