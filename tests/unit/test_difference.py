"""Difference: which values of two models are not the same, and how far apart their answers are."""

from __future__ import annotations

import pytest
from river import linear_model, preprocessing, tree

from headrace.processors.compiled import compile_model
from headrace.streams.models.difference import compare_answers, difference, leaves
from tests.river_zoo import EXAMPLES, ZOO, step


def test_one_weight_that_differs_is_named_with_by_how_much() -> None:
    """By its path, and with both values."""
    one, other = (preprocessing.StandardScaler() | linear_model.LogisticRegression() for _ in range(2))
    for model in (one, other):
        model.learn_one({"a": 1.0, "b": 2.0}, True)
    other["LogisticRegression"].intercept += 0.5
    found = difference(one, other)
    assert (found.different, found.a_leaves, found.a_state == found.b_state) == (1, found.b_leaves, False)
    (leaf,) = found.first
    assert leaf.path.endswith("['LogisticRegression'].intercept")
    assert leaf.by == pytest.approx(0.5)


def test_another_split_names_the_nodes() -> None:
    """A tree that grew has nodes that the other lacks."""
    one, other = (tree.HoeffdingTreeClassifier(grace_period=5, delta=0.1) for _ in range(2))
    for i in range(60):
        other.learn_one({"a": i % 2}, i % 2 == 0)
        if i < 4:
            one.learn_one({"a": i % 2}, i % 2 == 0)
    found = difference(one, other, most=1_000)
    assert any(leaf.path.startswith("_root.children[0].") and leaf.a == "absent" for leaf in found.first)


@pytest.mark.parametrize("name", ["forest", "adaptive", "naive-bayes", "knn-swinn", "adwin"])
def test_every_kind_of_model_is_walked(name: str) -> None:
    """The same state has no difference; one example more has."""
    one, other = ZOO[name](), ZOO[name]()
    for x, y in EXAMPLES[:60]:
        step(one, x, y)
        step(other, x, y)
    assert difference(one, other).different == 0
    step(other, *EXAMPLES[60])
    assert difference(one, other).different > 0
    assert len(leaves(one)) > 5


def test_answers_are_compared_by_probability() -> None:
    """The largest and the mean difference, and how often the label is another."""
    answers = iter([{True: 0.6, False: 0.4}, {True: 0.4, False: 0.6}, {True: 0.5, False: 0.5}, {True: 0.4, False: 0.6}])
    found = compare_answers(lambda _: next(answers), lambda _: next(answers), range(2))
    assert (found.asked, found.other_label) == (2, 1 + 1)
    assert (found.largest, found.mean) == pytest.approx((0.2, 0.15))


def test_a_model_compared_with_itself_answers_alike() -> None:
    """Nothing apart."""
    model = linear_model.LinearRegression()
    model.learn_one({"a": 1.0}, 2.0)
    ask = compile_model("regression", model, None, ("model",)).predict
    found = compare_answers(ask, ask, [{"a": 1.0}, {"b": 3.0}])
    assert (found.asked, found.largest, found.mean, found.other_label) == (2, 0.0, 0.0, 0)
