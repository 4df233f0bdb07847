"""What is explained from the newest savepoint before an event is what the whole log tells of it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from headrace.streams.checkpoint import Checkpoint, marker_of
from headrace.streams.models.keys import SigningKey
from headrace.streams.models.snapshots import Sealed
from headrace.streams.packing import unpack
from headrace.streams.replay.explain import explain
from headrace.streams.replay.near import _predictions
from headrace.streams.savepoints import copy, savepoints
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
        start = near.covered["t.events/0"][0]
        begun.add(start)
        assert (near.whole, whole.whole) == (start == 0, True)
        examples, near.covered, near.whole = near.learned.last, whole.covered, True
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


def test_only_partitions_with_such_events_are_looked_at() -> None:
    """Where the first of them lies, in each."""
    one = Lane(small(partitions=3), codec=CODEC)
    one.log.begin()
    for shard, names in ((0, "ab"), (2, "cd")):
        for offset, name in enumerate(names):
            value = json.dumps({"event_id": name, "partition": shard, "offset": 10 + offset}).encode()
            one.log.send(topic("predictions"), shard, None, value)
    one.log.commit()
    given = (one.log, topic("predictions"), 3)
    assert _predictions(*given, {"b", "c", "d"}, lambda: None) == {0: (11, 1), 2: (10, 0)}
    assert _predictions(*given, {"a", "x"}, lambda: None) == {}


def test_a_savepoint_of_which_something_is_gone_is_none(lane: Lane) -> None:
    """Retention takes its first entries before its marker: an older one does, or the whole log."""
    log, name = lane.log.flip("events", 0, 0, 0, "key"), topic("savepoints")
    kept = log.records[name, 0]
    markers = [i for i, record in enumerate(kept) if len(unpack(record.key)) == 3]
    before = told(lane, "e50").covered["t.events/0"][0]
    gone = markers[[marker_of(kept[i].value)["positions"][2] for i in markers].index(before)] - 1
    log.records[name, 0] = [record for i, record in enumerate(kept) if i != gone]
    found = explain(lane.pipeline, ["e50"], log.reader, topic, codec=CODEC)["e50"]
    assert 50 - 14 <= found.covered["t.events/0"][0] < before
    assert len(list(savepoints("lane", 0, topic, log))) == len(markers) - 1


def test_what_differs_is_told_of_a_replay_of_everything(lane: Lane) -> None:
    """A savepoint is not to blame then."""
    offset = next(i for i, r in enumerate(lane.log.records[topic("features"), 0]) if b"e50" in r.value)
    changed = lane.log.flip("features", offset, -1, 0)
    found = explain(lane.pipeline, ["e50"], changed.reader, topic, codec=CODEC)["e50"]
    assert (found.different, found.whole) == (1, True)


def test_a_savepoint_that_cannot_be_read_is_none(lane: Lane) -> None:
    """Without the key that sealed them everything is replayed."""
    other: Any = Sealed(None, {})
    found = explain(lane.pipeline, ["e50"], lane.log.reader, topic, codec=other)["e50"]
    assert (found.status, found.covered["t.events/0"][0]) == ("labelled", 0)
