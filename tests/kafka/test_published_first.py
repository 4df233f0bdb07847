"""All inputs published first, then the worker started: the same bytes as the backtest's, killed on the way or not."""

from __future__ import annotations

import os
import random
from collections.abc import Callable

import pytest

from headrace.streams.topology import group_of
from tests.faults.harness import World, flight_records, kill_moments, seed

FLIGHTS = int(os.environ.get("HEADRACE_TEST_FLIGHTS", "4000"))
KILLS = 5


@pytest.fixture
def world(make_world: Callable[..., World]) -> World:
    """Flights with their labels, published, and settings that make some hundred transactions and many checkpoints."""
    world = make_world(settings={"batch": max(50, FLIGHTS // 100), "checkpoint_s": 0.2, "checkpoint_entries": 5_000})
    world.publish(*flight_records(FLIGHTS))
    return world


def _assert_exact(world: World) -> None:
    counts = world.compare()
    assert counts["predictions"] == FLIGHTS
    assert counts["examples"] > 0.8 * FLIGHTS
    assert counts["evaluations"] > 0
    result, summaries = world.audit()
    assert result.different == 0, result.first
    assert result.compared == sum(counts.values())
    (summary,) = summaries.values()
    assert all(summary.laws.values()), summary.laws


def test_outputs_equal_the_backtest(make_world: Callable[..., World]) -> None:
    """A worker with default settings publishes what the backtest makes: key, value, headers and order."""
    world = make_world()
    world.publish(*flight_records(FLIGHTS))
    world.spawn()
    world.finish()
    _assert_exact(world)


def test_outputs_equal_the_backtest_after_five_kills(world: World) -> None:
    """The same bytes when the worker is killed five times at random moments, each of them before the end."""
    moments = kill_moments(random.Random(seed()))
    for kill in range(KILLS):
        process = world.spawn()
        next(moments)(process)
        process.kill()
        assert world.left(group_of()) != 0, f"kill {kill + 1} came after the end"
    world.spawn()
    world.finish()
    _assert_exact(world)
