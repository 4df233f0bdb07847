"""When checkpoints are made, and what goes with them: savepoints now and then, and versions of the models.

A checkpoint is frozen when nothing is in flight, written a part a cycle in a transaction of its own (`checkpoint.py`),
and proves nothing about the journal beyond the one before it.
"""

from __future__ import annotations

import contextlib
import logging
import math
import weakref
from collections.abc import Callable, Iterable, Iterator
from functools import partial

from headrace.streams import failpoints
from headrace.streams.checkpoint import Checkpoint, LastSavepoint
from headrace.streams.errors import Aborted, Expelled, Fault, Fenced, HeadraceError
from headrace.streams.leftovers import beside
from headrace.streams.savepoints import copy as copy_checkpoint
from headrace.streams.topics import side_id
from headrace.streams.worker.lane import Lane
from headrace.streams.worker.work import Work

__all__ = ["Checkpointing"]

log = logging.getLogger("headrace.checkpointing")

_GENTLER, _GENTLE_S = 10, 5.0
"""Live traffic waits for each part of a checkpoint: so much smaller they are, unless it goes on for so long."""
_COPIED_S = 10.0
"""How long a worker that ends waits for the savepoints under way."""
_AGAIN_S = 60.0
"""A savepoint that failed is tried again after so long, then after twice as long, up to the time between two."""
_LONGEST_S = 20.0
"""A checkpoint under way for longer is written to its end at once: its transaction times out after 60 s."""


class Checkpointing:
    """Begins the checkpoints of lanes, writes them beside the cycle, and ends them.

    Parameters
    ----------
    settle
        Returns when the last batch is committed; raises `Aborted` when it is not.
    """

    def __init__(self, work: Work, settle: Callable[[], None]) -> None:
        self.finishing = False
        self.settle = settle
        self._work = work

    def step(self, lanes: Iterable[Lane], *, live: bool = False) -> None:
        """Begin a checkpoint where one is due, and write the next part of those under way: `live`, a small one."""
        clock, settings = self._work.clock, self._work.settings
        now = clock()
        for lane in lanes:
            if lane.checkpoint is None:
                _distrust(lane)
                due = now - lane.checkpointed_at >= settings.checkpoint_s
                if due and lane.task.seq != lane.checkpointed_seq:
                    self.begin(lane)
            else:
                since_s = now - lane.checkpoint_began
                part = settings.checkpoint_entries // (_GENTLER if live and since_s < _GENTLE_S else 1)
                if _write(lane, None if since_s > _LONGEST_S else max(1, part)):
                    self._end(lane)

    def now(self, lane: Lane) -> None:
        """Finish the checkpoint under way, then write one of the present state."""
        if lane.checkpoint is not None:
            _write(lane, None)
            self._end(lane)
        if lane.task.seq != lane.checkpointed_seq and not _suspicious(lane):
            self.begin(lane)
            _write(lane, None)
            self._end(lane)

    def tried(self, lane: Lane) -> bool:
        """Whether `now` made a checkpoint of the present state; what kept it from that is only told."""
        try:
            self.now(lane)
        except Fault as error:
            log.warning("no checkpoint of %s/%s: %s", self._work.group.name, lane.task.shard, error)
            return False
        return lane.task.seq == lane.checkpointed_seq

    def begin(self, lane: Lane) -> None:
        """Freeze a lane's state, when nothing is in flight, and open the transaction that takes it.

        The journal is to be read from where it stood at the checkpoint before: we have committed since, so our records
        lie beyond. Where it stands now proves nothing: a successor may write to it already, if we were stopped for
        long. A new side producer may not be made here either: it would fence that successor.
        """
        work, shard = self._work, lane.task.shard
        failpoints.hit("checkpoint.due")
        self.settle()
        lane.journal_offset, lane.journal_seen = lane.journal_seen, work.stable("journal", shard)
        _distrust(lane)
        journal_end = self._ends(lane)
        lane.checkpoint_began = work.clock()
        lane.checkpointed_seq = lane.task.seq
        lane.savepoint_follows = self._savepoint_due(lane)
        due = work.versions is not None and work.versions.due(lane.task)
        lane.models = work.versions.frozen(lane.task) if work.versions is not None and due else []
        with _ours():
            lane.checkpoint = Checkpoint(
                lane.task,
                work.version,
                lane.journal_offset,
                work.topics("state"),
                lane.side,
                outputs=self._output_ends(shard) if lane.savepoint_follows else None,
                savepoint=lane.savepoint,
                models=due,
                journal_end=journal_end,
            )

    def _ends(self, lane: Lane) -> int:
        """Where the journal ends. A state topic that ends before where it did is a new one, and gets all."""
        work, shard = self._work, lane.task.shard
        journal, state = (work.topics("journal"), shard), (work.topics("state"), shard)
        ends = work.reader.highs([journal, state])
        if ends[state] < lane.state_end:
            log.warning("%s/%s was made anew while this worker ran: it gets the whole state again", *state)
            lane.task.chain.stores.again()
        lane.state_end = ends[state]
        return int(ends[journal])

    def _end(self, lane: Lane) -> None:
        work = self._work
        done, lane.checkpoint = lane.checkpoint, None
        lane.beginning = False
        lane.checkpointed_at = work.clock()
        if done is not None:
            seconds = lane.checkpointed_at - lane.checkpoint_began
            work.observer.checkpointed(lane.task, done.written, done.bytes, seconds)
        if lane.savepoint_follows:
            self.copy(lane, lane.task.epoch, aside=not self.finishing)  # aside it would end in the middle
        if done is not None and lane.models and work.versions is not None:
            models = [model._replace(sealed=done.sealed[model.name]) for model in lane.models]
            work.versions.begin(lane.task.shard)
            publish = partial(work.versions.publish, work.name, lane.task.shard, models)
            publish() if self.finishing else work.aside(publish)

    def copy(self, lane: Lane, epoch: int, *, aside: bool) -> None:
        """Make a savepoint of the last checkpoint, whatever follows that meanwhile."""
        work, shard = self._work, lane.task.shard
        lane.uncopied = None
        lane.savepoint_tried = LastSavepoint(epoch, work.wall_ms())
        end = work.reader.watermarks(work.topics("state"), shard)[1]
        lane.savepoint_done.clear()
        savepoint = partial(self._savepoint, shard, weakref.ref(lane), lane.savepoint_tried, end)
        work.aside(savepoint) if aside else savepoint()

    def await_copies(self, lanes: Iterable[Lane]) -> None:
        """Return when no savepoint is being made, or when that takes too long."""
        deadline = self._work.clock() + _COPIED_S
        for lane in lanes:
            lane.savepoint_done.wait(max(0.0, deadline - self._work.clock()))

    def _output_ends(self, shard: int) -> dict[str, int]:
        """Where the output topics stand: nothing of ours is in flight, so what comes next is beyond."""
        work = self._work
        return {role: work.reader.watermarks(work.topics(role), shard)[1] for role in work.group.outputs}

    def _savepoint_due(self, lane: Lane) -> bool:
        """Whether the last one is old, or of another epoch, which whoever audits this one cannot make again.

        Before the first one the journal's beginning does for it, as long as no epoch has followed.
        """
        now_ms = self._work.wall_ms()
        if lane.savepoint is None:
            lane.savepoint = LastSavepoint(0, now_ms)
        last = lane.savepoint_tried or lane.savepoint
        old = abs(now_ms - last.at_ms) >= 1_000 * min(self._work.settings.savepoint_s, lane.savepoint_again_s)
        return old or last.epoch != lane.task.epoch

    def _savepoint(self, shard: int, of: weakref.ref[Lane], this: LastSavepoint, end: int) -> None:
        """Copy the checkpoint before `end`; audit can do without a savepoint, so trouble is only reported.

        It may take a minute: a lane that is given up meanwhile is not kept.
        """
        work = self._work
        name, places = side_id(work.name, "savepoint", shard), [(work.topics("savepoints"), shard)]
        try:
            with beside(work.cluster, name, places) as (reader, producer):
                made = copy_checkpoint(work.group.name, shard, work.topics, reader, producer, work.clock, end)
            if made is not None and (lane := of()) is not None:
                lane.savepoint, lane.savepoint_again_s = this, math.inf
        except Fenced:
            log.info("another worker makes the savepoint of %s/%s", work.group.name, shard)
        except HeadraceError as error:
            log.warning("no savepoint of %s/%s: %s", work.group.name, shard, error)
            if (lane := of()) is not None:
                lane.savepoint_again_s = _AGAIN_S if lane.savepoint_again_s == math.inf else 2 * lane.savepoint_again_s
        finally:
            if (lane := of()) is not None:
                lane.savepoint_done.set()


def _distrust(lane: Lane) -> None:
    if _suspicious(lane):
        raise Aborted("the last checkpoint's requests may have been sent twice")


def _suspicious(lane: Lane) -> bool:
    with _ours():
        return bool(lane.side.suspicious)


def _write(lane: Lane, limit: int | None) -> bool:
    with _ours():
        return lane.checkpoint is not None and lane.checkpoint.write(limit)


@contextlib.contextmanager
def _ours() -> Iterator[None]:
    """Another worker that writes a task's checkpoints has the task, by the group's word, and not yet our slot."""
    try:
        yield
    except Fenced as error:
        raise Expelled("another worker has a task of this one, and writes its checkpoints") from error
