"""Alerts that act on a live pipeline, the worker killed on the way: the log has what came of them, audit finds 0."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from tests.faults.harness import World, flight_records, until

PIPELINE = "tests.faults.reacting_pipeline:pipeline"
COUNT = 1_500


def _records(world: World, role: str) -> list[dict[str, Any]]:
    return [json.loads(value or b"") for _, value, _ in world.published(role)]


def test_audit_makes_alerts_and_reactions_again(make_world: Callable[..., World]) -> None:
    """An alert retrains a model, which is adopted after a kill; segments and disparity are in the records, too."""
    world = make_world(PIPELINE, kafka={"session.timeout.ms": "6000"}, settings={"batch": 50, "checkpoint_s": 0.2})
    events, labels = flight_records(COUNT)
    world.publish(events, labels)
    victim = world.spawn(failpoint="commit.journaled:12")
    until(lambda: not victim.alive, "death on the way", 60)
    world.spawn()
    until(
        lambda: "caught_up" in {r.get("kind") for r in _records(world, "registry")}, "the copy has caught up", 60, 0.1
    )
    world.finish()
    alerts = _records(world, "alerts")
    (asked,) = [fact for fact in _records(world, "registry") if fact.get("by") == "drift"][:1]
    assert asked["kind"] == "retraining"
    assert asked["evidence"]["alert"] in {alert["alert_id"] for alert in alerts}
    assert any(alert["segments"] for alert in alerts)
    assert any(record["window"].startswith("disparity") for record in _records(world, "evaluations"))
    result, summaries = world.audit()
    assert result.different == 0, result.first
    assert result.compared > COUNT
    assert all(summaries["lane/0"].laws.values())
