"""Flights with models of several kinds, of which every checkpoint has versions."""

from __future__ import annotations

from dataclasses import replace

from river import compose, ensemble, forest, linear_model, naive_bayes, neighbors, preprocessing, tree

from headrace import Pipeline, Versions
from headrace.examples.flights import flights

__all__ = ["several"]


def _scaled(model):
    return compose.SelectType(int, float) | preprocessing.StandardScaler() | model


several = Pipeline(
    "several",
    task="binary",
    events=replace(flights.events, schema=flights.event_schema.avro),
    labels=replace(flights.labels, schema=flights.label_schema.avro),
    features=flights.features,
    models={
        "logreg": preprocessing.StandardScaler() | linear_model.LogisticRegression(),
        "perceptron": _scaled(linear_model.Perceptron()),
        "bayes": _scaled(naive_bayes.GaussianNB()),
        "alma": _scaled(linear_model.ALMAClassifier()),
        "passive": _scaled(linear_model.PAClassifier()),
        "knn": _scaled(neighbors.KNNClassifier(engine=neighbors.LazySearch(50))),
        "boosted": _scaled(ensemble.ADWINBaggingClassifier(linear_model.LogisticRegression(), n_models=3, seed=1)),
        "hat": tree.HoeffdingAdaptiveTreeClassifier(grace_period=50, seed=1),
        "forest": forest.ARFClassifier(n_models=2, grace_period=50, seed=1),
    },
    champion="logreg",
    versions=Versions(every=1, keep=1_000),
)
