"""Which columns are the time, the id, the entity, and the time of the label."""

from __future__ import annotations

from headrace.schemas.columns import Column, column_of, field_name
from headrace.streams.errors import UsageError
from headrace.streams.scaffold.plan import Plan, Wishes, few, words

__all__ = ["choose_id", "choose_key", "choose_label_time", "choose_time", "is_id", "leave_out_later"]

_KEYS = (
    "user", "customer", "client", "account", "device", "sensor", "machine", "host", "card", "store", "shop", "station",
    "vehicle", "patient", "player", "merchant", "symbol", "ticker", "origin", "branch", "site", "chick", "subject",
    "session", "member", "household", "driver", "carrier", "employee", "seller", "region", "city", "country",
)  # fmt: skip


def choose_time(plan: Plan, left: dict[str, Column], wishes: Wishes, taken: set[str]) -> None:
    """Take the column that was named, else the first of times; without one, rows are a minute apart."""
    moments = [column for column in left.values() if column.kind == "time" and column.name != wishes.label_time]
    if wishes.time is not None:
        chosen = left.get(wishes.time)
        if chosen is None or chosen.kind != "time":
            raise UsageError(
                f"--time is {wishes.time!r}, but its cells ({few(plan.table.cells(wishes.time)[:2])}) tell no time "
                "that is known here: name their format with --time-format, such as '%d.%m.%Y %H:%M'."
            )
        check_format(plan, chosen)
    elif moments:
        whole = [column for column in moments if not column.missing] or moments
        chosen = whole[0]
        plan.notes.append(f"the time of an event is taken to be in {chosen.name!r} (--time names another column)")
    else:
        plan.notes.append("no column tells the time: rows are taken a minute apart, in their order (--time names one)")
        return
    left.pop(chosen.name)
    plan.time, plan.time_made = field_name(chosen.name, taken - {"event_time"}), False
    taken.add(plan.time)
    plan.fields[plan.time] = chosen
    if chosen.missing:
        plan.notes.append(f"rows without a time in {chosen.name!r}: {chosen.missing:,}; they become dead letters")
    cells = (cell for cell in plan.table.cells(chosen.name) if column_of("", [cell]).kind != "empty")
    if chosen.moment is not None and chosen.moment.zoneless(next(cells)):
        plan.notes.append(f"{chosen.name!r} names no time zone: it is taken to be UTC")
    if chosen.moment is not None and chosen.moment.ambiguous:
        plan.notes.append(
            f"{chosen.name!r} is read as {chosen.moment.format}, though day and month may be the other way round "
            "(--time-format says)"
        )


def check_format(plan: Plan, column: Column) -> None:
    """Raise `UsageError` unless every cell can be read with the format that was named."""
    assert column.moment is not None
    for cell in {cell.strip() for cell in plan.table.cells(column.name)}:
        try:
            column.moment.read(cell)
        except ValueError as error:
            if cell and column_of("", [cell]).kind != "empty":
                raise UsageError(f"--time-format does not fit {cell!r} in column {column.name!r}: {error}.") from error


def choose_id(plan: Plan, left: dict[str, Column], wishes: Wishes, taken: set[str]) -> None:
    """Take the column that was named, else one that is called so and differs in every row."""
    rows = len(plan.table.rows)
    name = wishes.id
    if name is not None:
        chosen = left.get(name)
        if chosen is None or chosen.missing or chosen.kind not in ("long", "string", "category", "text"):
            raise UsageError(f"--id is {name!r}, which cannot be one: an id is a word or a whole number in every row.")
        if chosen.distinct < rows and chosen.kind != "text":
            plan.notes.append(
                f"rows with an id that came before: {rows - chosen.distinct:,}; they are duplicates, and left out"
            )
    else:
        whole = [c for c in left.values() if c.distinct == rows and not c.missing and c.kind in ("long", "string")]
        named = [c for c in whole if is_id(c.name)]
        if not named:
            return
        name = named[0].name
    column = left.pop(name)
    plan.id, plan.id_made = field_name(name, taken - {"event_id"}), False
    taken.add(plan.id)
    plan.key = plan.id
    plan.fields[plan.id] = column


def is_id(name: str) -> bool:
    """Whether a name is that of an id."""
    return name.startswith("Unnamed: ") or bool({"id", "uuid", "guid", "index", "no", "nr", "rowid"} & {*words(name)})


def choose_label_time(plan: Plan, left: dict[str, Column], wishes: Wishes) -> None:
    """Take the column that was named, or none."""
    if wishes.label_time is None:
        return
    chosen = left.pop(wishes.label_time, None)
    if chosen is None or chosen.kind != "time" or plan.time_made:
        raise UsageError(
            f"--label-time is {wishes.label_time!r}, which is not the time of a label: it needs a column of times "
            "beside that of the events (--time, --time-format)."
        )
    check_format(plan, chosen)
    plan.label_time = chosen


def leave_out_later(plan: Plan, left: dict[str, Column]) -> None:
    """Other times may lie after the event: what is known only then is no feature."""
    others = [name for name, column in left.items() if column.kind == "time"]
    for name in others:
        left.pop(name)
    if others:
        plan.notes.append(f"left out, as they may be known only later: {few(others)}")


def choose_key(plan: Plan, wishes: Wishes) -> None:
    """Take the column that was named, else one that is called like an entity and comes again."""
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
    parts = set(words(name))
    return bool(parts & set(_KEYS)) and parts <= {*_KEYS, "id", "name", "code", "no", "nr", "number", "key"}
