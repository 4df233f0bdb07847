"""A new epoch begins with a savepoint, whatever dies when: both declarations together can audit all that there is."""

from __future__ import annotations

from collections.abc import Callable

from headrace.streams.replay.audit import Audit, audit
from tests.faults.harness import FLIGHTS, World, flight_records
from tests.faults.worker import declared

CHANGED = "tests.faults.reacting_pipeline:pipeline"


def _audit(world: World, reference: str) -> Audit:
    pipeline = declared(reference, world.pipeline.name)
    return audit(pipeline, world.cluster.reader, world.topic, codec=world.codec)


def test_a_worker_that_dies_as_an_epoch_begins(make_world: Callable[..., World]) -> None:
    """After the epoch's first journal record, in its checkpoint and in its savepoint, one worker after the other."""
    world = make_world(FLIGHTS, settings={"batch": 20})
    events, labels = flight_records(400)
    world.publish(events[:200], labels[:150])
    world.spawn()
    world.finish()
    world.publish(events[200:], labels[150:])
    for site in ("epoch.sent", "epoch.done", "checkpoint.marked", "checkpoint.done", "savepoint.marked"):
        world.spawn(accept=CHANGED, failpoint=site).join(60)
    world.spawn(accept=CHANGED)
    world.finish()
    before, since = _audit(world, FLIGHTS), _audit(world, CHANGED)
    assert (before.different, since.different) == (0, 0)
    events_topic = world.topic("events")
    assert before.ranges["lane/0"][events_topic] == [0, 200]
    assert since.ranges["lane/0"][events_topic] == [200, 400]
