"""The collector of a worker: what is in cycles goes, however seldom it looks."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from headrace.streams.worker import collector
from headrace.streams.worker.collector import Calm


class _Node:
    """Something that can be in a cycle."""

    def __init__(self) -> None:
        self.itself: _Node | None = self


@pytest.fixture
def calm(monkeypatch: pytest.MonkeyPatch) -> Iterator[Calm]:
    """A collector at work, for which a thousand containers are many."""
    monkeypatch.setattr(collector, "_MANY", 1_000)
    monkeypatch.setattr(collector, "_STRAY", 5)
    monkeypatch.setattr(collector, "_NET", 200_000)
    thresholds = gc.get_threshold()
    made = Calm()
    made.start()
    yield made
    gc.unfreeze()
    gc.set_threshold(*thresholds)


def _looks(work: Callable[[], None]) -> int:
    """How many looks, of whatever kind, are taken meanwhile."""
    looks = 0

    def counted(phase: str, _: dict[str, int]) -> None:
        nonlocal looks
        looks += phase == "start"

    gc.callbacks.append(counted)
    try:
        work()
    finally:
        gc.callbacks.remove(counted)
    return looks


def _turns(calm: Calm, kept: list[Any], count: int, cycles: int = 0) -> int:
    """So many turns, each with 1,000 containers that stay and some in cycles that do not; how many turns looked."""

    def work() -> None:
        for _ in range(count):
            kept.extend([] for _ in range(1_000))
            for _ in range(cycles):
                _Node()
            calm.step()

    return _looks(work)


def test_nothing_is_looked_at_in_between(calm: Calm) -> None:
    """What runs is not interrupted; and little is no reason for a turn."""
    kept: list[Any] = []
    assert _looks(lambda: kept.extend([] for _ in range(100_000))) == 0
    assert _looks(calm.step) == 1
    kept.extend([] for _ in range(100))
    assert _looks(calm.step) == 0
    assert gc.get_count()[0] >= 100


def test_very_much_within_a_cycle_is_looked_at_there(calm: Calm) -> None:
    """Whatever leaves cycles for as long as a cycle of the worker takes."""
    last = weakref.ref(_Node())
    kept: list[Any] = []
    assert _looks(lambda: kept.extend([] for _ in range(250_000))) == 1
    assert last() is None


def test_looks_become_rare_while_nothing_is_found(calm: Calm) -> None:
    """After 1, 2, 4, 8, 16, 16, 16 turns."""
    kept: list[Any] = []
    assert _turns(calm, kept, 1 + 2 + 4 + 8) == 4
    assert _turns(calm, kept, 160) == 10


def test_a_few_strays_are_no_reason_to_look(calm: Calm) -> None:
    """A request to the metrics leaves some."""
    kept: list[Any] = []
    _turns(calm, kept, 31)
    assert _turns(calm, kept, 160, cycles=2) == 10


def test_whoever_makes_cycles_is_looked_at_every_time(calm: Calm) -> None:
    """Only what is young is looked at, and all of it goes."""
    kept: list[Any] = []
    assert _turns(calm, kept, 20, cycles=500) == 20
    last = weakref.ref(_Node())
    assert last() is not None
    assert _turns(calm, kept, 1, cycles=500) == 1
    assert last() is None


def test_what_was_frozen_in_cycles_goes_once_some_are_found(calm: Calm) -> None:
    """They began between two looks: memory is bounded by the turns between."""
    kept: list[Any] = []
    _turns(calm, kept, 31)  # the next look is 16 turns away
    frozen = weakref.ref(_Node())
    _turns(calm, kept, 15, cycles=500)
    assert frozen() is not None
    _turns(calm, kept, 1, cycles=500)
    assert frozen() is None
    assert _turns(calm, kept, 20, cycles=500) == 20


def test_everything_is_looked_at_when_there_is_as_much_again(calm: Calm, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was frozen while it was alive, and ends in a cycle, goes; garbage does not outgrow the living."""
    monkeypatch.setattr(collector, "_SWEEP", 10)
    monkeypatch.setattr(collector, "_GROWTH", 0.2)
    calm.sweep()
    living = gc.get_freeze_count()
    old: list[Any] = []

    def work() -> None:
        for _ in range(living // 500):
            old.append([_Node() for _ in range(1_500)])  # each lives for three turns
            del old[:-3]
            calm.step()

    assert _looks(work) > 3
    assert gc.get_freeze_count() < 2 * living


def test_a_sweep_finds_what_was_frozen(calm: Calm) -> None:
    """Of whatever age."""
    node = _Node()
    gc.freeze()
    ended = weakref.ref(node)
    del node
    calm.sweep()
    assert ended() is None
