"""Reports: the records of an evaluation when a window is full: of each model there, and of everything so far."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from headrace.schemas.records import Evaluation

__all__ = ["OVERALL", "Read", "Reports"]

OVERALL = "overall"

Read = Callable[[Any], tuple[int, dict[str, float | None]]]
"""From a cell of scores: how many answers it has scored, and the metrics."""


class Reports:
    """Makes the records of several models.

    Parameters
    ----------
    models
        Names, in the order of their cells.
    every, shard
        Examples in a window, which is named `last-<every>`, and what records name.
    read
        What is in a cell.
    """

    def __init__(self, models: Sequence[str], every: int, shard: int, read: Read) -> None:
        self.models, self.shard, self.read = tuple(models), shard, read
        self.window = f"last-{every}"

    def both(
        self,
        spans: Sequence[Sequence[int]],
        cells: Sequence[Sequence[Any]],
        last: tuple[int, int],
        roles: Mapping[str, str],
        segment: str | None = None,
    ) -> list[Evaluation]:
        """For each model that has a role now its record of the window, and then that of everything.

        Spans and cells are pairs, of everything and of the window; a span is how many examples, and the first one's
        running number and time, `last` those of the last.
        """
        records = []
        for model, pair in zip(self.models, cells, strict=True):
            if (role := roles.get(model)) is not None:
                for window, at in ((self.window, 1), (OVERALL, 0)):
                    records.append(self._record(model, role, segment, window, spans[at], pair[at], last))
        return records

    def _record(
        self,
        model: str,
        role: str,
        segment: str | None,
        window: str,
        span: Sequence[int],
        cell: Any,
        last: tuple[int, int],
    ) -> Evaluation:
        scored, metrics = self.read(cell)
        return Evaluation(
            model=model,
            role=role,
            shard=self.shard,
            segment=segment,
            window=window,
            n=span[0],
            scored=scored,
            first_n=span[1],
            last_n=last[0],
            first_time_ms=span[2],
            last_time_ms=last[1],
            metrics=metrics,
        )
