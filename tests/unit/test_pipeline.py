"""Declarations: what is wrong is refused when the file is loaded, naming the field and the legal values."""

from __future__ import annotations

import json
import pickle
from functools import partial
from typing import Any

import pytest
from river import (
    compose,
    drift,
    ensemble,
    forest,
    linear_model,
    multiclass,
    neighbors,
    optim,
    preprocessing,
    stats,
    tree,
)

from headrace import (
    DeclarationError,
    Proxies,
    Retrain,
    between,
    count,
    field,
    label,
    mean,
    watch_error,
    watch_feature,
    watch_label,
    watch_prediction,
)
from headrace.streams.identity.hashing import state_hash
from tests.small import CLASSES, EVENT, LABEL, Scripted, small


class Lost(Scripted):
    """A model whose `clone` forgets to return."""

    def clone(self) -> None:  # type: ignore[override]
        """Nothing."""


class Mute:
    """Has no predict_one."""

    def learn_one(self, x: Any, y: Any) -> None:
        """Learn nothing."""


def changed_field(schema: dict[str, Any], name: str, type_: Any) -> dict[str, Any]:
    fields = [{"name": name, "type": type_} if f["name"] == name else f for f in schema["fields"]]
    return schema | {"fields": fields}


def scaled(model: Any) -> Any:
    return preprocessing.StandardScaler() | model


_SIZES = {"type": "enum", "name": "size", "symbols": ["small", "big"]}


def _text(label: Any) -> str:
    return str(label.y)


WRONG = {
    "name: illegal characters": ({"name": "a b"}, ["name", "'a b'", "letters, digits"]),
    "name: not text": ({"name": 3}, ["name", "letters, digits"]),
    "name: too long": ({"name": "x" * 101}, ["name", "at most 100"]),
    "task": ({"task": "ranking"}, ["task", "binary, multiclass, regression"]),
    "events.schema: no such file": ({"events": {"schema": "nowhere.avsc"}}, ["events.schema", "no schema file"]),
    "events.schema: no record": ({"events": {"schema": '"string"'}}, ["events.schema", "record"]),
    "events.schema: nested": (
        {"events": {"schema": changed_field(EVENT, "spent", {"type": "array", "items": "int"})}},
        ["events.schema", "'spent'", "double"],
    ),
    "events.id": ({"events": {"id": "uid"}}, ["events.id", "'uid'", "id, shop, at, spent, note"]),
    "events.id: nullable": ({"events": {"id": "note"}}, ["events.id", "'note'", "not nullable"]),
    "events.id: no id": ({"events": {"id": "spent"}}, ["events.id", "'spent'", "string or integer"]),
    "events.key": ({"events": {"key": "store"}}, ["events.key", "'store'", "id, shop, at, spent, note"]),
    "events.time": ({"events": {"time": "when"}}, ["events.time", "'when'", "id, shop, at, spent, note"]),
    "events.time: no time": ({"events": {"time": "spent"}}, ["events", "'spent'", "timestamp-millis"]),
    "events.time: nullable": ({"events": {"time": "note"}}, ["events", "'note'", "nullable"]),
    "events.format": ({"events": {"format": "xml"}}, ["events.format", "'xml'", "json, avro"]),
    "events.expect: unknown field": ({"events": {"expect": {"price": between(0, 1)}}}, ["events.schema", "'price'"]),
    "events.expect: other type": ({"events": {"expect": {"shop": between(0, 1)}}}, ["events.schema", "'shop'"]),
    "events.duplicates_within": ({"events": {"duplicates_within": "2 days"}}, ["events.duplicates_within", "15m"]),
    "events.duplicates_within: short": (
        {"events": {"duplicates_within": "1d"}},
        ["events.duplicates_within", "1d", "labels.ttl 2d"],
    ),
    "events.grace": ({"events": {"grace": "-5m"}}, ["events.grace", "15m"]),
    "events.far_future": ({"events": {"far_future": "soon"}}, ["events.far_future", "15m"]),
    "events.max_bytes: too many": ({"events": {"max_bytes": 20_000_000}}, ["max_bytes is 20000000", "10,000,000 at"]),
    "events.max_bytes": ({"events": {"max_bytes": 0}}, ["events", "max_bytes", "at least 1"]),
    "events.schemas": ({"events": {"schemas": {1: EVENT}}}, ["events", "schemas", "avro only"]),
    "labels.schema": ({"labels": {"schema": 7}}, ["labels.schema", "path"]),
    "labels.id": ({"labels": {"id": "uid"}}, ["labels.id", "'uid'", "id, at, y"]),
    "labels.id: other type": (
        {"labels": {"schema": LABEL | {"fields": [{"name": "id", "type": "long"}, *LABEL["fields"][1:]]}}},
        ["labels.id 'id'", "long", "string"],
    ),
    "labels.time": ({"labels": {"time": "y"}}, ["labels", "'y'", "timestamp-millis"]),
    "labels.y": ({"labels": {"y": "outcome"}}, ["labels.y", "'outcome'", "id, at, y"]),
    "labels.ttl": ({"labels": {"ttl": "forever"}}, ["labels.ttl", "15m"]),
    "labels.format": ({"labels": {"format": "csv"}}, ["labels.format", "json, avro"]),
    "labels.far_future": ({"labels": {"far_future": ""}}, ["labels.far_future", "15m"]),
    "labels.on_expiry: other task": ({"labels": {"on_expiry": 0}}, ["labels.on_expiry", "0", "bool"]),
    "labels.on_expiry: infinite": (
        {"task": "regression", "labels": {"on_expiry": 10**400}},
        ["labels.on_expiry"],
    ),
    "features: unknown column": ({"features": {"f": field("price")}}, ["features", "'price'", "id, shop, at, spent"]),
    "features: unknown key": ({"features": {"f": count(by="city", over="1h")}}, ["features", "'city'"]),
    "features: no feature": ({"features": {"f": 3}}, ["features", "'f'"]),
    "features: no type": ({"features": {"f": len}}, ["features", "'f'", "float, int, str or bool"]),
    "features: a function of two": (
        {"features": {"f": count(lambda event, x: x, by="shop", over="1h")}},
        ["feature 'f'", "one record", "'x'"],
    ),
    "features: a function of none": ({"features": {"f": lambda: 1.0}}, ["feature 'f'", "too many positional"]),
    "labels.y: a function of none": ({"labels": {"y": lambda: True}}, ["labels.y", "too many positional"]),
    "features: illegal name": ({"features": {"a-b": field("spent")}}, ["features", "'a-b'"]),
    "features: class of a binary label": (
        {"features": {"f": mean(label(of="x"), by="shop", over="1h")}},
        ["features", "'f'"],
    ),
    "features: class of another type": (
        {"task": "multiclass", "labels": {"y": _text}, "features": {"f": mean(label(of=3), by="shop", over="1h")}},
        ["features['f'], label(of=3)", "a str here"],
    ),
    "features: class that the enum has not": (
        {
            "task": "multiclass",
            "labels": {"schema": changed_field(LABEL, "y", _SIZES)},
            "features": {"f": mean(label(of="large"), by="shop", over="1h")},
        },
        ["features['f'], label(of='large')", "one of small, big"],
    ),
    "models: none": ({"models": {}}, ["models", "at least one"]),
    "models: a baseline's name": ({"models": {"prior": scaled(tree.HoeffdingTreeClassifier())}}, ["models", "'prior'"]),
    "models: illegal name": ({"models": {"a/b": tree.HoeffdingTreeClassifier()}}, ["models", "'a/b'"]),
    "models: a class": ({"models": {"logreg": linear_model.LogisticRegression}}, ["'logreg'", "LogisticRegression()"]),
    "models: a method is missing": ({"models": {"logreg": Mute()}}, ["'logreg'", "predict_one"]),
    "models: nothing to ask": (
        {"models": {"logreg": scaled(scaled(preprocessing.Normalizer()))}},
        ["'logreg'", "ends with Normalizer", "predict_one"],
    ),
    "models: cannot be pickled": ({"models": {"logreg": Scripted(lambda x: 1)}}, ["'logreg'", "snapshot", "pickle"]),
    "models: a class of one's own": ({"models": {"logreg": Scripted()}}, ["'logreg'", "Scripted", "classes="]),
    "models: a clone that is none": (
        {"models": {"logreg": Lost()}, "classes": [(__name__, "Lost")]},
        ["models['logreg'].clone() returns None", "untrained copy"],
    ),
    "classes: a dotted name": ({"classes": ["mine.Model"]}, ["classes", "'mine.Model'", '("module", "name")']),
    "classes: a list for a pair": ({"classes": [["mine", "Model"]]}, ["classes", "tuple"]),
    "champion": ({"champion": "hat"}, ["champion", "'hat'", "logreg"]),
    "drift: a bare detector": ({"drift": [drift.ADWIN()]}, ["drift", "watch_error, watch_feature"]),
    "drift: the same watch twice": (
        {"drift": [watch_error(drift.ADWIN()), watch_error(drift.ADWIN(), cooldown="2h", severity="info")]},
        ["drift", "two watches of error", "ADWIN(", "leave one out"],
    ),
    "events: expect": ({"events": {"expect": 5}}, ["expect", "int", "a dict"]),
    "drift: unknown feature": ({"drift": [watch_feature("price", drift.ADWIN())]}, ["drift", "'price'", "visits"]),
    "drift: bits in a regression": (
        {"task": "regression", "drift": [watch_error(drift.binary.DDM())]},
        ["drift", "DDM", "ADWIN"],
    ),
    "drift: a detector of numbers on text": (
        {"task": "multiclass", "drift": [watch_label(drift.ADWIN())]},
        ["label is text", "ADWIN", "leave it out"],
    ),
    "drift: PageHinkley is in the unit of numbers": (
        {"drift": [watch_feature("visits", drift.PageHinkley(), false_alarms_every=10_000)]},
        ["PageHinkley", "on numbers", "legal: KSWIN"],
    ),
    "drift: KSWIN on bits": (
        {"drift": [watch_error(drift.KSWIN(seed=1), false_alarms_every=10_000)]},
        ["KSWIN", "on bits", "legal: ADWIN, PageHinkley, FHDDM, HDDMA, HDDMW"],
    ),
    "drift: a parameter and a budget": (
        {"drift": [watch_error(drift.ADWIN(delta=0.1), false_alarms_every=10_000)]},
        ["delta=0.1", "two wishes"],
    ),
    "columns": ({"columns": ["shop", "price"]}, ["columns", "'price'", "id, shop, at, spent, note"]),
    "columns: a bare name": ({"columns": "shop"}, ["columns", "'shop'", "sequence"]),
    "columns: none": ({"columns": None}, ["columns", "None", "sequence"]),
    "features: none": ({"features": None}, ["features", "None", "a dict"]),
    "models: in a list": ({"models": ["logreg"]}, ["models", "['logreg']", "a dict"]),
    "operators: bare": ({"operators": "a" * 64}, ["operators", "'aaaa", "sequence"]),
    "events.expect: no expectation": ({"events": {"expect": {"spent": 5}}}, ["events.schema", "'spent'", "between"]),
    "live_from": ({"live_from": "yesterday"}, ["live_from", "'yesterday'", "ISO-8601"]),
    "live_from: no time": ({"live_from": 1.5}, ["live_from", "1.5", "ISO-8601"]),
    "evaluate_every": ({"evaluate_every": 0}, ["evaluate_every", "1 or more"]),
    "evaluate_every: no number": ({"evaluate_every": "100"}, ["evaluate_every", "whole number"]),
    "partitions": ({"partitions": 0}, ["partitions", "1 or more"]),
    "partitions: windows by another key": (
        {"partitions": 2, "features": {"f": count(by="note", over="1h")}},
        ["'f'", "2 partitions", "'shop'", "partitions=1"],
    ),
    "partitions: windows over all": (
        {"partitions": 2, "features": {"f": count(by=None, over="1h")}},
        ["'f'", "2 partitions", "'shop'"],
    ),
    "topics": ({"topics": {"event": "raw"}}, ["topics", "'event'", "events, labels"]),
    "topics: no name": ({"topics": {"events": "a b"}}, ["topics['events']", "'a b'", "letters, digits"]),
    "topics: one for two": (
        {"topics": {"events": "raw", "dead-letter": "raw"}},
        ["events and dead-letter are both 'raw'"],
    ),
    "topics: another's": ({"topics": {"labels": "small.events"}}, ["events and labels are both 'small.events'"]),
    "proxies: a number": ({"proxies": 3}, ["proxies", "3", "Proxies(...)"]),
    "proxies: costs of no labels": (
        {"proxies": Proxies(costs={("yes", "no"): 1.0})},
        ["proxies.costs of ('yes', 'no')", "a binary label is a bool"],
    ),
    "proxies: costs of numbers": (
        {"task": "regression", "proxies": Proxies(costs={(1.0, 2.0): 1.0})},
        ["proxies.costs", "None in a regression"],
    ),
    "versions: a number": ({"versions": 3}, ["versions", "3", "Versions(...)"]),
    "gate: a share": ({"gate": 0.05}, ["gate", "0.05", "Gate(...)"]),
    "retrain: not in a list": ({"retrain": Retrain("logreg", every="1d")}, ["retrain", "a list"]),
    "drift: not in a list": ({"drift": watch_error()}, ["drift", "a list"]),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_declaration_names_the_field_and_what_is_legal(case: str) -> None:
    """It is a DeclarationError, which is a ValueError, in one sentence with these words."""
    changed, words = WRONG[case]
    with pytest.raises(DeclarationError) as error:
        small(**changed)
    assert [word for word in words if word not in str(error.value)] == []
    assert "\n" not in str(error.value)


RANDOM = {
    "itself": lambda: (forest.ARFClassifier(), "ARFClassifier"),
    "the last step": lambda: (scaled(forest.AMFClassifier()), "AMFClassifier"),
    "in a wrapper": lambda: (
        ensemble.ADWINBaggingClassifier(tree.HoeffdingAdaptiveTreeClassifier(), seed=1),
        "HoeffdingAdaptiveTreeClassifier",
    ),
    "a pipeline in a wrapper": lambda: (
        multiclass.OneVsRestClassifier(scaled(forest.AMFClassifier())),
        "AMFClassifier",
    ),
    "in a list": lambda: (
        ensemble.VotingClassifier([tree.HoeffdingTreeClassifier(), tree.HoeffdingAdaptiveTreeClassifier()]),
        "HoeffdingAdaptiveTreeClassifier",
    ),
    "a search engine": lambda: (neighbors.KNNClassifier(), "SWINN"),
    "an initializer": lambda: (linear_model.LogisticRegression(initializer=optim.initializers.Normal()), "Normal"),
    "in a union": lambda: (
        (preprocessing.StandardScaler() + preprocessing.GaussianRandomProjector()) | linear_model.LogisticRegression(),
        "GaussianRandomProjector",
    ),
}


@pytest.mark.parametrize("where", RANDOM)
def test_an_unseeded_random_model_is_refused_wherever_it_hides(where: str) -> None:
    """The part without a seed is named, with the remedy."""
    model, part = RANDOM[where]()
    with pytest.raises(DeclarationError, match=rf"models\['logreg'\]: {part} is random .*seed=1"):
        small(models={"logreg": model})


@pytest.mark.parametrize(
    "model",
    [
        forest.ARFClassifier(seed=1),
        neighbors.KNNClassifier(engine=neighbors.LazySearch()),
        ensemble.ADWINBaggingClassifier(tree.HoeffdingAdaptiveTreeClassifier(seed=1), seed=2),
        compose.SelectType(float) | tree.HoeffdingTreeClassifier(),
    ],
    ids=lambda model: type(model).__name__,
)
def test_seeded_and_plain_models_are_accepted(model: Any) -> None:
    """Nothing random is left in them."""
    assert list(small(models={"logreg": model}).fresh_models()) == ["logreg"]


@pytest.mark.parametrize(
    "model",
    [
        tree.HoeffdingTreeClassifier(memory_estimate_period=3),
        compose.SelectType(str, float) | tree.HoeffdingAdaptiveTreeClassifier(memory_estimate_period=3, seed=1),
        ensemble.ADWINBaggingClassifier(tree.HoeffdingTreeClassifier(memory_estimate_period=3), seed=1),
        forest.ARFClassifier(memory_estimate_period=3, seed=1),
    ],
    ids=lambda model: type(model).__name__,
)
def test_what_a_tree_has_learned_does_not_depend_on_restores(model: Any) -> None:
    """River's estimate of a tree's size would."""
    (one,) = small(models={"logreg": model}).fresh_models().values()
    (other,) = small(models={"logreg": model}).fresh_models().values()
    for i in range(12):
        x, y = {"spent": float(i)}, "abc"[i % 3]
        one.learn_one(x, y)
        other.learn_one(x, y)
        other = pickle.loads(pickle.dumps(other))
    assert state_hash(one) == state_hash(other)


def test_models_are_cloned() -> None:
    """What the author goes on doing with the model does not reach the pipeline."""
    mine = linear_model.LogisticRegression()
    pipeline = small(models={"logreg": mine})
    mine.learn_one({"spent": 1.0}, True)
    assert pipeline.fresh_models()["logreg"].weights == {}


def test_models_share_nothing() -> None:
    """Nor with each other, where River's own copies do: partitions in one process, a model and its retrained one."""
    pipeline = small(
        models={"logreg": preprocessing.StatImputer(("spent", stats.Mean())) | linear_model.LogisticRegression()}
    )
    first, second = (pipeline.fresh_models()["logreg"] for _ in range(2))
    first.learn_one({"spent": 1.0}, True)
    assert second["StatImputer"].imputers[0][1].get() == 0.0


def test_the_models_of_two_runs_are_not_the_same() -> None:
    """A second run starts untrained."""
    pipeline = small()
    first = pipeline.fresh_models()["logreg"]
    first.learn_one({"spent": 1.0}, True)
    assert pipeline.fresh_models()["logreg"]["LogisticRegression"].weights == {}


@pytest.mark.parametrize(
    ("task", "legal", "illegal"),
    [
        ("binary", [True, False], [1, 0.0, "yes", None]),
        ("regression", [1, 2.5, -0.0], [True, "1", None, float("nan"), float("inf")]),
    ],
)
def test_each_task_has_its_labels(task: str, legal: list[Any], illegal: list[Any]) -> None:
    """Legal labels come back (a regression's as floats), others are a ValueError."""
    pipeline = small(task=task)
    assert [pipeline.legal_label(y) for y in legal] == legal
    for y in illegal:
        with pytest.raises(ValueError, match="label is"):
            pipeline.legal_label(y)


def named(_: Any) -> str:
    """A function of labels that says what it returns."""
    return "a"


def numbered(_: Any) -> int:
    """Another."""
    return 3


CLASS_LABELS: dict[str, tuple[Any, list[Any], list[Any]]] = {
    "a boolean field": ("y", [True, False], [1, "a", None]),
    "a function of text": (named, ["a", "True", "3"], [1, True, None, ("a",)]),
    "a function of whole numbers": (numbered, [3, -(2**63)], ["3", True, 1.5, 2**63]),
}


@pytest.mark.parametrize("name", CLASS_LABELS)
def test_multiclass_labels_have_one_type_and_come_back_from_examples(name: str) -> None:
    """As examples have them as text, what is learned from there would be other labels else."""
    y, legal, illegal = CLASS_LABELS[name]
    pipeline = small(task="multiclass", labels={"y": y})
    for label_ in legal:
        learned = pipeline.learned_label(str(label_))
        assert pipeline.legal_label(label_) == label_ == learned
        assert type(learned) is type(label_)
    for label_ in illegal:
        with pytest.raises(ValueError, match="label is"):
            pipeline.legal_label(label_)


@pytest.mark.parametrize("y", [lambda r: r.y, Scripted])
def test_a_function_of_multiclass_labels_says_what_it_returns(y: Any) -> None:
    """Else nobody could tell what the text of an example was."""
    with pytest.raises(DeclarationError, match="does not say what it returns"):
        small(task="multiclass", labels={"y": y})


def test_the_most_classes_are_in_the_specification_where_they_are_declared() -> None:
    """So that what was declared before they could be is what it was."""
    said = small(task="multiclass", labels={"y": named}).spec()["labels"]
    assert "most_classes" not in said
    assert small(task="multiclass", labels={"y": named, "most_classes": 7}).spec()["labels"] == said | {
        "most_classes": 7
    }
    with pytest.raises(DeclarationError, match="most_classes is 0"):
        small(task="multiclass", labels={"y": named, "most_classes": 0})


def test_text_that_no_bytes_can_hold_is_no_label() -> None:
    """A lone surrogate is refused like any other illegal label, not met when the example is written."""
    with pytest.raises(ValueError, match="surrogate"):
        small(task="multiclass", labels={"y": named}).legal_label("\ud800")


@pytest.mark.parametrize(
    ("given", "ms"),
    [
        (None, None),
        (1_000, 1_000),
        ("1970-01-02", 86_400_000),
        ("1970-01-01T00:00:01Z", 1_000),
        ("1970-01-01T01:00:00+01:00", 0),
    ],
)
def test_live_from_is_read_as_utc_unless_it_says_otherwise(given: Any, ms: int | None) -> None:
    """Milliseconds, a date, or a time with or without an offset."""
    assert small(live_from=given).live_from_ms == ms


def times(event: Any, by: float) -> float:
    return float(event.spent * by)


def annotated(kind: Any) -> Any:
    def spent(event: Any) -> Any:
        return event.spent

    spent.__annotations__["return"] = kind
    return spent


class Times:
    """A feature with a parameter."""

    def __init__(self, by: float) -> None:
        self.by = by

    def __call__(self, event: Any) -> float:
        return times(event, self.by)


DECIDES = {
    "a callable": {"features": {"spent": Times(1.0)}},
    "task": {"task": "multiclass", "labels": {"y": named}},
    "a feature": {"features": {"spent": field("spent")}},
    "a callable's values": {"features": {"spent": Times(2.0)}},
    "another code": {"features": {"spent": partial(times, by=2.0)}},
    "a partial's values": {"features": {"spent": partial(times, by=3.0)}},
    "a function": {"features": {"spent": annotated(float)}},
    "a function's type": {"features": {"spent": annotated(int)}},
    "whether it may be missing": {"features": {"spent": annotated(float | None)}},
    "a feature's window": {"features": {"spent": field("spent"), "visits": count(by="shop", over="6h")}},
    "the label": {"labels": {"y": lambda r: not r.y}},
    "the ttl": {"labels": {"ttl": "1d"}},
    "the classes": {"labels": {"most_classes": 10}},
    "an expectation": {"events": {"expect": {"spent": between(0, 10)}}},
    "a model's parameter": {"models": {"logreg": scaled(linear_model.LogisticRegression(l2=0.1))}},
    "the watches": {"drift": [watch_prediction(drift.ADWIN())]},
    "a detector": {"drift": [watch_prediction(drift.ADWIN(delta=0.1))]},
    "columns": {"columns": ["shop"]},
    "live_from": {"live_from": 5},
    "evaluate_every": {"evaluate_every": 10},
    "a topic's name": {"topics": {"events": "raw"}},
    "another schema": {"labels": {"schema": LABEL | {"doc": "of goods"}}},
}


def test_whatever_decides_outputs_is_in_the_specification() -> None:
    """Each of these changes makes a specification of its own, as plain values for the journal."""
    specs = [json.dumps(small(**changed).spec(), sort_keys=True) for changed in [{}, *DECIDES.values()]]
    assert len(set(specs)) == len(DECIDES) + 1


def test_the_same_declaration_has_the_same_specification() -> None:
    """Declared twice, functions and models included."""
    assert small(labels={"y": lambda r: r.y}).spec() == small(labels={"y": lambda r: r.y}).spec()


def test_a_class_of_one_s_own_is_accepted_once_declared() -> None:
    """`classes` names what snapshots may hold."""
    assert "logreg" in small(models={"logreg": Scripted()}, classes=CLASSES).models


def test_a_model_that_cannot_show_itself_can_be_declared() -> None:
    """River's `SelectType(int, float)` raises when it is printed; the specification tells it by its hash."""
    model = compose.SelectType(int, float) | linear_model.LogisticRegression()
    with pytest.raises(TypeError):
        repr(model)
    assert small(models={"m": model}, champion="m").spec()["models"]["m"]["declared"] == "Pipeline"
