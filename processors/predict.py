"""Predict: a model's answer to one event's features, and the form in which it is served."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from river.base import Classifier
from river.compose import Pipeline

__all__ = ["NOTHING", "UNASKED", "Predict", "Served", "answerer", "last_step", "validated"]

Served = tuple[bool | int | float | str | None, float | None, dict[str, float] | None]
"""An answer as it is published: a label or number, how probable True is, and the classes' probabilities."""

NOTHING: Served = (None, None, None)

UNASKED: tuple[()] = ()
"""In place of the answer of a model that was not there when the event was predicted, or retired: it counts nowhere.
Python has one empty tuple, which packing keeps."""


def answerer(task: str, model: Any) -> Callable[[Mapping[str, Any]], Any]:
    """The method with which `model` is asked: class probabilities where it has them, else `predict_one`."""
    graded = task != "regression" and hasattr(model, "predict_proba_one")
    if graded and getattr(type(last_step(model)), "predict_proba_one", None) is Classifier.predict_proba_one:
        graded = False
    answer: Callable[[Mapping[str, Any]], Any] = model.predict_proba_one if graded else model.predict_one
    return answer


def last_step(model: Any) -> Any:
    """What a pipeline of River's ends with, however deep; any other model itself."""
    while isinstance(model, Pipeline) and model.steps:
        model = list(model.steps.values())[-1]
    return model


def validated(task: str) -> Callable[[Any], Any]:
    """A function that gives an answer in Python's own types (a model may answer in NumPy's), to be kept and published.

    None, a label of the task, or {label: finite probability}, in a regression None or a finite number; it raises
    ValueError or TypeError for anything else. So whatever uses answers can rely on what they are.
    """
    types, called = _ANSWERS[task]

    def label_of(value: Any) -> Any:
        own = _plain(value)
        if not isinstance(own, types) or (own.__class__ is bool and task == "regression"):
            raise ValueError(f"the model answered {own!r}, which is no {called}")
        return own

    def number(answer: Any) -> Any:
        if answer.__class__ is float:
            return _finite(answer)
        return None if answer is None else label_of(answer)

    def graded(answer: Any) -> Any:
        if answer.__class__ is dict:
            for label, p in answer.items():
                if p.__class__ is not float or p - p != 0.0:
                    break
                if label.__class__ is not bool and label_of(label) is not label:
                    break
            else:
                return dict(answer)  # a model may hand out what it goes on changing
        if isinstance(answer, Mapping):
            return {label_of(label): _finite(p) for label, p in answer.items()}
        return None if answer is None else label_of(answer)

    return number if task == "regression" else graded


class Predict:
    """Turns a model's answer into what is served.

    A model that has learned nothing is not served (River would answer 0.5, or nothing): null with the reason
    ``untrained``.
    """

    def __init__(self, task: str) -> None:
        self.task = task

    def process(self, answer: Any) -> Served:
        """The served form of a trained model's `validated` answer; None and {} are nothing."""
        if self.task == "binary" and type(answer) is dict and len(answer) == 2:
            p, q = answer.get(True), answer.get(False)
            if p is not None and q is not None and p != q:
                return p > q, p, None
        return self._any(answer)

    def _any(self, answer: Any) -> Served:
        if answer is None or answer == {}:
            return NOTHING
        if self.task == "regression":
            return float(answer), None, None
        if answer.__class__ is not dict:
            return answer, None, None
        best = max(answer, key=answer.__getitem__)
        if self.task == "binary":
            return best, answer.get(True, 0.0), None
        return best, None, {str(label): p for label, p in answer.items()}


_ANSWERS: dict[str, tuple[Any, str]] = {
    "binary": (bool, "bool"),
    "multiclass": (str | int, "str or int"),
    "regression": (int | float, "number"),
}


def _plain(value: Any) -> Any:
    own = value.item() if callable(getattr(value, "item", None)) else value
    if isinstance(own, str):
        own.encode()  # which raises for what is no Unicode text
        return str(own)
    if own.__class__ is bool or (own.__class__ is int and -(2**63) <= own < 2**63):
        return own
    return _finite(own)


def _finite(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"the model answered {number}")
    return number
