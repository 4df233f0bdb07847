"""The Avro records that Headrace publishes: features and examples, encoded as single objects.

A value is the Avro single-object header (C3 01 and the schema's CRC-64-AVRO fingerprint) and the record. The event's
declared columns and the computed features are nested records, so that equal names do not collide.
"""

from __future__ import annotations

import keyword
import math
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from headrace.schemas.avro import encoding_space, expressions, fields_of, record_decoder, record_encoder, single_object
from headrace.schemas.contract import Field
from headrace.schemas.names import named_once
from headrace.schemas.wire import BadRecord

__all__ = ["ExamplesWire", "FeaturesWire", "number_of"]

_LABELS = {"binary": "boolean", "multiclass": "string", "regression": "double"}


class FeaturesWire:
    """`P.features`: what was known about an event when it was predicted.

    `id_field` and `event` are spelled out: what they name is in them. `time_field` is the column that holds the event
    time as it is published, where there is one.
    """

    def __init__(
        self,
        pipeline: str,
        id_field: Mapping[str, Any],
        event: Sequence[Any],
        features: Sequence[Any],
        *,
        time_field: str | None = None,
    ) -> None:
        head = [
            {"name": "event_id", "type": id_field["type"], "doc": "the event's id"},
            {"name": "time_ms", "type": "long", "doc": "event time"},
            {"name": "partition", "type": "int", "doc": "of the event's topic"},
            {"name": "offset", "type": "long", "doc": "of the event in its partition"},
        ]
        self.schema = _schema(f"{avro_name(pipeline)}_features", head, event=event, features=features)
        self._header = single_object(self.schema)
        same = {"event_id": str(id_field["name"])} | ({} if time_field is None else {"time_ms": time_field})
        self.encode = _nested(
            self._header,
            "event_id, time_ms, partition, offset, event, packed",
            [(head, lambda field: field.name), (event, lambda field: _attribute("event", field.name))],
            same,
        )
        """``encode(event_id, time_ms, partition, offset, event, packed)``: one record.

        `event` has the columns as attributes; `packed` is what `pack` makes of the features.
        """
        self.pack = record_encoder(list(features), "item")
        self._decode = record_decoder(self.schema)
        self._doubles = _doubles(features)

    def decode(self, value: bytes | None) -> dict[str, Any]:
        """What `encode` was given, missing features absent; anything else is a BadRecord."""
        record = _decode(self._header, self._decode, value)
        _check(record["features"], self._doubles)
        record["features"] = _present(record["features"])
        return record


class ExamplesWire:
    """`P.examples`: the training log. Features, the label, the prediction that was served, and the running number."""

    def __init__(self, pipeline: str, task: str, id_field: Mapping[str, Any], features: Sequence[Any]) -> None:
        label = _LABELS[task]
        head = [
            {"name": "n", "type": "long", "doc": "running number of the example in its shard, from 1"},
            {"name": "event_id", "type": id_field["type"], "doc": "the event's id"},
            {"name": "time_ms", "type": "long", "doc": "event time"},
            {"name": "label_time_ms", "type": "long", "doc": "when the label became known"},
            {"name": "partition", "type": "int", "doc": "of the event's topic"},
            {"name": "offset", "type": "long", "doc": "of the event in its partition"},
            {"name": "model", "type": ["null", "string"], "doc": "the version that predicted: name/shard@n"},
            {"name": "label", "type": label, "doc": "what turned out"},
            {"name": "prediction", "type": ["null", label], "doc": "what was served"},
            {"name": "probability", "type": ["null", "double"], "doc": "of True (binary)"},
        ]
        self.schema = _schema(f"{avro_name(pipeline)}_examples", head, features=features)
        self._header = single_object(self.schema)
        names = ", ".join(str(field["name"]) for field in head)
        self.encode = _nested(self._header, f"{names}, packed", [(head, partial(_value, task))])
        """``encode(n, event_id, ..., probability, packed)``: one record; `packed` is what `pack` makes of features."""
        self.pack = record_encoder(list(features), "item")
        self._decode = record_decoder(self.schema)
        self._unpack = record_decoder({"type": "record", "name": "features", "fields": list(features)})
        self._head, self._doubles = _doubles(head), _doubles(features)

    def told(self, x: Mapping[str, Any]) -> dict[str, Any]:
        """The features as whoever reads the example finds them: those declared, in their order; raises if one lacks."""
        return _present(self._unpack(self.pack(x), 0)[0])

    def decode(self, value: bytes | None) -> dict[str, Any]:
        """One example as a dict; anything else is a BadRecord."""
        record = _decode(self._header, self._decode, value)
        _check(record, self._head)
        _check(record["features"], self._doubles)
        record["features"] = _present(record["features"])
        return record


def _present(features: Mapping[str, Any]) -> dict[str, Any]:
    """Those that are not missing."""
    return {name: value for name, value in features.items() if value is not None}


def _schema(name: str, head: Sequence[Any], **records: Sequence[Any]) -> dict[str, Any]:
    """The Avro schema of a record of ours: its head, and nested records. An enum may be called as one of them is."""
    taken = dict.fromkeys((name, "event", "features"))
    nested = [{"name": own, "type": {"type": "record", "name": own, "fields": list(records[own])}} for own in records]
    return {"type": "record", "name": name, "fields": named_once([*head, *nested], taken)}


def _nested(
    header: bytes,
    arguments: str,
    records: Sequence[tuple[Sequence[Any], Callable[[Field], str]]],
    same: Mapping[str, str] | None = None,
) -> Callable[..., bytes]:
    """A function of `arguments` that writes records one after the other: their fields, and where a field's value is.

    What follows them comes ready, as `packed`. `same` names fields of the first record whose bytes are those of a field
    of the second.
    """
    space = encoding_space() | {"header": header}
    parts = ["header"]
    for number, (fields, read) in enumerate(records):
        keep = {name: f"{name}_bytes" for name in same or {}} if number == 0 else {}
        kept = {other: f"{name}_bytes" for name, other in (same or {}).items()} if number == 1 else {}
        unique = ("event_id", "model") if number == 0 else ()
        parts += expressions(fields_of(fields), read, space, f"{number}_", keep, kept, unique)
    source = f"def encode({arguments}):\n    return join(({', '.join(parts)}, packed))"
    exec(compile(source, "<record encoder>", "exec"), space)
    encode: Callable[..., bytes] = space["encode"]
    return encode


def _value(task: str, field: Field) -> str:
    """A value of an example's head: labels are text in a multiclass pipeline."""
    if task != "multiclass" or field.name not in ("label", "prediction"):
        return field.name
    return f"None if {field.name} is None else str({field.name})" if field.nullable else f"str({field.name})"


def _attribute(name: str, field: str) -> str:
    return f"getattr({name}, {field!r})" if keyword.iskeyword(field) else f"{name}.{field}"


def number_of(value: bytes | None) -> int | None:
    """The running number of an example, whatever features it has; None of what is no example."""
    if value is None or not value.startswith(b"\xc3\x01"):
        return None
    number = shift = 0
    for byte in value[10:20]:  # the first field, a zigzag varint
        number |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return (number >> 1) ^ -(number & 1)
    return None


def _doubles(avro_fields: Sequence[Any]) -> tuple[str, ...]:
    """The fields that hold floating-point numbers."""
    return tuple(field.name for field in fields_of(avro_fields) if field.kind in ("float", "double"))


def _check(record: Mapping[str, Any], names: Sequence[str]) -> None:
    """We publish finite numbers only: what is handed on counts on it."""
    for name in names:
        number = record[name]
        if number is not None and not math.isfinite(number):
            raise BadRecord("malformed", f"{name} is no finite number")


def avro_name(name: str) -> str:
    """`name` as a legal Avro name."""
    return re.sub(r"\W", "_", name)


def _decode(header: bytes, decode: Any, value: bytes | None) -> dict[str, Any]:
    if value is None:
        raise BadRecord("null", "the record has no value")
    if not value.startswith(header):
        raise BadRecord("unknown_schema", "the record does not carry this pipeline's schema")
    try:
        record, end = decode(value, len(header))
    except Exception as error:
        raise BadRecord("malformed", "the Avro record is damaged") from error
    if end != len(value):
        raise BadRecord("malformed", "the Avro record is damaged")
    return dict(record)
