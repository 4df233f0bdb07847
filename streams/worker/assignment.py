"""Assignment: which tasks a worker has, how it comes to them, and how it gives them back.

A partition that is assigned is recovered from the log (`recovery.py`), a step a cycle, so that the worker keeps up
with its group meanwhile. One that is taken away is checkpointed and kept aside: should it come back, and nobody have
advanced it, it goes on as it is.
"""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterator
from functools import partial
from typing import Any

from headrace.streams import failpoints
from headrace.streams.errors import Fault, TopicError
from headrace.streams.journal import write
from headrace.streams.leftovers import follow, open_places
from headrace.streams.models.versions import alert_of
from headrace.streams.recovery import Recovered, recover
from headrace.streams.task import Task
from headrace.streams.topics import TOO_MANY, side_id
from headrace.streams.worker.checkpointing import Checkpointing
from headrace.streams.worker.folding import Folding
from headrace.streams.worker.lane import Lane
from headrace.streams.worker.slot import Slot
from headrace.streams.worker.work import Work

__all__ = ["Assignment"]

log = logging.getLogger("headrace.assignment")

_NAMED = 8
"""How many changes are named where an epoch begins."""


class Assignment:
    """The lanes of a worker. `assign` and `revoke` are called by the consumer, from within a fetch.

    `lanes` are the tasks that go on, `ready` says whether they are all that were assigned.
    """

    def __init__(
        self,
        work: Work,
        slot: Slot,
        checkpointing: Checkpointing,
        folding: Folding,
        *,
        accept_change: bool,
        tolerant: bool,
    ) -> None:
        self.lanes: dict[int, Lane] = {}
        self.ready = False
        self._work, self._slot, self._checkpointing, self._folding = work, slot, checkpointing, folding
        self._accept_change, self._tolerant = accept_change, tolerant
        self._parked: dict[int, Lane] = {}
        self._held: list[int] | None = None
        self._assigned: list[int] | None = None
        self._recovering: Iterator[None] | None = None
        self._lost: Fault | None = None
        self._given_up = False

    # -- what the consumer says --------------------------------------------------------------------------------------

    def assign(self, partitions: list[tuple[str, int]]) -> None:
        """These are ours from now on."""
        failpoints.hit("assign.begun")
        self._held = self._assigned = sorted({shard for _, shard in partitions})
        self._recovering = None

    def revoke(self, partitions: list[tuple[str, int]]) -> None:
        """What is in memory may come back untouched; meanwhile a checkpoint spares the next owner a replay."""
        failpoints.hit("revoke.begun")
        self._leave()
        for shard, lane in self.lanes.items():
            try:
                self._checkpointing.now(lane)
                lane.parked_at = self._journal_end(shard)
                clean = not lane.side.suspicious
            except Fault as error:
                log.warning("no checkpoint of %s/%s on revoke: %s", self._work.group.name, shard, error)
                self._give_up(lane)
                continue
            if lane.task.seq == lane.checkpointed_seq and clean:
                self._parked[shard] = lane
            else:
                self._give_up(lane)
        self.lanes = {}
        failpoints.hit("revoke.parked")
        self._work.observer.assigned([])

    def lose(self, partitions: list[tuple[str, int]]) -> None:
        """Others may have had these for a while: what is in memory is not to come back, whatever the log says now."""
        self._leave()
        self._drop_lanes()
        self._work.observer.assigned([])

    def _leave(self) -> None:
        self.ready = False
        self._held = self._assigned = self._recovering = None
        try:
            self._checkpointing.settle()
        except Fault as error:  # what is in memory must not come back; the next cycle raises it
            self._lost = error
            self._drop_lanes()

    # -- what the worker asks ----------------------------------------------------------------------------------------

    @property
    def pending(self) -> bool:
        """Whether assigned tasks are still to be recovered."""
        return self._assigned is not None or self._recovering is not None

    def raise_lost(self) -> None:
        """Raise what the last commit met while partitions were taken away."""
        if self._lost is not None:
            error, self._lost = self._lost, None
            raise error

    def again(self) -> None:
        """Drop what is in memory, and recover all that is held; the slot is to be opened anew before the next step."""
        self.ready = False
        self._lost = None
        self._drop_lanes()
        self._assigned, self._recovering = self._held, None

    def expelled(self) -> None:
        """Drop what is in memory; what is ours is told when the group is joined anew."""
        self._held = None
        self.again()

    def drop(self) -> None:
        """Forget every task; the checkpoint under way, too."""
        self._drop_lanes()
        for lane in self._parked.values():
            self._give_up(lane)
        self._parked = {}

    def step(self) -> None:
        """One step of the recovery under way."""
        if self._assigned is not None:
            shards, self._assigned = self._assigned, None
            self._recovering = self._recover(shards)
        try:
            if self._recovering is not None:
                next(self._recovering)
        except StopIteration:
            self._recovering = None
            self.ready = True
            ours = ", ".join(map(str, self.lanes)) or "none, as others have them all"
            log.info("%s is ready to read; partitions: %s", self._work.group.name, ours)

    def _drop_lanes(self) -> None:
        for lane in self.lanes.values():
            self._give_up(lane)
        self.lanes = {}

    def _give_up(self, lane: Lane) -> None:
        lane.side.drop()
        self._given_up = True

    # -- recovery ----------------------------------------------------------------------------------------------------

    def _recover(self, shards: list[int]) -> Iterator[None]:
        """Bring the assigned tasks to the state that the log says they have, then read on from there."""
        failpoints.hit("recover.begun")
        work = self._work
        if shards and shards[-1] >= work.pipeline.partitions:
            raise TopicError(f"An input of {work.pipeline.name} has more partitions than it declares: {TOO_MANY}.")
        given_up, self._given_up = self._given_up, True  # what is at hand here, too, should this not come to its end
        parked, self._parked = self._parked, {}
        lanes: dict[int, Lane] = {}
        for shard in parked:
            parked[shard].side.drop()
        sides = {}
        for shard in shards:
            sides[shard], clean = self._side(shard)
            if not clean:
                given_up |= parked.pop(shard, None) is not None
        failpoints.hit("recover.sides")
        self._end_requests(shards)
        self._slot.forget(shards[0] if shards else 0)
        inputs = [place for shard in shards for place in work.inputs(shard)]
        committed = work.consumer.committed(inputs) if inputs else {}
        failpoints.hit("recover.committed")
        mine = {
            shard: {topic: offset for (topic, partition), offset in committed.items() if partition == shard}
            for shard in shards
        }
        for shard in shards:
            yield
            if shard in parked and self._untouched(parked[shard], mine[shard]):
                lanes[shard] = parked.pop(shard).anew(sides[shard])
        if given_up or parked:
            parked.clear()
            work.collector.sweep()  # before as much is recovered beside it
        for shard in shards:
            if shard not in lanes:
                lanes[shard] = yield from self._recovered(shard, mine[shard], sides[shard])
        self._given_up = False
        self._resume({shard: lanes[shard] for shard in shards})

    def _untouched(self, lane: Lane, committed: dict[str, int | None]) -> bool:
        """Whether nobody has advanced a task since it was taken away."""
        same = list(committed.values()) == lane.task.positions
        return same and self._journal_end(lane.task.shard) == lane.parked_at

    def _recovered(self, shard: int, committed: dict[str, int | None], side: Any) -> Generator[None, None, Lane]:
        """A task as the log has it, with the producer of its checkpoints."""
        work = self._work
        task = Task(
            work.pipeline,
            work.group,
            shard,
            topics=work.topics,
            codec=work.codec,
            tolerant=self._tolerant,
            history=partial(self._folding.history, shard),
        )
        found = yield from recover(
            task,
            work.reader,
            work.version,
            work.topics,
            committed,
            accept_change=self._accept_change,
            new_reader=work.cluster.reader,
            clock=work.clock,
        )
        yield  # to the group, between two tasks
        self._tell(task, found)
        lane = Lane(task, found, side)
        lane.checkpointed_at = work.clock() if found.seconds < 1.0 else float("-inf")
        return lane

    def _tell(self, task: Task, found: Recovered) -> None:
        work = self._work
        work.observer.recovered(task, found)
        name = f"{work.group.name}/{task.shard}"
        if found.refused is not None and work.versions is not None:
            place = (work.topics("state"), task.shard, *work.reader.watermarks(work.topics("state"), task.shard))
            alert = alert_of(name, found.refused, place, task.chain.stream_time_ms)
            work.aside(partial(work.versions.alert, work.name, task.shard, alert))
        log.info(
            "%s recovered: checkpoint %s, %d journal records, %.2f s",
            name,
            found.checkpoint_seq,
            found.journalled,
            found.seconds,
        )

    def _side(self, shard: int) -> tuple[Any, bool]:
        """The producer of a task's checkpoints; whether nothing of its predecessors was open, which is ended else."""
        work = self._work
        places = [(work.topics("state"), shard)]
        side, found = follow(work.cluster, work.reader, side_id(work.name, "state", shard), places)
        return side, not found

    def _end_requests(self, shards: list[int]) -> None:
        """End what a predecessor left open when it asked for an adoption: nobody may have to ask again."""
        work = self._work
        places = [(work.topics("registry"), shard) for shard in shards] if work.group.back else []
        for topic, shard in open_places(work.reader, places):
            follow(work.cluster, work.reader, side_id(work.name, "retrain", shard), [(topic, shard)])[0].drop()

    def _journal_end(self, shard: int) -> int:
        """Where the journal stands: a parked task that finds it there again was nobody else's meanwhile."""
        return self._work.stable("journal", shard)

    # -- going on ----------------------------------------------------------------------------------------------------

    def _resume(self, lanes: dict[int, Lane]) -> None:
        self.lanes = lanes
        failpoints.hit("resume.begun")
        for lane in lanes.values():
            if lane.uncopied is not None:  # who made the checkpoint has ended in the middle of that, or right after
                self._checkpointing.copy(lane, lane.uncopied, aside=False)
        self._open_epochs()
        places = ((place, lane.task.positions[rank]) for lane in lanes.values() for rank, place in self._inputs(lane))
        self._work.consumer.seek(dict(places))
        failpoints.hit("resume.sought")
        for lane in lanes.values():
            if lane.beginning:
                self._checkpointing.begin(lane)
        self._work.observer.assigned(sorted(lanes))

    def _open_epochs(self) -> None:
        """The first journal record of an epoch is a transaction of its own.

        A checkpoint follows before anything is read, so that audit and explain have a savepoint to begin the epoch at:
        what was there before cannot be made again by this declaration.
        """
        due = {shard: lane for shard, lane in self.lanes.items() if lane.epoch_due}
        if not due:
            return
        work = self._work
        self._slot.begin(self.lanes)
        failpoints.hit("epoch.begun")
        producer = self._slot.producer
        offsets: dict[tuple[str, int], int] = {}
        for shard, lane in due.items():
            epoch = lane.task.open_epoch(work.version, first=lane.task.seq == 0)
            producer.send(work.topics("journal"), shard, work.group.name.encode(), write(epoch))
            offsets |= {place: lane.task.positions[rank] for rank, place in self._inputs(lane)}
        failpoints.hit("epoch.sent")
        producer.offsets(offsets, work.consumer.metadata())
        failpoints.hit("epoch.offsets")
        producer.commit()
        failpoints.hit("epoch.done")
        for shard, lane in due.items():
            lane.epoch_due, lane.beginning = False, lane.task.epoch > 0
            if lane.changed:
                what = ", ".join(lane.changed[:_NAMED]) + (" and more" if len(lane.changed) > _NAMED else "")
                log.info("%s/%s epoch %d begins: %s changed", work.group.name, shard, lane.task.epoch, what)

    def _inputs(self, lane: Lane) -> Iterator[tuple[int, tuple[str, int]]]:
        return enumerate(self._work.inputs(lane.task.shard))
