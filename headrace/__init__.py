"""Replayable machine learning on Kafka.

Every state, model and prediction is a pure function of the log: exactly once, replayable bit for bit, fast.
"""

from headrace.processors.features import count, field, label, last, mean, time_since_last, variance
from headrace.processors.features import max_ as max
from headrace.processors.features import min_ as min
from headrace.processors.features import sum_ as sum
from headrace.processors.gate import Gate
from headrace.processors.proxies import Proxies
from headrace.processors.references import fixed, previous, same_hour
from headrace.processors.retrain import Retrain
from headrace.processors.watches import (
    fall_back,
    retrain,
    rollback,
    watch_error,
    watch_feature,
    watch_features,
    watch_label,
    watch_prediction,
)
from headrace.schemas.contract import between, matches, max_length, one_of
from headrace.streams.errors import DeclarationError, HeadraceError, UsageError
from headrace.streams.memory import Backtest
from headrace.streams.pipeline import Events, Labels, Pipeline, Versions

__all__ = [
    "Backtest",
    "DeclarationError",
    "Events",
    "Gate",
    "HeadraceError",
    "Labels",
    "Pipeline",
    "Proxies",
    "Retrain",
    "UsageError",
    "Versions",
    "between",
    "count",
    "fall_back",
    "field",
    "fixed",
    "label",
    "last",
    "matches",
    "max",
    "max_length",
    "mean",
    "min",
    "one_of",
    "previous",
    "retrain",
    "rollback",
    "same_hour",
    "sum",
    "time_since_last",
    "variance",
    "watch_error",
    "watch_feature",
    "watch_features",
    "watch_label",
    "watch_prediction",
]

__version__ = "0.1.0"
