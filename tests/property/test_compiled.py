"""Compiled models against River's own: the same answers, errors and state, to the last bit, whatever comes."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from river import base, compose, ensemble, linear_model, multiclass, naive_bayes, optim, preprocessing, tree

from headrace.processors.compiled import PLANS, compile_model
from headrace.processors.predict import answerer, validated

NAMES = ("a", "b", "c")
numbers = st.one_of(
    st.integers(-9, 9),
    st.integers(-(2**62), 2**62),
    st.floats(-10, 10),
    st.floats(-1e9, 1e9),
    st.sampled_from([0.0, -0.0]),
)


def in_order(row: dict[str, Any]) -> dict[str, Any]:
    """The row as pipelines compute and read it."""
    return {name: row[name] for name in NAMES if name in row}


features = st.fixed_dictionaries(
    {}, optional=dict.fromkeys(NAMES, st.one_of(numbers, numbers, numbers, st.booleans()))
).map(in_order)
whole = st.fixed_dictionaries(dict.fromkeys(NAMES, numbers)).map(in_order)
steps = st.lists(
    st.tuples(
        st.one_of(whole, whole, whole, features), st.sampled_from(["ask", "teach", "look", "restore"]), st.booleans()
    ),
    max_size=60,
)
rates = st.sampled_from([0, 0.01, 0.1, 1.0, 50.0])


@st.composite
def logistic(draw: Any) -> Callable[[], Any]:
    """A recipe for a model that the kernel fits."""
    rate, bias_rate, bias = draw(rates), draw(rates), draw(st.sampled_from([0.0, 0.3, 1]))
    weights = draw(st.sampled_from([(1.0, 1.0), (2, 1.0), (0.5, 3.0)]))
    return lambda: (
        preprocessing.StandardScaler()
        | linear_model.LogisticRegression(
            optimizer=optim.SGD(rate), loss=optim.losses.Log(*weights), intercept_init=bias, intercept_lr=bias_rate
        )
    )


def outcome(function: Callable[..., Any], *arguments: Any) -> str:
    """What a call answers or raises, as text, in which every bit of a double shows."""
    try:
        return repr(function(*arguments))
    except (ValueError, TypeError, OverflowError, ZeroDivisionError) as error:
        return repr(error)


def learned(model: Any) -> str:
    """Everything that a scaler and a logistic regression have learned, and in which order."""
    scaler, logistic = model.steps.values()
    held = [list(of.items()) for of in (scaler.counts, scaler.means, scaler.vars, logistic.weights)]
    return repr([sorted(held[0]), *held[1:], logistic.intercept, logistic.optimizer.n_iterations])


def same(recipe: Callable[[], Any], plan: str, history: list[Any], look: Callable[[Any], str]) -> None:
    """Run a history through River and through a plan, and compare after every step."""
    river, model = recipe(), recipe()
    answer = answerer("binary", river)
    compiled = compile_model("binary", model, NAMES, (plan,))
    assert compiled.plan == plan
    for x, what, y in history:
        if what == "teach":
            assert outcome(compiled.learn, x, y) == outcome(river.learn_one, x, y)
        elif what == "ask":
            assert outcome(compiled.predict, x) == outcome(lambda row: validated("binary")(answer(row)), x)
        else:
            compiled.sync()
            assert look(model) == look(river)
            if what == "restore":
                model = pickle.loads(pickle.dumps(model))
                compiled = compile_model("binary", model, NAMES, (plan,))
    compiled.sync()
    assert look(model) == look(river)


@given(logistic(), steps)
def test_the_kernel_is_river(recipe: Callable[[], Any], history: list[Any]) -> None:
    """Also where a feature is missing or no number, between checkpoints, and after a restore."""
    same(recipe, "kernel", history, learned)


@given(logistic(), steps)
def test_steps_called_directly_are_river(recipe: Callable[[], Any], history: list[Any]) -> None:
    """River's own methods, without the pipeline around them."""
    same(recipe, "steps", history, learned)


OTHERS = {
    "a tree": lambda: tree.ExtremelyFastDecisionTreeClassifier(),
    "another scaler": lambda: preprocessing.MinMaxScaler() | linear_model.LogisticRegression(),
    "no deviation": lambda: preprocessing.StandardScaler(with_std=False) | linear_model.LogisticRegression(),
    "a penalty": lambda: preprocessing.StandardScaler() | linear_model.LogisticRegression(l2=0.1),
    "a cumulative penalty": lambda: preprocessing.StandardScaler() | linear_model.LogisticRegression(l1=0.1),
    "another optimizer": lambda: preprocessing.StandardScaler() | linear_model.LogisticRegression(optim.Adam()),
    "a changing rate": lambda: (
        preprocessing.StandardScaler()
        | linear_model.LogisticRegression(optim.SGD(optim.schedulers.InverseScaling(0.1)))
    ),
    "another loss": lambda: preprocessing.StandardScaler() | linear_model.LogisticRegression(loss=optim.losses.Hinge()),
    "clipped": lambda: preprocessing.StandardScaler() | linear_model.LogisticRegression(clip_gradient=0.5),
    "another estimator": lambda: preprocessing.StandardScaler() | naive_bayes.GaussianNB(),
    "three steps": lambda: (
        preprocessing.StandardScaler() | preprocessing.MinMaxScaler() | linear_model.LogisticRegression()
    ),
}


@pytest.mark.parametrize("name", OTHERS)
def test_what_does_not_match_exactly_is_left_to_river(name: str) -> None:
    """The kernel is for one family of configurations and for nothing like it."""
    assert compile_model("binary", OTHERS[name](), NAMES).plan == ("model" if name == "a tree" else "steps")


def test_the_kernel_needs_features_that_are_all_numbers() -> None:
    """Without a list of them River is called step by step."""
    model = preprocessing.StandardScaler() | linear_model.LogisticRegression()
    assert compile_model("binary", model, None).plan == "steps"
    assert compile_model("binary", model, NAMES, ("model",)).plan == "model"


def test_an_unknown_plan_is_refused() -> None:
    """The message names the legal ones."""
    with pytest.raises(ValueError, match=", ".join(PLANS)):
        compile_model("binary", tree.HoeffdingTreeClassifier(), NAMES, ("magic",))


class Scribbler(base.Classifier):
    """Changes what it is given."""

    def learn_one(self, x: dict[str, Any], y: Any) -> None:
        x["z"] = 1.0

    def predict_proba_one(self, x: dict[str, Any]) -> dict[Any, float]:
        x["z"] = 1.0
        return {True: 0.5, False: 0.5}


def test_a_renamer_changes_a_copy() -> None:
    """River's own, and it takes the old names away in place."""
    model = compose.Renamer({"a": "b"}) | linear_model.LogisticRegression()
    compiled, x = compile_model("binary", model, None), {"a": 1.0}
    compiled.learn(x, True)
    assert compiled.predict(x)[True] > 0.5
    assert x == {"a": 1.0}


@pytest.mark.parametrize(
    "model",
    [Scribbler(), multiclass.OneVsRestClassifier(Scribbler()), ensemble.VotingClassifier([Scribbler(), Scribbler()])],
    ids=lambda model: type(model).__name__,
)
def test_a_model_of_the_authors_changes_a_copy(model: Any) -> None:
    """Also inside River's wrappers: the row is published and given to the next model."""
    compiled, x = compile_model("multiclass", model, NAMES), dict.fromkeys(NAMES, 1.0)
    compiled.learn(x, "a")
    compiled.predict(x)
    assert x == dict.fromkeys(NAMES, 1.0)
