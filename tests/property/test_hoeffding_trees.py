"""The kernels of trees against River's own: the same answers, errors and nodes, to the last bit."""

from __future__ import annotations

import math
import pickle
import random
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from river import drift, preprocessing, tree

from headrace.processors.compiled import compile_model
from headrace.processors.predict import validated
from headrace.streams.identity.hashing import state_hash

UNMEASURED = {"memory_estimate_period": math.inf}
NAMES = ("a", "b", "c", "d")


def adaptive(**parameters: Any) -> tree.HoeffdingAdaptiveTreeClassifier:
    """A tree that splits early and doubts itself soon."""
    early = {"grace_period": 20, "delta": 0.2, "tau": 0.2, "drift_window_threshold": 30, "seed": 1} | UNMEASURED
    return tree.HoeffdingAdaptiveTreeClassifier(**(early | parameters))


def early(**parameters: Any) -> tree.HoeffdingTreeClassifier:
    """A tree that splits early and never doubts itself."""
    usual: dict[str, Any] = {"grace_period": 20, "delta": 0.2, "tau": 0.2} | UNMEASURED
    return tree.HoeffdingTreeClassifier(**(usual | parameters))


TREES: dict[str, Callable[[], Any]] = {
    "as it is": lambda: tree.HoeffdingAdaptiveTreeClassifier(seed=1, memory_estimate_period=math.inf),
    "early": adaptive,
    "shallow": lambda: adaptive(max_depth=2),
    "no bootstrap": lambda: adaptive(bootstrap_sampling=False),
    "doubting": lambda: adaptive(drift_detector=drift.ADWIN(delta=0.1, clock=8)),
    "deciding": lambda: adaptive(grace_period=100, switch_significance=0.5),
    "without poor features": lambda: adaptive(remove_poor_attrs=True, merit_preprune=False),
    "binary splits": lambda: adaptive(binary_split=True, split_criterion="gini"),
    "not adaptive": lambda: tree.HoeffdingTreeClassifier(memory_estimate_period=math.inf),
    "not adaptive, early": early,
    "not adaptive, shallow": lambda: early(max_depth=2),
    "not adaptive, Hellinger": lambda: early(split_criterion="hellinger"),
    "a stump": lambda: adaptive(max_depth=0),
    "not adaptive, a stump": lambda: early(max_depth=0),
    "another detector": lambda: adaptive(drift_detector=drift.PageHinkley(min_instances=10, threshold=1.0)),
    "behind a scaler": lambda: preprocessing.StandardScaler() | adaptive(),
    "not adaptive, behind two scalers": lambda: preprocessing.StandardScaler() | preprocessing.MinMaxScaler() | early(),
}


ODD: dict[str, tuple[Any, ...]] = {
    "no number": (None, "text", 1e200, 10**400),
    "not finite": (math.nan, math.inf, 1e200),
}
"""Not both at once: a NaN among the values of a nominal splitter has no place in River's own set of them."""


def rows(
    seed: int, count: int, odd: float = 0.0, kind: str = "no number", turn: int = 1000
) -> Iterator[tuple[dict[str, Any], Any]]:
    """Rows whose concept turns around now and then; a share of `odd` has something odd, and as many lack something."""
    chance = random.Random(seed)
    for i in range(count):
        x: dict[str, Any] = {
            "a": chance.gauss(0, 1),
            "b": chance.randrange(5),
            "c": chance.random() < 0.3,
            "d": 1e-9 * i,
        }
        y = (x["a"] + x["b"] / 3 > 0.7) ^ (i // turn % 2 == 1) ^ (chance.random() < 0.05)
        if chance.random() < odd:
            x[chance.choice(NAMES)] = chance.choice(ODD[kind])
        if chance.random() < odd:
            del x[chance.choice(NAMES)]
        yield x, y


def outcome(function: Callable[..., Any], *arguments: Any) -> str:
    """What a call answers or raises, as text, in which every bit of a double shows."""
    try:
        return repr(function(*arguments))
    except Exception as error:
        return repr(error)


def answer_of(model: Any, x: dict[str, Any], task: str = "binary") -> Any:
    """River's answer as it is served."""
    return validated(task)(model.predict_proba_one(x))


def same(recipe: Callable[[], Any], stream: Iterator[tuple[dict[str, Any], Any]], look: int) -> Any:
    """Ask and teach both, and compare answers at every row and everything in the trees at every `look`th."""
    river, model = recipe(), recipe()
    compiled = compile_model("binary", model, NAMES)
    assert compiled.plan == "kernel"
    for i, (x, y) in enumerate(stream, 1):
        assert outcome(compiled.predict, dict(x)) == outcome(answer_of, river, dict(x))
        assert outcome(compiled.learn, dict(x), y) == outcome(river.learn_one, dict(x), y)
        if i % look == 0:
            assert state_hash(model) == state_hash(river), i
            model = pickle.loads(pickle.dumps(model))
            compiled = compile_model("binary", model, NAMES)
            river = pickle.loads(pickle.dumps(river))
    assert state_hash(model) == state_hash(river)
    return model


@pytest.mark.parametrize("odd", [0.0, 0.02])
@pytest.mark.parametrize("name", TREES)
def test_a_long_stream(name: str, odd: float) -> None:
    """Splits, drifts, alternate trees that are taken and that are given up, restores in between."""
    same(TREES[name], rows(2, 1500, odd, "not finite", 500), 250)


def test_the_streams_reach_what_is_to_be_held() -> None:
    """Else the comparison would hold nothing."""
    grown = same(TREES["deciding"], rows(2, 3000), 1000)
    assert min(grown.n_alternate_trees, grown.n_pruned_alternate_trees, grown.n_switch_alternate_trees) > 0
    assert same(TREES["early"], rows(2, 3000), 1000).n_branches > 30
    assert same(TREES["not adaptive, early"], rows(2, 3000), 1000).n_branches > 30
    assert same(TREES["shallow"], rows(2, 3000), 1000).n_inactive_leaves > 0


@given(
    st.sampled_from(sorted(TREES)),
    st.integers(0, 2**32),
    st.sampled_from([0.0, 0.01, 0.2, 0.9]),
    st.sampled_from(sorted(ODD)),
    st.integers(20, 60),
)
@settings(max_examples=30)
def test_short_streams(name: str, seed: int, odd: float, kind: str, look: int) -> None:
    """Whatever is odd, and wherever a restore falls."""
    same(TREES[name], rows(seed, 150, odd, kind, 50), look)


@pytest.mark.parametrize("name", ["early", "not adaptive, early"])
def test_rows_of_numbers_do_not_go_to_river(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a kernel that sends everything there would pass for River too."""
    model = TREES[name]()
    compiled = compile_model("binary", model, NAMES)
    stream = rows(2, 500)
    compiled.learn(*next(stream))
    monkeypatch.delattr(type(model), "learn_one")
    monkeypatch.delattr(type(model), "predict_proba_one")
    for x, y in stream:
        compiled.predict(x)
        compiled.learn(x, y)
    assert model.n_branches > 3


def test_what_cannot_be_added_up_is_rivers_to_judge() -> None:
    """Decimals of two infinities raise an error that is none of River's."""
    same(early, iter([({"a": 1.5}, True), ({"a": Decimal("inf"), "b": Decimal("-inf")}, False)]), 1)


def test_whole_numbers_beyond_any_double() -> None:
    """They add up, and fail only inside."""
    same(adaptive, iter([({"a": i, "b": 10**400 if i > 30 else 1}, i % 2 == 0) for i in range(40)]), 10)
    same(early, iter([({"a": i, "b": 10**400 if i > 30 else 1}, i % 2 == 0) for i in range(40)]), 10)


@pytest.mark.parametrize("recipe", [adaptive, early])
@pytest.mark.parametrize("labels", ["xyz", (3, 1, 2), (True, 2, 0), ("x", "y", 3), ("x", "x", "x")], ids=str)
def test_labels_of_any_kind(labels: Sequence[Any], recipe: Callable[[], Any]) -> None:
    """Three classes, of which one comes late; some that cannot be put in order; a stream of one class."""
    chance = random.Random(3)
    river, model = recipe(), recipe()
    compiled = compile_model("multiclass", model, ("a", "b"))
    assert compiled.plan == "kernel"
    for i in range(800):
        x, y = {"a": chance.gauss(0, 1), "b": chance.gauss(0, 1)}, labels[chance.randrange(2 + (i > 300))]
        assert outcome(compiled.predict, x) == outcome(answer_of, river, x, "multiclass")
        assert outcome(compiled.learn, x, y) == outcome(river.learn_one, x, y)
    assert state_hash(model) == state_hash(river)


OTHERS: dict[str, Callable[[], Any]] = {
    "the fastest": lambda: tree.ExtremelyFastDecisionTreeClassifier(),
    "another splitter": lambda: adaptive(splitter=tree.splitter.HistogramSplitter()),
    "majority only": lambda: adaptive(leaf_prediction="mc"),
    "naive Bayes only": lambda: adaptive(leaf_prediction="nb"),
    "a tree that estimates its size": lambda: adaptive(memory_estimate_period=10**6),
    "nominal features": lambda: adaptive(nominal_attributes=["b"]),
}


@pytest.mark.parametrize("name", OTHERS)
def test_what_does_not_match_exactly_is_left_to_river(name: str) -> None:
    """The kernel is for one family of configurations and for nothing like it."""
    assert compile_model("binary", OTHERS[name](), NAMES).plan == "model"
    assert compile_model("regression", adaptive(), NAMES).plan == "model"
    assert compile_model("binary", adaptive(), NAMES, ("steps", "model")).plan == "model"
