"""Progressive evaluation: every answer is scored when its label becomes known, before anything learns from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from headrace.processors.base import State, StoreSpec
from headrace.processors.metrics import Task, check_task, scores_for
from headrace.processors.reports import Reports
from headrace.schemas.records import Evaluation

__all__ = ["ROLES", "Evaluate"]

ROLES: tuple[str, str, str] = ("champion", "challenger", "baseline")

_CELL = "evaluation"


class Evaluate:
    """Scores the answers of several models, since the start and in tumbling windows of `every` examples.

    Parameters
    ----------
    task
        "binary", "multiclass" or "regression".
    models
        Names, in the order in which their answers are handed in.
    roles
        "champion", "challenger" or "baseline" for each model. Whoever evaluates while roles change hands them in with
        the rows; a model without a role there gets no record.
    every
        Examples in a window, which is named `last-<every>`; whenever one is full, each model gets a record for it
        and one named `overall`. Examples count whether or not a model answered; `scored` says how many answers did.
    shard
        The model shard that the records name.

    The state is one plain cell: the counts of examples, and for each model a cell of `metrics` for both spans.
    """

    def __init__(
        self, task: str, models: Sequence[str], roles: Mapping[str, str], every: int = 1000, shard: int = 0
    ) -> None:
        self.task: Task = check_task(task)
        self.models = tuple(models)
        self.roles = dict(roles)
        self.every = every
        self.shard = shard
        self._scores = scores_for(task)
        self._reports = Reports(self.models, every, shard, self._read)
        self.window = self._reports.window
        if not self.models or len(set(self.models)) != len(self.models):
            raise ValueError(f"models must be one or more different names; got {self.models!r}")
        if set(self.roles) != set(self.models) or not set(self.roles.values()) <= set(ROLES):
            raise ValueError(f"roles must give each of {self.models!r} one of {', '.join(ROLES)}; got {self.roles!r}")
        if every < 1:
            raise ValueError(f"every must be at least 1; got {every!r}")

    def stores(self) -> list[StoreSpec]:
        """Return the one cell that `process` keeps."""
        return [StoreSpec(_CELL, "cell", self._initial)]

    def process(self, y: Any, answers: Sequence[Any], n: int, time_ms: int, state: State) -> list[Evaluation]:
        """Score one example's answers, in the order of `models`; return records if this example fills the window.

        `n` is the example's running number, `time_ms` its time. An answer is {class: probability}, a label, a
        number, or None.
        """
        return self.process_many([(y, answers, n, time_ms)], state)[0]

    def process_many(
        self,
        rows: Sequence[tuple[Any, Sequence[Any], int, int]],
        state: State,
        roles: Mapping[str, str] | None = None,
    ) -> list[list[Evaluation]]:
        """`process` for many examples (y, answers, n, time_ms) at once; what it returned for each.

        `roles` are those of now, where they are not the declared ones.
        """
        now = self.roles if roles is None else roles
        value = state[_CELL].value
        found: list[list[Evaluation]] = [[] for _ in rows]
        start = 0
        while start < len(rows):
            room = max(self.every - value["spans"][1][0], 1)  # windows may have been longer before
            part = rows[start : start + room]
            labels = [row[0] for row in part]
            by_model = zip(*(row[1] for row in part), strict=True)
            for cells, answers in zip(value["models"], by_model, strict=True):
                self._scores.update_many(cells[0], cells[1], zip(labels, answers, strict=True))
            start += len(part)
            if self._count(value["spans"], part):
                found[start - 1] = self._close(value, part[-1][2], part[-1][3], now)
        return found

    def _count(self, spans: list[list[int]], part: Sequence[tuple[Any, Sequence[Any], int, int]]) -> bool:
        """Count examples, of which at most the last fills the window; whether it does."""
        overall, span = spans
        if not span[0]:
            _, _, span[1], span[2] = part[0]
            if not overall[0]:
                overall[1], overall[2] = span[1], span[2]
        span[0] += len(part)
        return span[0] >= self.every

    def summary(self, state: State) -> dict[str, dict[str, float | None]]:
        """Return the overall metrics of every model as they stand now."""
        cells = state[_CELL].value["models"]
        return {model: self._scores.values(pair[0]) for model, pair in zip(self.models, cells, strict=True)}

    def fresh(self) -> list[Any]:
        """The scores of a model that has none: since the start, and in the window."""
        return [self._scores.fresh(), self._scores.fresh()]

    def _initial(self) -> dict[str, Any]:
        return {"spans": [[0, 0, 0], [0, 0, 0]], "models": [self.fresh() for _ in self.models]}

    def _close(self, value: dict[str, Any], n: int, time_ms: int, roles: Mapping[str, str]) -> list[Evaluation]:
        """Return each model's records of the full window and of everything so far, and start the next window."""
        overall, window = value["spans"]
        overall[0] += window[0]
        records = self._reports.both(value["spans"], value["models"], (n, time_ms), roles)
        for cells in value["models"]:
            cells[1] = self._scores.fresh()
        window[:] = (0, 0, 0)
        return records

    def _read(self, cell: Any) -> tuple[int, dict[str, float | None]]:
        return self._scores.scored(cell), self._scores.values(cell)
