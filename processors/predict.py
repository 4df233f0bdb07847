"""Predict: a model's answer to one event's features, and the form in which it is served."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from river.base import Classifier

from headrace.processors.base import Rejected

__all__ = ["Predict", "Served", "answerer"]


class Served(NamedTuple):
    """An answer as it is published: a label or number, and how probable."""

    prediction: bool | int | float | str | None
    probability: float | None
    probabilities: dict[str, float] | None


NOTHING = Served(None, None, None)


def answerer(task: str, model: Any) -> Callable[[Mapping[str, Any]], Any]:
    """The method with which `model` is asked: class probabilities where it has them, else `predict_one`."""
    if task == "regression" or not hasattr(model, "predict_proba_one"):
        return model.predict_one  # type: ignore[no-any-return]
    last = model
    while isinstance(getattr(last, "steps", None), dict):
        last = list(last.steps.values())[-1]
    if getattr(type(last), "predict_proba_one", None) is Classifier.predict_proba_one:
        return model.predict_one  # type: ignore[no-any-return]
    return model.predict_proba_one  # type: ignore[no-any-return]


class Predict:
    """Turns a model's answer into what is served.

    A model that has learned nothing is not served (River would answer 0.5, or nothing): null with the reason
    ``untrained``. A NaN or infinite answer is rejected as `predict_error`.
    """

    def __init__(self, task: str) -> None:
        self.task = task

    def process(self, answer: Any) -> Served:
        """The served form of a trained model's answer; None and {} are nothing."""
        if answer is None or answer == {}:
            return NOTHING
        if self.task == "regression":
            return Served(_finite(float(answer)), None, None)
        if not isinstance(answer, dict):
            return Served(answer, None, None)
        for p in answer.values():
            _finite(p)
        best = max(answer, key=answer.__getitem__)
        if self.task == "binary":
            return Served(best, float(answer.get(True, 0.0)), None)
        return Served(best, None, {str(label): float(p) for label, p in answer.items()})


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise Rejected("predict_error", f"the champion answered {value}")
    return value
