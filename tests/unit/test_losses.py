"""Losses and calibration: bounded, paired, and by hand."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.processors import calibration
from headrace.processors.losses import LOSSES, absolute, losses_for, rescaled

CASES = [
    ("binary", "brier", True, {True: 0.75, False: 0.25}, 0.0625),
    ("binary", "brier", False, {True: 0.75, False: 0.25}, 0.5625),
    ("binary", "brier", True, False, 1.0),
    ("binary", "brier", True, {False: 1.0}, 1.0),
    ("binary", "brier", True, {True: 1.5, False: -0.5}, 0.0),
    ("binary", "brier", True, {}, None),
    ("binary", "brier", True, None, None),
    ("binary", "error", True, {True: 0.75, False: 0.25}, 0.0),
    ("binary", "error", False, True, 1.0),
    ("multiclass", "brier", "a", {"a": 0.5, "b": 0.5}, 0.25),
    ("multiclass", "brier", "c", {"a": 0.5, "b": 0.5}, 0.75),
    ("multiclass", "brier", "a", "b", 1.0),
    ("multiclass", "brier", "a", {"a": 9.0}, 1.0),
    ("multiclass", "error", "a", {"a": 0.4, "b": 0.6}, 1.0),
    ("multiclass", "error", "a", {}, None),
]


@pytest.mark.parametrize(("task", "loss", "y", "answer", "value"), CASES)
def test_a_loss_by_hand(task, loss, y, answer, value):
    """Each loss of each kind of answer is what its definition says."""
    assert losses_for(task, loss)([y], [answer]) == [value]


@given(st.lists(st.tuples(st.booleans(), st.floats(-3, 3), st.floats(-3, 3)), min_size=1))
def test_losses_stay_within_their_range(rows):
    """Whatever a model answers, its loss is from 0 to 1: the statistics rest on it."""
    ys = [y for y, _, _ in rows]
    answers = [{True: p, False: q} for _, p, q in rows]
    for task in ("binary", "multiclass"):
        for loss in LOSSES[task]:
            assert all(0.0 <= value <= 1.0 for value in losses_for(task, loss)(ys, answers))


@given(st.lists(st.floats(-1e9, 1e9), min_size=1), st.integers(1, 7))
def test_a_scale_does_not_depend_on_portions(ys, size):
    """The scales of labels taken in portions are those of all at once, bit for bit, and never below 0."""
    one, many = [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]
    whole = rescaled(ys, one)
    parts = [scale for i in range(0, len(ys), size) for scale in rescaled(ys[i : i + size], many)]
    assert whole == parts
    assert one == many
    assert min(whole) >= 0.0


def test_one_wild_label_hardly_moves_the_scale():
    """A label a million times too large leaves the scale where it was, more or less."""
    rng = np.random.default_rng(1)
    ys = list(rng.normal(0, 1, 500))
    state = [0.0, 0.0, 0.0]
    before = rescaled(ys, state)[-1]
    after = rescaled([1e6, 0.0], state)[-1]
    assert before == pytest.approx(5 * math.sqrt(2 / math.pi), rel=0.2)
    assert after == pytest.approx(before, rel=0.05)


def test_the_largest_labels_leave_a_scale():
    """Labels at both ends of what a float holds do not spoil the scale for good."""
    state = [0.0, 0.0, 0.0]
    rescaled([1e308, -1e308, 1e308, 0.0], state)
    assert all(math.isfinite(value) for value in state)


def test_absolute_errors_are_cut_at_the_scale():
    """Half a scale is a half, two scales are 1, no answer is None, and no scale is no loss."""
    assert absolute([0.0] * 4, [0.5, -2.0, None, 9.0], [1.0, 1.0, 1.0, 0.0]) == [0.5, 1.0, None, 0.0]


def test_calibration_by_hand():
    """Ten answers of 0.75 of which five come true are wrong by a quarter; of labels the error rate is left."""
    cell = calibration.fresh()
    calibration.update_many("binary", cell, [True] * 5 + [False] * 5, [{True: 0.75, False: 0.25}] * 10)
    assert calibration.expected_error(cell) == 0.25
    cell = calibration.fresh()
    calibration.update_many("multiclass", cell, ["a", "b", "a", "a"], ["a", "a", {"a": 1.0, "b": 0.0}, None])
    assert calibration.expected_error(cell) == pytest.approx(1 / 3)
    assert calibration.expected_error(calibration.fresh()) is None
