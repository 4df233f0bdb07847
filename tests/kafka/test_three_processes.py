"""The stages as three processes that meet only in topics, each of them killed on the way."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

import pytest

from headrace.streams.topology import group_of
from tests.faults.harness import THREE, World, flight_records, seed

FLIGHTS = 3_000


@pytest.fixture
def world(make_world: Callable[..., World]) -> World:
    """Flights with their labels, published."""
    world = make_world(settings={"batch": 100, "checkpoint_s": 0.3})
    world.publish(*flight_records(FLIGHTS))
    return world


def assert_sound(world: World) -> None:
    """Nothing differs, nothing vanished, and the features are those of the lane."""
    result, summaries = world.audit()
    assert result.different == 0, result.first
    front, back, drift = (summaries[f"{group_of(stages).name}/0"] for stages in THREE)
    assert front.events == FLIGHTS == front.features + sum(front.dead_letters.values()) + front.duplicates
    assert back.features == front.features
    assert back.predictions == back.labelled + back.expired + back.pending == len(world.published("predictions"))
    assert back.labelled == len(world.published("examples"))
    assert drift.alerts == len(world.published("alerts"))
    assert world.compare(["features"]) == {"features": FLIGHTS}


def test_three_processes_do_the_work_of_one(world: World) -> None:
    """The conservation laws hold, the audit finds nothing, and the features are the lane's."""
    for stages in THREE:
        world.spawn(stages)
    world.finish(THREE)
    assert_sound(world)


def test_each_of_three_processes_may_be_killed(world: World) -> None:
    """The same with a kill -9 of each process soon after it started to commit."""
    chance = random.Random(seed())
    processes = {stages: world.spawn(stages) for stages in THREE}
    for stages in chance.sample(THREE, len(THREE)):
        processes[stages].await_note("committed")
        time.sleep(chance.uniform(0, 0.2))
        processes[stages].kill()
        processes[stages] = world.spawn(stages)
    world.finish(THREE)
    assert_sound(world)
