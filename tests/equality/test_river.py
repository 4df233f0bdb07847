"""The runtime over River's own data sets is River's progressive validation, to the last bit, with delays and without.

Every model of a task runs in one pipeline; River is asked about one at a time.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
from river import (
    compose,
    evaluate,
    forest,
    linear_model,
    metrics,
    naive_bayes,
    neighbors,
    optim,
    preprocessing,
    rules,
    tree,
)

from tests import oracle
from tests.equality.streams import STREAMS, backtest, rows


def scaled(model: Any) -> compose.Pipeline:
    return preprocessing.StandardScaler() | model


TREES: dict[str, Callable[[], Any]] = {
    "naive Bayes": naive_bayes.GaussianNB,
    "Hoeffding tree": tree.HoeffdingTreeClassifier,
    "Hoeffding adaptive tree": lambda: tree.HoeffdingAdaptiveTreeClassifier(seed=42),
    "kNN": lambda: scaled(neighbors.KNNClassifier(engine=neighbors.LazySearch(window_size=100))),
    "random forest": lambda: forest.ARFClassifier(n_models=3, seed=42),
}
MODELS: dict[str, dict[str, Callable[[], Any]]] = {
    "binary": {"logistic": lambda: scaled(linear_model.LogisticRegression(optimizer=optim.SGD(0.005))), **TREES},
    "multiclass": {"softmax": lambda: scaled(linear_model.SoftmaxRegression()), **TREES},
    "regression": {
        "linear": lambda: scaled(linear_model.LinearRegression(intercept_lr=0.1)),
        "passive-aggressive": lambda: scaled(linear_model.PARegressor(mode=1)),
        "Hoeffding tree": lambda: scaled(tree.HoeffdingTreeRegressor()),
        "kNN": lambda: scaled(neighbors.KNNRegressor(engine=neighbors.LazySearch(window_size=100))),
        "Mondrian forest": lambda: forest.AMFRegressor(n_estimators=3, seed=42),
        "rules": lambda: scaled(rules.AMRules()),
        "Bayesian linear": linear_model.BayesianLinearRegression,
    },
}
SCORED: dict[str, tuple[Callable[[], metrics.base.Metrics], ...]] = {
    "binary": (lambda: metrics.Accuracy() + metrics.MacroF1(), lambda: metrics.ROCAUC() + metrics.LogLoss()),
    "multiclass": (lambda: metrics.Accuracy() + metrics.MacroF1() + metrics.CohenKappa(),),
    "regression": (lambda: metrics.MAE() + metrics.RMSE() + metrics.R2(),),
}
"""What River scores in one pass: labels (`predict_one`) and probabilities (`predict_proba_one`) apart."""
OVER_A_SET = ("MacroF1", "CohenKappa")
"""River adds these up over a set of classes, whose order its hash seed decides; ours is fixed (docs/equality.md)."""
ROWS = {"Phishing": 500, "Bananas": 500, "ImageSegments": 200, "TrumpApproval": 300}
"""Rows of the suite; docs/equality.md has the figures of whole data sets."""


def scattered(x: dict[str, Any], y: Any) -> int:
    """A delay of 0 to 49 rows that depends on the row: labels overtake each other."""
    return int(abs(sum(x.values())) * 1_000) % 50


DELAYS: dict[str, Any] = {"none": None, "25 rows": 25, "of each row its own": scattered}


def differences(name: str, delay: Any, limit: int | None = None) -> dict[str, Any]:
    """By model and metric: what River says and what we say, where the two are not the same float."""
    task = STREAMS[name].task
    data, found = rows(name, limit), {}
    run = backtest(name, data, {slug(model): make() for model, make in MODELS[task].items()}, delay)
    summary = run.metrics
    for model, make in MODELS[task].items():
        for several in SCORED[task]:
            for metric in evaluate.progressive_val_score(iter(data), make(), several(), delay=delay):
                measure, theirs = type(metric).__name__, metric.get()
                ours = summary[slug(model)][measure]
                order_counts = task == "multiclass" and measure in OVER_A_SET
                if ours is None or abs(theirs - ours) > (8 * math.ulp(theirs) if order_counts else 0.0):
                    found[f"{model} {measure}"] = (theirs, ours)
    return found


def slug(model: str) -> str:
    return model.replace(" ", "-")


@pytest.mark.parametrize("delay", DELAYS)
@pytest.mark.parametrize("name", STREAMS)
def test_metrics_are_river_s_progressive_validation(name: str, delay: str) -> None:
    """Every metric of every model is the same float as `evaluate.progressive_val_score` has it."""
    assert differences(name, DELAYS[delay], ROWS[name]) == {}


PREDICTED = {
    "Phishing": ("logistic", "Hoeffding adaptive tree"),
    "ImageSegments": ("naive Bayes", "random forest"),
    "TrumpApproval": ("linear", "kNN"),
}


@pytest.mark.parametrize("delay", DELAYS)
@pytest.mark.parametrize(("name", "model"), [(name, model) for name in PREDICTED for model in PREDICTED[name]])
def test_published_predictions_are_river_s_answers(name: str, model: str, delay: str) -> None:
    """Each is River's answer to the same question, but for the ones before the first example, which are null."""
    task, data = STREAMS[name].task, rows(name, 400)
    make = MODELS[task][model]
    published = backtest(name, data, {"m": make()}, DELAYS[delay]).predictions
    asked = oracle.river_delayed(
        data, make(), metrics.MAE() if task == "regression" else metrics.Accuracy(), DELAYS[delay]
    )
    column = {"binary": "probability", "multiclass": "probabilities", "regression": "prediction"}[task]
    compared = 0
    for answer, said, version in zip(asked["predictions"], published[column], published["model"], strict=True):
        if version.endswith("@0"):
            assert said is None or math.isnan(said)
            continue
        compared += 1
        assert said == (answer[True] if task == "binary" else answer)
    assert compared >= 350


@pytest.mark.parametrize("name", STREAMS)
def test_a_delay_matters(name: str) -> None:
    """The comparison is sensitive: a delay of one row more gives other figures."""
    task, data = STREAMS[name].task, rows(name, 300)
    models = {"m": next(iter(MODELS[task].values()))()}
    assert backtest(name, data, models, 25).metrics != backtest(name, data, models, 26).metrics
