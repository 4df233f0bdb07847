"""Losses in [0, 1], by which models are compared: 0 is perfect, 1 is as bad as can be.

``brier``     half the squared distance of the probabilities from what was (Brier 1950); of two classes (p - y)². A
              proper score, so that it rewards honest probabilities, and bounded, which log loss is not. Where a model
              answers labels only it is the error.
``error``     1 where the label is wrong, else 0.
``absolute``  |answer - y| in units of a scale, at most 1. The scale is declared, or five times the labels' mean
              absolute deviation so far: each label counts at most five of those, so that a wild one changes little.

An answer that is not there costs 1: a model that refuses the difficult events must not profit from it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from headrace.processors.metrics import predicted
from headrace.processors.predict import UNASKED

__all__ = ["LOSSES", "Losses", "absolute", "losses_for", "rescaled"]

LOSSES: dict[str, tuple[str, ...]] = {
    "binary": ("brier", "error"),
    "multiclass": ("brier", "error"),
    "regression": ("absolute",),
}
_WIDE = 5.0

Losses = Callable[[Sequence[Any], Iterable[Any]], list[float | None]]
"""Of labels and answers, in order: the losses; None where there is no answer."""


def losses_for(task: str, loss: str) -> Losses:
    """The losses of a classification task."""
    if loss == "error":
        return _errors
    return _binary if task == "binary" else _multiclass


def rescaled(ys: Sequence[float], state: list[float]) -> list[float]:
    """The scale before each of these labels; `state` is [n, centre, sum of deviations], and learns them."""
    n, centre, total = state
    scales = []
    for y in ys:
        deviation = total / n if n else 0.0
        scales.append(_WIDE * deviation)
        away = y - centre
        if away - away != 0.0:
            away = 0.0  # the distance of the largest numbers there are is no number
        limit = _WIDE * deviation
        if limit > 0.0:
            away = limit if away > limit else -limit if away < -limit else away
        n += 1.0
        if n > 1.0:
            total += abs(away)
        centre += away / n
    state[:] = (n, centre, total)
    return scales


def absolute(ys: Sequence[float], answers: Iterable[Any], scales: Sequence[float]) -> list[float | None]:
    """Absolute errors by scale; 0 for everybody while the scale is 0, as long as labels were all the same."""
    found: list[float | None] = []
    for y, answer, scale in zip(ys, answers, scales, strict=True):
        if answer is None or answer is UNASKED:
            found.append(None)
        elif scale > 0.0:
            loss = abs(answer - y) / scale
            found.append(loss if loss < 1.0 else 1.0)
        else:
            found.append(0.0)
    return found


def _binary(ys: Sequence[Any], answers: Iterable[Any]) -> list[float | None]:
    found: list[float | None] = []
    add = found.append
    for y, answer in zip(ys, answers, strict=True):
        if answer.__class__ is dict:
            if not answer:
                add(None)
                continue
            p = answer.get(True, 0.0)
        elif answer is None:
            add(None)
            continue
        else:
            p = 1.0 if answer else 0.0
        if y:
            p = 1.0 - p
        add(0.0 if p < 0.0 else p * p if p < 1.0 else 1.0)
    return found


def _multiclass(ys: Sequence[Any], answers: Iterable[Any]) -> list[float | None]:
    found: list[float | None] = []
    for y, answer in zip(ys, answers, strict=True):
        if isinstance(answer, dict):
            if not answer:
                found.append(None)
                continue
            loss = (sum([p * p for p in answer.values()]) + 1.0 - 2.0 * answer.get(y, 0.0)) / 2.0
            found.append(0.0 if loss < 0.0 else loss if loss < 1.0 else 1.0)
        else:
            found.append(None if answer is None else 0.0 if answer == y else 1.0)
    return found


def _errors(ys: Sequence[Any], answers: Iterable[Any]) -> list[float | None]:
    said = [predicted(answer) for answer in answers]
    return [None if label is None else 0.0 if label == y else 1.0 for y, label in zip(ys, said, strict=True)]
