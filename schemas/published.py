"""The Avro records that Headrace publishes: features and examples, encoded as single objects.

A value is the Avro single-object header (C3 01 and the schema's CRC-64-AVRO fingerprint) and the record. The event's
declared columns and the computed features are nested records, so that equal names do not collide.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from headrace.schemas.avro import record_decoder, record_encoder, single_object
from headrace.schemas.wire import BadRecord

__all__ = ["ExamplesWire", "FeaturesWire"]

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
        self._head = record_encoder(head, "item")
        self._event = record_encoder(list(event), "attr")
        self._features = record_encoder(list(features), "item")
        self._decode = record_decoder(self.schema)

    def encode(
        self, event_id: Any, time_ms: int, partition: int, offset: int, event: Any, x: Mapping[str, Any]
    ) -> bytes:
        """The bytes of one record; `event` has the declared columns as attributes."""
        head = {"event_id": event_id, "time_ms": time_ms, "partition": partition, "offset": offset}
        return self._header + self._head(head) + self._event(event) + self._features(x)

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
        self._text = label == "string"
        self._header = single_object(self.schema)
        self._head = record_encoder(head, "item")
        self._features = record_encoder(list(features), "item")
        self._decode = record_decoder(self.schema)

    def encode(self, head: dict[str, Any], x: Mapping[str, Any]) -> bytes:
        """The bytes of one record; `head` holds the fields before the features."""
        if self._text:
            head["label"] = str(head["label"])
            head["prediction"] = None if head["prediction"] is None else str(head["prediction"])
        return self._header + self._head(head) + self._features(x)

    def decode(self, value: bytes | None) -> dict[str, Any]:
        """One example as a dict; anything else is a BadRecord."""
        record = _decode(self._header, self._decode, value)
        record["features"] = {name: v for name, v in record["features"].items() if v is not None}
        return record


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
