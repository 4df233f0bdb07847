"""What a worker keeps of partitions that are taken from it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from headrace.streams.errors import Aborted, Fenced, TopicError
from headrace.streams.recovery import Recovered
from headrace.streams.worker.assignment import Assignment
from headrace.streams.worker.checkpointing import Checkpointing
from headrace.streams.worker.lane import Lane
from headrace.streams.worker.observe import Observer
from tests.inmemory import Lane as Made
from tests.inmemory import topic
from tests.small import event, small

PLACES = [(topic("events"), 0)]


class Side:
    """A producer of checkpoints."""

    suspicious = False

    def __init__(self) -> None:
        self.dropped = False

    def drop(self) -> None:
        """Note it."""
        self.dropped = True


def holding(settle: Any = lambda: None) -> tuple[Assignment, Side]:
    """An assignment with one idle lane, all of which is in its checkpoint."""
    made = Made(small())
    made.publish([event(f"e{n}", n) for n in range(10)])
    made.work()
    work: Any = SimpleNamespace(
        group=made.task.group,
        name="small",
        topics=topic,
        reader=made.log,
        observer=Observer(),
        stable=lambda role, shard: made.log.stable(topic(role), shard),
    )
    slot: Any = None
    held = Assignment(work, slot, Checkpointing(work, settle), slot, accept_change=False, tolerant=False)
    side = Side()
    lane = Lane(made.task, Recovered(), side)
    lane.checkpointed_seq = made.task.seq
    held.lanes = {0: lane}
    return held, side


def test_what_is_revoked_is_kept_in_case_it_comes_back() -> None:
    """Nobody else has it before we answer."""
    held, side = holding()
    held.revoke(PLACES)
    assert (set(held._parked), held.lanes, side.dropped) == ({0}, {}, False)


@pytest.mark.parametrize("trouble", ["may be written twice", "was fenced"])
def test_what_has_no_sure_checkpoint_is_given_up(trouble: str) -> None:
    """And the producer of its checkpoints with it: what that has open would hold back whoever reads the state."""
    held, side = holding()
    side.suspicious = trouble == "may be written twice"

    def write(limit: int | None) -> bool:
        raise Fenced("by its successor")

    under_way: Any = SimpleNamespace(write=write)
    held.lanes[0].checkpoint = None if side.suspicious else under_way
    held.revoke(PLACES)
    assert (held._parked, held.lanes, side.dropped, held._given_up) == ({}, {}, True, True)


def test_a_partition_that_is_not_declared_is_told() -> None:
    """It was added to an input that is in use; what was said then is that a topic is missing."""
    held, _ = holding()
    held._work.pipeline = small()
    held.assign([(topic("events"), 0), (topic("events"), 1)])
    with pytest.raises(TopicError, match="An input of small has more partitions than it declares"):
        held.step()


def test_what_is_lost_is_given_up() -> None:
    """Another version may have opened an epoch meanwhile, which moves no offset: whoever went on would not see it."""
    held, side = holding()
    held.lose(PLACES)
    assert (held._parked, held.lanes, side.dropped) == ({}, {}, True)


@pytest.mark.parametrize("publishes", [True, False])
@pytest.mark.parametrize("refused", ["untrusted", None])
def test_a_checkpoint_that_was_refused_is_an_alert(refused: str | None, publishes: bool) -> None:
    """Of a worker that has where to publish it."""
    held, _ = holding()
    alerts: list[Any] = []
    work: Any = held._work
    work.versions = SimpleNamespace(alert=lambda *told: alerts.append(told)) if publishes else None
    work.aside = lambda work: work()
    held._tell(held.lanes[0].task, Recovered(refused=refused))
    assert len(alerts) == (publishes and refused is not None)


def test_what_the_last_commit_met_is_raised_later() -> None:
    """The callback must not raise; the next cycle does."""

    def settle() -> None:
        raise Aborted("it did not happen")

    for leave in ("revoke", "lose"):
        held, side = holding(settle)
        getattr(held, leave)(PLACES)
        assert (held._parked, held.lanes, side.dropped) == ({}, {}, True)
        with pytest.raises(Aborted):
            held.raise_lost()
