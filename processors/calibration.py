"""Calibration: do the probabilities that a model states come true as often as it says?

Expected calibration error (Naeini, Cooper & Hauskrecht 2015; Guo et al. 2017) by ten fixed bins: in each, the distance
between the mean probability and the share that came true, weighted by how many are in it. Binary: of P(True).
Multiclass: of the predicted label's probability. A model that answers labels only is taken to be certain.

The cell is one sum of (p - came true) for each bin, and the number of answers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from headrace.processors.predict import UNASKED

__all__ = ["BINS", "add", "expected_error", "fresh", "update_many"]

BINS = 10


def fresh() -> list[float]:
    """A cell that has seen nothing."""
    return [0.0] * (BINS + 1)


def update_many(task: str, cell: list[float], ys: Sequence[Any], answers: Iterable[Any]) -> None:
    """See answers to events with these labels; those that are None, {} or `UNASKED` are left out.

    >>> cell = fresh()
    >>> update_many("binary", cell, [True, False], [{True: 0.9, False: 0.1}, {True: 0.9, False: 0.1}])
    >>> expected_error(cell)
    0.4
    """
    if task == "binary":
        _of_true(cell, ys, answers)
    else:
        _of_predicted(cell, ys, answers)


def add(cell: list[float], other: Sequence[float]) -> None:
    """Add what another cell has seen."""
    cell[:] = [a + b for a, b in zip(cell, other, strict=True)]


def expected_error(cell: Sequence[float]) -> float | None:
    """The expected calibration error; None before the first answer."""
    return sum([abs(away) for away in cell[:BINS]]) / cell[BINS] if cell[BINS] else None


def _of_true(cell: list[float], ys: Sequence[Any], answers: Iterable[Any]) -> None:
    seen = cell[BINS]
    for y, answer in zip(ys, answers, strict=True):
        if answer.__class__ is dict:
            if not answer:
                continue
            p = answer.get(True, 0.0)
        elif answer is None or answer is UNASKED:
            continue
        else:
            p = 1.0 if answer else 0.0
        cell[_bin(p) if p < 0.0 or p >= 1.0 else int(p * BINS)] += p - 1.0 if y else p
        seen += 1.0
    cell[BINS] = seen


def _of_predicted(cell: list[float], ys: Sequence[Any], answers: Iterable[Any]) -> None:
    for y, answer in zip(ys, answers, strict=True):
        if answer is None or answer is UNASKED or answer == {}:
            continue
        label, p = answer, 1.0
        if isinstance(answer, dict):
            label = max(answer, key=answer.__getitem__)
            p = answer[label]
        cell[_bin(p)] += p - 1.0 if label == y else p
        cell[BINS] += 1.0


def _bin(p: float) -> int:
    return 0 if p <= 0.0 else BINS - 1 if p >= 1.0 else int(p * BINS)
