"""Breakdown: in which segments the mean of a signal has changed most, for the evidence of an alert.

Numbers only, of the newest 256 values at most; before is everything since the last change that started a reference
anew.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any

from headrace.processors.findings import Finding, Row, told
from headrace.processors.segments import segment

__all__ = ["Breakdown"]

_RECENT = 256
_MOST = 50
_LEAST = 5  # values of a segment, before and after, below which nothing is said of it
_TOLD = 3

Part = tuple[tuple[str, ...], float]

_NOTHING: Part = ((), 0.0)


class Breakdown:
    """Keeps what a signal was in each segment.

    Parameters
    ----------
    columns
        What the values that come with a row are of; of each the first 50 are told apart, and all others together.
    anew
        Whether after a finding what was found is what comes before the next.
    gaps
        Whether findings count what is no number among their values, too.
    """

    def __init__(self, columns: Sequence[str], *, anew: bool, gaps: bool) -> None:
        self.columns, self.anew, self.gaps = tuple(columns), anew, gaps

    def fresh(self) -> dict[str, Any]:
        """The state before the first value."""
        recent: deque[Part] = deque()
        return {"known": {column: {} for column in self.columns}, "before": {}, "recent": recent, "last": {}}

    def run(
        self,
        rows: Sequence[Row],
        values: Sequence[Sequence[Any]],
        found: Sequence[tuple[int, Finding]],
        state: dict[str, Any],
    ) -> list[dict[str, float]]:
        """Take in rows with their columns' values; for each row what is to be said of it and those before."""
        findings, out = dict(found), []
        for i, (row, of_row) in enumerate(zip(rows, values, strict=True)):
            self._take(row[0], of_row, state)
            if i in findings:
                state["last"] = self._changed(findings[i], state)
            out.append(state["last"])
        return out

    def _take(self, value: Any, of_row: Sequence[Any], state: dict[str, Any]) -> None:
        known, recent = state["known"], state["recent"]
        if not isinstance(value, int | float) or not math.isfinite(value):
            if not self.gaps:
                return
            recent.append(_NOTHING)
        else:
            pairs = zip(self.columns, of_row, strict=True) if len(of_row) == len(self.columns) else ()
            names = [segment(column, known[column], each, _MOST) for column, each in pairs]
            recent.append((tuple(names), float(value)))
        if len(recent) > _RECENT:
            _add(state["before"], [recent.popleft()])

    def _changed(self, finding: Finding, state: dict[str, Any]) -> dict[str, float]:
        """Segment → by how much its mean has changed, of those that changed most for their size."""
        recent = list(state["recent"])
        newest = max(len(recent) - int(finding.statistic.get("width", finding.n)), 0)
        before = {name: list(sums) for name, sums in state["before"].items()}
        after: dict[str, list[float]] = {}
        _add(before, recent[:newest])
        _add(after, recent[newest:])
        if self.anew:
            state["before"], state["recent"] = {}, deque(recent[newest:])
        ranked = []
        for name, (n, total) in after.items():
            earlier = before.get(name, (0, 0.0))
            if n >= _LEAST and earlier[0] >= _LEAST:
                change = total / n - earlier[1] / earlier[0]
                if math.isfinite(change):  # sums of the largest numbers overflow
                    ranked.append((-abs(change) * math.sqrt(n), name, told(change)))
        return {name: change for _, name, change in sorted(ranked)[:_TOLD]}


def _add(sums: dict[str, list[float]], parts: Iterable[Part]) -> None:
    for names, value in parts:
        for name in names:
            cell = sums.setdefault(name, [0, 0.0])
            cell[0] += 1
            cell[1] += value
