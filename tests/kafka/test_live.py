"""Live traffic, workers killed again and again: what was published is what the journal's order makes."""

from __future__ import annotations

import itertools
import multiprocessing
import random
import time
from collections.abc import Callable
from functools import partial

from headrace.streams.data import Outgoing
from headrace.streams.kafka import Cluster
from tests.faults.harness import World, flight_records, seed, until

FLIGHTS = 1_000
KILLS = 5
ALONE = 30  # the last records come one by one, each when the one before was processed: live on any machine
SECONDS = 16.0


def publish(bootstrap: str, topics: dict[str, str], records: list[tuple[str, Outgoing]], seconds: float) -> None:
    """Send records at an even rate."""
    producer = Cluster(bootstrap).plain_producer(**{"linger.ms": 0})
    began = time.monotonic()
    for i, (role, record) in enumerate(records):
        time.sleep(max(0.0, began + seconds * i / len(records) - time.monotonic()))
        producer.produce(topics[role], record.value, record.key, 0)
        producer.poll(0)
    if producer.flush(30):
        raise SystemExit("not all inputs could be published")


def taken(world: World, topic: str, count: int) -> bool:
    """Whether the worker has committed so many records of an input."""
    return world.cluster.committed(world.pipeline.name).get((topic, 0), 0) >= count


def test_audit_finds_no_difference_after_live_traffic_with_kills(make_world: Callable[..., World]) -> None:
    """Nothing differs from what the journal's order makes, and that order is not the merge by time."""
    world = make_world(settings={"checkpoint_s": 0.5, "gather_s": 0.002})
    chance = random.Random(seed())
    events, labels = flight_records(FLIGHTS)
    # Labels arrive somewhat out of step with events, as they do in life: the merge by time would have it otherwise.
    records = [(r.time_ms, "events", r) for r in events] + [(r.time_ms + 1_800_000, "labels", r) for r in labels]
    records.sort(key=lambda item: item[0])
    world.inputs = [labels, events]
    topics = {role: world.topic(role) for role in ("events", "labels")}
    sent = [(role, record) for _, role, record in records]
    publisher = multiprocessing.get_context("spawn").Process(
        target=publish, args=(world.bootstrap, topics, sent[:-ALONE], SECONDS), daemon=True
    )
    process = world.spawn()
    process.await_note("recovered")
    publisher.start()
    kills = 0
    while publisher.is_alive() and kills < KILLS:
        process.await_note("recovered")
        time.sleep(chance.uniform(0.3, 1.5))
        process.kill()
        kills += 1
        process = world.spawn()
    publisher.join(180)
    assert publisher.exitcode == 0
    for i in range(len(sent) - ALONE, len(sent)):
        publish(world.bootstrap, topics, [sent[i]], 0.0)
        role = sent[i][0]
        until(partial(taken, world, topics[role], sum(r == role for r, _ in sent[: i + 1])), "the record to be taken")
    world.finish()

    assert kills >= 3
    result, summaries = world.audit()
    assert result.different == 0, result.first
    assert result.compared > FLIGHTS
    (summary,) = summaries.values()
    assert all(summary.laws.values()), summary.laws
    assert summary.events == FLIGHTS
    assert result.live_batches > 20, "not live: hardly a batch was of one input only"
    pairs = itertools.zip_longest(world.published("predictions"), world.expected()["predictions"])
    assert sum(a != b for a, b in pairs) > 100, "not live: the order is that of the merge by time"
