"""The chain over unusual input: every record has one outcome. (What cannot be read: test_poison.py.)"""

from __future__ import annotations

import io
import json
import math
from typing import Any

import fastavro
import msgspec
import pytest
from river import naive_bayes
from river.drift import ADWIN

from headrace import Gate, field, label, mean, same_hour, watch_error, watch_feature
from headrace.processors.scan import Scan
from headrace.streams.errors import WrongFormat
from headrace.streams.identity.hashing import state_hash
from headrace.streams.memory import Backtest
from headrace.streams.stages.chain import Chain
from headrace.streams.topics import topic_specs
from headrace.streams.topology import group_of
from tests.lawful import lawful, letters
from tests.small import (
    CLASSES,
    EVENT,
    FAR,
    HOUR_MS,
    TASKS,
    WATCHED,
    Pickled,
    Scribbling,
    Scripted,
    event,
    known,
    play,
    small,
)


def predicted(result: Backtest) -> list[dict[str, Any]]:
    return [msgspec.json.decode(value or b"") for _, _, value, _ in result.outputs.get("predictions", [])]


DOCUMENT = json.loads(event("x")[1])


def document(**changed: Any) -> bytes:
    return json.dumps(DOCUMENT | changed).encode()


def test_what_is_unreadable_or_far_in_the_future_does_not_move_stream_time() -> None:
    """Nobody's label expires because of one producer's clock."""
    far = event("far", 24 * 90 + 24 * 12)
    result = play(small(), [event("1"), far, (b"a", b"{"), event("2", 1)], [])
    assert result.task.chain.stream_time_ms == HOUR_MS
    assert result.summary.pending == 2


@pytest.mark.parametrize("detector", [ADWIN(), Scan(every=16, false_alarms_every=10_000, reference=same_hour())])
def test_a_time_before_any_calendar_is_a_time_like_others(detector: Any) -> None:
    """The least and other far past times of 64 bits are processed without a crash, whoever asks for the hour."""
    times = [-(2**63), -(2**63) + 1, -(2**62), -(2**62) + 1, *range(0, 50 * HOUR_MS, HOUR_MS)]
    watched = small(drift=[watch_feature("spent", detector), watch_error(ADWIN())])
    result = play(
        watched,
        [(b"a", document(id=str(i), at=at)) for i, at in enumerate(times)],
        [(b"a", json.dumps({"id": str(i), "at": at, "y": True}).encode()) for i, at in enumerate(times)],
    )
    assert result.summary.predictions == len(times)
    assert lawful(result)


def test_an_unreadable_first_record_holds_back_no_time_before_1970() -> None:
    """It is no later than what comes after it: the label behind it is there when its event is."""
    result = play(small(), [event("1", -10), event("2", -1)], [(b"a", b"{"), known("1", -9)])
    assert (result.summary.labelled, result.summary.label_dead_letters) == (1, 1)
    assert predicted(result)[-1]["model"] == "logreg/0@1"


@pytest.mark.parametrize(
    ("record", "reason", "cut"),
    [
        ((b"a", b"x" * 20_000_000), b"too_large", b"1 20000000"),
        ((b"k" * 20_000_000, event("1")[1]), b"too_large", b"20000000 %d" % len(event("1")[1])),
        ((b"k" * 20_000_000, None), b"too_large", b"20000000 0"),
    ],
)
def test_a_record_of_any_size_makes_none_that_its_topic_refuses(record: Any, reason: bytes, cut: bytes) -> None:
    """Compressed well enough, all pass the broker; what is made of them must too, or no restart would get over it."""
    result = play(small(), [record, event("2")])
    written = [(key or b"", value or b"") for records in result.outputs.values() for _, key, value, _ in records]
    room = next(spec.config["max.message.bytes"] for spec in topic_specs(small()) if spec.role == "dead-letter")
    assert max(len(key) + len(value) for key, value in written) < int(room) - 100_000
    ((_, _, _, headers),) = result.outputs["dead-letter"]
    told = dict(headers or [])
    assert (told["reason"], told["cut"]) == (reason, cut)
    assert result.summary.predictions == 1


# -- features --------------------------------------------------------------------------------------


def fragile(event: Any) -> float:
    if event.spent == -1:
        raise LookupError(f"{object()} of \ud800")
    if event.spent == -2:
        return math.nan
    if event.spent == -3:
        return "much"  # type: ignore[return-value]
    return float(event.spent)


@pytest.mark.parametrize(("spent", "reason"), [(-1, "feature_error"), (-2, "feature_nan"), (-3, "feature_type")])
def test_a_feature_that_fails_refuses_the_event(spent: float, reason: str) -> None:
    """Stage featurize; its label finds no event; the detail has no address in memory."""
    bad = event("bad", 1, spent=spent)
    result = play(
        small(features={"fragile": fragile}), [event("1"), bad, event("2", 60)], [known("bad", 2), known("1", 3)]
    )
    letter, orphan = letters(result)
    assert (letter[:2], letter[2]["stage"], letter[2]["reason"]) == (bad, "featurize", reason)
    assert "fragile" in letter[2]["detail"]
    assert " at 0x" not in letter[2]["detail"]
    assert (orphan[:2], orphan[2]["reason"]) == (known("bad", 2), "orphan")
    assert lawful(result)


def test_an_event_that_a_feature_refused_may_come_again() -> None:
    """Its id is not remembered: published again with what the feature needs, it is no duplicate."""
    bad, good = event("again", 1, spent=-1), event("again", 1, spent=4)
    result = play(small(features={"fragile": fragile}), [bad, good, good])
    assert [prediction["event_id"] for prediction in predicted(result)] == ["again"]
    assert (result.summary.dead_letters, result.summary.duplicates) == ({"feature_error": 1}, 1)
    assert lawful(result)


# -- models ----------------------------------------------------------------------------------------


class Always(Scripted):
    """A model with one answer, which is taken as it is."""

    def clone(self) -> Always:
        return Always(self.answer)

    def predict_one(self, x: Any) -> Any:
        return self.answer


def models(**misbehaving: Scripted) -> Any:
    return small(
        features={"spent": field("spent")},
        models={"good": Scripted(), **misbehaving},
        champion=next((name for name in misbehaving if name == "champion"), "good"),
        classes=CLASSES,
    )


def test_a_model_that_writes_into_its_features_changes_nothing_published() -> None:
    """It is given a copy: features and examples are the same whatever the batch, and as without it."""
    events, labels = [event(str(i), i * 0.1) for i in range(5)], [known(str(i), i * 0.1 + 0.05) for i in range(5)]
    made = [
        play(models(other=model), events, labels, batch=batch).outputs
        for model, batch in ((Scribbling(), 1), (Scribbling(), 1000), (Scripted(), 1000))
    ]
    for role in ("features", "examples", "predictions"):
        assert made[0][role] == made[1][role] == made[2][role]


UNUSABLE = [
    "raises", "NaN", "NaN probability", "infinite", "a list", "an array", "text for a bool", "text for a probability",
    "a number for a bool", "half a character", "half a character's probability", "an endless number",
]  # fmt: skip


@pytest.mark.parametrize("kind", UNUSABLE)
def test_an_unusable_answer_of_the_champion_refuses_the_event(kind: str) -> None:
    """Dead letter predict_error with the event's bytes; it is not learned from; its label is no orphan."""
    bad = event("bad", 2, spent=-1)
    result = play(
        models(champion=Scripted(kind)),
        [event("1"), bad, event("2", 3)],
        [known("1", 1), known("bad", 4), known("2", 5)],
    )
    ((key, value, headers),) = letters(result)
    assert (key, value) == bad
    assert (headers["stage"], headers["reason"], headers["topic"]) == ("predict", "predict_error", "small.events")
    assert [row["event_id"] for row in predicted(result)] == ["1", "2"]
    assert result.task.chain.stores.states["models"]["good"].value.learned == 2
    assert lawful(result)


@pytest.mark.parametrize("kind", UNUSABLE)
def test_an_unusable_answer_of_a_challenger_is_counted_and_not_scored(kind: str) -> None:
    """The champion's prediction is published; the challenger has one answer less; its state can be written."""
    result = play(
        models(challenger=Scripted(kind)),
        [event("1"), event("odd", 2, spent=-1), event("2", 3)],
        [known("1", 1), known("2", 5)],
    )
    assert letters(result) == []
    assert len(predicted(result)) == 3
    assert result.task.chain.counts["model_errors.challenger"] == 1
    pending = dict(result.task.chain.stores.states["join"]["pending"].items())
    assert pending["odd"][6][:2] == ({True: 0.75, False: 0.25}, None)


PAIRS = [(-1.0, -2.0), (-2.0, -1.0), (-1.0, -1.0), (-0.5, 1.0), (-5e-324, -1.0), (2.0, -1e308), (0.0, 0.0), (-1.0, 2.0)]
PAIRED = [{True: p, False: q} for p, q in PAIRS]


@pytest.mark.parametrize("champion", ["good", "odd"])
@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize(
    "answer", [*FAR, *({True: p, False: 0.5} for p in FAR), *PAIRED, {False: 1e308}, True, "a", 3], ids=str
)
def test_whatever_a_model_answers_nobody_who_looks_at_it_fails(task: str, champion: str, answer: Any) -> None:
    """Numbers as large as floats go, and answers of another task: scores, gate, proxies and detectors go on."""
    declared = TASKS[task]
    pipeline = small(
        **WATCHED,
        task=task,
        features={"spent": field("spent")},
        labels=declared["labels"],
        models={**declared["models"], "odd": Always(answer)},
        champion=champion,
        gate=Gate(minimum=20, every=5, renew=30, segments=("shop",), segment_minimum=10),
        classes=[(__name__, "Always")],
        shadow=1.0,
    )
    count = 80
    events = [event(f"e{i}", i / 8, shop=f"s{i % 2}", spent=i / 10) for i in range(count)]
    result = play(pipeline, events, [known(f"e{i}", i / 8 + 1, i % 2 == 0) for i in range(count)])
    assert result.summary.features == count
    assert lawful(result)


def test_an_untrained_champion_that_cannot_answer_can_still_learn() -> None:
    """Before its first example its failure is only counted: refusing the event would keep it untrained for ever."""

    result = play(models(champion=Scripted("raises")), [event("1", spent=-1)], [known("1", 1)])
    assert [(row["prediction"], row["reason"]) for row in predicted(result)] == [(None, "untrained")]
    assert result.task.chain.stores.states["models"]["champion"].value.learned == 1
    assert lawful(result)


NUMPY = {
    "numpy probabilities": (False, 0.25),
    "numpy keys": (False, 0.25),
    "single precision": (False, 0.25),
    "a numpy label": (True, None),
    "integers": (True, 1.0),
}


@pytest.mark.parametrize("kind", NUMPY)
def test_answers_in_numpy_s_types_are_published_and_kept_as_plain_ones(kind: str) -> None:
    """The prediction has its bytes, and the pending entry can be written at a checkpoint."""
    result = play(models(champion=Scripted(kind)), [event("1"), event("2", 2, spent=-1)], [known("1", 1)])
    assert (predicted(result)[1]["prediction"], predicted(result)[1]["probability"]) == NUMPY[kind]
    store = result.task.chain.stores.states["join"]["pending"]
    assert [data is not None for _, data in store.freeze()] == [True]


def test_a_model_that_raises_on_learning_is_a_dead_letter_and_the_others_learn() -> None:
    """Stage train with the label's bytes, naming model and example; the label counts as labelled."""
    result = play(models(challenger=Scripted(fails=True)), [event("1", spent=-1)], [known("1", 1)])
    ((key, value, headers),) = letters(result)
    assert (key, value) == known("1", 1)
    assert (headers["stage"], headers["reason"], headers["topic"]) == ("train", "train_error", "small.labels")
    assert headers["detail"].startswith("challenger at example 1: ValueError")
    assert " at 0x" not in headers["detail"]
    learned = result.task.chain.stores.states["models"]
    assert [learned[name].value.learned for name in ("good", "challenger")] == [1, 1]
    assert (result.summary.labelled, result.summary.label_dead_letters) == (1, 1)
    assert lawful(result)


# -- labels ----------------------------------------------------------------------------------------


def raising(record: Any) -> bool:
    raise ArithmeticError(object())


@pytest.mark.parametrize("y", [raising, lambda record: 1, lambda record: None, lambda record: "yes", lambda r: r.z])
def test_a_label_function_that_fails_or_gives_no_label_is_a_dead_letter(y: Any) -> None:
    """Reason bad_label, without addresses; the event goes on waiting."""
    result = play(small(labels={"y": y}), [event("1")], [known("1", 1)])
    ((key, value, headers),) = letters(result)
    assert (key, value) == known("1", 1)
    assert (headers["stage"], headers["reason"]) == ("join", "bad_label")
    assert " at 0x" not in headers["detail"]
    assert result.summary.pending == 1
    assert lawful(result)


def test_a_number_no_float_can_hold_is_a_bad_label() -> None:
    """The label function answers 10**400 in a regression."""
    result = play(small(task="regression", labels={"y": lambda record: 10**400}), [event("1")], [known("1", 1)])
    assert [headers["reason"] for _, _, headers in letters(result)] == ["bad_label"]
    assert lawful(result)


def classed(most: int, **labels: Any) -> Any:
    """A multiclass pipeline of so many classes at most; its labels are text."""
    schema = {"type": "record", "name": "L", "fields": [
        {"name": "id", "type": "string"}, {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "y", "type": "string"},
    ]}  # fmt: skip
    return small(
        task="multiclass",
        features={"spent": field("spent")},
        models={"bayes": naive_bayes.GaussianNB()},
        champion="bayes",
        labels={"schema": schema, "most_classes": most} | labels,
    )


@pytest.mark.parametrize("batch", [1, 3, 1000])
def test_there_are_so_many_classes_and_no_more(batch: int) -> None:
    """A label of one more is a dead letter, whatever became of those before; the classes that are known go on."""
    said = [("1", "a"), ("2", "b"), ("nobody", "c"), ("3", "d"), ("3", "a"), ("4", "e"), ("5", "c"), ("6", "b")]
    result = play(
        classed(3),
        [event(str(i), i / 10) for i in range(1, 7)],
        [known(id, 1 + i / 10, y) for i, (id, y) in enumerate(said)],
        batch=batch,
    )
    assert [(value, headers["reason"], headers["detail"]) for _, value, headers in letters(result)] == [
        (known(id, hour, y)[1], "bad_label", "ValueError: class number 4: labels.most_classes is 3")
        for id, hour, y in (("3", 1.3, "d"), ("4", 1.5, "e"))
    ]
    assert (result.summary.labelled, result.summary.pending) == (5, 1)
    assert lawful(result)


def test_the_label_of_expired_events_is_one_of_the_classes() -> None:
    """Models learn it like any other: labels of it are legal, and there is one class less for others."""
    result = play(
        classed(2, on_expiry="none"),
        [event(id, hour) for id, hour in (("1", 0), ("2", 0), ("3", 0), ("4", 49))],
        [known("1", 1, "a"), known("2", 2, "b"), known("3", 3, "none")],
    )
    assert [(headers["reason"], value) for _, value, headers in letters(result)] == [
        ("bad_label", known("2", 2, "b")[1])
    ]
    assert sorted(result.examples["label"]) == ["a", "none", "none"]
    assert lawful(result)


def test_the_classes_are_known_after_a_restart() -> None:
    """They are in the checkpoint, so a replay refuses what was refused."""
    chain = Chain(classed(2), group_of(), 0, codec=Pickled())
    for y in ("a", "b", "a"):
        chain._one_of_the_classes(y)
    restored = Chain(classed(2), group_of(), 0, codec=Pickled())
    restored.stores.load(dict(chain.stores.freeze()))
    assert restored.stores.states["join"]["classes"].value == {"a": None, "b": None}
    with pytest.raises(ValueError, match="class number 3"):
        restored._one_of_the_classes("c")
    assert restored._one_of_the_classes("b") == "b"


@pytest.mark.parametrize(("length", "reasons"), [(1_000, []), (1_001, ["bad_label"])])
def test_a_label_is_no_long_text(length: int, reasons: list[str]) -> None:
    """Whatever a model has of it, it has again and again."""
    result = play(classed(10), [event("1")], [known("1", 1, "é" * length)])
    assert [headers["reason"] for _, _, headers in letters(result)] == reasons
    assert lawful(result)


def test_a_label_without_an_event_is_an_orphan_after_the_time_to_live() -> None:
    """It waits for `ttl`, at exactly that time too; then it is a dead letter with its own bytes and offset."""
    waiting = play(small(), [event("1"), event("2", 50)], [known("nobody", 2)])
    assert letters(waiting) == []
    assert lawful(waiting)
    result = play(small(), [event("1"), event("2", 51)], [known("nobody", 2)])
    ((key, value, headers),) = letters(result)
    assert (key, value, headers["reason"], headers["offset"]) == (*known("nobody", 2), "orphan", "0")
    assert lawful(result)


def test_a_label_after_expiry_is_late() -> None:
    """At exactly the time to live it is in time; later it is a dead letter, and the event has expired."""
    intime = play(small(), [event("1")], [known("1", 48)])
    assert (intime.summary.labelled, letters(intime)) == (1, [])
    result = play(small(), [event("1")], [known("1", 48.01)])
    ((key, value, headers),) = letters(result)
    assert (key, value, headers["reason"]) == (*known("1", 48.01), "late_label")
    assert (result.summary.labelled, result.summary.expired) == (0, 1)
    assert lawful(result)


def test_of_several_labels_the_first_trains_and_the_others_are_counted() -> None:
    """The same again is a duplicate, another one corrected; before the event came as well as after."""
    labels = [known("1", 0), known("1", 0), known("1", 0, False), known("1", 2), known("1", 3, False)]
    result = play(small(), [event("1", 1)], labels)
    assert result.summary.labels == {"corrected": 2, "duplicate": 2, "early": 1}
    assert list(result.examples["label"]) == [True]
    assert letters(result) == []
    assert lawful(result)


def test_a_label_before_its_event_trains_when_the_event_comes() -> None:
    """Predicted first, then learned; stream time never goes back."""
    result = play(small(), [event("1", 1), event("2", 2)], [known("1", 0)])
    assert [row["reason"] for row in predicted(result)] == ["untrained", None]
    assert predicted(result)[1]["learned_until_ms"] == 0
    assert lawful(result)


def test_at_equal_times_the_label_comes_before_the_event() -> None:
    """So the event at the moment of a label is predicted by the model that learned it."""
    result = play(small(), [event("1", 0), event("2", 1)], [known("1", 1)])
    assert [row["model"] for row in predicted(result)] == ["logreg/0@0", "logreg/0@1"]


@pytest.mark.parametrize("on_expiry", [False, True])
def test_an_expired_event_counts_as_the_declared_label(on_expiry: bool) -> None:
    """It trains with it, at the stream time that overtook it; it is expired, not labelled."""
    result = play(small(labels={"on_expiry": on_expiry}), [event("1"), event("2", 49)])
    assert result.examples[["event_id", "label", "label_time_ms"]].values.tolist() == [["1", on_expiry, 49 * HOUR_MS]]
    assert (result.summary.expired, result.summary.labelled) == (1, 0)
    assert lawful(result)


@pytest.mark.parametrize(("hour", "pending"), [(48.0, 2), (49.5, 2), (50.5, 1)])
def test_an_event_that_the_champion_refused_is_not_pending(hour: float, pending: int) -> None:
    """Neither while its label may come, nor when it has expired; it is no prediction."""
    events = [event("1"), event("bad", 1, spent=-1), event("2", 2), event("3", hour)]
    result = play(models(champion=Scripted("NaN")), events, [known("1", 0.5)])
    assert (result.summary.expired, result.task.chain.pending) == (2 - pending, pending)
    assert lawful(result)


# -- duplicates and lateness -----------------------------------------------------------------------


def test_a_repeated_event_is_counted_and_changes_nothing() -> None:
    """Within the horizon in stream time, at its end too; afterwards the id is new."""
    events = [event("1"), event("1", 48), event("1", 48.01)]
    result = play(small(), events)
    assert (result.summary.duplicates, result.summary.predictions) == (1, 2)
    assert lawful(result)


def test_a_repeated_event_that_is_older_than_the_horizon_is_still_a_duplicate() -> None:
    """Its id is remembered from its arrival on: else the second would replace the first, which would vanish."""
    events = [event("new", 24 * 10), event("old", 24), event("old", 24), event("next", 24 * 10 + 1)]
    result = play(small(), events)
    assert (result.summary.duplicates, result.summary.predictions, result.summary.expired) == (1, 3, 1)
    assert lawful(result)


def test_an_event_without_a_key_is_published_under_its_entity() -> None:
    """Kafka's key may be null; the declared one is in the payload."""
    result = play(small(), [(None, event("1", shop="b")[1])])
    assert [output[:2] for output in result.outputs["features"]] == [("features", b"b")]


COLOR = {"type": "enum", "name": "Color", "symbols": ["red", "blue"]}


@pytest.mark.parametrize(
    ("id_type", "first", "second"),
    [
        (COLOR, "string", "string"),
        (COLOR, "Color", ["null", "paint.Color"]),
        ("string", COLOR, "paint.Color"),
        ("string", COLOR, COLOR | {"symbols": ["red"]}),
        ("string", COLOR | {"namespace": "oil"}, ["null", "oil.Color"]),
        ("string", COLOR | {"name": "event"}, COLOR | {"name": "features"}),
        (COLOR | {"name": "event"}, "event", COLOR | {"name": "small_features"}),
    ],
    ids=str,
)
def test_enums_are_published_whatever_they_are_called(id_type: Any, first: Any, second: Any) -> None:
    """Used twice, named in full, or called like a record of ours: the published schemas are legal Avro."""
    named = [{"name": "id", "type": id_type}, {"name": "first", "type": first}, {"name": "second", "type": second}]
    schema = EVENT | {"namespace": "paint", "fields": [*named, *EVENT["fields"][1:]]}
    result = play(small(events={"schema": schema}), [event("red", first="red", second="red")], [known("red", 1)])
    for wire, role in ((result.task.chain.features_wire, "features"), (result.task.chain.examples_wire, "examples")):
        ((_, _, value, _),) = result.outputs[role]
        read = fastavro.schemaless_reader(io.BytesIO((value or b"")[10:]), fastavro.parse_schema(wire.schema))
        record = wire.decode(value)
        assert read["event_id"] == record["event_id"] == "red"
        if role == "features":
            assert read["event"]["first"] == record["event"]["first"] == record["event"]["second"] == "red"


def test_history_trains_but_reaches_no_consumer() -> None:
    """Events before `live_from` are learned from and evaluated; no prediction of theirs is published."""
    pipeline = small(live_from=2 * HOUR_MS)
    result = play(pipeline, [event("1"), event("2", 2), event("3", 3)], [known("1", 1)])
    assert [row["event_id"] for row in predicted(result)] == ["2", "3"]
    assert predicted(result)[0]["model"] == "logreg/0@1"
    assert (result.summary.predictions, result.summary.history) == (3, 1)
    assert lawful(result)


# -- formats ---------------------------------------------------------------------------------------

OTHERS = {
    "CSV": [f"{i},a,2013-01-01,1.5".encode() for i in range(300)],
    "Avro": [b"\x00\x00\x00\x00\x01" + bytes([i % 256]) * 9 for i in range(300)],
    "another JSON": [json.dumps({"payload": i}).encode() for i in range(300)],
}


@pytest.mark.parametrize("kind", OTHERS)
def test_a_format_nobody_declared_stops_the_worker(kind: str) -> None:
    """After 200 records, naming topic, trouble and the likely format."""
    with pytest.raises(WrongFormat, match=r"200 of 20[0-3] records of small\.events"):
        play(small(), [event("1"), *((b"a", value) for value in OTHERS[kind])])


@pytest.mark.parametrize(
    ("changed", "declared", "said"),
    [
        ({"spent": None, "paid": 1.0}, {}, "look like JSON objects of another schema: missing field spent. Correct wh"),
        ({"spent": None, "paid": "p" * 9_000}, {}, "look like JSON objects of another schema: missing field spent. C"),
        ({"at": 10**15}, {}, "look like JSON objects that fit Visit. Correct the unit of at, or the producer's clock"),
        ({}, {"format": "avro"}, 'look like JSON objects that fit Visit. Declare format="json"'),
    ],
    ids=["misspelt", "long", "microseconds", "json"],
)
def test_a_wrong_field_or_time_is_not_called_a_format(
    changed: dict[str, Any], declared: dict[str, Any], said: str
) -> None:
    """What stands in the way is said, and no format is advised that is declared already."""
    values = [{k: v for k, v in (DOCUMENT | {"id": str(i)} | changed).items() if v is not None} for i in range(300)]
    with pytest.raises(WrongFormat) as caught:
        play(small(events=declared), [(b"a", json.dumps(value).encode()) for value in values])
    assert said in str(caught.value)


def test_avro_that_nobody_declared_is_a_format_to_declare() -> None:
    """And what is neither JSON nor Avro is none."""
    for kind, said in (("Avro", 'Declare format="avro"'), ("CSV", "look like CSV. Correct what is published")):
        with pytest.raises(WrongFormat, match=said):
            play(small(), [(b"a", value) for value in OTHERS[kind]])


def test_records_without_values_are_called_so() -> None:
    """Not empty: somebody deletes keys."""
    with pytest.raises(WrongFormat, match=r"look like records without a value \(tombstones\)"):
        play(small(), [(b"a", None)] * 300)


def test_a_tolerant_worker_dead_letters_them_all() -> None:
    """`--keep-going` is for those who know."""
    result = play(small(), [(b"a", value) for value in OTHERS["CSV"]], tolerant=True)
    assert result.summary.dead_letters == {"malformed": 300}
    assert lawful(result)


def test_many_bad_records_among_good_ones_do_not_stop_it() -> None:
    """A third of the topic is bad: that is data, not a format."""
    records = [event(str(i), i / 60) if i % 3 else (b"a", b"{") for i in range(900)]
    result = play(small(), records)
    assert result.summary.dead_letters == {"malformed": 300}
    assert lawful(result)


def test_two_runs_over_the_same_records_are_the_same_bytes() -> None:
    """Bad ones, failing models and all."""
    pipeline = models(challenger=Scripted("raises", fails=True))
    records = [event("1", spent=-1), (None, b"\xff"), event("2", 1, spent=-1)]
    first, second = (play(pipeline, records, [known("1", 1), known("0", 1, y=3)]) for _ in range(2))
    assert first.outputs == second.outputs
    assert "dead-letter" in first.outputs


@pytest.mark.parametrize("publish", [(), ("features",), ("examples",)])
def test_topics_that_are_switched_off_stay_empty_and_change_no_other(publish: tuple[str, ...]) -> None:
    """Predictions, evaluations and dead letters are the same bytes, and the same is learned."""
    events = [event(str(i), i / 60, spent=-1 if i == 7 else i % 5) for i in range(40)]
    labels = [known(str(i), i / 60 + 0.1, i % 5 > 2) for i in range(40)]
    whole, part = (play(small(evaluate_every=10, **more), events, labels) for more in ({}, {"publish": publish}))
    assert {*whole.outputs} - {*part.outputs} == {"features", "examples"} - {*publish}
    assert part.outputs == {role: whole.outputs[role] for role in part.outputs}
    assert state_hash(part.task.chain.stores.contents()) == state_hash(whole.task.chain.stores.contents())
    assert part.task.chain.context.packed == {}


def test_windows_over_outcomes_see_labels_of_events_the_champion_refused() -> None:
    """What turned out is a fact, whoever predicted it."""
    features = {"spent": field("spent"), "rate": mean(label(), by="shop", over="3h", default=0.0)}
    pipeline = small(features=features, models={"champion": Scripted("NaN")}, champion="champion", classes=CLASSES)
    events = [event("1"), event("bad", 1, spent=-1), event("2", 2)]
    result = play(pipeline, events, [known("1", 0.5, False), known("bad", 1.5, True)])
    assert list(result.features["rate"]) == [0.0, 0.0, 0.5]
