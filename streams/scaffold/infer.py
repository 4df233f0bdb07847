"""What each column of a table is for: named by a person, else told from the table.

Every decision that the table does not force is a note, for the person to agree or say otherwise.
"""

from __future__ import annotations

from dataclasses import replace

from headrace.schemas.columns import Column, column_of, field_name
from headrace.streams.errors import UsageError
from headrace.streams.scaffold.labels import choose_label
from headrace.streams.scaffold.plan import Plan, Wishes, few
from headrace.streams.scaffold.roles import choose_id, choose_key, choose_label_time, choose_time, leave_out_later
from headrace.streams.scaffold.table import Table
from headrace.streams.scaffold.uses import choose_features, choose_order, choose_times

__all__ = ["plan_of"]


def plan_of(table: Table, wishes: Wishes) -> Plan:
    """What every column is for; UsageError says in one sentence what has to be named."""
    named = {what: getattr(wishes, what) for what in ("label", "time", "id", "key", "label_time")}
    for what, name in named.items():
        if name is not None and name not in table.header:
            option = what.replace("_", "-")
            raise UsageError(f"--{option} is {name!r}, but {table.path.name} has the columns {few(table.header)}.")
    if wishes.time_format is not None and wishes.time is None and wishes.label_time is None:
        raise UsageError("--time-format is of a column that is named: add --time COLUMN, or --label-time COLUMN.")
    columns = {
        name: column_of(
            name, table.cells(name), wishes.time_format if name in (wishes.time, wishes.label_time) else None
        )
        for name in table.header
    }
    plan = Plan(table, notes=list(table.notes))
    _settle(plan, columns)
    left = {name: column for name, column in columns.items() if column.kind != "empty"}
    if len(left) < len(columns):
        plan.notes.append(f"left out, as they are empty: {few([name for name in columns if name not in left])}")
    taken: set[str] = {"event_id", "event_time", "known_at"}
    choose_time(plan, left, wishes, taken)
    label = choose_label(plan, left, wishes)
    choose_id(plan, left, wishes, taken)
    choose_label_time(plan, left, wishes)
    leave_out_later(plan, left)
    for name, column in left.items():
        plan.fields[field_name(name, taken)] = column
        taken.add(next(reversed(plan.fields)))
    plan.label_field = field_name(label.name, taken)
    choose_key(plan, wishes)
    choose_features(plan)
    choose_times(plan)
    choose_order(plan, label)
    return plan


def _settle(plan: Plan, columns: dict[str, Column]) -> None:
    """What 1,234 is, other columns and the separator tell; what is nearly all numbers is said to be words."""
    clear = {column.decimal for column in columns.values() if column.kind == "double" and not column.unclear}
    for name, column in columns.items():
        mark = column.decimal
        if column.unclear:
            other = {",": ".", ".": ","}[mark]
            thousands = mark not in clear and (other in clear or mark == plan.table.separator)
            if thousands:
                columns[name] = replace(column, decimal=other, group=mark)
            if thousands or mark == ",":
                shown = next(cell.strip() for cell in plan.table.cells(name) if mark in cell)
                read = shown.replace(mark, "" if thousands else ".")
                plan.notes.append(f"{shown!r} in {name!r} is taken to be {read}")
        if column.odd:
            plan.notes.append(f"{name!r} is no number, as of these cells: {few(column.odd)} (empty them in the file?)")
