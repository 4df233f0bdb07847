"""Explain: what is told of an event is what happened to it, and what differs from the published bytes is noticed."""

from __future__ import annotations

import random
from typing import Any

import pytest
from river.drift import DummyDriftDetector

from headrace import watch_feature
from headrace.streams.errors import Lost, UsageError
from headrace.streams.models.keys import SigningKey
from headrace.streams.models.snapshots import Sealed
from headrace.streams.replay.audit import audit
from headrace.streams.replay.explain import event_id_of, explain
from tests.inmemory import Lane, Log, topic
from tests.small import CLASSES, HOUR_MS, Scripted, event, known, small

KEY = SigningKey.generate()
CODEC = Sealed(KEY, {KEY.key_id: KEY.verify_key}, CLASSES)


def lane(count: int = 60) -> Lane:
    """Events of which two in three get a label an hour later; one bad event, one twice, two second labels."""
    one = Lane(small())
    events = [event(f"e{i}", i / 4, shop=f"s{i % 5}", spent=float(i)) for i in range(count)]
    labels = [known(f"e{i}", i / 4 + 1, i % 2 == 0, shop=f"s{i % 5}") for i in range(count) if i % 3]
    one.publish(
        [*events[:30], events[3], (b"x", b"{"), *events[30:]],
        [*labels, known("e4", 15.8), known("e5", 15.9), known("nobody", 16.0)],
    )
    return one.work(batch=9)


def told(one: Lane, *ids: str, log: Log | None = None) -> Any:
    """What is explained of these events."""
    found = explain(one.pipeline, ids, (log or one.log).reader, topic, codec=CODEC)
    return found[ids[0]] if len(ids) == 1 else found


def test_a_labelled_event_is_told_from_its_bytes_to_the_first_version_that_learned_it() -> None:
    """Each part is what the topics have, and what had been learned when it was asked."""
    one = lane()
    found = told(one, "e10")
    (raw,) = found.events
    assert (raw.topic, raw.partition, raw.offset, raw.became) == ("t.events", 0, 10, "features")
    assert raw.value == one.log.records["t.events", 0][10].value
    assert (found.status, found.features, found.different) == ("labelled", {"spent": 10.0, "visits": 2.0}, 0)
    n = found.learned.n
    assert found.learned.version == found.prediction["model"] == f"logreg/0@{n}"
    assert [e["n"] for e in found.learned.last] == list(range(n - 4, n + 1))[-min(5, n) :]
    (label,) = found.labels
    assert label.became == f"example {found.example['n']}"
    assert int(found.first["version"].rpartition("@")[2]) >= found.example["n"] > n
    assert [c.topic for c in found.compared] == ["t.features", "t.predictions", "t.examples"]
    assert {c.difference for c in found.compared} == {None}


def test_all_events_are_recomputed_equal_in_one_replay() -> None:
    """Every status there is, and no difference."""
    one = lane()
    found = told(one, *[f"e{i}" for i in range(60)])
    assert {e.status for e in found.values()} == {"labelled", "pending"}
    assert sum(e.different for e in found.values()) == 0
    assert all(len(e.compared) >= 2 for e in found.values())


def test_what_never_came_is_said() -> None:
    """An unknown id, a label without event, a second event and a second label."""
    one = lane()
    nobody = told(one, "nobody")
    assert (nobody.status, nobody.why) == ("unknown", "there are labels for it, but no event")
    nothing = told(one, "nothing")
    assert (nothing.status, nothing.events, nothing.covered["t.events/0"]) == ("unknown", [], [0, 62])
    twice = explain(one.pipeline, ["e3", "nothing"], one.log.reader, topic, codec=CODEC)["e3"]
    assert [r.became for r in twice.events] == ["features", "a duplicate: the id was seen before"]
    both = explain(one.pipeline, ["e4", "e5", "nothing"], one.log.reader, topic, codec=CODEC)
    assert [r.became for r in both["e4"].labels][1:] == ["a duplicate"]
    assert [r.became for r in both["e5"].labels][1:] == ["a correction: the first label has trained"]


def test_an_event_without_label_is_pending_and_then_expired() -> None:
    """As stream time passes its time to live."""
    one = lane()
    assert told(one, "e57").status == "pending"
    one.publish([event("later", 200.0)])
    one.work()
    found = told(one, "e57")
    assert (found.status, found.why) == ("expired", "no label came within its time to live")


def test_an_event_that_counts_as_a_label_on_expiry_says_so() -> None:
    """No click in time is a label, too."""
    one = Lane(small(labels={"on_expiry": False}))
    one.publish([event("a", 0.0), event("b", 100.0)])
    found = told(one.work(), "a")
    assert (found.status, found.why) == ("expired", "no label in time: it counts as False")


def test_a_dead_letter_says_stage_and_reason() -> None:
    """Refused by the champion: the event is there, and why it has no prediction."""
    one = Lane(small(models={"m": Scripted("raises")}, champion="m", classes=CLASSES))
    one.publish([event("a", 0.0), event("b", 2.0, spent=-1.0)], [known("a", 1.0), known("b", 3.0)])
    found = told(one.work(), "b")
    assert found.status == "dead letter"
    assert found.events[0].became == found.why
    assert "dead letter of predict: predict_error" in found.why
    assert found.labels[0].became == "not learned: the event was refused"
    assert [c.difference for c in found.compared] == [None, None]


BAD = event("b", 2.0, spent="many")


@pytest.mark.parametrize("cut", [[None], [["validate", "featurize"], ["predict", "join", "train", "evaluate"]]])
@pytest.mark.parametrize(
    ("events", "status", "became"),
    [
        ([BAD], "dead letter", ["dead letter of validate: wrong_type"]),
        ([BAD, event("b", 2.0)], "pending", ["dead letter of validate: wrong_type", "features"]),
        ([event("b", 2.0), BAD], "pending", ["features", "dead letter of validate: wrong_type"]),
        ([(b"a", b"{"), event(["b"], 2.0), event(True, 2.0)], "unknown", []),
    ],
    ids=["refused", "then taken", "after it was taken", "without an id"],
)
def test_an_event_that_was_refused_before_it_was_read_is_found_by_its_id(
    events: list[Any], status: str, became: list[str], cut: list[Any]
) -> None:
    """Where that can be read; what was refused beside one that was taken says nothing of that one."""
    pipeline, log = small(), Log()
    Lane(pipeline, log).publish([event("a", 0.0), *events], [known("a", 1.0)])
    log.records.pop((topic("journal"), 0), None)
    for stages in cut:
        Lane(pipeline, log, stages=stages).work()
    found = explain(pipeline, ["b", "nothing"], log.reader, topic, codec=CODEC)["b"]
    assert (found.status, found.different) == (status, 0)
    assert [record.became[: len(told)] for record, told in zip(found.events, became, strict=True)] == became
    assert ("dead letter" in found.why) == (status == "dead letter")


def test_a_label_of_a_refused_event_waits_for_one() -> None:
    """Until its time to live is over; a label that was refused is told as well."""
    one = Lane(small())
    one.publish([event("a", 0.0), BAD], [known("b", 3.0), known("b", 3.5, "maybe")])
    assert [label.became.partition(" (")[0] for label in told(one.work(), "b").labels] == [
        "waits for its event",
        "dead letter of join: wrong_type",
    ]


@pytest.mark.parametrize("publish", [("features", "examples"), ("features",)])
def test_a_label_that_a_model_could_not_learn_made_an_example(publish: Any) -> None:
    """It was said to be expired, without a label in time, although the others had learned from it."""
    models = {"a": Scripted(fails=True), "b": Scripted(fails=True)}
    one = Lane(small(models=models, champion="a", classes=CLASSES, publish=publish))
    one.publish([event("a", 0.0, spent=-1.0)], [known("a", 1.0), known("a", 1.5)])
    found = told(one.work(), "a")
    assert (found.status, found.events[0].became) == ("labelled", "features")
    each = [f"dead letter of train: train_error ({name} at example 1" for name in models]
    assert all(said in found.labels[0].became for said in each)
    assert found.labels[0].became.startswith("example 1; " if "examples" in publish else each[0])


@pytest.mark.parametrize("publish", [("features", "examples"), ("features",)])
def test_an_expired_event_that_a_model_could_not_learn_is_expired(publish: Any) -> None:
    """It was predicted and has an example: the dead letter is of one model, not of the event."""
    models = {"a": Scripted(fails=True)}
    one = Lane(small(models=models, champion="a", classes=CLASSES, publish=publish, labels={"on_expiry": False}))
    one.publish([event("a", 0.0, spent=-1.0), event("b", 100.0)])
    found = told(one.work(), "a")
    assert found.status == "expired"
    assert found.events[0].became.startswith("features; dead letter of train: train_error")


def test_an_event_whose_features_are_not_published_is_no_duplicate() -> None:
    """Only the second of an id is; and history says that its prediction is not published."""
    one = Lane(small(publish=["examples"], live_from=200 * HOUR_MS))
    one.publish([event("a", 0.0), event("a", 0.5), event("b", 2.0)], [known("a", 1.0)])
    found = told(one.work(), "a")
    duplicate = "a duplicate: the id was seen before"
    assert [record.became for record in found.events] == ["features, which are not published", duplicate]
    assert (found.status, found.why) == ("labelled", "no prediction of it is published: it is from before live_from")


FRONT, BACK = ["validate", "featurize"], ["predict", "join", "train", "evaluate"]


@pytest.mark.parametrize("labels", [[known("b", 3.0)], []], ids=["a label", "none"])
@pytest.mark.parametrize("later", [[event("z", 300.0)], []], ids=["expired", "pending"])
def test_a_refusal_is_the_same_where_stages_run_apart(labels: list[Any], later: list[Any]) -> None:
    """The dead letter is about a features record then; what is told is about the event that it was made of."""
    stories = []
    for cut in ([None], [FRONT, BACK, ["drift"]]):
        pipeline, log = small(models={"m": Scripted("raises")}, champion="m", classes=CLASSES), Log()
        Lane(pipeline, log).publish([event("a", 0.0), event("b", 2.0, spent=-1.0), *later], [known("a", 1.0), *labels])
        log.records.pop((topic("journal"), 0))
        for stages in cut:
            Lane(pipeline, log, stages=stages).work()
        found = explain(pipeline, ["b"], log.reader, topic, codec=CODEC)["b"]
        stories.append((found.status, found.why, found.events, found.labels, found.different))
    assert stories[0][0] == "dead letter"
    assert stories[1] == stories[0]


def test_an_event_that_is_not_predicted_yet_is_no_expired_one() -> None:
    """Stages apart: those that predict are behind, or were never started; then they catch up."""
    pipeline, log = small(), Log()
    front = Lane(pipeline, log, stages=FRONT)
    front.publish([event("a", 0.0)], [known("b", 1.0)])

    def story() -> Any:
        found = explain(pipeline, ["b"], log.reader, topic, codec=CODEC)["b"]
        return found.status, found.why, [label.became for label in found.labels]

    front.work()
    back = Lane(pipeline, log, stages=BACK).work()
    front.publish([event("b", 2.0)])
    front.work()
    unread = "not predicted yet: the stages that predict have not read it"
    assert story() == ("pending", unread, ["waits for its event"])
    back.work()
    assert story() == ("labelled", "", ["example 1"])
    journal = log.records[topic("journal"), 0]
    log.records[topic("journal"), 0] = [record for record in journal if record.key == front.task.group.name.encode()]
    assert story()[:2] == ("pending", unread)


@pytest.mark.parametrize("live_from", [None, 60 * HOUR_MS])
def test_only_history_is_from_before_live_from(live_from: int | None) -> None:
    """An event that waits for its label, without a published prediction or with one."""
    one = Lane(small(live_from=live_from))
    one.publish([event("a", 0.0)])
    found = told(one.work(), "a")
    assert (found.status, found.prediction is None) == ("pending", live_from is not None)
    assert found.why == ("no prediction of it is published: it is from before live_from" if live_from else "")


@pytest.mark.parametrize("role", ["features", "predictions", "examples"])
def test_a_published_record_that_was_changed_differs(role: str) -> None:
    """One byte of what was published of the event: explained as different, and of no other event."""
    one = lane()
    offset = next(i for i, r in enumerate(one.log.records[topic(role), 0]) if b"e10" in r.value)
    changed = one.log.flip(role, offset, len(one.log.records[topic(role), 0][offset].value) // 2, 0)
    found = told(one, "e10", "e11", log=changed)
    assert (found["e10"].different, found["e11"].different) == (1, 0)
    assert [c.topic for c in found["e10"].compared if c.difference] == [topic(role)]


def test_a_whole_number_is_asked_for_as_one() -> None:
    """Ids are text on the command line, and what the schema says in records."""
    assert event_id_of(small(), "7") == "7"
    whole = [{"name": "id", "type": "long"}, *small().event_schema.avro["fields"][1:]]
    labels = [{"name": "id", "type": "long"}, *small().label_schema.avro["fields"][1:]]
    declared = small(
        events={"schema": {"type": "record", "name": "E", "fields": whole}},
        labels={"schema": {"type": "record", "name": "L", "fields": labels}},
    )
    assert event_id_of(declared, "7") == 7
    with pytest.raises(UsageError, match="whole number"):
        event_id_of(declared, "seven")


def test_an_audit_counts_what_it_compares() -> None:
    """All that the log leads to, once; not the alerts about operations that lie among those about data."""
    one = Lane(small(drift=[watch_feature("spent", DummyDriftDetector("fixed", t_0=7, seed=1))]))
    for part in range(3):
        one.publish([event(f"e{part}-{i}", part + i / 60) for i in range(20)])
        one.work()
        one.log.begin()
        one.log.send(topic("alerts"), 0, b"a", b"{}", [("stage", b"operations")])
        one.log.commit()
    made = audit(one.pipeline, one.log.reader, topic, codec=CODEC)
    count = len(one.log.records[topic("alerts"), 0]) - 3
    assert (count > 0, made.by_topic["alerts"]) == (True, {"compared": count, "different": 0})
    assert made.by_topic["predictions"] == {"compared": 60, "different": 0}
    assert made.compared == sum(each["compared"] for each in made.by_topic.values())


@pytest.mark.parametrize("role", ["journal", "examples"])
def test_one_flipped_bit_in_the_log_is_noticed_100_times_of_100(role: str) -> None:
    """At random places of random records, key or value: audit counts a difference, or says what is damaged."""
    one, chance, noticed = lane(12), random.Random(6), 0
    assert audit(one.pipeline, one.log.reader, topic, codec=CODEC).different == 0
    records = one.log.records[topic(role), 0]
    for _ in range(100):
        offset = chance.randrange(len(records))
        part = chance.choice(["key", "value", "value", "value"])
        position = chance.randrange(len(getattr(records[offset], part)))
        changed = one.log.flip(role, offset, position, chance.randrange(8), part)
        try:
            noticed += audit(one.pipeline, changed.reader, topic, codec=CODEC).different > 0
        except Lost:
            noticed += 1
        except UsageError as error:
            noticed += "No stage is called" in str(error)  # the journal's key names another group
    assert noticed == 100
