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
from collections.abc import Callable
from functools import partial
from typing import Any

from headrace.streams import failpoints
from headrace.streams.errors import Aborted, Expelled, Fault
from headrace.streams.journal import write
from headrace.streams.log import END
from headrace.streams.models.versions import Publisher
from headrace.streams.pipeline import Pipeline
from headrace.streams.stores import ObjectCodec
from headrace.streams.task import Processed, Version
from headrace.streams.topics import transactional_id
from headrace.streams.topology import Group
from headrace.streams.worker.assignment import Assignment
from headrace.streams.worker.checkpointing import Checkpointing
from headrace.streams.worker.collector import Collector
from headrace.streams.worker.committing import AtOnce, Beside, Committer
from headrace.streams.worker.folding import Folding
from headrace.streams.worker.lane import Lane
from headrace.streams.worker.observe import Observer
from headrace.streams.worker.slot import Slot
from headrace.streams.worker.tuning import Rhythm, Settings
from headrace.streams.worker.upstream import Upstream
from headrace.streams.worker.work import Work

__all__ = ["Worker"]

log = logging.getLogger("headrace.runtime")

_AT_ONCE = AtOnce()


def _in_thread(work: Callable[[], None]) -> None:
    threading.Thread(target=work, name="headrace-aside", daemon=True).start()


class Worker:
    """Runs a group of stages over the partitions that Kafka assigns to this slot.

    Parameters
    ----------
    cluster
        Makes consumers, producers and readers (`kafka.Cluster`, or a fake log).
    topics
        Role → topic name.
    slot
        Which of the group's workers this is, as its transactional id says; whoever takes it later fences this one.
    settings
        Sizes and times; None: the usual ones.
    codec
        How models are sealed in checkpoints.
    observer
        Is told what happens; None: nobody is.
    accept_change
        Whether to go on, in a new epoch, where the journal was written by another specification, code or environment.
    tolerant
        Whether an input of which nearly all records fail is dead-lettered; else it is a `WrongFormat`.
    clock
        Seconds, monotonic; injected so that simulations can turn it.
    wall_ms
        Milliseconds since 1970, for savepoints and the observer: no output depends on it.
    committer
        Commits batches while the worker catches up: beside it in a thread, unless a simulation does it at once.
    aside
        Runs what the cycle need not wait for (savepoints, versions): in a thread, unless a simulation runs it at once.
    versions
        Publishes versions of the models after checkpoints; None: nobody does.
    collector
        When memory is looked through for cycles; None: as Python does.

    `ticks` counts cycles, `progress` committed transactions: by these the watchdog sees whether it goes on.
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
        collector: Collector | None = None,
    ) -> None:
        self.pipeline, self.group, self.cluster, self.topics = pipeline, group, cluster, topics
        self.settings = settings or Settings()
        self.observer = observer or Observer()
        self.id = transactional_id(pipeline, group, slot)
        self.version = Version.of(pipeline)
        self.versions = versions
        self.stopping = False
        self.progress = 0
        self.ticks = 0
        self._work = work = Work(
            pipeline,
            group,
            cluster,
            topics,
            self.settings,
            self.version,
            self.observer,
            codec,
            versions,
            clock,
            wall_ms,
            aside,
            collector or Collector(),
        )
        self._committer: Committer = Beside() if committer is None else committer
        self._rhythm = Rhythm(self.settings.gather_s, clock)
        self._slot = Slot(work, self.id)
        self._upstream = Upstream(work)
        self._checkpointing = Checkpointing(work, self._settle)
        self._folding = Folding(pipeline, cluster, topics, work.name, clock, lambda: self._committer.settle())
        self._assignment = Assignment(
            work, self._slot, self._checkpointing, self._folding, accept_change=accept_change, tolerant=tolerant
        )
        self._ranks = {topics(role): rank for rank, role in enumerate(group.inputs)}

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
        self._work.collector.start()
        self._work.reader = self.cluster.reader()
        self._slot.open()
        failpoints.hit("open.fenced")
        self._join()

    def _join(self) -> None:
        work, assignment = self._work, self._assignment
        work.consumer = self.cluster.consumer(
            work.name,
            self.id,
            gather_s=self.settings.gather_s,
            on_assign=assignment.assign,
            on_revoke=assignment.revoke,
            on_lost=assignment.lose,
        )
        work.consumer.subscribe([self.topics(role) for role in self.group.inputs])
        failpoints.hit("open.joining")

    @property
    def lanes(self) -> dict[int, Lane]:
        """The tasks of this worker, by partition."""
        return self._assignment.lanes

    @property
    def ready(self) -> bool:
        """Whether every task that was assigned is recovered and goes on."""
        return self._assignment.ready

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
        return self._upstream.ended(self.lanes)

    def finish(self) -> None:
        """Checkpoint what there is, so that the successor has nothing to replay."""
        failpoints.hit("finish.begun")
        self._checkpointing.finishing = True
        try:
            self._settle()
        except Aborted as error:
            log.warning("the last transaction did not happen, so there is no checkpoint of it: %s", error)
            return
        done = [self._checkpointing.tried(lane) for lane in self.lanes.values()]
        self._checkpointing.await_copies(self.lanes.values())
        failpoints.hit("finish.done")
        if all(done):
            log.info("stopped after a checkpoint" if self.lanes else "stopped; it had no partitions")
        else:
            log.info("stopped without a checkpoint; the next start replays what came after the last")

    def close(self) -> None:
        """Release the clients; what is in memory may be ahead of the log, so the last revocation must not write it."""
        with contextlib.suppress(Fault):
            self._committer.settle()
        self._assignment.drop()
        if self.versions is not None:
            self.versions.close()
        self._slot.drop()
        self._work.consumer.close()
        self._work.reader.close()

    # -- the cycle -----------------------------------------------------------------------------------------------

    def cycle(self) -> None:
        """One cycle: fetch, process, commit; or a step of recovery."""
        self.ticks += 1
        self._work.collector.step()
        try:
            if not self._committer.busy:
                self._slot.end_leftovers(self._work.reader)
            self._fetch()
            self._assignment.raise_lost()
            if self._assignment.pending:
                self._assignment.step()
                return
            failpoints.hit("cycle.fetched")
            self._upstream.end_inputs(self.lanes)
            done = self._process()
            self._committer.settle()
            live = bool(done) and not self._catching_up(done)
            if done:
                failpoints.hit("cycle.processed")
                work = partial(self._commit, done, self._work.consumer.metadata())
                (_AT_ONCE if live else self._committer).submit(work)
            else:
                self.observer.idle()
                self._slot.distrust(self.lanes)
                self._slot.producer.poll()
            self._checkpointing.step(self.lanes.values(), live=live)
            self._retrain()
        except Aborted as error:
            self._rebuild(error)

    def _fetch(self) -> None:
        """Gather what arrives into the buffers, up to a batch."""
        settings, consumer = self.settings, self._work.consumer
        waiting = any(len(lane.task.merge) and not lane.task.merge.waiting_for() for lane in self.lanes.values())
        fetched = consumer.fetch(settings.batch, 0.0 if waiting else self._rhythm.next_s())
        self._rhythm.gathered()
        lanes, ranks = self.lanes, self._ranks  # a fetch may have changed what is ours
        for record in fetched:
            topic, shard, offset, key, value, at_ms, _ = record
            lane = lanes.get(shard)
            if lane is None:
                continue
            rank = ranks[topic]
            if value is END:
                lane.ended(rank, offset)
                continue
            if lane.end_offsets:
                lane.end_offsets.pop(rank, None)
            lane.task.feeds[rank](offset, key, value, at_ms)
        for lane in lanes.values():
            lane.balance(consumer, settings.buffer)

    def _process(self) -> list[tuple[int, Processed]]:
        done = []
        for shard, lane in self.lanes.items():
            began = self._work.clock()
            processed = lane.task.run(self.settings.batch) if not lane.beginning else None
            if processed is not None:
                done.append((shard, processed))
                self.observer.processed(lane.task, processed, self._work.clock() - began)
        return done

    def _catching_up(self, done: list[tuple[int, Processed]]) -> bool:
        """Whether there is something to do while this is committed; live, a thread would only add to the latency."""
        return sum(len(processed.batch) for _, processed in done) >= self.settings.beside

    def _commit(self, done: list[tuple[int, Processed]], metadata: Any) -> None:
        """Steps 3 to 7: all of these batches take effect, or none. Nothing else uses the producer meanwhile."""
        began = self._work.clock()
        self._slot.begin(self.lanes)
        failpoints.hit("commit.begun")
        producer = self._slot.producer
        offsets: dict[tuple[str, int], int] = {}
        for shard, processed in done:
            self._publish(shard, processed)
            for role, position in zip(self.group.inputs, processed.entry.ends, strict=True):
                offsets[self.topics(role), shard] = position
        failpoints.hit("commit.journaled")
        producer.offsets(offsets, metadata)
        failpoints.hit("commit.offsets")
        producer.commit()
        failpoints.hit("commit.done")
        self.progress += 1
        seconds = self._work.clock() - began
        self.observer.committed([(self.lanes[shard].task, p) for shard, p in done], seconds, self._work.wall_ms())

    def _publish(self, shard: int, processed: Processed) -> None:
        send = self._slot.producer.send
        names = {role: self.topics(role) for role in self.group.outputs}
        for role, key, value, headers in processed.outputs:
            send(names[role], shard, key, value, headers)
        failpoints.hit("commit.outputs")
        send(self.topics("journal"), shard, self.group.name.encode(), write(processed.entry))

    def _settle(self) -> None:
        """Return when the last batch is committed, and nothing can change that any more."""
        self._committer.settle()
        self._slot.distrust(self.lanes)

    def _rebuild(self, error: Aborted) -> None:
        """A transaction failed: drop the producer and everything in memory, and come back from the log.

        So does a worker whom its group has put out: as a new member. One whose slot another one has taken ends.
        """
        failpoints.hit("rebuild.begun")
        self.ticks += 1  # to have waited for a broker, and to wait again, is not to stand still
        with contextlib.suppress(Aborted):
            self._committer.settle()
        log.warning("recovering after: %s", error)
        self.observer.aborted(str(error))
        expelled = isinstance(error, Expelled)
        if expelled:
            self._assignment.expelled()
        else:
            self._assignment.again()
        self._slot.reopen(self._work.reader)
        failpoints.hit("rebuild.fenced")
        if expelled:
            self._work.consumer.close()
            self._join()

    def _retrain(self) -> None:
        """Let models catch up that are to be retrained."""
        for lane in self.lanes.values():
            for work in self._folding.due(lane.task):
                self._work.aside(work)
