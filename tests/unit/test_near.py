"""What is explained from the newest savepoint before an event is what the whole log tells of it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from headrace.streams.checkpoint import Checkpoint
from headrace.streams.explain import explain
from headrace.streams.keys import SigningKey
from headrace.streams.near import Near, find
from headrace.streams.recompute import recomputations
from headrace.streams.savepoints import copy
from headrace.streams.snapshots import Sealed
from headrace.streams.task import Version
from tests.inmemory import Lane, topic
from tests.small import event, known, small

KEY = SigningKey.generate()
CODEC = Sealed(KEY, {KEY.key_id: KEY.verify_key})


def save(one: Lane) -> None:
    """A savepoint of where the lane stands."""
    log, version = one.log, Version.of(one.pipeline)
    ends = {role: log.watermarks(topic(role), 0)[1] for role in one.task.group.outputs}
    end = log.watermarks(topic("journal"), 0)[1]
    Checkpoint(one.task, version, 0, topic("state"), log, ends, journal_end=end).write(None)
    assert copy("lane", 0, topic, log, log, lambda: 0.0) == one.task.seq


@pytest.fixture(scope="module")
def lane() -> Lane:
    """Sixty events, labels for two in three an hour later, an early label, a refused event; a savepoint a batch."""
    one = Lane(small(), codec=CODEC)
    labels = [known(f"e{i}", i / 4 + 1, i % 2 == 0) for i in range(60) if i % 3]
    one.publish(
        [*(event(f"e{i}", i / 4, spent=float(i)) for i in range(60)), (b"bad", b"{"), event("expected", 15.0)],
        [known("expected", 3.0), *labels, known("e4", 14.9)],
    )
    return one.work(batch=7, after=save)


def told(one: Lane, event_id: str, *, whole: bool = False) -> Any:
    """What is explained of an event."""
    return explain(one.pipeline, [event_id], one.log.reader, topic, codec=CODEC, whole=whole)[event_id]


def test_the_story_is_the_same_from_wherever_it_is_replayed(lane: Lane) -> None:
    """For every event; of the examples learned before it, those since the savepoint are told."""
    begun = set()
    for i in range(60):
        near, whole = (told(lane, f"e{i}", whole=way) for way in (False, True))
        begun.add(near.covered["t.events/0"][0])
        examples, near.covered = near.learned.last, whole.covered
        assert examples == whole.learned.last[len(whole.learned.last) - len(examples) :]
        near.learned.last = whole.learned.last
        assert near == whole
    assert len(begun) > 5


def test_what_is_replayed_begins_shortly_before_the_event(lane: Lane) -> None:
    """At the last savepoint that had not read it."""
    covered = told(lane, "e50").covered["t.events/0"]
    assert 50 - 7 <= covered[0] <= 50 < covered[1]
    assert told(lane, "e50", whole=True).covered["t.events/0"][0] == 0


def test_a_label_that_waited_for_its_event_is_told(lane: Lane) -> None:
    """It lies before the savepoint, whose state shows it: the whole log is replayed."""
    found = told(lane, "expected")
    assert (found.status, len(found.labels), found.covered["t.events/0"][0]) == ("labelled", 1, 0)


def test_what_has_no_prediction_is_looked_for_everywhere(lane: Lane) -> None:
    """An id that nobody knows."""
    found = told(lane, "nobody")
    assert (found.status, found.covered["t.events/0"]) == ("unknown", [0, 62])


def test_a_prediction_of_somebody_else_hides_no_event() -> None:
    """It says that an event lies where it does not: then everything is replayed."""
    one = Lane(small(), codec=CODEC)
    one.publish([event(f"e{i}", i / 4, spent=-1.0 if i == 5 else 1.0) for i in range(40)], [])
    one.work(batch=7, after=save)
    forged = json.loads(one.log.records[topic("predictions"), 0][-1].value) | {"event_id": "e5", "offset": 39}
    real = one.log.records[topic("predictions"), 0]
    one.log.records[topic("predictions"), 0] = [r for r in real if json.loads(r.value)["event_id"] != "e5"]
    one.log.begin()
    for value in (b"{", b'{"event_id": []}', json.dumps(forged).encode()):
        one.log.send(topic("predictions"), 0, None, value)
    one.log.commit()
    assert [record.offset for record in told(one, "e5").events] == [5]


def test_only_partitions_with_such_events_are_replayed() -> None:
    """Where the first of them lies, in each."""
    one = Lane(small(partitions=3), codec=CODEC)
    one.log.begin()
    for shard, names in ((0, "ab"), (2, "cd")):
        for offset, name in enumerate(names):
            value = json.dumps({"event_id": name, "partition": shard, "offset": 10 + offset}).encode()
            one.log.send(topic("predictions"), shard, None, value)
    one.log.commit()
    ids = frozenset({"b", "c", "d"})
    near = find(one.pipeline, ids, one.log.reader, topic)
    assert near == {0: Near(ids, 11, 1), 2: Near(ids, 10, 0)}
    assert find(one.pipeline, {"a", "x"}, one.log.reader, topic) is None
    made = recomputations(one.pipeline, one.log.reader, topic, CODEC, {2: Near(ids, 10, 0)})
    assert list(made) == []


def test_a_savepoint_that_cannot_be_read_is_none(lane: Lane) -> None:
    """Without the key that sealed them everything is replayed."""
    other: Any = Sealed(None, {})
    found = explain(lane.pipeline, ["e50"], lane.log.reader, topic, codec=other)["e50"]
    assert (found.status, found.covered["t.events/0"][0]) == ("labelled", 0)
