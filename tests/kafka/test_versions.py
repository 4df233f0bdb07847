"""Versions on the broker: what is published is what the log makes, whoever died while publishing it."""

from __future__ import annotations

import random
import signal
from collections import Counter
from collections.abc import Callable
from typing import Any

from headrace.streams.models.versions import Published, Publisher, published
from headrace.streams.replay.explain import explain
from headrace.streams.replay.rebuild import Wanted, rebuild
from headrace.streams.runtime import Worker
from headrace.streams.topology import group_of
from headrace.streams.worker.tuning import Settings
from tests.faults.harness import World, flight_records, until

SEVERAL = "tests.kafka.several:several"


def versions(world: World) -> dict[str, Published]:
    """What is published."""
    reader = world.cluster.reader()
    try:
        return published(world.topic("models"), 0, reader)
    finally:
        reader.close()


def rebuilt(world: World, wanted: list[Published], **options: Any) -> list[Any]:
    """Rebuild these from the log."""
    sealed = world.codec
    chosen = [Wanted.of(one, sealed) for one in wanted]
    return rebuild(world.pipeline, chosen, world.cluster.reader, world.topic, codec=sealed, **options)


def test_200_versions_are_rebuilt_and_1000_predictions_explained(make_world: Callable[..., World]) -> None:
    """At the n at which checkpoints happened to be: the same states and answers; every explained byte is the same."""
    world = make_world(SEVERAL)
    world.publish(*flight_records(1_500))
    sealed, chance = world.codec, random.Random(6)
    worker = Worker(
        world.pipeline,
        group_of(),
        world.cluster,
        topics=world.topic,
        settings=Settings(batch=60, checkpoint_s=0.0, checkpoint_entries=1_000_000),
        codec=sealed,
        aside=lambda work: work(),
        versions=Publisher(world.pipeline, world.cluster, world.topic, sealed),
    )
    worker.run(worker.caught_up)
    there = list(versions(world).values())
    assert len(there) >= 200
    found = rebuilt(world, chance.sample(there, 200), sample=20)
    assert Counter(made.same for made in found) == {True: 200}
    assert len({made.version.partition("/")[0] for made in found}) == 9
    assert sum(made.asked for made in found) > 3_000
    assert sum(made.different for made in found) == 0
    ids = [event_id(record.value) for record in chance.sample(world.inputs[1], 1_000)]
    told = explain(world.pipeline, ids, world.cluster.reader, world.topic, codec=sealed)
    assert sum(one.different for one in told.values()) == 0
    assert all(one.prediction is not None and len(one.compared) >= 2 for one in told.values())
    assert {"labelled", "pending"} <= {one.status for one in told.values()} <= {"labelled", "pending", "expired"}


def event_id(value: bytes) -> str:
    """The id in a flight's JSON."""
    import json

    return str(json.loads(value)["event_id"])


def test_a_death_while_publishing_leaves_all_of_a_version_or_nothing(make_world: Callable[..., World]) -> None:
    """Twice between chunks, then with a zombie beside its successor: what is there is whole, and what the log makes."""
    world = make_world(SEVERAL, settings={"batch": 40, "checkpoint_s": 0.05})
    events, labels = flight_records(2_000)
    parts = iter(range(4))

    def publish() -> None:
        """Each of them finds something to learn."""
        i = next(parts)
        world.publish(events[500 * i : 500 * (i + 1)], labels[400 * i : 400 * (i + 1)])

    for failpoint in ("version.chunk:3", "version.sent"):
        publish()
        process = world.spawn(failpoint=failpoint)
        process.join(30)
        assert process.exit_code == -signal.SIGKILL, process.tail()
        assert versions(world) == {}
    publish()
    zombie = world.spawn()
    until(lambda: versions(world), "the first versions", poll_s=0.1)
    zombie.pause()
    publish()
    successor = world.spawn()
    successor.await_note("committed")
    zombie.resume()
    until(lambda: not zombie.alive, "the zombie ends")
    world.workers.remove(zombie)
    world.finish()
    there = list(versions(world).values())
    assert len({one.n for one in there}) >= 2
    assert {made.same for made in rebuilt(world, there, sample=20)} == {True}
    result, _ = world.audit()
    assert result.different == 0, result.first
