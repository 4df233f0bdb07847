"""Which column is the label, and what kind of task it makes."""

from __future__ import annotations

from headrace.schemas.columns import Column
from headrace.streams.errors import UsageError
from headrace.streams.scaffold.plan import Plan, Wishes, few, words

__all__ = ["choose_label"]

_LABELS = (
    "label", "target", "y", "class", "outcome", "default", "churn", "churned", "fraud", "clicked", "click", "spam",
    "converted", "survived", "response", "result", "quality", "species", "category", "sentiment", "late", "price",
)  # fmt: skip

_POSITIVE = (
    "1", "true", "yes", "y", "t", "positive", "pos", "+", "spam", "fraud", "phishing", "bad", "churned", "late",
    "malicious", "attack", "anomaly", "default", "won", "up", "success", "1.0", "p", "m",
)  # fmt: skip

CLASSES = 30


def choose_label(plan: Plan, left: dict[str, Column], wishes: Wishes) -> Column:
    """Take the column that was named, else one that is called so, else the last; answers it."""
    name = wishes.label
    if name is None:
        name = _guessed_label(plan, left, wishes)
    chosen = left.pop(name, None)
    if chosen is None:
        what = "tells the time" if name in plan.table.header and name == _source(plan, plan.time) else "is empty"
        raise UsageError(f"--label is {name!r}, which {what}: name the column that is to be predicted.")
    plan.label = chosen
    plan.task = wishes.task or _task(chosen)
    _check_task(plan, chosen)
    if chosen.missing:
        plan.notes.append(
            f"rows without a label: {chosen.missing:,}; they are predicted, and nothing is learned from them"
        )
    return chosen


def _source(plan: Plan, name: str) -> str | None:
    column = plan.fields.get(name)
    return None if column is None else column.name


def _guessed_label(plan: Plan, left: dict[str, Column], wishes: Wishes) -> str:
    free = [n for n in left if n not in (wishes.id, wishes.key, wishes.label_time) and left[n].kind != "time"]
    usable = [n for n in free if _labels_something(left[n])]
    if not usable:
        raise UsageError(f"No column of {plan.table.path.name} looks like a label: name it with --label.")
    for hint in _LABELS:
        fits = [name for name in usable if hint in words(name)]
        if fits:
            return fits[-1]
    if usable[-1] != free[-1]:
        raise UsageError(f"Which column is to be predicted cannot be told: name it with --label, one of {few(usable)}.")
    plan.notes.append(f"the label is taken to be the last column, {usable[-1]!r} (--label names another)")
    return usable[-1]


def _labels_something(column: Column) -> bool:
    if column.distinct < 2:
        return False
    return column.number or column.kind == "boolean" or (column.kind == "category" and column.distinct <= CLASSES)


def _task(column: Column) -> str:
    if column.distinct == 2:
        return "binary"
    if column.kind == "double" or (column.kind == "long" and column.distinct > CLASSES):
        return "regression"
    return "multiclass"


def _check_task(plan: Plan, column: Column) -> None:
    name, task = column.name, plan.task
    if column.distinct < 2:
        raise UsageError(f"{name!r} has one value only, {few(column.values)}: there is nothing to predict.")
    if task == "binary":
        if column.distinct != 2:
            raise UsageError(
                f"{name!r} has {column.distinct} values, and a binary label has two: --task names another."
            )
        low = {value.strip().lower(): value for value in column.values}
        plan.positive = next((low[hint] for hint in _POSITIVE if hint in low), None)
        if plan.positive is None:
            counts = [(plan.table.cells(name).count(value), value) for value in column.values]
            plan.positive = min(counts)[1]
            plan.notes.append(f"{name!r} is true where it is {plan.positive!r}, the rarer of its two values")
    elif task == "regression" and not column.number:
        words = column.odd or column.values or ("text",)
        raise UsageError(f"{name!r} holds {few(words)}, which are no numbers: --task names another.")
    elif task == "multiclass":
        if column.kind == "double":
            raise UsageError(f"{name!r} holds fractions, and a class is a word or a whole number: --task regression?")
        if column.distinct > CLASSES:
            raise UsageError(f"{name!r} has {column.distinct:,} values, too many for classes: --label names another.")
