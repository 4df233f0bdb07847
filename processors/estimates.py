"""Estimates: the performance that a window's probabilities promise, once labels so far have calibrated them.

Confidence-based performance estimation, as NannyML describes it; Bialek, Kuberski, Perrakis & Bifet 2024,
arXiv:2401.08348. Probabilities are counted in grades: how many, their sum, and how many of them were said to be True.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["GRADES", "area", "calibration_error", "estimates", "grade"]

GRADES = 20
_PRIOR = 20.0
"""How many labels the stated probability counts for beside those of its grade."""

_LABELS = 10
"""Labels whose shares of the answers are told, the most frequent ones."""

_CHARACTERS = 60
"""Of a label that is text, this much is told."""

Costs = Mapping[tuple[Any, Any], float]


def grade(p: float) -> int:
    """The grade of a probability."""
    return GRADES - 1 if p >= 1.0 else int(max(p, 0.0) * GRADES)


def estimates(
    task: str, window: Mapping[str, Any], grades: Sequence[Sequence[float]], costs: Costs | None
) -> dict[str, float | None]:
    """What can be said of a full window of predictions; `grades` are what labels said of each grade so far."""
    n, answered = window["n"], window["answered"]
    out: dict[str, float | None] = {"Answered": answered / n}
    if task == "regression":
        away = window["sum"] / answered if answered else 0.0
        spread = window["squares"] / answered - away * away if answered else 0.0
        mean = window.get("centre", 0.0) + away if answered else None
        return out | {"MeanPrediction": _finite(mean), "Spread": _finite(math.sqrt(max(spread, 0.0)))}
    graded = sum(cell[0] for cell in window["grades"])
    counts = [window["said"][name] for name in sorted(window["said"])]
    out["Diversity"] = _entropy(counts)
    out["Confidence"] = window["sum"] / graded if graded else None
    if task != "binary":
        right = sum(
            count * _calibrated(grades[i], p / count) for i, (count, p, _) in enumerate(window["grades"]) if count
        )
        ranked = sorted(window["said"].items(), key=lambda item: (-item[1], item[0]))
        out |= {f"Predicted={label[:_CHARACTERS]}": count / answered for label, count in ranked[:_LABELS] if label}
        return out | {"EstimatedAccuracy": right / graded if graded else None}
    out["PredictedRate"] = sum(cell[1] for cell in window["grades"]) / graded if graded else None
    return out | _of_classes(window["grades"], grades, costs)


def area(negatives: Sequence[float], positives: Sequence[float]) -> float | None:
    """The area under the ROC curve by grades, ties counting half."""
    n, p = sum(negatives), sum(positives)
    if not n * p:
        return None
    below = area = 0.0
    for negative, positive in zip(negatives, positives, strict=True):
        area += positive * (below + negative / 2)
        below += negative
    return area / (n * p)


def calibration_error(stated: Sequence[Sequence[float]], labelled: Sequence[Sequence[float]]) -> float | None:
    """The expected calibration error, by grades: of those stated, what share of (False, True) labels came."""
    n = away = 0.0
    for (count, p, _), (negatives, positives) in zip(stated, labelled, strict=True):
        if count:
            n += negatives + positives
            away += abs((negatives + positives) * p / count - positives)
    return away / n if n else None


def _of_classes(
    cells: Sequence[Sequence[float]], grades: Sequence[Sequence[float]], costs: Costs | None
) -> dict[str, float | None]:
    """The confusion matrix that the calibrated probabilities promise, and what follows from it."""
    tp = fp = fn = tn = 0.0
    positives, negatives = [0.0] * GRADES, [0.0] * GRADES
    for i, (count, p, said) in enumerate(cells):
        if count:
            c = _calibrated(grades[i], p / count)
            tp, fp = tp + said * c, fp + said * (1 - c)
            fn, tn = fn + (count - said) * c, tn + (count - said) * (1 - c)
            positives[i], negatives[i] = count * c, count * (1 - c)
    total = tp + fp + fn + tn
    if not total:
        return {}
    of_true = 2 * tp + fp + fn  # models may state less than 0 and more than 1: no sum is what it would be else
    out: dict[str, float | None] = {
        "EstimatedAccuracy": (tp + tn) / total,
        "EstimatedF1": 2 * tp / of_true if of_true else None,
        "EstimatedROCAUC": area(negatives, positives),
    }
    if costs:
        pairs = ((True, True, tp), (False, True, fp), (True, False, fn), (False, False, tn))
        out["EstimatedCost"] = sum([costs.get((label, said), 0.0) * n for label, said, n in pairs]) / total
    return out


def _calibrated(grade: Sequence[float], stated: float) -> float:
    """The probability as labels have it, drawn to the stated one while there are few."""
    return (grade[1] + _PRIOR * stated) / (grade[0] + _PRIOR)


def _entropy(counts: Sequence[int]) -> float | None:
    """How evenly the answers are spread: 0 if all are one, 1 if each is as frequent as the others."""
    total = sum(counts)
    if not total:
        return None
    if len(counts) == 1:
        return 0.0
    return -sum([n / total * math.log(n / total) for n in counts if n]) / math.log(len(counts))


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
