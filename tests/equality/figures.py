"""The figures of docs/equality.md: `python -m tests.equality.figures [river|table|flights]`, some minutes each.

River's comparisons over whole data sets, its published accuracies beside ours, and the flights against the plain loop.
"""

from __future__ import annotations

import sys
import time
from typing import Any

from river import ensemble, evaluate, forest, linear_model, metrics, naive_bayes, neighbors, optim, preprocessing, tree

from tests.equality.streams import STREAMS, backtest, rows
from tests.equality.test_flights import compared
from tests.equality.test_river import DELAYS, MODELS, differences

PUBLISHED: dict[str, tuple[Any, dict[str, float]]] = {
    "logistic": (
        lambda: preprocessing.StandardScaler() | linear_model.LogisticRegression(optimizer=optim.SGD(0.005)),
        {"Bananas": 0.5432, "Phishing": 0.8872},
    ),
    "naive-Bayes": (naive_bayes.GaussianNB, {"Bananas": 0.6152, "Phishing": 0.8847, "ImageSegments": 0.7319}),
    "Hoeffding-tree": (
        tree.HoeffdingTreeClassifier,
        {"Bananas": 0.6422, "Phishing": 0.8799, "ImageSegments": 0.7761},
    ),
    "Hoeffding-adaptive-tree": (
        lambda: tree.HoeffdingAdaptiveTreeClassifier(seed=42),
        {"Bananas": 0.6165, "Phishing": 0.8743, "ImageSegments": 0.7744},
    ),
    "ADWIN-bagging": (
        lambda: ensemble.ADWINBaggingClassifier(tree.HoeffdingTreeClassifier(), seed=42),
        {"Bananas": 0.6260, "Phishing": 0.8935},
    ),
    "leveraging-bagging": (
        lambda: ensemble.LeveragingBaggingClassifier(tree.HoeffdingTreeClassifier(), seed=42),
        {"Bananas": 0.8283, "Phishing": 0.8943, "ImageSegments": 0.7783},
    ),
    "random-forest": (
        lambda: forest.ARFClassifier(seed=42),
        {"Bananas": 0.8870, "Phishing": 0.9079, "ImageSegments": 0.8185},
    ),
    "Mondrian-forest": (
        lambda: forest.AMFClassifier(seed=42),
        {"Bananas": 0.8894, "Phishing": 0.9047, "ImageSegments": 0.9017},
    ),
    "kNN": (
        lambda: preprocessing.StandardScaler() | neighbors.KNNClassifier(engine=neighbors.LazySearch(window_size=1000)),
        {"Bananas": 0.8851, "Phishing": 0.8815, "ImageSegments": 0.8735},
    ),
    "kNN-100": (
        lambda: preprocessing.StandardScaler() | neighbors.KNNClassifier(engine=neighbors.LazySearch(window_size=100)),
        {"Bananas": 0.8851, "Phishing": 0.8815, "ImageSegments": 0.8735},
    ),
}
LAST_CLASS = {"Bananas": 0.5095, "Phishing": 0.5156, "ImageSegments": 0.1481}


def river() -> None:
    """Whole data sets, every model and metric, each delay."""
    for name in STREAMS:
        for delay, given in DELAYS.items():
            began = time.perf_counter()
            found = differences(name, given)
            print(
                f"{name}: {len(rows(name))} rows, delay {delay}, {len(MODELS[STREAMS[name].task])} models: "
                f"differences {found or 'none'} ({time.perf_counter() - began:.0f} s)",
                flush=True,
            )


def table() -> None:
    """Published accuracy, ours, River's own on this version, and the difference to what was published."""
    for name, last in LAST_CLASS.items():
        models = {model: make() for model, (make, known) in PUBLISHED.items() if name in known}
        ours = backtest(name, rows(name), models).metrics
        print(f"{name} | last class | {last:.4f} | {ours['no-change']['Accuracy']:.4f}", flush=True)
        for model in models:
            make, known = PUBLISHED[model]
            theirs = evaluate.progressive_val_score(iter(rows(name)), make(), metrics.Accuracy()).get()
            got = ours[model]["Accuracy"] or 0.0
            print(
                f"{name} | {model} | {known[name]:.4f} | {got:.4f} | {theirs:.4f} | {got - known[name]:+.4f}",
                flush=True,
            )


def flights() -> None:
    """60,000 flights against the plain loop, for each champion."""
    for champion in ("logreg", "hat"):
        began = time.perf_counter()
        print(champion, compared(60_000, champion), f"({time.perf_counter() - began:.0f} s)", flush=True)


if __name__ == "__main__":
    for wanted in sys.argv[1:] or ("river", "table", "flights"):
        {"river": river, "table": table, "flights": flights}[wanted]()
