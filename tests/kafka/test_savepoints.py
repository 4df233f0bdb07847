"""Savepoints: when the first inputs are gone, audit starts at the oldest state that everything left follows."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from confluent_kafka import TopicPartition

from headrace.streams.errors import Lost
from headrace.streams.replay.explain import explain
from headrace.streams.savepoints import savepoints
from headrace.streams.topics import topic_specs
from tests.faults.harness import World, flight_records, until

FLIGHTS = 2000


def _savepoints(world: World) -> list[dict[str, object]]:
    reader = world.cluster.reader()
    try:
        return [found.marker for found in savepoints("lane", 0, world.topic, reader)]
    finally:
        reader.close()


def _cut(world: World, role: str, before: int) -> None:
    where = TopicPartition(world.topic(role), 0, before)
    for future in world.cluster.admin.delete_records([where]).values():
        future.result(timeout=15)


def test_audit_starts_at_a_savepoint_when_the_first_inputs_are_gone(make_world: Callable[..., World]) -> None:
    """Published records since the savepoint are recomputed from it: none differs, and fewer are compared."""
    world = make_world(settings={"batch": 100, "checkpoint_s": 0.05, "savepoint_s": 0.05})
    events, labels = flight_records(FLIGHTS)
    process = world.spawn()
    for part, quarter in enumerate(range(0, FLIGHTS, FLIGHTS // 4)):
        world.publish(events[quarter : quarter + FLIGHTS // 4], labels[quarter : quarter + FLIGHTS // 4])
        if part < 2:
            until(lambda n=part: len(_savepoints(world)) > n, "another savepoint", poll_s=0.1)
    process.kill()
    world.spawn()
    world.finish()
    whole, _ = world.audit()
    _explained_from_a_savepoint(world)
    used = next(m for m in _savepoints(world) if 0 < m["positions"][-1] < FLIGHTS)  # type: ignore[index,operator]
    _cut(world, "events", used["positions"][-1])  # type: ignore[index]
    since, summaries = world.audit()
    assert since.different == 0, since.first
    assert 0 < since.compared < whole.compared
    assert since.ranges["lane/0"][world.topic("events")][0] == used["positions"][-1]  # type: ignore[index]
    (summary,) = summaries.values()
    assert summary.events == FLIGHTS


def _explained_from_a_savepoint(world: World) -> None:
    """One of the last events, from a savepoint in the middle on: the same story as of the whole log."""
    record = world.inputs[0][-5]
    event_id = json.loads(record.value)["event_id"]
    given = (world.pipeline, [event_id], world.cluster.reader, world.topic)
    near, whole = (explain(*given, codec=world.codec, whole=way)[event_id] for way in (False, True))
    assert (near.whole, near.different, near.prediction) == (False, 0, whole.prediction)
    assert near.covered[world.topic("events") + "/0"][0] > whole.covered[world.topic("events") + "/0"][0] == 0


def test_audit_says_so_when_it_has_nowhere_to_start(make_world: Callable[..., World]) -> None:
    """Without the first inputs and without a savepoint audit refuses, rather than compare from a wrong state."""
    world = make_world(settings={"checkpoint_s": 1000.0, "savepoint_s": 1000.0})
    world.publish(*flight_records(500))
    world.spawn()
    world.finish()
    _cut(world, "events", 400)
    _cut(world, "savepoints", _end(world, "savepoints"))
    with pytest.raises(Lost, match="nowhere to start"):
        world.audit()


def test_a_worker_says_what_is_lost_when_its_next_input_is_gone(make_world: Callable[..., World]) -> None:
    """Records that retention took before they were read are named; the worker does not go on with what is left."""
    world = make_world(settings={"batch": 100, "checkpoint_s": 0.1})
    events, labels = flight_records(FLIGHTS)
    world.publish(events[:1000], labels[:500])
    world.spawn()
    world.finish()
    world.publish(events[1000:], labels[500:])
    _cut(world, "events", 1500)
    process = world.spawn()
    process.join(60)
    assert process.exit_code == 2, process.tail()
    assert "gone" in process.tail()


def _end(world: World, role: str) -> int:
    reader = world.cluster.reader()
    try:
        return int(reader.watermarks(world.topic(role), 0)[1])
    finally:
        reader.close()


def test_a_state_topic_that_is_made_anew_is_given_the_whole_state(make_world: Callable[..., World]) -> None:
    """It had what changed since alone, and the next start went on from that without a word."""
    world = make_world(settings={"batch": 100, "checkpoint_s": 1000.0})
    events, labels = flight_records(600)
    world.publish(events[:400], labels[:200])
    world.spawn()
    world.finish()
    process = world.spawn()
    process.await_note("recovered")
    (state,) = (spec for spec in topic_specs(world.pipeline) if spec.role == "state")
    world.cluster.delete([state.name])
    until(lambda: state.name not in world.cluster.topics(), "it is gone")
    world.cluster.create([(state.name, state.partitions, state.config)])
    world.publish(events[400:401], [])
    world.finish()
    assert "was made anew while this worker ran" in process.tail()
    world.publish(events[401:], labels[200:])
    world.spawn()
    world.finish()
    result, _ = world.audit()
    assert result.different == 0, result.first
