"""The two baselines every model has to beat: the last label, and the average of the labels so far.

They are no formality: on several well-known streams "same as last time" beats most learners, so a gate without them
promotes useless models. They answer as River's `NoChangeClassifier`, `PriorClassifier` and
`StatisticRegressor(Mean())` do, but their state is a few plain numbers.
"""

from __future__ import annotations

from typing import Any

from headrace.processors.base import State, StoreSpec
from headrace.processors.metrics import Task, check_task

__all__ = ["BASELINES", "Baselines"]

BASELINES: tuple[str, str] = ("no-change", "prior")

_CELL = "baselines"


class Baselines:
    """Answers the last label and the prior, from the labels that are known so far.

    Parameters
    ----------
    task
        "binary" or "multiclass": answers are {class: probability}, None before the first label.
        "regression": answers are the last value (None before the first) and the running mean (0.0 before the first,
        as in River).

    >>> from types import SimpleNamespace
    >>> baselines = Baselines("binary")
    >>> state = {spec.name: SimpleNamespace(value=spec.initial()) for spec in baselines.stores()}
    >>> for y in (True, True, True, False):
    ...     baselines.update(y, state)
    >>> baselines.answer(state)
    ({True: 0.0, False: 1.0}, {True: 0.75, False: 0.25})
    """

    def __init__(self, task: str) -> None:
        self.task: Task = check_task(task)
        self._regression = task == "regression"
        self._binary = task == "binary"

    def stores(self) -> list[StoreSpec]:
        """Return the one cell: [last, mean, n], [last, {class: count}, n] or [last, first, count of first, n]."""
        initial = {"binary": _no_flags, "multiclass": _no_labels, "regression": _no_numbers}[self.task]
        return [StoreSpec(_CELL, "cell", initial)]

    def answer(self, state: State) -> tuple[Any, Any]:
        """Return the answers of (no-change, prior) now; they are new values, safe to keep."""
        if self._binary:
            last, first, count, n = state[_CELL].value
            if count == n:
                return ({last: 1.0}, {last: 1.0}) if n else (None, None)
            second = not first
            no_change = {first: 1.0, second: 0.0} if last == first else {first: 0.0, second: 1.0}
            return no_change, {first: count / n, second: (n - count) / n}
        last, seen, n = state[_CELL].value
        if self._regression:
            return last, seen
        if not n:
            return None, None
        no_change = dict.fromkeys(seen, 0.0)
        no_change[last] = 1.0
        return no_change, {label: count / n for label, count in seen.items()}

    def update(self, y: Any, state: State) -> None:
        """Learn a label that became known."""
        value = state[_CELL].value
        value[0] = y
        if self._binary:
            if not value[3]:
                value[1] = y
            if y == value[1]:
                value[2] += 1
            value[3] += 1
            return
        n = value[2] = value[2] + 1
        if self._regression:
            value[1] += (1.0 / n) * (y - value[1])
        else:
            seen = value[1]
            seen[y] = seen.get(y, 0) + 1


def _no_flags() -> list[Any]:
    return [None, None, 0, 0]


def _no_labels() -> list[Any]:
    return [None, {}, 0]


def _no_numbers() -> list[Any]:
    return [None, 0.0, 0]
