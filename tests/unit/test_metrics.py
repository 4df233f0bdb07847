"""Metrics: the corners that streams seldom reach."""

import numpy as np
import pytest

from headrace.processors.metrics import (
    BIGGER_IS_BETTER,
    METRICS,
    TASKS,
    BinaryScores,
    MulticlassScores,
    RegressionScores,
    check_task,
    predicted,
    scores_for,
)


def values(scores, pairs):
    """Score the pairs and return the metrics."""
    overall, window = scores.fresh(), scores.fresh()
    for y, answer in pairs:
        scores.update(overall, window, y, answer)
    return scores.values(overall)


def test_river_s_example_of_roc_auc():
    """The example in River's documentation gives 87.5 %."""
    pairs = [(False, 0.1), (False, 0.4), (True, 0.35), (True, 0.8)]
    assert values(BinaryScores(), [(y, {True: p}) for y, p in pairs])["ROCAUC"] == 0.875


@pytest.mark.parametrize("y", [False, True])
def test_one_class_alone_has_no_roc_auc(y):
    """There is nothing to rank: it is null, not River's -0.0, which would be the worst there is."""
    found = values(BinaryScores(), [(y, {True: p, False: 1 - p}) for p in (0.2, 0.8)])
    assert found["ROCAUC"] is None
    assert None not in (found["Accuracy"], found["MacroF1"], found["LogLoss"])


def test_the_worst_roc_auc_is_0():
    """Every pair in the wrong order is 0.0, without a sign."""
    assert str(values(BinaryScores(), [(True, {True: 0.1}), (False, {True: 0.9})])["ROCAUC"]) == "0.0"


@pytest.mark.parametrize(
    ("answer", "says"),
    [({False: 0.5, True: 0.5}, False), ({True: 0.5, False: 0.5}, True), ({True: 0.1}, True), ({False: 0.0}, False)],
)
def test_ties_go_to_the_class_that_comes_first(answer, says):
    """A tie, or a class alone, is what `predict_one` makes of it: the first key with the largest value."""
    assert predicted(answer) is says
    assert values(BinaryScores(), [(True, answer)])["Accuracy"] == float(says)


@pytest.mark.parametrize("task", TASKS)
def test_metrics_are_the_announced_ones(task):
    """Every task gives exactly the metrics that METRICS names, each with a direction, and None before any answer."""
    scores = scores_for(task)
    assert scores.values(scores.fresh()) == dict.fromkeys(METRICS[task])
    assert set(METRICS[task]) <= set(BIGGER_IS_BETTER)


def test_an_unknown_task_is_refused():
    """The error names the legal tasks."""
    with pytest.raises(ValueError, match="binary, multiclass, regression"):
        check_task("ranking")


def test_an_error_too_large_to_square_is_no_crash():
    """Where River raises OverflowError, RMSE and R2 become None and MAE stays."""
    assert values(RegressionScores(), [(1e200, -1e200), (1.0, 1.0)]) == {"MAE": 1e200, "RMSE": None, "R2": None}


def test_numpy_answers_leave_a_plain_cell():
    """A regressor that answers NumPy floats does not put them into the state."""
    scores = RegressionScores()
    overall, window = scores.fresh(), scores.fresh()
    scores.update(overall, window, 1.5, np.float64(2.5))
    assert {type(number) for number in overall + window} == {float}


def test_labels_of_mixed_kinds_can_be_scored():
    """Classes need not be comparable with each other."""
    pairs = [("a", "a"), (1, 1), (True, "a"), (2.5, 1)]
    assert values(MulticlassScores(), pairs)["Accuracy"] == 0.5


@pytest.mark.parametrize(
    ("answer", "label"), [(None, None), ({}, None), ("x", "x"), (0, 0), ({"a": 0.2, "b": 0.8}, "b")]
)
def test_predicted_is_predict_one(answer, label):
    """An answer's label is the most probable class, the label itself, or None."""
    assert predicted(answer) == label
