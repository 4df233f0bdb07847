"""When savepoints are due, and at what rhythm transactions follow one another."""

from __future__ import annotations

import weakref
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest

from headrace.streams.checkpoint import LastSavepoint
from headrace.streams.errors import Aborted
from headrace.streams.recovery import Recovered
from headrace.streams.worker import checkpointing
from headrace.streams.worker.checkpointing import Checkpointing
from headrace.streams.worker.lane import Lane
from headrace.streams.worker.tuning import Rhythm, Settings

HOUR_MS = 3_600_000
NOW_MS = 1_700_000_000_000


def _lane(savepoint: LastSavepoint | None, epoch: int = 0) -> Lane:
    task: Any = SimpleNamespace(epoch=epoch)
    return Lane(task, Recovered(savepoint=savepoint), None)


def _due(lane: Lane, now_ms: int = NOW_MS) -> bool:
    work: Any = SimpleNamespace(wall_ms=lambda: now_ms, settings=Settings())
    return Checkpointing(work, lambda: None)._savepoint_due(lane)


def test_a_restart_makes_no_savepoint_before_the_next_one_is_due() -> None:
    """The interval goes on where the last process left it."""
    assert not _due(_lane(LastSavepoint(0, NOW_MS - HOUR_MS + 1)))
    assert _due(_lane(LastSavepoint(0, NOW_MS - HOUR_MS)))


def test_the_first_savepoint_is_due_an_interval_after_the_first_checkpoint() -> None:
    """Until then the journal's beginning does for it, however often the worker starts anew."""
    lane = _lane(None)
    assert not _due(lane)
    assert lane.savepoint == LastSavepoint(0, NOW_MS)
    assert not _due(lane, NOW_MS + HOUR_MS - 1)
    assert _due(lane, NOW_MS + HOUR_MS)


@pytest.mark.parametrize("last", [None, LastSavepoint(1, NOW_MS)])
def test_a_new_epoch_has_a_savepoint_at_once(last: LastSavepoint | None) -> None:
    """Whoever audits it cannot make again what another version made before."""
    assert _due(_lane(last, epoch=2))


def test_a_savepoint_that_failed_is_not_tried_at_every_checkpoint() -> None:
    """What counts within a process is the last attempt."""
    lane = _lane(LastSavepoint(0, 0))
    assert _due(lane)
    lane.savepoint_tried = LastSavepoint(0, NOW_MS)
    assert not _due(lane, NOW_MS + HOUR_MS - 1)
    assert _due(lane, NOW_MS + HOUR_MS)


def test_a_savepoint_that_failed_is_tried_again_soon_and_then_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """A broker that was away for a moment left an hour that nobody could audit."""
    lane, trouble = _lane(LastSavepoint(0, 0)), [Aborted("no broker answers")] * 8

    def copy(*_: Any) -> int:
        if trouble:
            raise trouble.pop()
        return 5

    monkeypatch.setattr(checkpointing, "beside", lambda *_: nullcontext((None, None)))
    monkeypatch.setattr(checkpointing, "copy_checkpoint", copy)
    group = SimpleNamespace(name="lane")
    work: Any = SimpleNamespace(group=group, name="small", topics=str, clock=lambda: 0.0, cluster=None)
    for minutes in (1, 2, 4, 8, 16, 32, 60, 60, 60):
        lane.savepoint_tried = LastSavepoint(0, NOW_MS)
        Checkpointing(work, lambda: None)._savepoint(0, weakref.ref(lane), lane.savepoint_tried, 9)
        assert not _due(lane, NOW_MS + minutes * 60_000 - 1)
        assert _due(lane, NOW_MS + minutes * 60_000)
    assert (trouble, lane.savepoint) == ([], lane.savepoint_tried)


@pytest.mark.parametrize("finishing", [False, True])
def test_a_savepoint_that_is_due_at_the_end_is_made_before_it(finishing: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that runs for seconds at a time had never made one, and nobody could audit a new epoch of its."""
    made: list[str] = []
    work: Any = SimpleNamespace(
        clock=lambda: 0.0,
        wall_ms=lambda: NOW_MS,
        versions=None,
        aside=lambda _: made.append("aside"),
        topics=str,
        reader=SimpleNamespace(watermarks=lambda topic, shard: (0, 9)),
    )
    ending = Checkpointing(work, lambda: None)
    ending.finishing = finishing
    monkeypatch.setattr(ending, "_savepoint", lambda *_: made.append("at once"))
    lane = _lane(None, epoch=1)
    lane.task.shard, lane.savepoint_follows = 0, True
    ending._end(lane)
    assert made == ["at once" if finishing else "aside"]


def test_a_checkpoint_is_told_with_what_it_wrote() -> None:
    """How long it took is counted from its beginning."""
    told: list[Any] = []
    observer = SimpleNamespace(checkpointed=lambda *what: told.append(what))
    work: Any = SimpleNamespace(clock=lambda: 7.0, observer=observer)
    lane = _lane(None)
    lane.checkpoint, lane.checkpoint_began = SimpleNamespace(written=3, bytes=40), 5.0  # type: ignore[assignment]
    Checkpointing(work, lambda: None)._end(lane)
    assert told == [(lane.task, 3, 40, 2.0)]
    assert (lane.checkpoint, lane.checkpointed_at) == (None, 7.0)


def test_a_clock_that_was_set_back_does_not_put_savepoints_off() -> None:
    """A day in the future is as far away as a day ago."""
    assert _due(_lane(LastSavepoint(0, NOW_MS + 24 * HOUR_MS)))


@pytest.mark.parametrize(("took_s", "expected_s"), [(0.0, 0.02), (0.005, 0.015), (0.018, 0.004), (1.0, 0.004)])
def test_what_a_transaction_took_is_not_gathered_for_again(took_s: float, expected_s: float) -> None:
    """One begins every `gather_s`, but a fifth of it passes in any case."""
    now = 100.0
    rhythm = Rhythm(0.02, lambda: now)
    assert rhythm.next_s() == pytest.approx(0.004)  # nothing was gathered yet
    rhythm.gathered()
    now += took_s
    assert rhythm.next_s() == pytest.approx(expected_s)
