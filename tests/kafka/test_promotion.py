"""A worker killed at each step of a promotion: exactly one champion, one answer a command, and audit 0."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from headrace.streams.models import registry
from headrace.streams.topology import group_of
from tests.faults.harness import World, flight_records, until

SITES = ("cycle.processed", "commit.begun", "commit.outputs", "commit.journaled", "commit.offsets", "commit.done")
ROUND = 60


def _publish(world: World, round_: int) -> None:
    """The next events, and as many labels."""
    part = slice(ROUND * round_, ROUND * (round_ + 1))
    events, labels = flight_records(ROUND * (len(SITES) + 2))
    world.publish(events[part], labels[part])


def _decide(world: World, kind: str, model: str | None) -> str:
    """Append a command as the command line does; returns its id."""
    reader = world.cluster.reader()
    known = registry.shards(world.pipeline, reader)
    reader.close()
    wanted = registry.commands(known, kind, "test", model=model)
    registry.send(world.pipeline, world.cluster, wanted)
    return wanted[0].id


def _facts(world: World) -> list[dict[str, Any]]:
    return [json.loads(value or b"") for _, value, _ in world.published("registry")]


def test_a_kill_at_every_step_of_a_promotion_leaves_one_champion(make_world: Callable[..., World]) -> None:
    """Promotions and rollbacks in turns; the successor serves by whom the facts name, from the next event on."""
    world = make_world(kafka={"session.timeout.ms": "6000"}, settings={"checkpoint_s": 0.5})
    _publish(world, 0)
    world.spawn()
    world.finish()
    asked: list[str] = []
    for round_, site in enumerate(SITES, 1):
        promoted = round_ % 2 == 1
        asked.append(_decide(world, "promote" if promoted else "rollback", "hat" if promoted else None))
        victim = world.spawn(failpoint=f"{site}:1")
        until(lambda victim=victim: not victim.alive, f"death at {site}", 60)
        assert victim.exit_code == -9
        _publish(world, round_)
        world.spawn()
        world.finish()
        champion = "hat" if promoted else "logreg"
        served = [json.loads(value or b"")["model"] for _, value, _ in world.published("predictions")]
        assert {model.partition("/")[0] for model in served[-ROUND:]} == {champion}, site
    facts = _facts(world)
    assert [fact["version"] for fact in facts] == list(range(1, len(facts) + 1))
    assert [fact["command"] for fact in facts if fact["command"]] == asked
    assert [fact["kind"] for fact in facts[2:]] == ["promoted", "rolled_back"] * (len(SITES) // 2)
    assert world.left(group_of()) == 0
    result, summaries = world.audit()
    assert result.different == 0, result.first
    assert result.by_topic["registry"]["compared"] == len(facts)
    assert all(summaries["lane/0"].laws.values())
