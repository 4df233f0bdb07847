"""Progressive metrics with River's names and values, kept as plain numbers.

A metric here is a list (or dict) of numbers in a cell, so that a checkpoint writes it as it is, and its value is
built when somebody reads it. What River's `evaluate.progressive_val_score` scores is scored: answers that are
None or {} are not, a class that is missing from the probabilities has probability 0, and metrics of labels see what
`predict_one` would have said.

One difference in the last bit: River's macro F1 and Cohen's kappa add up the classes in the order of a set, which for
strings follows the hash seed. Here the classes are sorted, so that two processes agree.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable
from typing import Any, Literal, Protocol

import numpy as np

from headrace.processors.predict import UNASKED

__all__ = [
    "BIGGER_IS_BETTER",
    "METRICS",
    "TASKS",
    "BinaryScores",
    "MulticlassScores",
    "RegressionScores",
    "Scores",
    "Task",
    "check_task",
    "predicted",
    "scores_for",
]

Task = Literal["binary", "multiclass", "regression"]
Confusion = dict[Any, dict[Any, int]]

TASKS: tuple[Task, ...] = ("binary", "multiclass", "regression")

METRICS: dict[str, tuple[str, ...]] = {
    "binary": ("ROCAUC", "Accuracy", "MacroF1", "LogLoss"),
    "multiclass": ("Accuracy", "MacroF1", "CohenKappa"),
    "regression": ("MAE", "RMSE", "R2"),
}

BIGGER_IS_BETTER: dict[str, bool] = {
    "ROCAUC": True,
    "Accuracy": True,
    "MacroF1": True,
    "LogLoss": False,
    "CohenKappa": True,
    "MAE": False,
    "RMSE": False,
    "R2": True,
}

_N = 10  # River's default number of thresholds
_THRESHOLDS = [-1e-7, *(i / (_N - 1) for i in range(1, _N - 1)), 1 + 1e-7]
_BUCKETS = _N + 1
_LABELS_ONLY = 4 * _BUCKETS  # where the counts of answers without probabilities start
_LOG_N = _LABELS_ONLY + 4
_LOG_MEAN = _LOG_N + 1
_P_MIN = 1e-15
_P_MAX = 1 - 1e-15


class Scores(Protocol):
    """The metrics of one task; every method works on a cell that `fresh` made."""

    def fresh(self) -> Any:
        """Return a cell that has scored nothing."""

    def update(self, overall: Any, window: Any, y: Any, answer: Any) -> None:
        """Score one answer in both cells, or in neither."""

    def update_many(self, overall: Any, window: Any, rows: Iterable[tuple[Any, Any]]) -> None:
        """Score many (label, answer) in both cells."""

    def scored(self, cell: Any) -> int:
        """Return how many answers the cell has scored."""

    def values(self, cell: Any) -> dict[str, float | None]:
        """Return the metrics by name; None where nothing was scored or the value is not finite."""


class BinaryScores:
    """ROC AUC, accuracy, macro F1 and log loss of answers {False: p, True: q}, or of plain labels.

    The cell counts by (label, predicted label, number of thresholds below P(True)), then by (label, predicted
    label) for answers without probabilities, and ends with log loss as River's running mean.

    >>> scores = BinaryScores()
    >>> overall, window = scores.fresh(), scores.fresh()
    >>> for y, p in [(False, 0.1), (False, 0.4), (True, 0.35), (True, 0.8)]:
    ...     scores.update(overall, window, y, {False: 1 - p, True: p})
    >>> scores.values(overall)["ROCAUC"], scores.values(overall)["Accuracy"]
    (0.875, 0.75)
    """

    def fresh(self) -> list[Any]:
        """Return a cell that has scored nothing."""
        return [0] * _LOG_N + [0.0, 0.0]

    def update(self, overall: list[Any], window: list[Any], y: bool, answer: Any) -> None:
        """Score one answer in both cells, or in neither."""
        self.update_many(overall, window, ((y, answer),))

    def update_many(self, overall: list[Any], window: list[Any], rows: Iterable[tuple[bool, Any]]) -> None:
        """Score many (label, answer) in both cells."""
        n, mean, window_n, window_mean = overall[48], overall[49], window[48], window[49]
        log, place_of, thresholds, least, most = math.log, bisect_left, _THRESHOLDS, _P_MIN, _P_MAX
        for y, answer in rows:
            if answer.__class__ is not dict:
                if not isinstance(answer, dict):
                    if answer is not None and answer is not UNASKED:
                        place = _LABELS_ONLY + (2 if y else 0) + (1 if answer else 0)
                        overall[place] += 1
                        window[place] += 1
                    continue
                answer = dict(answer)  # a Counter or a defaultdict would answer, or grow, where a key is missing
            try:
                p, q = answer[True], answer[False]
            except KeyError:
                if not answer:
                    continue
                p = answer.get(True, 0.0)
                says = max(answer, key=answer.__getitem__)
            else:
                says = True if p > q else False if q > p else max(answer, key=answer.__getitem__)
            place = place_of(thresholds, p)
            if says:
                place += 11  # _BUCKETS, spelt out: this is the hot path
            if p < least:
                p = least
            elif p > most:
                p = most
            if y:
                place += 22
                loss = -log(p)
            else:
                loss = -log(1 - p)
            overall[place] += 1
            window[place] += 1
            n += 1.0
            mean += (1.0 / n) * (loss - mean)
            window_n += 1.0
            window_mean += (1.0 / window_n) * (loss - window_mean)
        overall[48], overall[49], window[48], window[49] = n, mean, window_n, window_mean

    def scored(self, cell: list[Any]) -> int:
        """Return how many answers the cell has scored."""
        return int(sum(cell[:_LOG_N]))

    def values(self, cell: list[Any]) -> dict[str, float | None]:
        """Return the metrics by name; the ones of probabilities are None for a model that gives labels only."""
        blocks = [cell[i : i + _BUCKETS] for i in range(0, _LABELS_ONLY, _BUCKETS)]
        counts = [sum(block) + cell[_LABELS_ONLY + i] for i, block in enumerate(blocks)]
        if not any(counts):
            return dict.fromkeys(METRICS["binary"])
        confusion = {False: {False: counts[0], True: counts[1]}, True: {False: counts[2], True: counts[3]}}
        graded = cell[_LOG_N] > 0
        negatives = [a + b for a, b in zip(blocks[0], blocks[1], strict=True)]
        positives = [a + b for a, b in zip(blocks[2], blocks[3], strict=True)]
        return {
            "ROCAUC": _roc_auc(negatives, positives) if graded else None,
            "Accuracy": _accuracy(confusion),
            "MacroF1": _macro_f1(confusion),
            "LogLoss": _finite(cell[_LOG_MEAN]) if graded else None,
        }


class MulticlassScores:
    """Accuracy, macro F1 and Cohen's kappa; the cell is a confusion matrix {label: {predicted label: count}}."""

    def fresh(self) -> Confusion:
        """Return a cell that has scored nothing."""
        return {}

    def update(self, overall: Confusion, window: Confusion, y: Any, answer: Any) -> None:
        """Score one answer in both cells, or in neither."""
        if isinstance(answer, dict):
            answer = max(answer, key=answer.__getitem__, default=None)
        if answer is None or answer is UNASKED:
            return
        for cell in (overall, window):
            try:
                cell[y][answer] += 1
            except KeyError:
                cell.setdefault(y, {})[answer] = 1

    def update_many(self, overall: Confusion, window: Confusion, rows: Iterable[tuple[Any, Any]]) -> None:
        """Score many (label, answer) in both cells."""
        for y, answer in rows:
            self.update(overall, window, y, answer)

    def scored(self, cell: Confusion) -> int:
        """Return how many answers the cell has scored."""
        return sum(sum(row.values()) for row in cell.values())

    def values(self, cell: Confusion) -> dict[str, float | None]:
        """Return the metrics by name."""
        if not cell:
            return dict.fromkeys(METRICS["multiclass"])
        return {"Accuracy": _accuracy(cell), "MacroF1": _macro_f1(cell), "CohenKappa": _cohen_kappa(cell)}


class RegressionScores:
    """MAE, RMSE and R2; the cell is [n, mean |e|, mean e², mean y, sum of squares of y, sum of e²]."""

    def fresh(self) -> list[float]:
        """Return a cell that has scored nothing."""
        return [0.0, 0.0, 0.0, 0.0, 0.0, 0.0]

    def update(self, overall: list[float], window: list[float], y: float, answer: Any) -> None:
        """Score one answer in both cells, or in neither."""
        if answer is None or answer is UNASKED:
            return
        if answer.__class__ is not float:
            answer = float(answer)  # NumPy's floats are not plain values
        error = y - answer
        distance = abs(error)
        try:
            square = error**2  # as River has it; not always the same double as error * error
        except OverflowError:
            square = math.inf
        product = error * error
        for cell in (overall, window):
            n, mae, mse, mean, spread, residual = cell
            n += 1.0
            share = 1.0 / n
            moved = mean + share * (y - mean)
            cell[:] = (
                n,
                mae + share * (distance - mae),
                mse + share * (square - mse),
                moved,
                spread + (y - mean) * (y - moved),
                residual + product,
            )

    def update_many(self, overall: list[float], window: list[float], rows: Iterable[tuple[float, Any]]) -> None:
        """Score many (label, answer) in both cells."""
        for y, answer in rows:
            self.update(overall, window, y, answer)

    def scored(self, cell: list[float]) -> int:
        """Return how many answers the cell has scored."""
        return int(cell[0])

    def values(self, cell: list[float]) -> dict[str, float | None]:
        """Return the metrics by name; R2 of fewer than two examples, or of a constant, is 0 as in River."""
        n, mae, mse, _, spread, residual = cell
        if not n:
            return dict.fromkeys(METRICS["regression"])
        r2 = 0.0
        if n > 1:
            total = (n - 1) * (spread / (n - 1))
            r2 = 1 - residual / total if total else 0.0
        return {"MAE": _finite(mae), "RMSE": _finite(mse**0.5), "R2": _finite(r2)}


def check_task(task: str) -> Task:
    """Return the task, or raise ValueError naming the legal ones."""
    for legal in TASKS:
        if task == legal:
            return legal
    raise ValueError(f"task must be one of {', '.join(TASKS)}; got {task!r}")


def scores_for(task: str) -> Scores:
    """Return the metrics of a task."""
    made: dict[str, Scores] = {
        "binary": BinaryScores(),
        "multiclass": MulticlassScores(),
        "regression": RegressionScores(),
    }
    return made[check_task(task)]


def predicted(answer: Any) -> Any:
    """Return the label (or number) that an answer amounts to, as River's `predict_one` does; None if it has none."""
    return max(answer, key=answer.__getitem__, default=None) if isinstance(answer, dict) else answer


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _roc_auc(negatives: list[int], positives: list[int]) -> float | None:
    """Return River's ROCAUC from the counts by the number of thresholds below the score; same sums, same order.

    None where one class alone has come: there is nothing to rank, and River's -0.0 would be the worst there is.
    """
    n_neg, n_pos = sum(negatives), sum(positives)
    if not n_neg or not n_pos:
        return None
    tpr, fpr = np.zeros(_N), np.zeros(_N)
    tp, fp = n_pos, n_neg
    for i in range(_N):
        tp -= positives[i]
        fp -= negatives[i]
        tpr[i] = tp / n_pos
        fpr[i] = fp / n_neg
    return 0.0 - float(np.sum((fpr[1:] - fpr[:-1]) * (tpr[1:] + tpr[:-1]) / 2.0))  # no sign of zero where it is 0


def _accuracy(confusion: Confusion) -> float:
    total = sum(sum(row.values()) for row in confusion.values())
    return sum(row.get(label, 0) for label, row in confusion.items()) / total


def _macro_f1(confusion: Confusion) -> float:
    total = 0.0
    margins = list(_margins(confusion))
    for hits, actual, said in margins:
        precision = hits / said if said else 0.0
        recall = hits / actual if actual else 0.0
        if precision + recall:
            total += 2.0 * precision * recall / (precision + recall)
    return total / len(margins)


def _cohen_kappa(confusion: Confusion) -> float:
    n = sum(sum(row.values()) for row in confusion.values())
    chance = 0.0
    for _, actual, said in _margins(confusion):
        chance += (actual / n) * (said / n)
    return (_accuracy(confusion) - chance) / (1 - chance) if chance != 1 else 0.0


def _margins(confusion: Confusion) -> Iterable[tuple[int, int, int]]:
    """Yield (hits, actual, predicted) of every class that occurred, the classes in a fixed order."""
    said: dict[Any, int] = {}
    for row in confusion.values():
        for label, count in row.items():
            said[label] = said.get(label, 0) + count
    actual = {label: sum(row.values()) for label, row in confusion.items()}
    for label in sorted({**actual, **said}, key=_rank):
        if actual.get(label, 0) or said.get(label, 0):
            yield confusion.get(label, {}).get(label, 0), actual.get(label, 0), said.get(label, 0)


def _rank(label: Any) -> tuple[str, Any]:
    """Return a sort key for labels of any kind; numbers and bools go by value."""
    return ("", label) if isinstance(label, int | float) else (type(label).__name__, label)
