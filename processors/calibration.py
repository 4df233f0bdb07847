"""Calibration: do the probabilities that a model states come true as often as it says?

Expected calibration error (Naeini, Cooper & Hauskrecht 2015; Guo et al. 2017) by ten fixed bins: in each, the distance
between the mean probability and the share that came true, weighted by how many are in it. Binary: of P(True).
Multiclass: of the predicted label's probability. A model that answers labels only is taken to be certain.

The cell is one sum of (p - came true) for each bin, and the number of answers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

__all__ = ["BINS", "expected_error", "fresh", "update_many"]

BINS = 10


def fresh() -> list[float]:
    """A cell that has seen nothing."""
    return [0.0] * (BINS + 1)


def update_many(task: str, cell: list[float], ys: Sequence[Any], answers: Iterable[Any]) -> None:
    """See answers to events with these labels; those that are None or {} are left out.

    >>> cell = fresh()
    >>> update_many("binary", cell, [True, False], [{True: 0.9, False: 0.1}, {True: 0.9, False: 0.1}])
    >>> expected_error(cell)
    0.4
    """
    binary = task == "binary"
    for y, answer in zip(ys, answers, strict=True):
        if answer is None or answer == {}:
            continue
        if not isinstance(answer, dict):
            p, came = (1.0 if answer else 0.0, y) if binary else (1.0, answer == y)
        elif binary:
            p, came = answer.get(True, 0.0), y
        else:
            label = max(answer, key=answer.__getitem__)
            p, came = answer[label], label == y
        place = int(p * BINS) if 0.0 < p < 1.0 else 0 if p <= 0.0 else BINS - 1
        cell[place] += p - 1.0 if came else p
        cell[BINS] += 1.0


def expected_error(cell: Sequence[float]) -> float | None:
    """The expected calibration error; None before the first answer."""
    return sum([abs(away) for away in cell[:BINS]]) / cell[BINS] if cell[BINS] else None
