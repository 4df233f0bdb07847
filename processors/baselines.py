"""The two baselines every model has to beat: the last label, and the average of the labels so far.

They are no formality: on several well-known streams "same as last time" beats most learners, so a gate without them
promotes useless models. They answer as River's `NoChangeClassifier`, `PriorClassifier` and
`StatisticRegressor(Mean())` do, but their state is a few plain numbers.
"""

from __future__ import annotations

from collections.abc import Callable
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

    def stores(self) -> list[StoreSpec]:
        """Return the one cell: [last, mean, n], [last, {class: count}, n] or [last, first, count of first, n]."""
        initial = {"binary": _no_flags, "multiclass": _no_labels, "regression": _no_numbers}[self.task]
        return [StoreSpec(_CELL, "cell", initial)]

    def answer(self, state: State) -> tuple[Any, Any]:
        """Return the answers of (no-change, prior) now; they do not change later, nor may anybody change them."""
        return self.compile(state)[0]()

    def update(self, y: Any, state: State) -> None:
        """Learn a label that became known."""
        self.compile(state)[1](y)

    def compile(self, state: State) -> tuple[Callable[[], tuple[Any, Any]], Callable[[Any], None]]:
        """Return `answer` and `update` on this state, with their look-ups done once."""
        value = state[_CELL].value
        if self.task == "binary":
            return _flags(value)
        return _numbers(value) if self.task == "regression" else _labels(value)


def _flags(value: list[Any]) -> tuple[Callable[[], tuple[Any, Any]], Callable[[Any], None]]:
    no_change = {first: {last: _two(first, last) for last in (False, True)} for first in (False, True)}

    def answer() -> tuple[Any, Any]:
        last, first, count, n = value
        if count == n:
            return ({last: 1.0}, {last: 1.0}) if n else (None, None)
        return no_change[first][last], {first: count / n, not first: (n - count) / n}

    def update(y: Any) -> None:
        value[0] = y
        if not value[3]:
            value[1] = y
        if y == value[1]:
            value[2] += 1
        value[3] += 1

    return answer, update


def _two(first: bool, last: bool) -> dict[bool, float]:
    """The last label for certain, the one that came first in front."""
    return {first: 1.0, not first: 0.0} if last == first else {first: 0.0, not first: 1.0}


def _labels(value: list[Any]) -> tuple[Callable[[], tuple[Any, Any]], Callable[[Any], None]]:
    def answer() -> tuple[Any, Any]:
        last, seen, n = value
        if not n:
            return None, None
        no_change = dict.fromkeys(seen, 0.0)
        no_change[last] = 1.0
        return no_change, {label: count / n for label, count in seen.items()}

    def update(y: Any) -> None:
        value[0] = y
        value[2] += 1
        seen = value[1]
        seen[y] = seen.get(y, 0) + 1

    return answer, update


def _numbers(value: list[Any]) -> tuple[Callable[[], tuple[Any, Any]], Callable[[Any], None]]:
    def answer() -> tuple[Any, Any]:
        return value[0], value[1]

    def update(y: Any) -> None:
        value[0] = y
        value[2] += 1
        value[1] += (1.0 / value[2]) * (y - value[1])

    return answer, update


def _no_flags() -> list[Any]:
    return [None, None, 0, 0]


def _no_labels() -> list[Any]:
    return [None, {}, 0]


def _no_numbers() -> list[Any]:
    return [None, 0.0, 0]
