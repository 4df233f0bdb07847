"""A model retrained on a live pipeline, the worker killed on the way: it catches up, is promoted, and audit finds 0."""

from __future__ import annotations

import json
from collections.abc import Callable

from headrace.streams.models import registry
from tests.faults.harness import World, flight_records, until

COUNT = 900


def _decide(world: World, kind: str, **more: object) -> None:
    reader = world.cluster.reader()
    known = registry.shards(world.pipeline, reader)
    reader.close()
    registry.send(world.pipeline, world.cluster, registry.commands(known, kind, "test", **more))


def _kinds(world: World, model: str) -> list[str]:
    facts = [json.loads(value or b"") for _, value, _ in world.published("registry")]
    return [fact["kind"] for fact in facts if fact["model"] == model]


def test_a_retrained_model_catches_up_and_serves(make_world: Callable[..., World]) -> None:
    """Asked for while a worker dies at the commit of its first answer; the successor goes on from the log."""
    world = make_world(kafka={"session.timeout.ms": "6000"}, settings={"checkpoint_s": 0.5})
    events, labels = flight_records(3 * COUNT)
    world.publish(events[:COUNT], labels[:COUNT])
    world.spawn()
    world.finish()
    _decide(world, "retrain", model="logreg", name="fresh", from_n=100)
    victim = world.spawn(failpoint="commit.journaled:1")
    until(lambda: not victim.alive, "death while the retraining begins", 60)
    world.spawn()
    until(lambda: "caught_up" in _kinds(world, "fresh"), "the model has caught up", 60, 0.1)
    world.publish(events[COUNT : 2 * COUNT], labels[COUNT : 2 * COUNT])
    _decide(world, "promote", model="fresh")
    until(lambda: "promoted" in _kinds(world, "fresh"), "the model is promoted", 60, 0.1)
    world.publish(events[2 * COUNT :], labels[2 * COUNT :])
    world.finish()
    served = [json.loads(value or b"")["model"] for _, value, _ in world.published("predictions")]
    assert served[-1].startswith("fresh/0@")
    assert _kinds(world, "fresh") == ["retraining", "caught_up", "promoted"]
    result, summaries = world.audit()
    assert result.different == 0, result.first
    assert all(summaries["lane/0"].laws.values())
