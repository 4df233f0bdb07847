"""A worker whom its group has put out goes on, unless another one has its slot."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from headrace.streams.topics import group_name, side_id
from tests.faults.harness import FLIGHTS, World, flight_records, until


def test_a_worker_that_was_put_out_by_nobody_goes_on(make_world: Callable[..., World]) -> None:
    """Its group takes somebody else for it, three times, while it works and while it has nothing to do."""
    world = make_world(FLIGHTS, settings={"batch": 20})
    events, labels = flight_records(1_200)
    process = world.spawn()
    for part in range(3):
        world.publish(events[400 * part : 400 * (part + 1)], labels[300 * part : 300 * (part + 1)])
        if part == 1:
            world.await_end()
        else:
            until(lambda told=part: len(process.notes("committed")) > told, "a commit since")
        world.expel()
        until(lambda told=part + 1: len(process.notes("aborted")) >= told, "it is told")
    world.finish()
    assert process.exit_code == 0
    assert all("put this worker out" in note["reason"] for note in process.notes("aborted"))
    result, _ = world.audit()
    assert result.different == 0, result.first


@pytest.mark.parametrize("paused", [False, True], ids=["alive", "paused"])
def test_a_worker_whose_slot_was_taken_ends(make_world: Callable[..., World], paused: bool) -> None:
    """Its group tells it the same; but its successor has begun with a producer under its id."""
    world = make_world(FLIGHTS, settings={"batch": 20})
    events, labels = flight_records(800)
    world.publish(events[:400], labels[:300])
    first = world.spawn()
    first.await_note("committed")
    if paused:
        first.pause()
    second = world.spawn()
    if paused:
        second.await_note("committed")
        first.resume()
    until(lambda: not first.alive, "the first one ends")
    assert first.exit_code == 1
    assert "Another worker has taken this slot" in first.tail()
    world.workers.remove(first)
    world.publish(events[400:], labels[300:])
    world.finish()
    assert second.exit_code == 0
    result, _ = world.audit()
    assert result.different == 0, result.first


def test_a_worker_whose_checkpoints_another_one_writes_keeps_its_slot(make_world: Callable[..., World]) -> None:
    """Stopped for longer than its session it goes on, and somebody else has begun with its tasks' checkpoints."""
    world = make_world(FLIGHTS, settings={"batch": 20, "checkpoint_s": 0.2})
    events, labels = flight_records(800)
    world.publish(events[:400], labels[:300])
    process = world.spawn()
    process.await_note("checkpointed")
    other = world.cluster.producer(side_id(group_name(world.pipeline, world.group()), "state", 0))
    world.publish(events[400:], labels[300:])
    told = until(lambda: process.notes("aborted") or not process.alive, "it is told")
    other.drop()
    world.finish()
    assert "another worker has a task of this one" in told[0]["reason"]
    assert process.exit_code == 0
    result, _ = world.audit()
    assert result.different == 0, result.first
