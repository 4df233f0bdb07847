"""The inputs of a pipeline, as its author declares them: events, and labels."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from headrace.schemas.contract import Schema, load_schema
from headrace.schemas.wire import Decoder, time_of
from headrace.streams.declaration.legal import column, legal
from headrace.streams.errors import DeclarationError

__all__ = ["MOST_CLASSES", "Events", "Labels", "class_type", "reader_of", "schema_of"]

MOST_CLASSES = 1_000
_CLASSES = {"string": str, "enum": str, "int": int, "long": int, "boolean": bool}
"""Kinds of fields that hold multiclass labels."""


@dataclass(frozen=True, slots=True)
class Events:
    """The events a pipeline predicts on.

    Parameters
    ----------
    schema
        An Avro record of primitives: the path of an .avsc file (relative to the pipeline's file), a dict, or JSON text.
    id, key, time
        The fields holding the event's id (text, an enum or a whole number), its entity, and its event time (a
        timestamp, or an ISO-8601 string).
    format
        ``json`` or ``avro`` (registry-framed, or single-object encoding).
    expect
        What else must hold of a field: `between`, `one_of`, `matches`, `max_length`.
    duplicates_within
        How long, in stream time, an event id is remembered. At least the labels' `ttl`.
    grace
        Events up to this much behind stream time still change windows; later ones are only predicted. So it is with
        labels: one later than this changes no window over outcomes, but trains.
    far_future
        Stream time may run ahead of Kafka's time by this much and no more: beyond `grace`, one producer's wrong clock
        would keep everybody's events out of the windows.
        An event whose time is more than this ahead of its Kafka record time is a dead letter.
    max_bytes
        A longer value or key is a dead letter. Topics are made to take what may come of it.
    schemas
        Writers' schemas by registry id, for ``avro``.
    """

    schema: Any
    id: str
    key: str
    time: str
    format: Literal["json", "avro"] = "json"
    expect: Mapping[str, Any] = field(default_factory=dict)
    duplicates_within: str = "2d"
    grace: str = "15m"
    far_future: str = "10m"
    max_bytes: int = 1_000_000
    schemas: Mapping[int, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Labels:
    """The feedback: what turned out, when it became known.

    Parameters
    ----------
    schema, id, time, format, expect, far_future, max_bytes, schemas
        As for `Events`; `time` is when the label became known.
    y
        The field holding the label, or a function of the label record; in a multiclass pipeline one that says what it
        returns (``-> str``, ``int`` or ``bool``).
    ttl
        How long an event waits for its label, in stream time.
    on_expiry
        ``"drop"``, or the label that an expired event counts as (no click: ``False``).
    most_classes
        Of a multiclass pipeline: so many classes at most. Once its labels (whatever became of them) had so many, one of
        another class is a dead letter: what models and metrics keep grows with the classes.
    """

    schema: Any
    id: str
    time: str
    y: str | Callable[[Any], Any]
    ttl: str = "2d"
    on_expiry: Any = "drop"
    format: Literal["json", "avro"] = "json"
    expect: Mapping[str, Any] = field(default_factory=dict)
    far_future: str = "10m"
    max_bytes: int = 1_000_000
    schemas: Mapping[int, Any] = field(default_factory=dict)
    most_classes: int = MOST_CLASSES


def schema_of(declared: Events | Labels, base: Path, what: str) -> Schema:
    """The schema of an input, when it has what the input names."""
    try:
        schema = load_schema(declared.schema, base=base, expect=declared.expect)
    except (ValueError, OSError) as error:
        raise DeclarationError(f"{what}.schema: {error}") from error
    legal(declared.format, declared.format in ("json", "avro"), f"{what}.format", "json, avro")
    for part in ("id", "time", "key") if isinstance(declared, Events) else ("id", "time"):
        column(schema, getattr(declared, part), f"{what}.{part}")
    kinds = {f["name"]: (f["type"], f["nullable"]) for f in schema.columns()}
    kind, nullable = kinds[declared.id]
    usable = kind in ("string", "int", "long", "enum") and not nullable
    legal(declared.id, usable, f"{what}.id", "a string or integer, not nullable")
    return schema


def class_type(labels: Labels, schema: Schema) -> type:
    """The type of a multiclass label: that of its field, or what the function says that it returns."""
    if not callable(labels.y):
        kind = schema.field(labels.y).kind
        return _CLASSES[legal(kind, kind in _CLASSES, "labels.y", "a field that is " + ", ".join(_CLASSES))]
    try:
        returned: type = inspect.signature(labels.y, eval_str=True).return_annotation
    except (ValueError, TypeError, NameError):
        returned = inspect.Signature.empty
    if returned not in (str, int, bool):
        raise DeclarationError(
            "labels.y is a function that does not say what it returns, and examples have multiclass labels as text: "
            "write it as def name(label) -> str (or int, or bool)."
        )
    return returned


def reader_of(schema: Schema, declared: Events | Labels) -> tuple[Callable[[bytes | None], Any], Callable[[Any], int]]:
    """How an input's bytes become a record, and how a record tells its time."""
    decoder = Decoder(schema, declared.format, max_bytes=declared.max_bytes, schemas=declared.schemas)
    return decoder.decode, time_of(schema, declared.time)
