"""A worker whom its group has put out goes on, unless another one has its slot."""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from headrace.deploy import broker
from headrace.streams.errors import Aborted
from headrace.streams.kafka import Cluster
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


def test_a_worker_whose_checkpoints_another_one_writes_ends_as_it_is_told_to(make_world: Callable[..., World]) -> None:
    """Without its last checkpoint, of which it tells; what followed the one before is replayed."""
    world = make_world(FLIGHTS, settings={"batch": 20, "checkpoint_s": 1_000.0})
    world.publish(*flight_records(400))
    process = world.spawn()
    world.await_end()
    other = world.cluster.producer(side_id(group_name(world.pipeline, world.group()), "state", 0))
    process.stop()
    other.drop()
    assert "stopped without a checkpoint" in process.tail()
    assert "no checkpoint of lane/0: another worker has a task of this one" in process.tail()
    world.spawn()
    world.finish()
    result, _ = world.audit()
    assert result.different == 0, result.first


def test_a_producer_whose_broker_was_away_does_not_wait_for_ever(tmp_path: Path) -> None:
    """It was never told who coordinates its group now; the worker's watchdog ended it two minutes later."""
    instance = f"away-{uuid.uuid4().hex[:8]}"
    start = partial(broker.start, instance=instance, data_dir=tmp_path, progress=False)
    cluster = Cluster(str(start().bootstrap))
    try:
        cluster.create([("t", 1, {})])
        until(lambda: cluster.committed("g") or cluster.offsets_of("g"), "somebody coordinates the group")
        producer = cluster.producer("p")
        producer.prove(("t", 0), "g")
        broker.stop(instance=instance)
        start()
        began = time.monotonic()
        with contextlib.suppress(Aborted):
            producer.prove(("t", 0), "g")
        assert time.monotonic() - began < 30
        producer.drop()
        cluster.producer("p").prove(("t", 0), "g")
    finally:
        cluster._admin = None
        broker.stop(instance=instance)
