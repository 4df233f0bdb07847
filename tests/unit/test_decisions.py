"""Who serves: commands, canaries, shadows and retirements in the chain, over the runtime in memory."""

from __future__ import annotations

import copy
import json
from collections import Counter
from typing import Any

import msgspec
import pytest
from river.linear_model import LogisticRegression
from river.naive_bayes import GaussianNB

from headrace import Retrain
from headrace.processors.registry import retrained
from headrace.streams.identity.hashing import state_hash
from headrace.streams.memory import Backtest
from headrace.streams.stages import decisions
from headrace.streams.stages.retraining import adoptions
from headrace.streams.task import Task
from headrace.streams.topology import group_of
from tests.small import CLASSES, NOW_MS, Pickled, Scripted, event, known, play, small

EVENTS = [event(f"e{n}", n, shop=f"s{n % 20}") for n in range(60)]
LABELS = [known(f"e{n}", n + 0.5, n % 3 == 0, shop=f"s{n % 20}") for n in range(60)]


def pipeline(**changed: Any) -> Any:
    """A champion and two challengers that answer alike."""
    models = {"old": Scripted(), "new": Scripted(), "odd": Scripted("raises", True)}
    return small(**({"models": models, "champion": "old", "classes": CLASSES, "shadow": 1.0} | changed))


def command(kind: str, model: str | None = None, **more: Any) -> tuple[bytes, bytes]:
    """A command as the registry has it."""
    told = {"record": "command", "id": f"{kind}-{model}", "kind": kind, "shard": 0, "by": "me", "model": model} | more
    return (model or "").encode(), json.dumps(told).encode()


def served(made: Backtest, role: str = "predictions") -> Counter[str]:
    """How many answers each model gave, once there was something to learn from."""
    versions = [json.loads(value or b"")["model"] for _, _, value, _ in made.outputs.get(role, [])]
    return Counter(version.partition("/")[0] for version in versions if not version.endswith("@0"))


def facts(made: Backtest) -> list[dict[str, Any]]:
    """All facts."""
    return [json.loads(value or b"") for _, _, value, _ in made.outputs["registry"]]


def told(made: Backtest) -> list[tuple[Any, ...]]:
    """Kind, model and status of each fact after the first ones."""
    return [(fact["kind"], fact["model"], fact["status"]) for fact in facts(made)][3:]


def test_the_declared_models_are_registered_first() -> None:
    """The champion serves, the others are challengers; nothing has been learned yet."""
    made = play(pipeline(), EVENTS, LABELS)
    assert [(f["version"], f["kind"], f["model"], f["status"], f["n"], f["at"]) for f in facts(made)] == [
        (1, "registered", "old", "champion", 0, {"registry": 0, "labels": 0, "events": 0}),
        (2, "registered", "new", "challenger", 0, {"registry": 0, "labels": 0, "events": 0}),
        (3, "registered", "odd", "challenger", 0, {"registry": 0, "labels": 0, "events": 0}),
    ]
    assert set(served(made)) == {"old"}


def test_a_promotion_reaches_the_next_prediction() -> None:
    """The stamp, the evaluations' roles and the summary follow."""
    made = play(pipeline(evaluate_every=10), EVENTS, LABELS, commands=[command("promote", "new", saw=3)])
    assert told(made) == [("promoted", "new", "champion")]
    assert set(served(made)) == {"new"}
    roles = {(e["model"], e["role"]) for e in (json.loads(v or b"") for _, _, v, _ in made.outputs["evaluations"])}
    assert {("new", "champion"), ("old", "challenger")} <= roles


def test_shadows_are_of_those_who_do_not_serve() -> None:
    """Each with its own version and role; the champion's answers are not among them."""
    made = play(pipeline(), EVENTS, LABELS)
    assert served(made, "shadow") == {"new": served(made)["old"], "odd": served(made)["old"]}
    shadows = [json.loads(value or b"") for _, _, value, _ in made.outputs["shadow"]]
    assert {shadow["role"] for shadow in shadows} == {"challenger"}


def test_no_share_means_no_shadow() -> None:
    """And a part of it is always the same events."""
    assert "shadow" not in play(pipeline(shadow=0), EVENTS, LABELS).outputs

    def shadowed(share: float) -> set[str]:
        records = play(pipeline(shadow=share), EVENTS, LABELS).outputs["shadow"]
        return {json.loads(value or b"")["event_id"] for _, _, value, _ in records}

    some, more = shadowed(0.3), shadowed(0.6)
    assert 0 < len(some) < len(more) < 60
    assert some < more


def test_a_canary_serves_its_keys_and_no_others() -> None:
    """A key is served by one of the two, all the time; the champion's answer is in the shadow there."""
    made = play(pipeline(), EVENTS, LABELS, commands=[command("canary", "new", share=0.5)])
    by_key: dict[bytes, set[str]] = {}
    for _, key, value, _ in made.outputs["predictions"]:
        version = json.loads(value or b"")["model"]
        if not version.endswith("@0"):
            by_key.setdefault(key or b"", set()).add(version.partition("/")[0])
    assert {len(models) for models in by_key.values()} == {1}
    assert set(served(made)) == {"old", "new"}
    assert served(made, "shadow")["old"] == served(made)["new"]


@pytest.mark.parametrize("answer", ["raises", "NaN", "text for a bool"])
def test_where_a_canary_fails_the_champion_serves(answer: str) -> None:
    """A canary for everybody that has no answer: every event is predicted."""
    events = [event(f"e{n}", n, spent=-1.0 if n % 2 else 1.0) for n in range(20)]
    labels = [known(f"e{n}", n + 0.5) for n in range(20)]
    failing = pipeline(models={"old": Scripted(), "new": Scripted(answer)})
    made = play(failing, events, labels, commands=[command("canary", "new", share=1.0)])
    assert len(made.outputs["predictions"]) == 20
    assert served(made) == {"new": 9, "old": 10}
    assert made.task.chain.counts["canary_refused"] == 10


def test_a_retired_model_neither_answers_nor_learns() -> None:
    """Nor is it evaluated."""
    made = play(pipeline(evaluate_every=10), EVENTS, LABELS, commands=[command("retire", "new")])
    assert set(served(made, "shadow")) == {"odd"}
    assert made.task.chain.stores.states["models"]["new"].value.learned == 0
    assert made.task.chain.stores.states["models"]["old"].value.learned == 60
    assert not [v for _, key, v, _ in made.outputs["evaluations"] if key == b"new"]


def test_two_champions_asked_for_at_once() -> None:
    """The first command wins; the second is refused and told why, its author's version beside it."""
    asked = [command("promote", "new", saw=3), command("promote", "odd", saw=3)]
    made = play(pipeline(), EVENTS, LABELS, commands=asked)
    assert told(made) == [("promoted", "new", "champion"), ("refused", "odd", "challenger")]
    refusal = facts(made)[-1]
    assert (refusal["command"], refusal["saw"], refusal["champion"]) == ("promote-odd", 3, "new")
    assert "has changed since" in refusal["why"]


def test_a_command_that_comes_twice_counts_once() -> None:
    """The publisher may have sent it again."""
    made = play(pipeline(), EVENTS, LABELS, commands=[command("promote", "new"), command("promote", "new")])
    assert told(made) == [("promoted", "new", "champion")]


def test_what_nobody_can_read_is_a_dead_letter() -> None:
    """Garbage, commands without an id, other people's facts: predictions go on, and the laws hold."""
    fact = facts(play(pipeline(), EVENTS, LABELS))[0] | {"version": 9, "model": "forged"}
    junk = [(None, b"{"), (None, None), (None, b"[1]"), (None, b'{"record":"command"}'), (None, b"[" * 5_000)]
    made = play(pipeline(), EVENTS, LABELS, commands=[*junk, (None, json.dumps(fact).encode())])
    assert told(made) == []
    assert len(made.outputs["predictions"]) == 60
    letters = [dict(headers or []) for _, _, _, headers in made.outputs["dead-letter"]]
    ours = [letter for letter in letters if letter["topic"] == b"small.registry"]
    assert [(letter["stage"], letter["reason"]) for letter in ours] == [(b"evaluate", b"malformed")] * len(junk)
    assert all(made.summary.laws.values())


def test_a_batch_of_own_facts_makes_nothing() -> None:
    """What a task reads back of its own is known to it."""
    first = play(pipeline(), EVENTS, LABELS)
    task = first.task
    for offset, (_, key, value, _) in enumerate(first.outputs["registry"]):
        task.feed(0, offset, key, value, NOW_MS)
    processed = task.run(100)
    assert processed is not None
    assert processed.outputs == []
    assert task.run(100) is None


def test_a_decision_inside_the_chain_takes_effect_at_once() -> None:
    """A gate that promotes after the fifth example: the sixth event is the new champion's, in batches of any size."""

    def gated(batch: int) -> list[Any]:
        task = Task(pipeline(), group_of(), 0, topics=lambda role: f"small.{role}")
        decisions = task.chain.decisions
        assert decisions is not None
        decisions.begin(0, {})
        learners = task.chain._back._learners  # type: ignore[union-attr]
        learn = learners[0]

        def judged(x: Any, y: Any) -> None:
            learn(x, y)
            if task.chain.context.progress[0] == 5:
                decisions.decide("promoted", "new", why="better", evidence={"e": 21.5}, at={"labels": 4})

        learners[0] = judged
        for rank, records in enumerate(((), LABELS, EVENTS)):
            for offset, (key, value) in enumerate(records):
                task.feed(rank, offset, key, value, NOW_MS)
            task.merge.end(rank)
        out: list[Any] = []
        while (done := task.run(batch)) is not None:
            out += done.outputs
        return out

    whole = gated(1_000)
    stamps = [json.loads(value or b"")["model"] for role, _, value, _ in whole if role == "predictions"]
    assert stamps[:8] == [f"old/0@{n}" for n in range(5)] + [f"new/0@{n}" for n in range(5, 8)]
    assert gated(1) == gated(7) == whole


def test_a_decision_that_makes_no_sense_is_none() -> None:
    """The champion cannot be promoted, nor who is not there."""
    made = play(pipeline(), EVENTS, LABELS)
    decisions = made.task.chain.decisions
    assert decisions is not None
    assert decisions.decide("promoted", "old", why="", evidence={}) is None
    assert decisions.decide("promoted", "nobody", why="", evidence={}) is None


def test_a_changed_declaration_enters_the_registry() -> None:
    """In the first batch of the new epoch: what is new, what has changed, who is gone, and who leads."""
    before = play(pipeline(), EVENTS, LABELS)
    models = {"old": Scripted("NaN"), "odd": Scripted("raises", True), "late": Scripted()}
    task = Task(pipeline(models=models, champion="odd"), group_of(), 0, topics=lambda role: f"small.{role}")
    (store,) = task.chain.stores.states["registry"].values()
    store.value = copy.deepcopy(before.task.chain.decisions.registry)  # type: ignore[union-attr]
    task.epoch = 1
    task.start()
    task.feed(2, 60, *event("e60", 60), NOW_MS)
    for rank in range(3):
        task.merge.end(rank)
    processed = task.run(10)
    assert processed is not None
    made = [json.loads(value or b"") for role, _, value, _ in processed.outputs if role == "registry"]
    assert [(fact["kind"], fact["model"], fact["champion"]) for fact in made] == [
        ("registered", "old", "old"),
        ("registered", "late", "old"),
        ("promoted", "odd", "odd"),
        ("retired", "new", "odd"),
    ]


# -- retraining ----------------------------------------------------------------------------------------------------


def learned(made: Backtest, model: str) -> int:
    """How many examples a model has learned."""
    return int(made.task.chain.stores.states["models"][model].value.learned)


def test_a_retrained_model_has_learned_what_it_was_told_to() -> None:
    """A fresh copy from example 10 on; it catches up, takes part, and may be promoted."""
    asked = [command("retrain", "old", name="fresh", from_n=10)]
    made = play(pipeline(evaluate_every=10), EVENTS, LABELS, commands=asked, batch=30)
    assert told(made) == [("retraining", "fresh", "retraining"), ("caught_up", "fresh", "challenger")]
    caught_up = facts(made)[-1]
    assert 10 < caught_up["n"] < 60
    assert learned(made, "fresh") == learned(made, "old") - 10 == 50
    versions = [json.loads(value or b"")["model"] for _, _, value, _ in made.outputs["shadow"]]
    mine = [int(version.rpartition("@")[2]) for version in versions if version.startswith("fresh/")]
    assert mine == list(range(caught_up["n"], 60))[-len(mine) :]
    assert len(mine) > 40
    roles = [json.loads(v or b"")["role"] for _, key, v, _ in made.outputs["evaluations"] if key == b"fresh"]
    assert set(roles) == {"challenger"}
    assert made.task.chain.learned()[-1] == ("fresh", 60, 10)
    assert all(made.summary.laws.values())


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"name": "new"}, "there is a model new already"),
        ({"name": "prior"}, "a model cannot be called 'prior'"),
        ({"name": "a/b"}, "a model cannot be called 'a/b'"),
        ({}, "a model cannot be called None"),
    ],
)
def test_a_retraining_that_makes_no_sense_is_refused(more: dict[str, Any], why: str) -> None:
    """With what is wrong."""
    made = play(pipeline(), EVENTS, LABELS, commands=[command("retrain", "old", **more)])
    assert [fact["why"] for fact in facts(made)[3:]] == [why]


def test_without_examples_on_their_topic_nothing_is_retrained() -> None:
    """The log to learn from is not there."""
    asked = [command("retrain", "old", name="fresh")]
    made = play(pipeline(publish=["features"]), EVENTS, LABELS, commands=asked)
    assert facts(made)[-1]["why"].startswith("the pipeline publishes no examples")


@pytest.mark.parametrize(("last", "first"), [(5, [15, 35, 55]), (30, [0, 10, 30]), (None, [0, 0, 0])])
def test_a_schedule_retrains_and_lets_the_one_before_go(last: int | None, first: list[int]) -> None:
    """Every twenty examples, at that example, whatever the batches; what has retired is no state any more."""
    scheduled = pipeline(retrain=[Retrain("old", examples=20, last=last)])
    made = play(scheduled, EVENTS, LABELS, batch=10)
    due = [(fact["n"], fact["model"]) for fact in facts(made) if fact["kind"] == "retraining"]
    assert due == [(20, "old-1"), (40, "old-2"), (60, "old-3")]
    assert [fact["model"] for fact in facts(made) if fact["kind"] == "retired"] == ["old-1", "old-2"]
    evidence = [fact["evidence"]["from_n"] for fact in facts(made) if fact["kind"] == "retraining"]
    assert evidence == first
    assert "old-1" not in made.task.chain.stores.states["models"]
    assert learned(made, "old") == 60


def test_a_declared_model_is_no_copy_whatever_its_name() -> None:
    """Only what was made of a model goes for its next copy."""
    models = {"old": LogisticRegression(), "old-1": LogisticRegression(l2=0.1)}
    scheduled = pipeline(models=models, champion="old", retrain=[Retrain("old", examples=20)])
    made = play(scheduled, EVENTS, LABELS, batch=10)
    assert [fact["model"] for fact in facts(made) if fact["kind"] == "retraining"] == ["old-2", "old-3", "old-4"]
    assert [fact["model"] for fact in facts(made) if fact["kind"] == "retired"] == ["old-2", "old-3"]


def test_what_nobody_can_learn_any_more_is_not_adopted() -> None:
    """The examples are published no longer, or the model is not declared: no worker asks, and who does is told."""
    made = play(pipeline(), EVENTS, LABELS)
    deciding = made.task.chain.decisions
    assert deciding is not None
    deciding.retrain("old", None, {})
    asked = adoptions(made.task)
    assert [each.model for each in asked] == ["old-1"]
    for now in (pipeline(publish=["features"]), pipeline(models={"new": LogisticRegression()}, champion="new")):
        deciding.context.pipeline = now
        assert adoptions(made.task) == []
        deciding._command(msgspec.structs.replace(asked[0], id=f"{now.publish}"), {})
        assert deciding.registry["models"]["old-1"]["status"] == "retraining"
        assert made.task.chain.counts["facts.refused"] > 0


def test_no_more_copies_live_than_may(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest that does not serve goes, whoever asked for it; one that serves stays, and is a copy among others."""
    monkeypatch.setattr(decisions, "MOST_RETRAINED", 3)
    asked = [command("retrain", "old", name=name, id=name) for name in ("one", "two", "three")]
    scheduled = pipeline(retrain=[Retrain("old", examples=20), Retrain("new", examples=20)])
    made = play(scheduled, EVENTS, LABELS, commands=asked, batch=10)
    gone = [fact["model"] for fact in facts(made) if fact["kind"] == "retired"]
    assert gone == ["one", "two", "old-1", "new-1", "old-2", "new-2"]
    deciding = made.task.chain.decisions
    assert deciding is not None
    assert list(retrained(deciding.registry)) == ["three", "old-3", "new-3"]
    deciding.decide("promoted", "three", why="", evidence={})
    deciding.retrain("odd", None, {})
    assert list(retrained(deciding.registry)) == ["three", "new-3", "odd-1"]


def test_the_only_copy_of_a_model_stays_longest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else schedules of several models would take each other's copies away as soon as they are made."""
    monkeypatch.setattr(decisions, "MOST_RETRAINED", 3)
    asked = [command("retrain", base, name=name, id=name) for base, name in (("new", "n"), ("old", "a"), ("old", "b"))]
    made = play(pipeline(retrain=[Retrain("odd", examples=50)]), EVENTS, LABELS, commands=asked, batch=10)
    assert [fact["model"] for fact in facts(made) if fact["kind"] == "retired"] == ["a"]


@pytest.mark.parametrize("y", [(1, 2), ("a", "b"), (True, False)], ids=str)
def test_a_retrained_model_learns_what_the_others_learn(y: tuple[Any, Any]) -> None:
    """Multiclass labels are text in the examples, whatever they were."""

    def labelled(record: Any) -> Any:
        return y[record.y]

    labelled.__annotations__["return"] = type(y[0])
    labels = {"y": labelled}
    declared = pipeline(task="multiclass", labels=labels, models={"old": GaussianNB()}, champion="old")
    made = play(declared, EVENTS, LABELS, commands=[command("retrain", "old", name="fresh")])
    models = made.task.chain.stores.states["models"]
    assert set(models["old"].value.class_counts) == set(y)
    assert state_hash(models["fresh"].value) == state_hash(models["old"].value)


def test_a_schedule_in_stream_time_counts_from_the_first_example() -> None:
    """Events come every hour."""
    made = play(pipeline(retrain=[Retrain("new", every="1d")]), EVENTS, LABELS, batch=7)
    assert [fact["n"] for fact in facts(made) if fact["kind"] == "retraining"] == [25, 49]


def test_a_restored_task_has_its_retrained_models() -> None:
    """A checkpoint taken after the adoption, and one of before, go on to the same bytes."""
    asked = [command("retrain", "old", name="fresh", from_n=3)]
    first = play(pipeline(), EVENTS, LABELS, commands=asked, batch=30)
    entries = {key: data for key, data in sealed(first.task) if data is not None}
    again = Task(pipeline(), group_of(), 0, topics=lambda role: f"small.{role}", codec=Pickled(CLASSES))
    again.restore(entries, first.task.marker())
    again.start()
    assert state_hash(again.chain.stores.contents()) == state_hash(first.task.chain.stores.contents())
    outputs = []
    for task in (first.task, again):
        for rank, records in enumerate(((), [known("late", 61)], [event("late", 60)])):
            for key, value in records:
                task.feed(rank, task.positions[rank], key, value, NOW_MS)
            task.merge.end(rank)
        processed = task.run(10)
        assert processed is not None
        outputs.append(processed.outputs)
    assert outputs[0] == outputs[1]
    assert "fresh" in [json.loads(value or b"")["model"].partition("/")[0] for _, _, value, _ in shadows(outputs[0])]


def sealed(task: Task) -> Any:
    """A checkpoint of a task that was made without a codec."""
    for store in task.chain.stores.states["models"].values():
        store._codec = Pickled(CLASSES)
    return task.chain.stores.freeze()


def shadows(outputs: Any) -> list[Any]:
    """Those for the shadow topic."""
    return [output for output in outputs if output[0] == "shadow"]


@pytest.mark.parametrize("number", ["from_n", "from_ms", "saw", "shard"])
def test_a_number_that_no_checkpoint_can_hold_is_no_command(number: str) -> None:
    """It would be part of the state, and each checkpoint from there on would fail."""
    asked = [command("retrain", "old", name="fresh", **{number: 10**20})]
    made = play(pipeline(), EVENTS, LABELS, commands=asked)
    assert [dict(headers or [])["reason"] for _, _, _, headers in made.outputs["dead-letter"]] == [b"malformed"]
    assert list(sealed(made.task))


def test_what_is_too_long_for_a_command_does_not_stop_predictions() -> None:
    """What comes of the longest record that the topic takes still fits: the broker would refuse it, again and again."""
    longest = 8 << 20
    noise = [(b"k" * (longest // 2), b"x" * (longest // 2)), command("promote", "m" * (longest // 2)), (b"", b"")]
    made = play(pipeline(), EVENTS, LABELS, commands=noise)
    written = [(key or b"", value or b"") for records in made.outputs.values() for _, key, value, _ in records]
    assert max(len(key) + len(value) for key, value in written) < longest - 100_000
    assert [headers[0] for _, _, _, headers in made.outputs["dead-letter"]] == [("reason", b"malformed")] * 3
    assert served(made) == {"old": 59}
