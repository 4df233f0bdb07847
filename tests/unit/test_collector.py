"""The collector of a worker: what is in cycles goes, however seldom it looks."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from typing import Any

import pytest

from headrace.streams import collector
from headrace.streams.collector import Calm


class _Node:
    """Something that can be in a cycle."""

    def __init__(self) -> None:
        self.itself: _Node | None = self


@pytest.fixture
def calm(monkeypatch: pytest.MonkeyPatch) -> Iterator[Calm]:
    """A collector at work, for which a thousand containers are many."""
    monkeypatch.setattr(collector, "_MANY", 1_000)
    monkeypatch.setattr(collector, "_STRAY", 5)
    made = Calm()
    made.start()
    yield made
    gc.unfreeze()
    gc.enable()


def _turns(calm: Calm, kept: list[Any], count: int, cycles: int = 0) -> int:
    """So many turns, each with 1,000 containers that stay and some in cycles that do not; how many turns looked."""
    looks = 0

    def counted(phase: str, _: dict[str, int]) -> None:
        nonlocal looks
        looks += phase == "start"

    gc.callbacks.append(counted)
    try:
        for _ in range(count):
            kept.extend([] for _ in range(1_000))
            for _ in range(cycles):
                _Node()
            calm.step()
    finally:
        gc.callbacks.remove(counted)
    return looks


def test_nothing_is_looked_at_in_between(calm: Calm) -> None:
    """What runs is not interrupted, and little is no reason."""
    kept: list[Any] = [[] for _ in range(100_000)]
    assert not gc.isenabled()
    assert gc.get_count()[0] >= 100_000
    calm.step()
    assert gc.get_count()[0] < 1_000
    assert _turns(calm, kept, 0) == 0
    before = gc.get_freeze_count()
    calm.step()
    assert gc.get_freeze_count() == before


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


def test_everything_is_looked_at_now_and_then(calm: Calm, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was alive when it was looked at, and ends in a cycle, is found by the sweep."""
    monkeypatch.setattr(collector, "_SWEEP", 40)
    kept: list[Any] = []
    old = _Node()
    _turns(calm, kept, 31)
    ended = weakref.ref(old)
    del old
    _turns(calm, kept, 8)
    assert ended() is not None
    _turns(calm, kept, 1)
    assert ended() is None


def test_a_sweep_finds_what_was_frozen(calm: Calm) -> None:
    """Of whatever age."""
    node = _Node()
    gc.freeze()
    ended = weakref.ref(node)
    del node
    calm.sweep()
    assert ended() is None
