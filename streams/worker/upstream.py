"""Upstream: the groups that write an input of this one, and whether they have anything left to do.

An input that another group writes has not ended while that group has records left to read.
"""

from __future__ import annotations

from headrace.streams.topics import group_name
from headrace.streams.topology import segment_of
from headrace.streams.worker.lane import Lane
from headrace.streams.worker.work import Work

__all__ = ["Upstream"]

_EVERY_S = 0.1
_MARKERS = 3
"""Offsets behind the end that may be transaction markers, which nobody processes."""


class Upstream:
    """What feeds the inputs of a worker."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._checked = 0.0

    def end_inputs(self, lanes: dict[int, Lane]) -> None:
        """An input that another group writes has ended only when that group has nothing left to read either."""
        work = self._work
        now = work.clock()
        if not work.group.upstream or now - self._checked < _EVERY_S:
            return
        for shard, lane in lanes.items():
            waiting = [rank for rank in lane.task.merge.waiting_for() if rank in lane.end_offsets]
            if not waiting or not len(lane.task.merge):
                lane.waiting_since = None
                continue
            self._checked = now
            lane.waiting_since = now if lane.waiting_since is None else lane.waiting_since
            overdue = now - lane.waiting_since > work.settings.upstream_wait_s
            for rank in waiting:
                role = work.group.inputs[rank]
                idle = overdue or self.idle(work.group.upstream[role], shard)
                if idle and work.stable(role, shard) == lane.end_offsets[rank]:
                    lane.task.merge.end(rank)

    def ended(self, lanes: dict[int, Lane]) -> bool:
        """Whether every input was read to its end; one that is written here as well, to the end of what was written."""
        group = self._work.group
        ranks = range(len(group.inputs))
        if any(rank not in lane.end_offsets for lane in lanes.values() for rank in ranks):
            return False
        written = [*group.upstream.items(), *((role, "") for role in group.inputs[: group.leading])]
        return all(
            (not stage or self.idle(stage, shard))
            and self._work.stable(role, shard) == lane.end_offsets[group.inputs.index(role)]
            for shard, lane in lanes.items()
            for role, stage in written
        )

    def idle(self, stage: str, shard: int) -> bool:
        """Whether the group that runs `stage` has read all but what may be transaction markers."""
        work, group = self._work, segment_of(stage)
        committed = work.cluster.committed(group_name(work.pipeline, group))
        return all(
            work.stable(role, shard) - committed.get((work.topics(role), shard), 0) <= _MARKERS for role in group.inputs
        )
