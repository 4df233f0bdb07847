"""Disparity: how far apart the best and the worst segment of a column are, by each metric.

The worst group is what an average hides (Buolamwini & Gebru 2018, "Gender shades"; Barocas, Hardt & Narayanan 2023,
"Fairness and machine learning", chapter 3). Metrics of few examples differ by chance, and the more segments there are
the further apart their extremes: so segments with fewer than a minimum are left out, and a gap is not yet a finding.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from headrace.processors.metrics import BIGGER_IS_BETTER
from headrace.schemas.records import Evaluation

__all__ = ["WINDOW", "disparities"]

WINDOW = "disparity-"
"""What the name of a window begins with, between the segments of which the disparity is."""

_BIGGER = BIGGER_IS_BETTER | {"ECE": False}


def disparities(records: Iterable[Evaluation], minimum: int) -> list[Evaluation]:
    """Of records of segments one for each model, window and column that has two or more with `minimum` scored examples.

    `metrics` are the distances of the worst from the best, and `between` says which these are.
    """
    groups: dict[tuple[str, str, str], list[Evaluation]] = {}
    for record in records:
        if record.segment is not None and record.scored >= minimum:
            column = record.segment.partition("=")[0]
            groups.setdefault((column, record.model, record.window), []).append(record)
    return [_apart(column, group) for (column, _, _), group in groups.items() if len(group) > 1]


def _apart(column: str, group: Sequence[Evaluation]) -> Evaluation:
    first = group[0]
    gaps: dict[str, float | None] = {}
    between: dict[str, list[str]] = {}
    for metric in first.metrics:
        known = [(value, str(each.segment)) for each in group if (value := each.metrics[metric]) is not None]
        gaps[metric] = None
        if len(known) > 1:
            low, high = min(known, key=_value), max(known, key=_value)
            gaps[metric] = high[0] - low[0]
            between[metric] = [low[1], high[1]] if _BIGGER[metric] else [high[1], low[1]]
    return Evaluation(
        model=first.model,
        role=first.role,
        shard=first.shard,
        segment=column,
        window=WINDOW + first.window,
        n=sum([each.n for each in group]),
        scored=sum([each.scored for each in group]),
        first_n=min(each.first_n for each in group),
        last_n=first.last_n,
        first_time_ms=min(each.first_time_ms for each in group),
        last_time_ms=first.last_time_ms,
        metrics=gaps,
        between=between,
    )


def _value(known: tuple[float, str]) -> float:
    return known[0]
