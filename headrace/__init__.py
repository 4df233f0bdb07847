"""Replayable machine learning on Kafka.

Every state, model and prediction is a pure function of the log: exactly once, replayable bit for bit, fast.

Names are imported when they are first asked for: a worker needs no pandas, and the command line no River.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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

_HOMES = {
    "processors.features": "count field label last max mean min sum time_since_last variance",
    "processors.gate": "Gate",
    "processors.proxies": "Proxies",
    "processors.references": "fixed previous same_hour",
    "processors.retrain": "Retrain",
    "processors.watches": "fall_back retrain rollback watch_error watch_feature watch_features watch_label "
    "watch_prediction",
    "schemas.contract": "between matches max_length one_of",
    "streams.errors": "DeclarationError HeadraceError UsageError",
    "streams.memory": "Backtest",
    "streams.pipeline": "Events Labels Pipeline Versions",
}
_HOME = {name: home for home, names in _HOMES.items() for name in names.split()}


if not TYPE_CHECKING:  # or every name would be there to a type checker

    def __getattr__(name: str) -> Any:
        """The public name, from where it is defined (PEP 562)."""
        if name not in _HOME:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        module = importlib.import_module(f"{__name__}.{_HOME[name]}")
        found = getattr(module, f"{name}_" if name in ("max", "min", "sum") else name)
        globals()[name] = found
        return found


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
