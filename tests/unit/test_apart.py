"""Stages that run apart: what they need, and forged records in the topics in which they meet."""

from __future__ import annotations

import io
import json
import math
import random
from typing import Any

import fastavro
import pytest
from river import naive_bayes
from river.drift import ADWIN

from headrace import Pipeline, Proxies, field, label, mean, watch_error, watch_feature, watch_label
from headrace.schemas.avro import single_object
from headrace.streams import memory
from headrace.streams.errors import DeclarationError, UsageError
from headrace.streams.stages.chain import Chain
from headrace.streams.summary import summary_of
from headrace.streams.task import Task
from headrace.streams.topology import STAGES, group_of
from tests.small import FAR, LABEL, NOW_MS, TASKS, WATCHED, Pickled, event, known, play, small


def test_stages_that_run_apart_need_the_topics_they_meet_in() -> None:
    """A pipeline that leaves one out is refused there, and says so in its specification."""
    pipeline = small(publish=["examples"])
    with pytest.raises(UsageError, match="run all stages together"):
        Chain(pipeline, group_of(["drift"]))
    assert pipeline.spec()["publish"] == ["examples"]
    assert "publish" not in small().spec()
    with pytest.raises(DeclarationError, match="publish"):
        small(publish=["predictions"])


def test_a_prediction_whose_id_comes_again_is_no_loss() -> None:
    """Stages apart: whoever featurizes may have come past the horizon, which whoever predicts has still to reach."""
    pipeline = small()
    front = Task(pipeline, group_of(["validate", "featurize"]), 0, topics=lambda role: f"small.{role}")
    back = Task(pipeline, group_of(["predict", "join", "train", "evaluate"]), 0, topics=lambda role: f"small.{role}")
    labels = [known("x", 60.0), known("y", 120.0)]
    features = []
    for events, known_ in (([event("a", 0.0)], []), ([], labels), ([event("a", 0.0)], [])):
        for rank, records in enumerate((known_, events)):
            for key, value in records:
                front.feed(rank, 0, key, value, NOW_MS)
            front.merge.end(rank)
        while (done := front.run(10)) is not None:
            features += [output for output in done.outputs if output[0] == "features"]
    assert len(features) == 2
    for rank, records in ((1, labels), (2, [(key, value) for _, key, value, _ in features])):
        for offset, (key, value) in enumerate(records):
            back.feed(rank, offset, key, value, NOW_MS)
    for rank in range(3):
        back.merge.end(rank)
    while back.run(10) is not None:
        pass
    counts = back.chain.counts
    assert (counts["predictions"], counts["labelled"], counts["expired"], back.chain.pending) == (2, 0, 2, 0)


def test_windows_over_outcomes_see_what_expired_where_nothing_is_predicted() -> None:
    """As in one chain: the declared label, once stream time has overtaken the event."""
    features = {"rate": mean(label(), by="shop", over="3d", default=0.0)}
    pipeline = small(features=features, labels={"on_expiry": True})
    events, labels = [event("1"), event("2", 1), event("3", 47), event("4", 50)], [known("2", 2, False)]
    whole = play(pipeline, events, labels)
    front = play(pipeline, events, labels, group=group_of(["validate", "featurize"]))
    assert list(whole.features["rate"]) == [0.0, 0.0, 0.0, 0.5]
    assert front.outputs["features"] == whole.outputs["features"]


FORGED: list[dict[str, Any]] = [
    {"time_ms": 10**20},
    {"offset": -(10**30)},
    {"partition": 2**64},
    {"event_id": 10**30},
    {"event_id": "\ud800"},
    {"prediction": 10**400},
    {"prediction": "text", "probability": None},
    {"prediction": [1]},
    {"probability": "much"},
]
"""Predictions that no stage of ours makes, except that text is one in a multiclass pipeline."""

FAR_OFF: list[dict[str, Any]] = [
    *({"probability": p} for p in FAR),
    *({"probabilities": {"a": p}} for p in FAR),
    {"prediction": None, "probability": None},
]
"""Predictions that some model might have made."""

LATE: dict[str, Any] = {"time_ms": 10**18}
"""A time that no event has."""


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("change", [*FORGED, *FAR_OFF, LATE], ids=lambda change: str(change)[:40])
def test_a_forged_prediction_does_not_end_a_drift_stage_of_its_own(task: str, change: dict[str, Any]) -> None:
    """It is a dead letter, unless it could be one of ours; the good ones around it are seen, and state stays plain."""
    drift = [*WATCHED["drift"], watch_feature("spent", ADWIN())]
    declared = TASKS[task] | {"drift": drift, "proxies": WATCHED["proxies"], "features": {"spent": field("spent")}}
    pipeline = small(task=task, champion="good", **declared)
    events = [event(f"e{i}", i / 8, spent=i / 10) for i in range(40)]
    labels = [known(f"e{i}", i / 8 + 1, i % 2 == 0) for i in range(40)]

    def forged(_: Any, value: bytes) -> bytes:
        return json.dumps(json.loads(value) | change).encode()

    stage, dead = _apart(pipeline, ["drift"], "predictions", forged, 26, events=events, labels=labels)
    assert stage.positions[stage.chain.group.inputs.index("predictions")] == len(events) + 5
    ours = change in FAR_OFF or (task == "multiclass" and change.get("prediction") == "text")
    assert dead == ([] if ours else [b"far_future" if change is LATE else b"malformed"] * 5)


def _apart(
    pipeline: Any, stages: list[str], role: str, change: Any, place: int = 6, **records: Any
) -> tuple[Task, list[Any]]:
    """Stages of their own over what was published; after `place` records five changed copies of the last of them.

    Whatever those are, nothing is lost: the conservation laws hold.
    """
    made = play(pipeline, records["events"], records["labels"]).outputs
    labels = [("labels", key, value, None) for key, value in records["labels"]]
    stage = Task(pipeline, group_of(stages), 0, topics=lambda role: f"small.{role}", codec=Pickled())
    for rank, source in enumerate(stage.chain.sources):
        found = labels if source.role == "labels" else made.get(source.role, [])
        values = [value for _, _, value, _ in found] if source.role != "registry" else []
        if source.role == role:
            values[place:place] = [change(source.decode, values[place - 1])] * 5
        for offset, value in enumerate(values):
            stage.feed(rank, offset, b"a", value, NOW_MS)
        stage.merge.end(rank)
    dead = []
    while (done := stage.run(10)) is not None:
        dead += [dict(headers or [])["reason"] for role, _, _, headers in done.outputs if role == "dead-letter"]
    assert list(stage.chain.stores.freeze())
    assert all(summary_of(stage.chain).laws.values()), summary_of(stage.chain)
    return stage, dead


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"partition": 2**31}, b"malformed"),
        ({"features": {"spent": math.nan, "visits": 1}}, b"malformed"),
        ({"features": {"spent": -math.inf, "visits": 1}}, b"malformed"),
        ({"time_ms": 2**62}, b"far_future"),
    ],
    ids=str,
)
def test_forged_features_do_not_end_a_stage_of_their_own(change: dict[str, Any], reason: bytes) -> None:
    """An int of more than 32 bits, a number that is none, a time that no event has: what follows is predicted."""
    pipeline = small()

    def forged(decode: Any, value: bytes) -> bytes:
        return _encoded(Chain(pipeline, group_of()).features_wire, decode(value) | {"event_id": "forged"} | change)

    given = {
        "events": [event(f"e{i}", i / 8) for i in range(20)],
        "labels": [*(known(f"e{i}", i / 8 + 1) for i in range(20)), known("forged", 4.0)],
    }
    stage, dead = _apart(pipeline, ["predict", "join", "train", "evaluate"], "features", forged, **given)
    assert dead == [reason] * 5
    assert stage.chain.counts["predictions"] == stage.chain.counts["labelled"] == 20


@pytest.mark.parametrize(
    "change",
    [{"probability": math.nan}, {"probability": math.inf}, {"features": {"spent": math.nan}}, {"label_time_ms": 2**62}],
    ids=str,
)
def test_forged_examples_do_not_end_a_stage_of_their_own(change: dict[str, Any]) -> None:
    """A probability that is none has no grade."""
    pipeline = small(features={"spent": field("spent")}, drift=[watch_error(ADWIN())], proxies=WATCHED["proxies"])

    def forged(decode: Any, value: bytes) -> bytes:
        return _encoded(Chain(pipeline, group_of()).examples_wire, decode(value) | change)

    events = [event(f"e{i}", i / 8) for i in range(20)]
    labels = [known(f"e{i}", i / 8 + 1, i % 2 == 0) for i in range(20)]
    stage, dead = _apart(pipeline, ["drift"], "examples", forged, events=events, labels=labels)
    assert dead == [b"far_future" if "label_time_ms" in change else b"malformed"] * 5
    assert stage.chain.stream_time_ms < NOW_MS


def _numbered() -> tuple[Pipeline, list[Any], list[Any]]:
    """A pipeline of the classes 1 and 2, and records of which the second takes over."""
    schema = LABEL | {"fields": [*LABEL["fields"][:2], {"name": "y", "type": "int"}]}
    pipeline = small(
        task="multiclass",
        labels={"schema": schema},
        models={"good": naive_bayes.GaussianNB()},
        champion="good",
        features={"spent": field("spent")},
        drift=[watch_label(), watch_error()],
        proxies=Proxies(every=50, costs={(1, 2): 5.0, (2, 1): 1.0}),
    )
    chance, events, labels = random.Random(1), [], []
    for i in range(600):
        kind = 1 + (chance.random() < (0.2 if i < 300 else 0.9))
        events.append(event(f"e{i}", i / 60, spent=kind + chance.gauss(0, 1)))
        labels.append(known(f"e{i}", i / 60 + 0.5, kind))
    return pipeline, events, labels


def test_classes_that_are_numbers_are_numbers_to_a_drift_stage_of_its_own() -> None:
    """Examples have them as text: costs are found and alerts say the same as in one chain."""
    pipeline, events, labels = _numbered()
    whole = play(pipeline, events, labels)
    published = play(pipeline, events, labels, group=group_of(STAGES[:-1])).outputs
    group = group_of(["drift"])
    inputs = [[(key, value) for _, key, value, _ in published.get(role, [])] for role in group.inputs]
    apart = memory.run(pipeline, inputs, group=group, now_ms=NOW_MS)

    def costs(made: memory.Backtest) -> list[float]:
        table = made.evaluations
        return [metrics["Cost"] for metrics in table[table["window"].str.startswith("proxy-scored")]["metrics"]]

    def alerts(made: memory.Backtest) -> list[tuple[Any, ...]]:
        found = [json.loads(value) for _, _, value, _ in made.outputs["alerts"]]
        return [(alert["signal"], alert["last_offset"], alert["message"]) for alert in found]

    assert costs(apart) == costs(whole)
    assert min(costs(whole)) > 0
    assert alerts(apart) == alerts(whole)


def test_a_forged_class_does_not_end_a_drift_stage_of_its_own() -> None:
    """Text that is no number, where classes are numbers."""
    pipeline, events, labels = _numbered()

    def forged(decode: Any, value: bytes) -> bytes:
        return _encoded(Chain(pipeline, group_of()).examples_wire, decode(value) | {"label": "no number"})

    _, dead = _apart(pipeline, ["drift"], "examples", forged, events=events, labels=labels)
    assert dead == [b"malformed"] * 5


def _encoded(wire: Any, record: dict[str, Any]) -> bytes:
    """Under our header, whatever is in it: its integers may have 64 bits."""
    schema = json.loads(json.dumps(wire.schema).replace('"int"', '"long"'))
    into = io.BytesIO()
    fastavro.schemaless_writer(into, fastavro.parse_schema(schema), record)
    return single_object(wire.schema) + into.getvalue()


def test_features_of_a_declaration_before_are_no_wrong_format() -> None:
    """A drift stage of its own that lags behind a change meets them; nobody has declared our own formats."""
    before = small(features={"spent": field("spent")}, drift=WATCHED["drift"])
    now = small(drift=WATCHED["drift"])
    made = play(before, [event(f"e{i}", i / 8) for i in range(250)], []).outputs
    stage = Task(now, group_of(["drift"]), 0, topics=lambda role: f"small.{role}")
    rank = stage.chain.group.inputs.index("features")
    for offset, (_, key, value, _) in enumerate(made["features"]):
        stage.feed(rank, offset, key, value, NOW_MS)
    for each in range(len(stage.chain.group.inputs)):
        stage.merge.end(each)
    done = stage.run(1_000)
    assert done is not None
    assert [dict(headers or [])["reason"] for _, _, _, headers in done.outputs] == [b"unknown_schema"] * 250
