"""The poison corpus on the real broker: among good records, under kills; and what does not fit at all."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable

import pytest

from headrace.streams.data import Outgoing
from headrace.streams.topology import group_of
from tests.faults.harness import World
from tests.poison import CORPUS, Format, event, known

GOOD = 1_000
KILLS = 2


def mixed(format: Format) -> dict[str, list[Outgoing]]:
    """Good events with their labels, and the whole corpus of a format spread evenly among them, in a drawn order."""
    records = {
        "events": [Outgoing(0, *event(format, str(i), i / 60)) for i in range(GOOD)],
        "labels": [Outgoing(0, *known(format, str(i), i / 60 + 2)) for i in range(GOOD)],
    }
    chance = random.Random(4)
    for role, good in records.items():
        bad = [bad for bad in CORPUS if (bad.role, bad.format) == (role, format)]
        chance.shuffle(bad)
        for i, poison in enumerate(bad):
            good.insert((i + 1) * GOOD // (len(bad) + 1) + i, Outgoing(0, b"\xff", poison.value))
    return records


@pytest.mark.parametrize("format", ["json", "avro"])
def test_the_whole_corpus_among_good_records_under_kills(format: Format, make_world: Callable[..., World]) -> None:
    """Killed twice in the middle: outputs equal the memory runtime's, each letter comes once, audit differs nowhere."""
    reference = "tests.poison:visits" if format == "json" else "tests.poison:visits_avro"
    world = make_world(reference, settings={"batch": 60, "checkpoint_s": 0.1, "checkpoint_entries": 500})
    world.publish(**mixed(format))
    for _ in range(KILLS):
        process = world.spawn()
        process.await_note("committed")
        process.kill()
        assert world.left(group_of()) != 0, "killed after the end"
    world.spawn()
    world.finish()
    counts = world.compare()
    assert counts["predictions"] == counts["examples"] == GOOD
    wanted = Counter((bad.value, bad.reason.encode()) for bad in CORPUS if bad.format == format)
    letters = [(value, dict(headers)["reason"]) for _, value, headers in world.published("dead-letter")]
    assert Counter(letters) == wanted
    result, summaries = world.audit()
    assert result.different == 0, result.first
    assert result.compared == sum(counts.values())
    assert all(all(summary.laws.values()) for summary in summaries.values())


def test_a_record_that_its_topic_refuses_ends_the_worker(make_world: Callable[..., World]) -> None:
    """It ends with exit code 2, naming the topic and the setting, where it had begun anew for ever."""
    world = make_world("tests.poison:visits")
    world.cluster.delete([world.topic("dead-letter")])
    world.cluster.create([(world.topic("dead-letter"), 1, {"max.message.bytes": "2000"})])
    world.publish([Outgoing(0, *event("json", "1", 1)), Outgoing(0, b"a", random.Random(2).randbytes(4_000))], [])
    worker = world.spawn()
    ended = worker.await_note("ended")
    worker.join()
    assert worker.exit_code == 2
    assert ended["error"] == "TopicError"
    assert world.topic("dead-letter") in ended["reason"]
    assert "max.message.bytes" in ended["reason"]
    assert world.published("predictions") == []
