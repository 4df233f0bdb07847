"""What each column of a table is for: id, time, label, key or feature; named by a person, else told from the table.

Every decision that the table does not force is a note, for the person to agree or say otherwise.
"""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass, field
from datetime import timedelta
from statistics import median
from typing import Any

from headrace.schemas.columns import Column, column_of, field_name
from headrace.streams.errors import UsageError
from headrace.streams.scaffold.table import Table

__all__ = ["Plan", "Wishes", "plan_of"]

_LABELS = (
    "label", "target", "y", "class", "outcome", "default", "churn", "churned", "fraud", "clicked", "click", "spam",
    "converted", "survived", "response", "result", "quality", "species", "category", "sentiment", "late", "price",
)  # fmt: skip
_KEYS = (
    "user", "customer", "client", "account", "device", "sensor", "machine", "host", "card", "store", "shop", "station",
    "vehicle", "patient", "player", "merchant", "symbol", "ticker", "origin", "branch", "site", "chick", "subject",
    "session", "member", "household", "driver", "carrier", "employee", "seller", "region", "city", "country",
)  # fmt: skip
_POSITIVE = (
    "1", "true", "yes", "y", "t", "positive", "pos", "+", "spam", "fraud", "phishing", "bad", "churned", "late",
    "malicious", "attack", "anomaly", "default", "won", "up", "success", "1.0", "p", "m",
)  # fmt: skip
_TEXTS = 2
_CLASSES = 30
_TTL_DAYS = 2
_SPANS = ("1h", "6h", "1d", "7d", "30d")
_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


@dataclass(frozen=True, slots=True)
class Wishes:
    """What a person said about the columns; None: to be told from the table."""

    label: str | None = None
    time: str | None = None
    id: str | None = None
    key: str | None = None
    task: str | None = None
    label_time: str | None = None
    time_format: str | None = None


@dataclass(slots=True)
class Plan:
    """A table's columns by what they are for, under the names of the fields that they become.

    `fields` are the columns that events have, by field name; `label`, `label_time` are the label's. `id` and `time` are
    field names, of a column or made; `key` is the entity's field, or the id where there is none. `features` are field
    names with how they are used: number, flag, category or text. `positive` is the value that counts as true.
    """

    table: Table
    task: str = ""
    fields: dict[str, Column] = field(default_factory=dict)
    label: Column | None = None
    label_field: str = ""
    positive: str | None = None
    id: str = "event_id"
    id_made: bool = True
    time: str = "event_time"
    time_made: bool = True
    label_time: Column | None = None
    key: str = "event_id"
    features: dict[str, str] = field(default_factory=dict)
    hour: bool = False
    weekday: bool = False
    span: str | None = None
    delay: str = "1m"
    ttl: str = "2d"
    shuffle: bool = False
    notes: list[str] = field(default_factory=list)

    @property
    def has_key(self) -> bool:
        """Whether events belong to entities that come again."""
        return self.key != self.id


def plan_of(table: Table, wishes: Wishes) -> Plan:
    """What every column is for; UsageError says in one sentence what has to be named."""
    named = {what: getattr(wishes, what) for what in ("label", "time", "id", "key", "label_time")}
    for what, name in named.items():
        if name is not None and name not in table.header:
            option = what.replace("_", "-")
            raise UsageError(f"--{option} is {name!r}, but {table.path.name} has the columns {_few(table.header)}.")
    columns = {
        name: column_of(
            name, table.cells(name), wishes.time_format if name in (wishes.time, wishes.label_time) else None
        )
        for name in table.header
    }
    plan = Plan(table, notes=list(table.notes))
    left = {name: column for name, column in columns.items() if column.kind != "empty"}
    if len(left) < len(columns):
        plan.notes.append(f"left out, as they are empty: {_few([name for name in columns if name not in left])}")
    taken: set[str] = {"event_id", "event_time", "known_at"}
    _choose_time(plan, left, wishes, taken)
    label = _choose_label(plan, left, wishes)
    _choose_id(plan, left, wishes, taken)
    _choose_label_time(plan, left, wishes)
    _leave_out_later(plan, left)
    for name, column in left.items():
        plan.fields[field_name(name, taken)] = column
        taken.add(next(reversed(plan.fields)))
    plan.label_field = field_name(label.name, taken)
    _choose_key(plan, wishes)
    _choose_features(plan, wishes)
    _choose_times(plan)
    _choose_order(plan, label)
    return plan


# -- one role after the other ----------------------------------------------------------------------------------------


def _choose_time(plan: Plan, left: dict[str, Column], wishes: Wishes, taken: set[str]) -> None:
    moments = [column for column in left.values() if column.kind == "time" and column.name != wishes.label_time]
    if wishes.time is not None:
        chosen = left.get(wishes.time)
        if chosen is None or chosen.kind != "time":
            raise UsageError(
                f"--time is {wishes.time!r}, but its cells ({_few(plan.table.cells(wishes.time)[:2])}) tell no time "
                "that is known here: name their format with --time-format, such as '%d.%m.%Y %H:%M'."
            )
        _read_all(plan, chosen, "--time-format")
    elif moments:
        whole = [column for column in moments if not column.missing] or moments
        chosen = whole[0]
    else:
        plan.notes.append("no column tells the time: rows are taken a minute apart, in their order (--time names one)")
        return
    left.pop(chosen.name)
    plan.time, plan.time_made = field_name(chosen.name, taken - {"event_time"}), False
    taken.add(plan.time)
    plan.fields[plan.time] = chosen
    if chosen.missing:
        plan.notes.append(f"{chosen.missing:,} rows have no time in {chosen.name!r}: they become dead letters")
    if chosen.moment is not None and chosen.moment.ambiguous:
        plan.notes.append(
            f"{chosen.name!r} is read as {chosen.moment.format}, though day and month may be the other way round "
            "(--time-format says)"
        )


def _read_all(plan: Plan, column: Column, option: str) -> None:
    """Every cell can be read with the format that was named."""
    assert column.moment is not None
    for cell in {cell.strip() for cell in plan.table.cells(column.name)}:
        try:
            column.moment.read(cell)
        except ValueError as error:
            if cell and column_of("", [cell]).kind != "empty":
                raise UsageError(f"{option} does not fit {cell!r} in column {column.name!r}: {error}.") from error


def _choose_label(plan: Plan, left: dict[str, Column], wishes: Wishes) -> Column:
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
            f"{chosen.missing:,} rows have no label: they are predicted, and nothing is learned from them"
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
        fits = [name for name in usable if hint in _words(name)]
        if fits:
            return fits[-1]
    if usable[-1] != free[-1]:
        raise UsageError(
            f"Which column is to be predicted cannot be told: name it with --label, one of {_few(usable)}."
        )
    plan.notes.append(f"the label is taken to be the last column, {usable[-1]!r} (--label names another)")
    return usable[-1]


def _labels_something(column: Column) -> bool:
    if column.distinct < 2:
        return False
    return column.number or column.kind == "boolean" or (column.kind == "category" and column.distinct <= _CLASSES)


def _task(column: Column) -> str:
    if column.distinct == 2:
        return "binary"
    if column.kind == "double" or (column.kind == "long" and column.distinct > _CLASSES):
        return "regression"
    return "multiclass"


def _check_task(plan: Plan, column: Column) -> None:
    name, task = column.name, plan.task
    if column.distinct < 2:
        raise UsageError(f"{name!r} has one value only, {_few(column.values)}: there is nothing to predict.")
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
        raise UsageError(
            f"{name!r} holds {_few(column.values or ('text',))}, which are no numbers: --task names another."
        )
    elif task == "multiclass":
        if column.kind == "double":
            raise UsageError(f"{name!r} holds fractions, and a class is a word or a whole number: --task regression?")
        if column.distinct > _CLASSES:
            raise UsageError(f"{name!r} has {column.distinct:,} values, too many for classes: --label names another.")


def _choose_id(plan: Plan, left: dict[str, Column], wishes: Wishes, taken: set[str]) -> None:
    rows = len(plan.table.rows)
    name = wishes.id
    if name is not None:
        chosen = left.get(name)
        if chosen is None or chosen.missing or chosen.kind not in ("long", "string", "category", "text"):
            raise UsageError(f"--id is {name!r}, which cannot be one: an id is a word or a whole number in every row.")
        if chosen.distinct < rows and chosen.kind != "text":
            plan.notes.append(
                f"{rows - chosen.distinct:,} rows have an id that came before: they are duplicates, and left out"
            )
    else:
        whole = [c for c in left.values() if c.distinct == rows and not c.missing and c.kind in ("long", "string")]
        named = [c for c in whole if _is_id(c.name)]
        if not named:
            return
        name = named[0].name
    column = left.pop(name)
    plan.id, plan.id_made = field_name(name, taken - {"event_id"}), False
    taken.add(plan.id)
    plan.key = plan.id
    plan.fields[plan.id] = column


def _is_id(name: str) -> bool:
    words = _words(name)
    return name.startswith("Unnamed: ") or bool({"id", "uuid", "guid", "index", "no", "nr", "rowid"} & set(words))


def _choose_label_time(plan: Plan, left: dict[str, Column], wishes: Wishes) -> None:
    if wishes.label_time is None:
        return
    chosen = left.pop(wishes.label_time, None)
    if chosen is None or chosen.kind != "time" or plan.time_made:
        raise UsageError(
            f"--label-time is {wishes.label_time!r}, which is not the time of a label: it needs a column of times "
            "beside that of the events (--time, --time-format)."
        )
    _read_all(plan, chosen, "--time-format")
    plan.label_time = chosen


def _leave_out_later(plan: Plan, left: dict[str, Column]) -> None:
    """Other times may lie after the event: what is known only then is no feature."""
    others = [name for name, column in left.items() if column.kind == "time"]
    for name in others:
        left.pop(name)
    if others:
        plan.notes.append(f"left out, as they may be known only later: {_few(others)}")


def _choose_key(plan: Plan, wishes: Wishes) -> None:
    plan.key = plan.id
    rows = len(plan.table.rows)
    if wishes.key is not None:
        found = [name for name, column in plan.fields.items() if column.name == wishes.key]
        if not found:
            raise UsageError(f"--key is {wishes.key!r}, which is the label or empty: a key is what events are about.")
        plan.key = found[0]
        return
    for name, column in plan.fields.items():
        again = 2 <= column.distinct <= rows / 3 and not column.missing
        if again and column.kind in ("long", "string", "category") and _is_key(column.name):
            plan.key = name
            plan.notes.append(f"events belong to the entities in {column.name!r} (--key names another column)")
            return


def _is_key(name: str) -> bool:
    """Whether a name is that of an entity: customer, customer_id, store nr; not region_centroid."""
    words = set(_words(name))
    return bool(words & set(_KEYS)) and words <= {*_KEYS, "id", "name", "code", "no", "nr", "number", "key"}


def _choose_features(plan: Plan, wishes: Wishes) -> None:
    used = {"long": "number", "double": "number", "boolean": "flag", "category": "category", "text": "text"}
    unused: list[str] = []
    texts = 0
    for name, column in plan.fields.items():
        if name in (plan.id, plan.time) or (name == plan.key and column.kind not in ("category",)):
            continue
        kind = used.get(column.kind)
        if column.distinct < 2 or kind is None or (column.kind == "long" and _is_id(column.name)):
            unused.append(column.name)
        elif kind != "text" or texts < _TEXTS:
            plan.features[name] = kind
            texts += kind == "text"
    if unused:
        plan.notes.append(f"no features, as they are constant, ids, or of too many values: {_few(unused)}")
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


def _choose_times(plan: Plan) -> None:
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


def _choose_order(plan: Plan, label: Column) -> None:
    """Without times, rows that are sorted by their label would teach one class after the other."""
    if not plan.time_made or plan.task == "regression" or len(plan.table.rows) < 50:
        return
    cells = plan.table.cells(label.name)
    changes = sum(a != b for a, b in itertools.pairwise(cells))
    shares = [cells.count(value) / len(cells) for value in label.values]
    if changes < 0.2 * len(cells) * (1 - sum(share**2 for share in shares)):
        plan.shuffle = True
        plan.notes.append("the rows are sorted by label, so they are shuffled (with a seed)")


# -- words -------------------------------------------------------------------------------------------------------------


def _words(name: str) -> list[str]:
    return re.sub(r"[^a-z0-9]+", " ", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()).split()


def _few(names: Any) -> str:
    shown = [repr(str(name)[:60]) for name in list(names)[:8]]
    return ", ".join(shown) + (", ..." if len(names) > 8 else "")


def _seconds(span: str) -> int:
    return int(span[:-1]) * _SECONDS[span[-1]]
