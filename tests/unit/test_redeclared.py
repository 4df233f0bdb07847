"""Recovery after a change: another declaration, other code or other libraries over the log of before."""

from __future__ import annotations

import functools
import re
from types import ModuleType

import msgspec
import pytest
from river import drift, linear_model, naive_bayes

from headrace import Gate, Proxies, count, label, mean, watch_error, watch_label
from headrace.processors.predict import UNASKED
from headrace.schemas.records import Command, Prediction
from headrace.streams import task
from headrace.streams.checkpoint import Checkpoint, LastSavepoint
from headrace.streams.declaration import plain
from headrace.streams.errors import Diverged, SpecChanged
from headrace.streams.models import snapshots
from headrace.streams.models.keys import SigningKey
from headrace.streams.models.snapshots import Sealed
from headrace.streams.replay.audit import audit
from headrace.streams.replay.explain import explain
from headrace.streams.stages.retraining import logged
from headrace.streams.task import Version
from tests.lives import Life, Log, named, publish, publish_day
from tests.small import event, known, small


def _upgrade(monkeypatch):
    """Another River from here on, as far as anybody can tell."""
    here = {**task.environment(), "river": "99.9"}
    monkeypatch.setattr(task, "environment", lambda: here)
    monkeypatch.setattr(snapshots, "_LIBRARIES", {**snapshots.libraries(), "river": "99.9"})


def _checkpointed(pipeline, days=1):
    """A log with so many days, and the life that worked them off and made a checkpoint."""
    log = Log()
    life = Life(log, pipeline, key=KEY)
    for day in range(days):
        publish_day(log, day)
        life.work()
    life.checkpoint()
    return log, life


def _lived(key, drifts=()):
    """A log with three days and a checkpoint after the second, and what the state was in the end."""
    log = Log()
    publish_day(log, 0)
    publish_day(log, 1)
    life = Life(log, small(drift=list(drifts)), key=key)
    life.work()
    life.checkpoint()
    publish_day(log, 2)
    life.work()
    return log, life.state


def test_a_state_of_other_libraries_is_kept_when_that_is_accepted(monkeypatch):
    """Nothing before the checkpoint is needed: those inputs are not there any more."""
    key = SigningKey.generate()
    watched = [watch_error(drift.ADWIN())]
    log, state = _lived(key, watched)
    _upgrade(monkeypatch)
    log.lows["events"], log.records["events"] = 80, log.records["events"][80:]
    with pytest.raises(SpecChanged, match=r"environment\.river changed"):
        Life(log, small(drift=watched), key=key)
    life = Life(log, small(drift=watched), key=key, accept_change=True)
    assert (life.found.refused, life.found.epoch_due, life.state) == (None, True, state)
    publish_day(log, 3)
    life.work()
    again = Life(log, small(drift=watched), key=key)  # died before its first checkpoint, and nobody says it once more
    assert (again.found.refused, again.found.epoch_due, again.state) == (None, False, life.state)
    life.checkpoint()
    assert Life(log, small(drift=watched), key=key).found.refused is None


def test_a_model_that_other_libraries_build_otherwise_begins_anew(monkeypatch):
    """One with an attribute that the state's has not would fail at the first event: it is another model."""
    key = SigningKey.generate()
    log, _ = _lived(key)
    _upgrade(monkeypatch)
    made = linear_model.LogisticRegression.__init__

    @functools.wraps(made)
    def newer(self, *args, **options):
        made(self, *args, **options)
        self.added = None

    monkeypatch.setattr(linear_model.LogisticRegression, "__init__", newer)
    life = Life(log, small(), key=key, accept_change=True)
    assert life.found.refused is None
    assert life.task.chain.learned() == [("logreg", 80, 40)]


def test_a_model_that_was_changed_begins_where_it_was():
    """What came before, another learned under its name: its versions say from which example on they are folded.

    It has no scores of the other's, and nothing that the other was asked counts for it.
    """
    log, key = Log(), SigningKey.generate()
    life = Life(log, small(), key=key)
    for day in range(3):
        publish_day(log, day)
        life.work()
    life.checkpoint()
    assert life.task.chain.learned() == [("logreg", 80, 0)]
    baselines = life.task.chain.summary()
    changed = small(models={"logreg": linear_model.Perceptron()})
    life = Life(log, changed, key=key, accept_change=True)
    assert life.task.chain.summary()["logreg"]["Accuracy"] is None
    assert life.task.chain.summary()["prior"] == baselines["prior"]
    waiting = dict(life.task.chain.stores.states["join"]["pending"].items()).values()
    assert {entry[6][0] for entry in waiting} == {UNASKED}
    publish_day(log, 3)
    life.work()
    life.checkpoint()
    assert life.task.chain.learned() == [("logreg", 120, 80)]
    assert Life(log, changed, key=key).task.chain.learned() == [("logreg", 120, 80)]


def test_a_champion_that_begins_anew_is_untrained():
    """Until its first example it has no answer, and neither has a new challenger: River's 0.5 would pass for one."""
    log, key = Log(), SigningKey.generate()
    life = Life(log, small(), key=key)
    for day in range(3):
        publish_day(log, day)
        life.work()
    life.checkpoint()
    published = len(log.records["predictions"])
    models = {"logreg": linear_model.Perceptron(), "second": linear_model.LogisticRegression()}
    life = Life(log, small(models=models, shadow=1.0), key=key, accept_change=True)
    publish(log, [event("before", 72)], [known("2-0", 73)])
    publish(log, [event("after", 74)])
    life.work()
    before, after = (msgspec.json.decode(r.value, type=Prediction) for r in log.records["predictions"][published:])
    assert (before.model, before.prediction, before.probability, before.learned_until_ms, before.reason) == (
        "logreg/0@80", None, None, None, "untrained"
    )  # fmt: skip
    assert (after.model, after.prediction, after.reason) == ("logreg/0@81", True, None)
    assert [msgspec.json.decode(r.value)["event_id"] for r in log.records["shadow"]] == ["after"]


def test_a_retired_model_is_not_declared_the_champion():
    """It has not learned since, and retired for good; one that begins anew under its name may serve."""
    log, key = Log(), SigningKey.generate()
    models = small().models | {"second": linear_model.Perceptron()}
    life = Life(log, small(models=models), key=key)
    log.send("registry", 0, None, msgspec.json.encode(Command("r", "retire", 0, "me", "second")))
    for day in (0, 1):
        publish_day(log, day)
        life.work()
    life.checkpoint()
    for declared in ({"models": models}, {"models": {"second": models["second"]}}):
        with pytest.raises(SpecChanged, match="second has retired, and cannot be the champion: declare another"):
            Life(log, small(champion="second", **declared), key=key, accept_change=True)
    changed = small(champion="second", models=models | {"second": naive_bayes.GaussianNB()})
    life = Life(log, changed, key=key, accept_change=True)
    publish_day(log, 2)
    life.work()
    assert life.task.chain.learned() == [("logreg", 80, 0), ("second", 80, 40)]
    assert life.task.chain.decisions.champion == "second"


def _changed(factor):
    """A pipeline whose feature depends on something in another module, which no specification sees."""
    elsewhere.factor = factor
    return small(features={"spent": _spent})


elsewhere = ModuleType("elsewhere")


def _spent(e) -> float:
    return elsewhere.factor * e.spent


def test_a_state_of_another_task_is_refused_whatever_is_accepted():
    """Scores of two classes are none of three, or of a number."""
    log = Log()
    publish_day(log, 0)
    life = Life(log, small())
    life.work()
    for task_, y in (("multiclass", "y"), ("regression", lambda label: float(label.y))):
        models = {"logreg": linear_model.LinearRegression() if task_ == "regression" else naive_bayes.GaussianNB()}
        with pytest.raises(SpecChanged, match=f"binary pipeline, and means nothing to a {task_} one.*name of its own"):
            Life(log, small(task=task_, models=models, labels={"y": y}), accept_change=True)


def test_unseen_change_stops():
    """Code that changed where no hash sees it makes other bytes, and the recovery says so."""
    log = Log()
    publish_day(log, 0)
    Life(log, _changed(1.0)).work()
    with pytest.raises(Diverged):
        Life(log, _changed(2.0))


def test_unseen_change_can_be_accepted():
    """As the error says, --accept-change opens a new epoch, also where the specification looks the same."""
    log = Log()
    publish_day(log, 0)
    Life(log, _changed(1.0)).work()
    life = Life(log, _changed(2.0), accept_change=True)
    assert (life.task.epoch, life.found.changed) == (1, ["what a replay publishes"])


def test_died_right_after_an_accepted_change():
    """A worker that died between opening a new epoch and its first checkpoint comes back without being told again."""
    log = Log()
    publish_day(log, 0)
    Life(log, small()).work()
    changed = small(features={"visits": small().features["visits"]})
    accepted = Life(log, changed, accept_change=True)
    assert any(path.startswith("features.") for path in accepted.found.changed)
    publish_day(log, 1)
    accepted.work()
    again = Life(log, changed)
    assert (again.state, again.found.changed) == (accepted.state, [])


def test_died_before_a_new_epoch_had_its_savepoint():
    """Whoever comes next knows that the epoch has no checkpoint, or that this may still have to be copied."""
    log = Log()
    publish_day(log, 0)
    Life(log, small(), key=KEY).work()
    assert not Life(log, small(), key=KEY).found.beginning
    changed = small(features={"visits": small().features["visits"]})
    life = Life(log, changed, key=KEY, accept_change=True)
    again = Life(log, changed, key=KEY)
    assert (again.found.beginning, again.found.uncopied) == (True, None)
    for last, uncopied in ((LastSavepoint(0, 0), 1), (LastSavepoint(1, 0), None)):
        Checkpoint(life.task, life.version, 0, "state", log, {}, savepoint=last).write(None)
        again = Life(log, changed, key=KEY)
        assert (again.found.beginning, again.found.uncopied) == (False, uncopied)
    publish_day(log, 1)
    life.work()
    assert not Life(log, changed, key=KEY).found.beginning


KEY = SigningKey.generate()
CODEC = Sealed(KEY, {KEY.key_id: KEY.verify_key})


def _edited(factor):
    """The pipeline with a feature function as its author saved it: edited, it is the same name with another body."""
    space = {}
    exec(f"def tip(e) -> float:\n    return e.spent * {factor}\n", space)
    return small(features={"tip": space["tip"]})


def _crashed_before_an_edit():
    """A log that a process left behind after a checkpoint and a batch, and its features so far."""
    log = Log()
    life = Life(log, _edited(0.1), key=KEY)
    for day in (0, 1):
        publish_day(log, day)
        life.work()
        life.checkpoint()
    publish_day(log, 2)
    life.work()
    return log, list(log.records["features"])


def test_an_edited_feature_stops_and_is_named():
    """Code that changed between crash and restart is not run over a journal that other code wrote."""
    log, features = _crashed_before_an_edit()
    with pytest.raises(SpecChanged, match=r"another specification: features\.tip\S* changed.*--accept-change"):
        Life(log, _edited(0.2), key=KEY)
    assert log.records["features"] == features
    assert Life(log, _edited(0.1), key=KEY).task.epoch == 0


def test_an_edited_feature_that_is_accepted():
    """A new epoch: what was published stays, what comes is made by the new code, and the next start needs no flag."""
    log, features = _crashed_before_an_edit()
    life = Life(log, _edited(0.2), key=KEY, accept_change=True)
    publish_day(log, 3)
    life.work()
    assert life.task.epoch == 1
    assert log.records["features"][: len(features)] == features
    decode = life.task.chain.features_wire.decode
    tips = [decode(record.value)["features"]["tip"] for record in log.records["features"]]
    assert tips == [0.1] * len(features) + [0.2] * 40
    assert Life(log, _edited(0.2), key=KEY).state == life.state


def test_an_edited_feature_is_audited_per_epoch():
    """The old code audits the first epoch and says where it ended, the new code the second from its savepoint on."""
    log, _ = _crashed_before_an_edit()
    life = Life(log, _edited(0.2), key=KEY, accept_change=True)
    publish_day(log, 3)
    life.work()
    published = sum(len(log.records[role]) for role in ("features", "predictions", "examples"))
    with pytest.raises(
        SpecChanged, match=r"^Epoch 0 was written by another specification \(.*\): only that one can recompute it\.$"
    ):
        audit(_edited(0.2), lambda: log, named, codec=CODEC)
    first = audit(_edited(0.1), lambda: log, named, codec=CODEC)
    life.savepoint()
    publish_day(log, 4)
    life.work()
    second = audit(_edited(0.2), lambda: log, named, codec=CODEC)
    assert (first.different, second.different) == (0, 0)
    assert (first.begun, second.ended) == ({}, {})
    assert first.ended == {"lane/0": "epoch 1 is of another specification"}
    begun = second.begun["lane/0"]
    assert re.fullmatch(
        r"record \d+ of the journal on, as what came before is of another specification: ask with that one", begun
    )
    told = explain(_edited(0.2), ["0-1"], lambda: log, named, codec=CODEC, whole=True)["0-1"]
    assert (told.events, told.begun) == ([], begun)
    assert first.by_topic["features"]["compared"] == 3 * 40
    assert second.by_topic["features"]["compared"] == 40
    assert 0 < first.compared < published


def test_an_edit_that_is_taken_back_is_audited_on_both_sides():
    """The old code audits its first epoch and, from the savepoint on, its last; what the other code did is named."""
    log, _ = _crashed_before_an_edit()
    for day, tip in ((3, 0.2), (4, 0.1)):
        life = Life(log, _edited(tip), key=KEY, accept_change=True)
        publish_day(log, day)
        life.work()
        life.savepoint()
    publish_day(log, 5)
    life.work()
    made = audit(_edited(0.1), lambda: log, named, codec=CODEC)
    assert (made.different, made.begun, made.ended) == (0, {}, {})
    assert made.by_topic["features"]["compared"] == (3 + 1) * 40
    (skipped,) = made.skipped["lane/0"]
    assert re.fullmatch(r"records \d+ to \d+ of the journal", skipped)
    log.records["predictions"][-1] = log.records["predictions"][-1]._replace(value=b"{}")
    assert audit(_edited(0.1), lambda: log, named, codec=CODEC).different == 1


def test_new_epoch_is_compared():
    """Journal records since the last epoch are still compared, whatever came before it."""
    log = Log()
    publish_day(log, 0)
    Life(log, _changed(1.0)).work()
    accepted = Life(log, _changed(2.0), accept_change=True)
    publish_day(log, 1)
    accepted.work()
    with pytest.raises(Diverged):
        Life(log, _changed(3.0))


def _ways(n):
    """The last `n` of some models."""
    made = {
        "flat": linear_model.LogisticRegression(),
        "steep": linear_model.LogisticRegression(intercept_lr=0.5),
        "perceptron": linear_model.Perceptron(),
    }
    return dict(list(made.items())[-n:])


def _tip(e) -> float:
    return e.spent / 10


def _declared(n, *segments, **more):
    """As many models, these segments, and watches of the error and of the label."""
    options = {"every": 16, "false_alarms_every": 1_600}
    watches = {"drift": [watch_error(**options), watch_label(**options)], "evaluate_every": 60}
    gate = Gate(segments=segments, minimum=40, every=10)
    return small(**({"models": _ways(n), "champion": "perceptron", "gate": gate} | watches | more))


def _tipped(n, *segments, **more):
    """The same with a feature more, which events that wait for their label do not have."""
    return _declared(n, *segments, **({"features": {"spent": small().features["spent"], "tip": _tip}} | more))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (_declared(2), _declared(3)),
        (_declared(3, "shop"), _declared(2, "shop")),
        (_declared(2, "shop"), _declared(2, "note")),
        (_declared(2), _declared(2, "shop", "spent")),
        (_declared(2, "shop"), _declared(2)),
        (_declared(2), _declared(2, drift=[watch_error(drift.ADWIN()), watch_label(drift.ADWIN())])),
        (_declared(2), _declared(2, evaluate_every=7)),
        (_declared(2, "shop", proxies=Proxies(every=20)), _tipped(3, "note", proxies=Proxies(every=20))),
    ],
    ids=["a model more", "a model less", "other segments", "segments", "none", "detectors", "windows", "features"],
)
def test_a_changed_declaration_over_a_checkpoint(before, after):
    """As the error says, --accept-change keeps the state: whatever was changed, the worker goes on and comes back."""
    log = Log()
    life = Life(log, before, key=KEY)
    for day in range(4):
        publish_day(log, day)
        life.work(17)
    life.checkpoint()
    life = Life(log, after, key=KEY, accept_change=True)
    for day in range(4, 8):
        publish_day(log, day)
        life.work(17)
        counts, pending = life.task.chain.counts, life.task.chain.pending
        assert counts["predictions"] == counts["labelled"] + counts.get("expired", 0) + pending
        assert Life(log, after, key=KEY).state == life.state
    life.checkpoint()
    assert Life(log, after, key=KEY).state == life.state


def test_retraining_leaves_out_examples_with_other_features(monkeypatch):
    """A fresh copy learns from where the features are the present ones; the log before is there, and no obstacle."""
    monkeypatch.setattr(Log, "stable", lambda log, topic, shard: log.watermarks(topic, shard)[1], raising=False)
    log, life = _checkpointed(_declared(2), 3)
    life = Life(log, _tipped(2), key=KEY, accept_change=True)
    chain = life.task.chain
    chain.history = logged(lambda: log, named, 0, chain)
    wanted = [Command("r", "retrain", 0, "me", "steep", name="anew"), Command("a", "adopt", 0, "me", "anew")]
    for day, command in enumerate(wanted, 3):
        log.send("registry", 0, None, msgspec.json.encode(command))
        publish_day(log, day)
        life.work()
    assert chain.learned()[-1] == ("anew", 80 + 40, 80)


def test_scores_stay_with_their_models():
    """With a model more, in front of the others, each goes on with its own scores, and the new one with none."""
    log, life = _checkpointed(_declared(2, "shop"), 3)
    known = life.task.chain.summary()
    found = Life(log, _declared(3, "shop"), key=KEY, accept_change=True).task.chain.summary()
    assert {name: found[name] for name in known} == known
    assert list(found) == ["flat", *known]
    assert found["flat"]["Accuracy"] is None


SPENT = small().features["spent"]
VISITS = count(by="shop", over="3h")
HOURLY, RATE = count(by="shop", over="1h", tile="5m"), mean(label(), by="shop", over="3h")


def _windowed(evaluate_every=1_000, **features):
    """A pipeline with these windows."""
    return small(features={"spent": SPENT} | features, evaluate_every=evaluate_every)


def _rows(life):
    """What its windows by shop hold: the names of the groups, and shop to row."""
    states = life.task.chain.stores.states["featurize"]
    (name,) = [table.name for table in life.task.chain.pipeline.featurize.plan.tables]
    return name.split("/")[1:], dict(states[name].items())


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"visits": VISITS}, {"rate": RATE, "visits": VISITS}),
        ({"visits": VISITS, "rate": RATE}, {"rate": RATE}),
        ({"visits": VISITS, "rate": RATE}, {"hourly": HOURLY, "rate": RATE, "visits": VISITS}),
        ({"visits": VISITS, "hourly": HOURLY}, {"hourly": HOURLY, "visits": VISITS}),
    ],
    ids=["one more", "one less", "another place", "another order"],
)
def test_windows_stay_with_their_declaration(before, after):
    """Whatever else is declared by the same columns: the others hold what they held, and new ones nothing."""
    log, life = _checkpointed(_windowed(**before), 2)
    assert Version.of(_windowed(**before)).hash != Version.of(_windowed(**after)).hash
    was, held = _rows(life)
    life = Life(log, _windowed(**after), key=KEY, accept_change=True)
    names, rows = _rows(life)
    stayed = set(was) & set(names)
    assert stayed
    assert rows
    for shop, row in rows.items():
        found, expected = dict(zip(names, row, strict=True)), dict(zip(was, held[shop], strict=True))
        assert {name: found[name] for name in stayed} == {name: expected[name] for name in stayed}
        assert not any(found[name] for name in set(names) - stayed)
    assert any(dict(zip(names, row, strict=True))[name] for row in rows.values() for name in stayed)
    publish_day(log, 2)
    life.work()
    life.checkpoint()
    assert Life(log, _windowed(**after), key=KEY).state == life.state


def _spending(by):
    """What is spent, as a function of its own wherever it is made."""

    def spending(event) -> float:
        return event.spent * by

    return mean(spending, by="shop", over="3h")


SPENDING, TWICE, NINEFOLD = _spending(1), _spending(2), _spending(9)


@pytest.mark.parametrize(
    ("before", "after", "emptied"),
    [
        ({"a": SPENDING}, {"a": TWICE}, True),
        ({"a": SPENDING, "b": TWICE}, {"b": TWICE, "a": SPENDING}, True),
        ({"a": SPENDING, "b": TWICE}, {"a": SPENDING, "b": NINEFOLD}, True),
        ({"a": SPENDING}, {"a": SPENDING}, False),
        ({"a": SPENDING}, {"a": _spending(1)}, False),
    ],
    ids=["edited", "in another order", "one of two", "the same", "written again"],
)
def test_windows_over_another_function_begin_empty(before, after, emptied):
    """Its values would be averaged with those of before; windows over columns by the same key hold what they held."""
    log, life = _checkpointed(_windowed(hourly=HOURLY, **before), 2)
    names, held = _rows(life)
    life = Life(log, _windowed(hourly=HOURLY, **after, evaluate_every=7), key=KEY, accept_change=True)
    assert _rows(life)[0] == names
    (place,) = [place for place, name in enumerate(names) if name in life.task.chain.pipeline.spec()["order"]["feeds"]]
    for shop, row in held.items():
        left = list(row)
        left[place] = None if emptied else row[place]
        assert _rows(life)[1].get(shop, (None, None)) == tuple(left)
    assert any(row[place] for row in held.values())


def test_windows_over_functions_stay_with_another_python(monkeypatch):
    """Which writes every function otherwise: nothing says that any of them was edited."""
    log, life = _checkpointed(_windowed(a=SPENDING))
    held = _rows(life)
    monkeypatch.setattr(plain, "python_version", lambda: "3.99")
    assert _rows(Life(log, _windowed(a=TWICE), key=KEY, accept_change=True)) == held


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (_windowed(visits=VISITS), _windowed(visits=VISITS, hourly=HOURLY)),
        (_windowed(visits=VISITS), small(features={"spent": SPENT, "visits": VISITS}, evaluate_every=7)),
    ],
    ids=["other windows", "the same"],
)
def test_what_is_replayed_after_a_change_is_evicted(before, after):
    """Carried windows, and what the journal adds to them, are forgotten in time; a restart finds the same."""
    log, life = _checkpointed(before)
    publish_day(log, 1)
    life.work()
    life = Life(log, after, key=KEY, accept_change=True)
    for day in (2, 3):
        publish_day(log, day)
        life.work()
        assert {shop[0] for shop in _rows(life)[1]} == {f"{day}"}
        assert Life(log, after, key=KEY).state == life.state


OTHER = mean(label(), by="id", over="3h")


@pytest.mark.parametrize(
    ("before", "after", "shops"),
    [
        ({"rate": RATE}, {"other": OTHER, "rate": RATE}, 7),
        ({"rate": RATE, "other": OTHER}, {"other": OTHER, "rate": RATE}, 7),
        ({"rate": RATE, "other": OTHER}, {"rate": RATE}, 7),
        ({"other": OTHER}, {"rate": RATE}, 0),
        ({}, {"rate": RATE}, 0),
        ({"rate": RATE}, {}, None),
    ],
    ids=["one more", "another order", "one less", "another", "the first", "none"],
)
def test_outcomes_find_their_windows(before, after, shops):
    """Events that wait for their label while windows over outcomes change: their outcome goes where it belonged."""
    log, life = _checkpointed(_windowed(**before))
    life = Life(log, _windowed(**after), key=KEY, accept_change=True)
    publish_day(log, 1)
    life.work()
    states = life.task.chain.stores.states["featurize"]
    found = [set(states[name].data) for name in states if name.startswith("shop/") and not name.endswith(".index")]
    assert [len(keys & {f"0{i}" for i in range(7)}) for keys in found] == ([] if shops is None else [shops])
    life.checkpoint()
    assert Life(log, _windowed(**after), key=KEY).state == life.state


def test_windows_that_were_given_up_begin_anew():
    """What an older checkpoint holds of a store that is no more is deleted, not found again by a later declaration."""
    log, life = _checkpointed(_windowed(visits=VISITS))
    life = Life(log, _windowed(), key=KEY, accept_change=True)
    life.checkpoint()
    life = Life(log, _windowed(visits=VISITS), key=KEY, accept_change=True)
    assert _rows(life)[1] == {}


def test_events_that_lack_a_feature_are_not_learned():
    """Their labels come to no example: they count as expired, and the labels as those of refused events."""
    log, life = _checkpointed(_declared(2))
    life = Life(log, _tipped(2), key=KEY, accept_change=True)
    assert (life.task.chain.pending, life.task.chain.counts["expired"]) == (0, 40)
    for day in (1, 2):
        publish_day(log, day)
        life.work()
    counts = life.task.chain.counts
    assert (counts["labelled"], counts["labels.refused"], counts["refused_pending"]) == (40, 40, 0)


@pytest.mark.parametrize(
    "after", [{"visits": VISITS}, {"visits": VISITS, "spent": SPENT}], ids=["one less", "another order"]
)
def test_events_that_wait_are_learned_as_their_examples_say(after):
    """Models get the features that are declared, in their order: they stay the fold of the training log."""
    log, life = _checkpointed(_windowed(visits=VISITS))
    life = Life(log, small(features=after), key=KEY, accept_change=True)
    waiting = life.task.chain.stores.states["join"]["pending"].items()
    assert [list(entry[5]) for _, entry in waiting] == [list(after)] * 40
