"""The schemas of a new pipeline: what an event is, and what its label."""

from __future__ import annotations

import json
from typing import Any

from headrace.schemas.columns import Column
from headrace.streams.scaffold.plan import Plan

__all__ = ["event_schema", "label_schema"]

_AVRO = {"boolean": "boolean", "long": "long", "double": "double"}

_TIMESTAMP: Any = {"type": "long", "logicalType": "timestamp-millis"}


def event_schema(plan: Plan, name: str) -> str:
    """event.avsc."""
    fields: list[dict[str, Any]] = []
    if plan.id_made:
        fields.append({"name": "event_id", "type": "string", "doc": "The number of the row."})
    if plan.time_made:
        fields.append({"name": "event_time", "type": _TIMESTAMP, "doc": "When it happened: rows are a minute apart."})
    for field, column in plan.fields.items():
        required = field in (plan.id, plan.time)
        fields.append(_field(field, column, required=required))
    about = f"What is known when a prediction is asked for: a row of {plan.table.path.name} without its label."
    return _avsc(f"{_camel(name)}Event", about, fields)


def label_schema(plan: Plan, name: str) -> str:
    """label.avsc."""
    assert plan.label is not None
    known = "When this became known." if plan.label_time else f"When this became known: {plan.delay} after the event."
    fields: list[dict[str, Any]] = [
        {"name": plan.id, "type": _id_type(plan), "doc": "The id of the event that this is about."},
        {"name": "known_at", "type": _TIMESTAMP, "doc": known},
        _field(plan.label_field, plan.label, required=True),
    ]
    return _avsc(f"{_camel(name)}Label", f"What turned out: {plan.label.name}.", fields)


def _id_type(plan: Plan) -> str:
    return "string" if plan.id_made else _AVRO.get(plan.fields[plan.id].kind, "string")


def _field(name: str, column: Column, *, required: bool) -> dict[str, Any]:
    kind: Any = _TIMESTAMP if column.kind == "time" else _AVRO.get(column.kind, "string")
    seen = _range(column)
    doc = f"Column {column.name!r}{seen}."
    if column.missing and not required:
        return {"name": name, "type": ["null", kind], "default": None, "doc": doc}
    return {"name": name, "type": kind, "doc": doc}


def _range(column: Column) -> str:
    if column.kind in ("category", "boolean") and len(column.values) <= 10:
        return ": " + ", ".join(value[:40] for value in column.values)
    return f": {column.distinct:,} different values"


def _avsc(record: str, doc: str, fields: list[dict[str, Any]]) -> str:
    head = json.dumps({"type": "record", "name": record, "doc": doc}, ensure_ascii=False, indent=2)[:-2]
    lines = ",\n".join("    " + json.dumps(field, ensure_ascii=False) for field in fields)
    return f'{head},\n  "fields": [\n{lines}\n  ]\n}}\n'


def _camel(name: str) -> str:
    parts = [part for part in "".join(c if c.isalnum() and c.isascii() else " " for c in name).split() if part]
    camel = "".join(part[0].upper() + part[1:] for part in parts)
    return camel if camel[:1].isalpha() else f"P{camel}"
