"""Records of a pipeline's topics, decoded for people."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from headrace.schemas.wire import BadRecord
from headrace.streams.commands.output import escaped
from headrace.streams.errors import UNREADABLE
from headrace.streams.journal import numbers
from headrace.streams.journal import read as read_entry
from headrace.streams.log import Record
from headrace.streams.packing import unpack
from headrace.streams.pipeline import Pipeline
from headrace.streams.stages.chain import Chain
from headrace.streams.topology import group_of

__all__ = ["decoder", "plain"]


def decoder(pipeline: Pipeline, role: str) -> Callable[[Record], Any]:
    """What a record of the topic with this role says, as plain values; bytes that say nothing come back escaped."""
    decode = _decoder(pipeline, role)

    def value(record: Record) -> Any:
        try:
            return decode(record)
        except (BadRecord, TypeError, *UNREADABLE):
            return escaped(record.value, 400)

    return value


def plain(record: Record, value: Any) -> dict[str, Any]:
    """A record with its coordinates, ready for JSON."""
    out = {
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "timestamp_ms": record.timestamp_ms,
        "key": None if record.key is None else escaped(record.key, 400),
        "value": value,
    }
    if record.headers:
        out["headers"] = {name: escaped(text, 400) for name, text in record.headers}
    return out


def _decoder(pipeline: Pipeline, role: str) -> Callable[[Record], Any]:
    if role in ("features", "examples"):
        chain = Chain(pipeline, group_of())
        wire = chain.features_wire if role == "features" else chain.examples_wire
        return lambda record: wire.decode(record.value)
    if role in ("events", "labels"):
        declared = pipeline.events if role == "events" else pipeline.labels
        if declared.format == "avro":
            read, _ = pipeline.event_decoder() if role == "events" else pipeline.label_decoder()
            schema = pipeline.event_schema if role == "events" else pipeline.label_schema
            return lambda record: _attributes(read(record.value), schema.names)
    if role == "journal":
        return lambda record: _entry(record.value)
    if role == "state":
        return lambda record: {"entry": unpack(record.key or b""), "bytes": len(record.value or b"")}
    if role == "dead-letter":
        return lambda record: escaped(record.value, 400)
    return lambda record: msgspec.json.decode(record.value or b"")


def _attributes(payload: Any, names: Any) -> dict[str, Any]:
    return {name: getattr(payload, name) for name in names}


def _entry(value: bytes) -> dict[str, Any]:
    entry = read_entry(value)
    out: dict[str, Any] = {"kind": type(entry).__name__.lower()}
    for name in entry.__struct_fields__:
        field = getattr(entry, name)
        out[name] = numbers(field) if name == "runs" else field.hex() if isinstance(field, bytes) else field
    return out
