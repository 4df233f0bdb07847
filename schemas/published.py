"""The Avro records that Headrace publishes: features and examples, encoded as single objects.

A value is the Avro single-object header (C3 01 and the schema's CRC-64-AVRO fingerprint) and the record. The event's
declared columns and the computed features are nested records, so that equal names do not collide.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from headrace.schemas.avro import record_decoder, record_encoder, single_object
from headrace.schemas.varint import long_bytes
from headrace.schemas.wire import BadRecord

__all__ = ["ExamplesWire", "FeaturesWire"]

_BOOLEAN = {False: b"\x00", True: b"\x01"}
_DOUBLE = struct.Struct("<d")
_LABELS = {"binary": "boolean", "multiclass": "string", "regression": "double"}


class FeaturesWire:
    """`P.features`: what was known about an event when it was predicted."""

    def __init__(
        self, pipeline: str, id_field: Mapping[str, Any], event: Sequence[Any], features: Sequence[Any]
    ) -> None:
        head = [
            {"name": "event_id", "type": id_field["type"], "doc": "the event's id"},
            {"name": "time_ms", "type": "long", "doc": "event time"},
            {"name": "partition", "type": "int", "doc": "of the event's topic"},
            {"name": "offset", "type": "long", "doc": "of the event in its partition"},
        ]
        self.schema = {
            "type": "record",
            "name": f"{avro_name(pipeline)}_features",
            "fields": [
                *head,
                {"name": "event", "type": {"type": "record", "name": "event", "fields": list(event)}},
                {"name": "features", "type": {"type": "record", "name": "features", "fields": list(features)}},
            ],
        }
        self._header = single_object(self.schema)
        self._id = _text if id_field["type"] == "string" else long_bytes
        self._event = record_encoder(list(event), "attr")
        self._features = record_encoder(list(features), "item")
        self._decode = record_decoder(self.schema)

    def encode(
        self, event_id: Any, time_ms: int, partition: int, offset: int, event: Any, x: Mapping[str, Any]
    ) -> bytes:
        """The bytes of one record; `event` has the declared columns as attributes."""
        return b"".join(
            (
                self._header,
                self._id(event_id),
                long_bytes(time_ms),
                long_bytes(partition),
                long_bytes(offset),
                self._event(event),
                self._features(x),
            )
        )

    def decode(self, value: bytes | None) -> dict[str, Any]:
        """What `encode` was given, missing features absent; anything else is a BadRecord."""
        record = _decode(self._header, self._decode, value)
        record["features"] = {name: v for name, v in record["features"].items() if v is not None}
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
        self.schema = {
            "type": "record",
            "name": f"{avro_name(pipeline)}_examples",
            "fields": [
                *head,
                {"name": "features", "type": {"type": "record", "name": "features", "fields": list(features)}},
            ],
        }
        self._header = single_object(self.schema)
        self._id = _text if id_field["type"] == "string" else long_bytes
        self._label: Callable[[Any], bytes] = {"boolean": _BOOLEAN.__getitem__, "string": _text, "double": _DOUBLE.pack}[label]
        self._features = record_encoder(list(features), "item")
        self._decode = record_decoder(self.schema)

    def encode(self, head: tuple[Any, ...], x: Mapping[str, Any]) -> bytes:
        """The bytes of one record; `head` holds the values before the features, in the order of the schema."""
        n, event_id, time_ms, label_time_ms, partition, offset, model, label, prediction, probability = head
        return b"".join(
            (
                self._header,
                long_bytes(n),
                self._id(event_id),
                long_bytes(time_ms),
                long_bytes(label_time_ms),
                long_bytes(partition),
                long_bytes(offset),
                b"\x00" if model is None else b"\x02" + _text(model),
                self._label(label),
                b"\x00" if prediction is None else b"\x02" + self._label(prediction),
                b"\x00" if probability is None else b"\x02" + _DOUBLE.pack(probability),
                self._features(x),
            )
        )

    def decode(self, value: bytes | None) -> dict[str, Any]:
        """One example as a dict; anything else is a BadRecord."""
        record = _decode(self._header, self._decode, value)
        record["features"] = {name: v for name, v in record["features"].items() if v is not None}
        return record


def _text(value: Any) -> bytes:
    data = str(value).encode()
    return long_bytes(len(data)) + data


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
