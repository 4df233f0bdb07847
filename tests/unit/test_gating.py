"""The gate in a chain: promotions by evidence, at a place that depends on the log alone."""

from __future__ import annotations

import random
from typing import Any

import msgspec
import pytest
from river import linear_model, preprocessing

from headrace import DeclarationError, Gate, Retrain, count, field
from headrace.schemas.records import Command
from headrace.streams import memory
from headrace.streams.identity import pickling
from headrace.streams.identity.hashing import state_hash
from headrace.streams.pipeline import Pipeline
from headrace.streams.task import Task
from headrace.streams.topics import topic_name
from headrace.streams.topology import group_of
from tests.small import CLASSES, NOW_MS, Scripted, event, known, play, small

GATE = Gate(minimum=300, every=20, segments=("shop", "visits"), segment_minimum=50)


def gated(gate: Gate | None = GATE, **changed: Any) -> Pipeline:
    """A champion that always says 0.75, one challenger that learns, and one as stubborn as the champion."""
    models = {
        "stubborn": Scripted(),
        "logreg": preprocessing.StandardScaler() | linear_model.LogisticRegression(),
        "other": Scripted(),
    }
    return small(**({"gate": gate, "models": models, "champion": "stubborn", "classes": CLASSES} | changed))


def records(n: int = 1_200) -> tuple[list[Any], list[Any]]:
    """Events of three shops and their labels, of which `spent` decides nearly all; some are early, some never come."""
    chance = random.Random(4)
    events, labels = [], []
    for i in range(n):
        spent, shop, hour = chance.gauss(0, 1), "abc"[i % 3], i / 60
        events.append(event(f"e{i}", hour, shop, abs(spent) if spent > 0 else spent))
        if i % 10:
            labels.append(known(f"e{i}", hour + chance.uniform(-0.5, 2), chance.gauss(spent, 0.5) > 0, shop))
    return events, sorted(labels, key=lambda label: msgspec.json.decode(label[1])["at"])


def facts(outputs: dict[str, list[Any]], kind: str) -> list[dict[str, Any]]:
    """The facts of a kind."""
    found = [msgspec.json.decode(value) for _, _, value, _ in outputs.get("registry", [])]
    return [fact for fact in found if fact["kind"] == kind]


def test_the_better_model_is_promoted_on_evidence():
    """One promotion, of the right model, with what it rests on; from then on predictions carry its name."""
    run = play(gated(), *records())
    (promoted,) = facts(run.outputs, "promoted")
    assert (promoted["model"], promoted["champion"], promoted["by"]) == ("logreg", "logreg", "gate")
    assert promoted["n"] % 20 == 0
    assert promoted["n"] >= 300
    assert promoted["evidence"]["log_e"] >= promoted["evidence"]["log_threshold"]
    example = run.examples.iloc[promoted["n"] - 1]
    labelled = [msgspec.json.decode(value)["id"] for _, value in records()[1]]
    assert promoted["at"] == {"events": example["offset"], "labels": labelled.index(example["event_id"])}
    models = [stamp.partition("/")[0] for stamp in run.predictions["model"]]
    turn = models.index("logreg")
    assert set(models[:turn]) == {"stubborn"}
    assert set(models[turn:]) == {"logreg"}
    assert run.predictions["model"][turn] == f"logreg/0@{promoted['n']}"


@pytest.mark.parametrize("batch", [1, 37, 5_000])
def test_batches_change_nothing(batch: int):
    """Whatever the transactions, the same bytes and the same state: decisions depend on the log alone."""
    whole, cut = play(gated(), *records(800)), play(gated(), *records(800), batch=batch)
    assert whole.outputs == cut.outputs
    assert state_hash(whole.task.chain.stores.contents()) == state_hash(cut.task.chain.stores.contents())


def test_a_restore_changes_nothing():
    """A task that is restored from a checkpoint before the promotion makes the same records from there on."""
    events, labels = records(800)
    group = group_of()
    tasks = [Task(gated(), group, 0, topics=lambda role: topic_name(gated(), role), codec=Sealed()) for _ in range(2)]
    feed(tasks[0], events, labels)
    whole, second, restored = [], [], False
    while (done := tasks[0].run(100)) is not None:
        whole.append(done.outputs)
        if len(whole) == 3:
            state = {key: data for key, data in tasks[0].chain.stores.freeze() if data is not None}
            tasks[1].restore(state, tasks[0].marker())
            tasks[1].start()
            restored = True
    feed(tasks[1], events, labels)
    while (done := tasks[1].run(100)) is not None:
        second.append(done.outputs)
    assert restored
    assert second == whole[3:]
    assert any(output[0] == "registry" for outputs in second for output in outputs)


def test_a_replay_of_the_journal_makes_the_same():
    """What each journal entry says was made is made again, promotion and all; the audit rests on it."""
    events, labels = records(800)
    live, again = (Task(gated(), group_of(), 0, topics=lambda role: topic_name(gated(), role)) for _ in range(2))
    feed(live, events, labels)
    promotions = 0
    while (done := live.run(130)) is not None:
        ranks = range(len(live.group.inputs))
        inputs = [iter([item for rank, item in done.batch if rank == each]) for each in ranks]
        assert again.replay(done.entry, inputs).outputs == done.outputs
        promotions += sum(b'"kind":"promoted"' in value for role, _, value, _ in done.outputs if role == "registry")
    assert promotions == 1


class Sealed:
    """Objects as pickles."""

    def seal(self, name: str, value: Any) -> bytes:
        return pickling.dumps(value)

    def open(self, name: str, data: bytes) -> Any:
        return pickling.loads(data, frozenset(CLASSES))


def feed(task: Task, events: list[Any], labels: list[Any]) -> None:
    """Give a task what it has not had yet, all of it."""
    for rank, role in enumerate(task.group.inputs):
        rows = {"events": events, "labels": labels}.get(role, [])
        for offset, (key, value) in list(enumerate(rows))[task.positions[rank] :]:
            task.feed(rank, offset, key, value, NOW_MS)
        task.merge.end(rank)


def test_with_approval_it_is_only_proposed():
    """One proposal, and the champion stays."""
    run = play(gated(Gate(minimum=300, every=20, approve=True)), *records())
    assert [fact["model"] for fact in facts(run.outputs, "proposed")] == ["logreg"]
    assert facts(run.outputs, "promoted") == []
    assert {stamp.partition("/")[0] for stamp in run.predictions["model"]} == {"stubborn"}


def test_without_a_gate_nobody_is_promoted_and_nothing_is_kept():
    """No facts but the registrations, and no store for comparisons."""
    run = play(gated(None), *records(400))
    assert facts(run.outputs, "promoted") == []
    assert not {"gate", "segments"} & set(run.task.chain.stores.states)


def test_evaluations_tell_how_challengers_stand_and_segments_fare():
    """A record of the test for every challenger, and metrics by segment for every model, whenever a window is full."""
    run = play(gated(evaluate_every=100), *records(400))
    table = run.evaluations
    tests = table[table["window"] == "gate"]
    assert set(tests["model"]) >= {"logreg", "other"}
    assert {"LogE", "LogThreshold", "Difference", "AtLeast", "ECE"} <= set(tests["metrics"].iloc[-1])
    parts = table[table["segment"].notna()]
    assert {"shop=a", "shop=b", "shop=c"} <= set(parts["segment"])
    last = parts[
        (parts["window"] == "overall") & (parts["model"] == "logreg") & parts["segment"].str.startswith("shop")
    ]
    assert last.groupby("segment")["n"].max().sum() == 300
    assert all(0 <= metrics["ECE"] <= 1 for metrics in last["metrics"])


def test_a_fresh_copy_is_compared_by_what_it_was_asked():
    """Events that it came too late for, whose labels come now, count neither for nor against it."""
    chance, events, labels = random.Random(4), [], []
    for i in range(1_200):
        spent = chance.gauss(0, 1)
        events.append(event(f"e{i}", i / 60, "abc"[i % 3], spent))
        labels.append(known(f"e{i}", i / 60 + 2, chance.gauss(spent, 0.5) > 0))
    run = play(gated(evaluate_every=100, retrain=[Retrain("logreg", examples=300, last=300)]), events, labels, batch=50)
    tests = run.evaluations[(run.evaluations["window"] == "gate") & (run.evaluations["model"] == "logreg-1")]
    (adopted,) = [fact["n"] for fact in facts(run.outputs, "caught_up") if fact["model"] == "logreg-1"]
    first = adopted + 120  # so many events wait for their labels
    assert list(tests["n"]) == [0, 500 - first, 600 - first]
    assert tests["metrics"].iloc[1]["Loss"] < 0.2


def test_a_segment_of_a_feature_that_may_be_missing():
    """Events without the feature are a segment of their own; nothing else becomes of them than of the others."""

    def warm(e: Any) -> float | None:
        return None if e.spent < 0 else 1.0

    features = {"spent": field("spent"), "visits": count(by="shop", over="3h"), "warm": warm}
    run = play(gated(Gate(segments=("warm",)), features=features, evaluate_every=100), *records(400))
    found = [msgspec.json.decode(value)["segment"] for _, _, value, _ in run.outputs["evaluations"]]
    assert set(found) == {None, "warm=None", "warm=1.0"}


def test_a_cut_chain_decides_the_same():
    """Back stages that read features by topic promote at the same example, with the same evidence."""
    events, labels = records(800)
    front = play(gated(), events, labels, group=group_of(["validate", "featurize"]))
    features = [(key, value) for _, key, value, _ in front.outputs["features"]]
    back = group_of(["predict", "join", "train", "evaluate"])
    cut = memory.run(gated(), [labels, features], group=back, now_ms=NOW_MS)
    (one,), (two,) = facts(cut.outputs, "promoted"), facts(play(gated(), events, labels).outputs, "promoted")
    assert (one["n"], one["evidence"]) == (two["n"], two["evidence"])


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"gate": 0.05}, r"gate is 0\.05; legal: None, Gate"),
        (
            {"gate": Gate(segments=("city",))},
            "gate.segments is 'city'; legal: a feature or a field of the events: spent",
        ),
        ({"gate": Gate(loss="absolute")}, "legal: of a binary task: brier, error"),
    ],
)
def test_a_wrong_declaration_names_what_is_legal(wrong: dict[str, Any], said: str):
    """When the file is loaded."""
    with pytest.raises(DeclarationError, match=said):
        small(**wrong)


def test_the_gate_is_part_of_the_specification():
    """Another rule is another specification: it decides what is published."""
    assert gated().spec()["gate"] != gated(Gate(alpha=0.01)).spec()["gate"]
    assert gated(None).spec()["gate"] is None


def ruled(share: float) -> tuple[Pipeline, list[Any]]:
    """A pipeline whose champion learns, and a command that lets the stubborn model serve this share of the keys."""
    command = Command("c1", "canary", 0, "somebody", "other", share=share)
    return gated(champion="logreg"), [(b"other", msgspec.json.encode(command))]


def commanded(pipeline: Pipeline, commands: list[Any], batch: int = 100) -> list[Any]:
    """All outputs of a task that finds these commands after 400 events."""
    events, labels = records()
    task = Task(pipeline, group_of(), 0, topics=lambda role: topic_name(pipeline, role))
    rank = {role: i for i, role in enumerate(task.group.inputs)}
    outputs: list[Any] = []

    def drain() -> None:
        while (done := task.run(batch)) is not None:
            outputs.extend(done.outputs)

    for role, rows in (("labels", labels), ("events", events)):
        for offset, (key, value) in enumerate(rows):
            task.feed(rank[role], offset, key, value, NOW_MS)
            if role == "events" and offset == 400:
                for at in range(len(task.group.inputs)):
                    task.merge.end(at) if at != rank["events"] else None
                drain()
                for number, (name, command) in enumerate(commands):
                    task.feed(rank["registry"], number, name, command, NOW_MS)
    for at in range(len(task.group.inputs)):
        task.merge.end(at)
    drain()
    return outputs


def test_a_canary_that_is_worse_is_stopped_by_the_gate():
    """It serves its keys for a while, is shown to be worse on them, and serves no more; the champion stays."""
    outputs = commanded(*ruled(0.7))
    facts_ = [msgspec.json.decode(value) for role, _, value, _ in outputs if role == "registry"]
    told = [(fact["kind"], fact["model"], fact["by"]) for fact in facts_ if fact["kind"] in ("canary", "shadow")]
    assert told == [("canary", "other", "somebody"), ("shadow", "other", "gate")]
    stopped = next(fact for fact in facts_ if fact["kind"] == "shadow")
    assert stopped["evidence"]["log_e"] >= stopped["evidence"]["log_threshold"]
    assert stopped["champion"] == "logreg"
    served = [msgspec.json.decode(value)["model"] for role, _, value, _ in outputs if role == "predictions"]
    mine = [int(stamp.partition("@")[2]) for stamp in served if stamp.startswith("other/")]
    assert len(mine) >= stopped["evidence"]["n"] > 10
    assert max(mine) <= stopped["n"]
