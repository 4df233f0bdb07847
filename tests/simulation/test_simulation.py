"""The real worker on the simulated log: a fixed range of seeds, and each seed that ever found something."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.simulation.run import run
from tests.simulation.world import Unhurried

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
    for seed in range(1_000, 1_040):
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
    )
    kinds += ("commands", "by others", "retrained")
    assert {kind: total[kind] for kind in kinds if not total[kind]} == {}
