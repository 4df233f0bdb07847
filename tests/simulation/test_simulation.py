"""The real worker on the simulated log: a fixed range of seeds, and each seed that ever found something."""

from __future__ import annotations

import gc
import weakref
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from headrace.streams.recovery import Recovered
from headrace.streams.runtime import Worker
from headrace.streams.task import Task
from headrace.streams.worker.collector import Collector
from headrace.streams.worker.observe import Observer
from tests.simulation.run import run
from tests.simulation.world import Process, Unhurried, World

SEEDS = 160
PARTS = 8

FOUND = {
    5: "an abort during recovery left the worker ready, without tasks, for ever",
    64: "a late copy of EndTxn ended half of the next transaction",
    75: "a worker that ended by an error wrote a checkpoint of a batch that was never committed",
    133: "a zombie renewed its checkpoint producer, fenced its successor, and wrote over the newer checkpoint",
    1504: "a kept task took a checkpoint for written whose marker the broker had forgotten",
    214: "a worker without partitions kept offsets pending that the broker had forgotten",
    1599: "a request to adopt a model stayed open, and nobody had to ask again",
    599: "a checkpoint without its marker blocked another group, and its owner had nothing to do",
    2399: "a request to adopt a model was left open, and the one before it had been obeyed, so that nobody asked again",
    59: "features of a committed transaction were aborted, as the broker had forgotten their marker only",
    159: "a broker forgot the journal's marker, but not that of the offsets, and the worker stopped for good",
    209: "a broker forgot the marker of the journal's first record only",
    176: "a checkpoint of many small parts outlived its transaction's timeout",
}


@pytest.mark.parametrize("part", range(PARTS))
def test_every_seed_holds_every_invariant(part: int) -> None:
    """Whatever the seed decides, the outputs, states and counts are those of the journal replayed in memory."""
    for seed in range(part * SEEDS // PARTS, (part + 1) * SEEDS // PARTS):
        result = run(seed)
        assert result.problem is None, f"seed {seed}: python -m tests.simulation --seeds 1 --start {seed}"


@pytest.mark.parametrize("seed", sorted(FOUND))
def test_seeds_that_found_something(seed: int) -> None:
    """A seed that once failed holds."""
    assert run(seed).problem is None, FOUND[seed]


@pytest.mark.parametrize("seed", range(4))
def test_nothing_is_aborted_when_nothing_goes_wrong(seed: int) -> None:
    """Checkpoints in many parts end before their transaction times out, however slow the turns are."""
    result = run(seed, Unhurried)
    assert result.problem is None
    assert result.seconds > 400


def test_a_seed_decides_everything() -> None:
    """The same seed gives the same run, to the last count and the last millisecond."""
    first, second = run(17), run(17)
    assert first == second
    assert first.count["commits"] > 0


def test_the_faults_happen() -> None:
    """A range of seeds contains each kind of fault, or the simulation shows nothing."""
    total: Counter[str] = Counter()
    for seed in range(1_050, 1_090):
        total += run(seed).count
    kinds = (
        "killed",
        "frozen",
        "zombies",
        "lost_request",
        "lost_response",
        "late",
        "joins",
        "leaves",
        "rebalances",
        "forgotten",
        "forgotten_in_part",
        "expelled",
        "retained",
    )
    kinds += ("commands", "by others", "retrained")
    assert {kind: total[kind] for kind in kinds if not total[kind]} == {}


def test_an_epoch_begins_with_a_savepoint() -> None:
    """Whoever dies meanwhile; but where one could not be made that is only reported."""
    total: Counter[str] = Counter()
    for seed in range(2, 142, 7):
        total += run(seed).count
    assert total["epochs"] > 20
    assert total["epochs without a savepoint"] * 20 < total["epochs"]


class _Sweeping(Collector):
    """Looks for cycles only when the worker says so."""

    def sweep(self) -> None:
        """Free what was given up."""
        gc.collect()


class _Tasks(Observer):
    """Knows every task that a worker has recovered, and those that live when it goes on."""

    def __init__(self) -> None:
        self.worker: Callable[[], Worker | None] = lambda: None
        self.known: list[weakref.ref[Task]] = []
        self.given_up = 0

    def recovered(self, task: Task, found: Recovered) -> None:
        """A task, whose predecessor went before."""
        living = [other for known in self.known if (other := known()) is not None]
        assert all(other.shard != task.shard for other in living), "a task was recovered beside its predecessor"
        self.given_up += len(self.known) - len(living)
        self.known = [*map(weakref.ref, living), weakref.ref(task)]

    def assigned(self, shards: list[int]) -> None:
        """All that live are those that it goes on with."""
        worker = self.worker()
        if not shards or worker is None:
            return
        held = [lane.task for lane in worker.lanes.values()]
        living = [task for known in self.known if (task := known()) is not None]
        assert all(any(task is mine for mine in held) for task in living), "a task that was given up is in memory still"


class _Frugal(World):
    """No worker has a task in memory beside those that it works on."""

    def __init__(self, seed: int) -> None:
        self.observers: list[_Tasks] = []
        super().__init__(seed)

    def make_worker(self, process: Process) -> Worker:
        """A worker that is watched."""
        observer: Any = _Tasks()
        worker = super().make_worker(process)
        work = worker._work
        observer.worker, work.observer, work.collector = weakref.ref(worker), observer, _Sweeping()
        self.observers.append(observer)
        return worker


def test_a_task_that_is_given_up_is_not_kept() -> None:
    """After an abort or a rebalance there is room for the state once, not twice."""
    worlds: list[_Frugal] = []

    def world(seed: int) -> World:
        worlds.append(_Frugal(seed))
        return worlds[-1]

    gc.disable()
    try:
        problems = {seed: run(seed, world).problem for seed in range(1_000, 1_012)}
    finally:
        gc.enable()
    assert not any(problems.values()), problems
    assert sum(observer.given_up for each in worlds for observer in each.observers) > 20
