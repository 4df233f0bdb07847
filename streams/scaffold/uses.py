"""What the other columns are used for: features, windows, and how labels lag behind."""

from __future__ import annotations

import itertools
from datetime import timedelta
from statistics import median
from typing import Any

from headrace.processors.windows import duration
from headrace.schemas.columns import Column, column_of
from headrace.streams.errors import UsageError
from headrace.streams.scaffold.plan import Plan, few
from headrace.streams.scaffold.roles import is_id

__all__ = ["choose_features", "choose_order", "choose_times"]

_TEXTS = 2
_TTL_DAYS = 2
_SPANS = ("1h", "6h", "1d", "7d", "30d")


def choose_features(plan: Plan) -> None:
    """Use columns as their kind asks; what is constant, an id, or of too many values is left out, and said."""
    used = {"long": "number", "double": "number", "boolean": "flag", "category": "category", "text": "text"}
    unused: list[str] = []
    texts = 0
    for name, column in plan.fields.items():
        if name in (plan.id, plan.time) or (name == plan.key and column.kind not in ("category",)):
            continue
        kind = used.get(column.kind)
        if column.distinct < 2 or kind is None or (column.kind == "long" and is_id(column.name)):
            unused.append(column.name)
        elif kind != "text" or texts < _TEXTS:
            plan.features[name] = kind
            texts += kind == "text"
    if unused:
        plan.notes.append(f"no features, as they are constant, ids, or of too many values: {few(unused)}")
    leaks = [name for name in plan.features if _leaks(plan, plan.fields[name])]
    for name in leaks:
        plan.notes.append(f"{plan.fields[name].name!r} tells the label all but exactly: is it known before the label?")


def _leaks(plan: Plan, column: Column) -> bool:
    """Whether each of a few values goes with one label nearly always, though labels differ."""
    if plan.label is None or plan.task == "regression" or not 2 <= column.distinct <= len(column.values):
        return False
    pairs: dict[str, dict[str, int]] = {}
    for cell, y in zip(plan.table.cells(column.name), plan.table.cells(plan.label.name), strict=True):
        told = pairs.setdefault(cell, {})
        told[y] = told.get(y, 0) + 1
    rows = len(plan.table.rows)
    return rows >= 20 * column.distinct and sum(max(told.values()) for told in pairs.values()) >= 0.999 * rows


def choose_times(plan: Plan) -> None:
    """Hour and weekday where they differ, windows per entity, and when labels are known."""
    if plan.time_made:
        _need_features(plan)
        return
    times = sorted(_moments(plan, plan.fields[plan.time]))
    days = (times[-1] - times[0]) / timedelta(days=1) if times else 0.0
    hours = {moment.hour for moment in times}
    plan.hour, plan.weekday = len(hours) > 3 and days > 2, len({m.weekday() for m in times}) > 3 and days > 21
    gaps = [(b - a).total_seconds() for a, b in itertools.pairwise(times) if b > a]
    if times:
        entities = plan.fields[plan.key].distinct if plan.has_key else 1
        mean_gap = (times[-1] - times[0]).total_seconds() * entities / len(times)
        plan.span = next((span for span in _SPANS if _seconds(span) >= 10 * mean_gap), _SPANS[-1])
    if plan.label_time is None:
        gap = median(gaps) if gaps else 0.0
        plan.delay = next((delay for delay in ("1m", "5m", "1h", "6h", "1d") if _seconds(delay) >= gap), "7d")
        plan.notes.append(
            f"labels are taken to be known {plan.delay} after their event (--label-time names a column that says)"
        )
        longest = float(_seconds(plan.delay))
    else:
        longest = _longest(plan)
    if longest > 86_400 * _TTL_DAYS * 0.8:
        plan.ttl = f"{min(365, round(longest / 86_400 * 1.5) + 1)}d"
    _need_features(plan)


def _need_features(plan: Plan) -> None:
    if not plan.features and not plan.hour and not (plan.span is not None and plan.task == "regression"):
        raise UsageError(
            f"{plan.table.path.name} has nothing that a model could learn from beside id, time, key and label "
            f"({plan.label and plan.label.name!r}): numbers, flags or words of a few kinds."
        )


def _moments(plan: Plan, column: Column) -> list[Any]:
    assert column.moment is not None
    missing = {cell for cell in set(plan.table.cells(column.name)) if column_of("", [cell]).kind == "empty"}
    read = {cell: column.moment.read(cell) for cell in set(plan.table.cells(column.name)) - missing}
    return [read[cell] for cell in plan.table.cells(column.name) if cell not in missing]


def _longest(plan: Plan) -> float:
    """How long all but a few labels take, in seconds."""
    assert plan.label_time is not None
    column, known = plan.fields[plan.time], plan.label_time
    assert column.moment is not None
    assert known.moment is not None
    waits = []
    for begun, ended in zip(plan.table.cells(column.name), plan.table.cells(known.name), strict=True):
        if column_of("", [begun]).kind != "empty" and column_of("", [ended]).kind != "empty":
            waits.append((known.moment.read(ended) - column.moment.read(begun)).total_seconds())
    waits.sort()
    return waits[int(0.999 * (len(waits) - 1))] if waits else 0.0


def choose_order(plan: Plan, label: Column) -> None:
    """Without times, rows that are sorted by their label would teach one class after the other."""
    if not plan.time_made or plan.task == "regression" or len(plan.table.rows) < 50:
        return
    cells = plan.table.cells(label.name)
    changes = sum(a != b for a, b in itertools.pairwise(cells))
    shares = [cells.count(value) / len(cells) for value in label.values]
    if changes < 0.2 * len(cells) * (1 - sum(share**2 for share in shares)):
        plan.shuffle = True
        plan.notes.append("the rows are sorted by label, so they are shuffled (with a seed)")


def _seconds(span: str) -> int:
    return duration(span) // 1_000
