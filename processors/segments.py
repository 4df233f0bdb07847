"""Segments: the same metrics for parts of the events, by the values of declared columns, and how calibrated they are.

A value is a segment, called `column=value`. Of each column the first so many values to come have one of their own; all
others share `column=*`, so that memory is bounded whatever arrives.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from headrace.processors import calibration
from headrace.processors.base import State, StoreSpec
from headrace.processors.disparity import disparities
from headrace.processors.metrics import Task, check_task, scores_for
from headrace.processors.reports import Reports
from headrace.schemas.records import Evaluation

__all__ = ["OTHERS", "Row", "Segments", "resized", "segment"]

OTHERS = "*"

_NAMES = "segments"
_CELL = "segment_scores"
_CHARACTERS = 60

Row = tuple[Any, Sequence[Any], Sequence[str], int, int]
"""Label, answers, segments, running number and time of an example."""


class Segments:
    """Scores several models in each segment, since the start and in tumbling windows of `every` examples of all.

    Parameters
    ----------
    task, every, shard
        As for `Evaluate`.
    models
        Names, in the order in which their answers are handed in; more answers than these may be.
    columns
        What the values are of.
    most
        Values of a column that are told apart.
    minimum
        Scored examples that a segment needs for the `disparities` of its column.

    Metrics are those of `Evaluate` and, but for regression, the expected calibration error `ECE`.
    """

    def __init__(
        self,
        task: str,
        models: Sequence[str],
        columns: Sequence[str],
        most: int,
        every: int = 1000,
        shard: int = 0,
        minimum: int = 200,
    ) -> None:
        self.task: Task = check_task(task)
        self.models, self.columns = tuple(models), tuple(columns)
        self.most, self.every, self.shard = most, every, shard
        self.minimum = minimum
        self._scores = scores_for(task)
        self._reports = Reports(self.models, every, shard, self._read)
        self.window = self._reports.window
        self._calibrated = task != "regression"

    def stores(self) -> list[StoreSpec]:
        """Two cells: the names of the segments, and the scores in each."""
        columns = self.columns
        return [
            StoreSpec(_NAMES, "cell", lambda: {column: {} for column in columns}),
            StoreSpec(_CELL, "cell", lambda: {"n": 0, "cells": {}}),
        ]

    def compile(self, state: State) -> Callable[[Sequence[Any]], tuple[str, ...]]:
        """A function from the values of the columns to the names of their segments, which it keeps in the state."""
        known = [(column, state[_NAMES].value[column]) for column in self.columns]
        most = self.most

        def names(values: Sequence[Any]) -> tuple[str, ...]:
            pairs = zip(known, values, strict=True)
            return tuple([segment(column, by_value, value, most) for (column, by_value), value in pairs])

        return names

    def process_many(self, rows: Sequence[Row], state: State, roles: Mapping[str, str]) -> list[list[Evaluation]]:
        """Score many examples; for each the records that it led to: one where it filled the window.

        `roles` are those of the models now; one without a role gets no record.
        """
        value = state[_CELL].value
        found: list[list[Evaluation]] = [[] for _ in rows]
        start = 0
        while start < len(rows):
            part = rows[start : start + max(self.every - value["n"], 1)]  # windows may have been longer before
            self._score(part, value["cells"])
            start += len(part)
            value["n"] += len(part)
            if value["n"] >= self.every:
                value["n"] = 0
                found[start - 1] = self._close(value["cells"], part[-1], roles)
        return found

    def _score(self, rows: Sequence[Row], cells: dict[str, Any]) -> None:
        parts: dict[str, list[Row]] = {}
        for row in rows:
            for segment in row[2]:
                parts.setdefault(segment, []).append(row)
        for segment, part in parts.items():
            cell = cells.get(segment)
            if cell is None:
                models = [self._fresh() for _ in self.models]
                cell = cells[segment] = {"spans": [[0, 0, 0], [0, 0, 0]], "models": models}
            for span in cell["spans"]:
                if not span[0]:
                    span[1:] = part[0][3], part[0][4]
                span[0] += len(part)
            labels = [row[0] for row in part]
            for rank, ((overall, _), (window, bins)) in enumerate(cell["models"]):
                answers = [row[1][rank] for row in part]
                self._scores.update_many(overall, window, zip(labels, answers, strict=True))
                if self._calibrated:
                    calibration.update_many(self.task, bins, labels, answers)

    def _fresh(self) -> list[list[Any]]:
        return [[self._scores.fresh(), calibration.fresh()] for _ in range(2)]

    def _close(self, cells: dict[str, Any], last: Row, roles: Mapping[str, str]) -> list[Evaluation]:
        """The records of every segment with examples in the window, as segments came; and the disparities."""
        records = []
        for segment, cell in cells.items():
            spans, models = cell["spans"], cell["models"]
            if not spans[1][0]:
                continue
            for overall, window in models:
                calibration.add(overall[1], window[1])
            records += self._reports.both(spans, models, (last[3], last[4]), roles, segment)
            for pair in models:
                pair[1] = [self._scores.fresh(), calibration.fresh()]
            spans[1] = [0, 0, 0]
        return records + disparities(records, self.minimum)

    def _read(self, cell: Any) -> tuple[int, dict[str, float | None]]:
        scored, metrics = self._scores.scored(cell[0]), self._scores.values(cell[0])
        return scored, metrics | ({"ECE": calibration.expected_error(cell[1])} if self._calibrated else {})


def segment(column: str, by_value: dict[str, str], value: Any, most: int) -> str:
    """The name of a value's segment; `by_value` has those that are told apart, `most` of them, and may get another."""
    text = (value if value.__class__ is str else str(value))[:_CHARACTERS]
    name = by_value.get(text)
    if name is None:
        name = f"{column}={OTHERS}"
        if len(by_value) < most:
            name = by_value[text] = f"{column}={text}"
    return name


def resized(state: State, ranks: Sequence[int | None], task: Task) -> None:
    """Bring the models' scores into a new order, in place: each one's rank of before, None for a new one."""
    scores = scores_for(task)
    for cell in state[_CELL].value["cells"].values():
        kept = cell["models"]
        cell["models"] = [
            [[scores.fresh(), calibration.fresh()] for _ in range(2)] if rank is None else kept[rank] for rank in ranks
        ]
