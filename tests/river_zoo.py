"""Seeded River models of every family, with the loop that feeds them: what snapshots and hashes are tried on."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from river import (
    anomaly,
    base,
    compose,
    datasets,
    drift,
    ensemble,
    facto,
    feature_extraction,
    feature_selection,
    forest,
    linear_model,
    metrics,
    multiclass,
    naive_bayes,
    neighbors,
    optim,
    preprocessing,
    rules,
    stats,
    tree,
    utils,
)
from river.metrics.base import Metric
from river.stats.base import Univariate

__all__ = ["EXAMPLES", "ZOO", "step"]

# Every hundred examples the level shifts and the labels turn over, so that what watches for drift has some to find.
EXAMPLES = [
    (
        {**x, "level": 3.0 * (i // 100 % 2), **({"kind": ("red", "green", "blue")[i % 3]} if i % 7 else {})},
        y ^ (i // 100 % 2 == 1),
    )
    for i, (x, y) in enumerate(datasets.Phishing().take(400))
]

_scaled = preprocessing.StandardScaler


def _numeric(model: Any) -> Any:
    return compose.SelectType(int, float) | model


def _encoded(model: Any) -> Any:
    encoder = compose.SelectType(str) | preprocessing.OneHotEncoder()
    return (compose.SelectType(int, float) | _scaled()) + encoder | model


ZOO: dict[str, Callable[[], Any]] = {
    "logistic": lambda: _numeric(_scaled() | linear_model.LogisticRegression()),
    "logistic-adam": lambda: _encoded(linear_model.LogisticRegression(optim.Adam(0.01), l2=0.01)),
    "logistic-momentum": lambda: _numeric(linear_model.LogisticRegression(optim.Momentum())),
    "perceptron": lambda: _numeric(linear_model.Perceptron()),
    "alma": lambda: _numeric(linear_model.ALMAClassifier()),
    "passive-aggressive": lambda: _numeric(linear_model.PAClassifier()),
    "softmax": lambda: _numeric(linear_model.SoftmaxRegression()),
    "linear": lambda: _numeric(_scaled() | linear_model.LinearRegression()),
    "passive-aggressive-regressor": lambda: _numeric(linear_model.PARegressor()),
    "bayesian-linear": lambda: _numeric(linear_model.BayesianLinearRegression()),
    "naive-bayes": lambda: _numeric(naive_bayes.GaussianNB()),
    "bernoulli-bayes": lambda: _numeric(preprocessing.Binarizer() | naive_bayes.BernoulliNB()),
    "hoeffding": lambda: tree.HoeffdingTreeClassifier(grace_period=50),
    "hoeffding-regressor": lambda: _numeric(tree.HoeffdingTreeRegressor(grace_period=50)),
    "extremely-fast": lambda: tree.ExtremelyFastDecisionTreeClassifier(grace_period=50),
    "binary-splits": lambda: tree.HoeffdingTreeClassifier(grace_period=50, binary_split=True),
    "adaptive": lambda: tree.HoeffdingAdaptiveTreeClassifier(grace_period=50, seed=1),
    "adaptive-regressor": lambda: _numeric(tree.HoeffdingAdaptiveTreeRegressor(grace_period=50, seed=1)),
    "forest": lambda: forest.ARFClassifier(n_models=3, grace_period=50, seed=1),
    "forest-regressor": lambda: _numeric(forest.ARFRegressor(n_models=3, grace_period=50, seed=1)),
    "mondrian": lambda: _numeric(forest.AMFClassifier(n_estimators=3, seed=1)),
    "mondrian-regressor": lambda: _numeric(forest.AMFRegressor(n_estimators=3, seed=1)),
    "random-patches": lambda: ensemble.SRPClassifier(n_models=3, seed=1),
    "leveraging": lambda: ensemble.LeveragingBaggingClassifier(tree.HoeffdingTreeClassifier(), n_models=3, seed=1),
    "adwin-bagging": lambda: ensemble.ADWINBaggingClassifier(tree.HoeffdingTreeClassifier(), n_models=3, seed=1),
    "bagging": lambda: _numeric(ensemble.BaggingClassifier(linear_model.LogisticRegression(), n_models=3, seed=1)),
    "adaboost": lambda: ensemble.AdaBoostClassifier(tree.HoeffdingTreeClassifier(), n_models=3, seed=1),
    "knn": lambda: _numeric(neighbors.KNNClassifier(engine=neighbors.LazySearch(50))),
    "knn-regressor": lambda: _numeric(neighbors.KNNRegressor(engine=neighbors.LazySearch(50))),
    "knn-swinn": lambda: _numeric(neighbors.KNNClassifier(engine=neighbors.SWINN(maxlen=100, seed=1))),
    "knn-minkowski": lambda: _numeric(
        neighbors.KNNClassifier(engine=neighbors.LazySearch(50, dist_func=partial(utils.math.minkowski_distance, p=1)))
    ),
    "fm": lambda: _numeric(facto.FMClassifier(seed=1)),
    "ffm": lambda: _numeric(facto.FFMClassifier(seed=1)),
    "rules": lambda: _numeric(rules.AMRules(n_min=50)),
    "one-vs-rest": lambda: _numeric(multiclass.OneVsRestClassifier(linear_model.LogisticRegression())),
    "select-k-best": lambda: _numeric(
        feature_selection.SelectKBest(stats.PearsonCorr(), k=3) | linear_model.LogisticRegression()
    ),
    "select-by-distribution": lambda: _numeric(
        feature_selection.SelectKBest(stats.KolmogorovSmirnov(), k=3) | linear_model.LogisticRegression()
    ),
    "rbf": lambda: _numeric(feature_extraction.RBFSampler(seed=1, n_components=20) | linear_model.Perceptron()),
    "trees-embedding": lambda: _numeric(
        feature_extraction.RandomTreesEmbedding(n_trees=3, seed=1) | linear_model.LogisticRegression()
    ),
    "minmax": lambda: _numeric(preprocessing.MinMaxScaler() | preprocessing.AdaptiveStandardScaler())
    | naive_bayes.GaussianNB(),
    "imputed": lambda: preprocessing.StatImputer(("level", stats.Mean())) | _encoded(linear_model.LogisticRegression()),
    "half-space": lambda: _numeric(
        preprocessing.MinMaxScaler() | anomaly.HalfSpaceTrees(n_trees=5, window_size=50, seed=1)
    ),
    "drift-retraining": lambda: ensemble.VotingClassifier(
        [
            drift.DriftRetrainingClassifier(tree.HoeffdingTreeClassifier(), drift.binary.DDM()),
            _numeric(naive_bayes.GaussianNB()),
        ]
    ),
    "adwin": lambda: drift.ADWIN(),
    "kswin": lambda: drift.KSWIN(seed=1, window_size=60, stat_size=20),
    "page-hinkley": lambda: drift.PageHinkley(threshold=20),
    "ddm": lambda: drift.binary.DDM(drift_threshold=2.0),
    "eddm": lambda: drift.binary.EDDM(),
    "hddm-a": lambda: drift.binary.HDDMA(),
    "hddm-w": lambda: drift.binary.HDDMW(),
    "accuracy+f1": lambda: metrics.Accuracy() + metrics.F1(),
    "roc-auc": lambda: metrics.ROCAUC(),
    "rolling-roc-auc": lambda: metrics.RollingROCAUC(window_size=50),
    "log-loss": lambda: metrics.LogLoss(),
    "rmse": lambda: metrics.RMSE(),
    "mutual-information": lambda: metrics.AdjustedMutualInfo(),
    "rolling-mae": lambda: utils.Rolling(metrics.MAE, window_size=50),
    "quantile": lambda: stats.RollingQuantile(0.5, window_size=50),
    "ewma": lambda: stats.EWMean(0.1),
}  # fmt: skip

_BY_PROBABILITY = (metrics.ROCAUC, metrics.RollingROCAUC, metrics.LogLoss)


def step(model: Any, x: dict[str, Any], y: bool) -> str:
    """Ask, then teach, one example; the answer as text that shows every bit of a float."""
    number = float(x["age_of_domain"]) + x["level"]
    if isinstance(model, base.BinaryDriftDetector):
        model.update(number > 1.5)
        return repr(model.drift_detected)
    if isinstance(model, base.DriftDetector):
        model.update(number)
        return repr(model.drift_detected)
    if isinstance(model, Univariate):
        model.update(number)
        return repr(model.get())
    if isinstance(model, Metric | utils.Rolling):
        model.update(y, number / 4 if isinstance(model, _BY_PROBABILITY) else number > 0.5)
        return repr(model.get())
    for question in ("predict_proba_one", "predict_one", "score_one"):
        try:
            answer = getattr(model, question)(x)
        except (AttributeError, NotImplementedError):
            continue
        break
    else:
        raise TypeError(f"{model} answers nothing")
    if isinstance(model, compose.Pipeline) and not model._supervised:
        model.learn_one(x)
    else:
        model.learn_one(x, y)
    return repr(answer)
