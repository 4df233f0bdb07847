"""Sources: how the records of one input become something with a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from headrace.processors.base import DETAIL_CHARACTERS
from headrace.processors.features import duration
from headrace.schemas.published import ExamplesWire, FeaturesWire
from headrace.schemas.records import BEFORE_ALL, Command, Fact, Input, Long
from headrace.schemas.wire import BadRecord
from headrace.streams.errors import UNREADABLE
from headrace.streams.pipeline import Pipeline

__all__ = ["Source", "source_of"]

_ANSWERS: dict[str, Any] = {"binary": bool, "multiclass": bool | Long | str, "regression": float}


class Source(NamedTuple):
    """How one input is read: bytes to record, record to time.

    And how far ahead of its Kafka time a record may be, and how long its key: what is made of it carries the key.
    """

    role: str
    topic: str
    decode: Callable[[bytes | None], Any]
    time_of: Callable[[Any], int]
    far_future_ms: int | None = None
    longest_key: int = 1 << 62

    def reader(self, last_ms: int) -> Callable[[int, int, bytes | None, bytes | None, int], Input]:
        """``read(partition, offset, key, value, at_ms)``: a record with its time.

        An unreadable one has the time of the record before it, at first `last_ms`.
        """
        decode, time_of, far_ms, make = self.decode, self.time_of, self.far_future_ms, tuple.__new__
        longest = self.longest_key

        def read(partition: int, offset: int, key: bytes | None, value: bytes | None, at_ms: int) -> Input:
            nonlocal last_ms
            try:
                if key is not None and len(key) > longest:
                    raise BadRecord("too_large", f"expected a key of at most {longest} bytes, got {len(key)}")
                payload = decode(value)
                time_ms = time_of(payload)
                if far_ms is not None and time_ms > at_ms + far_ms:
                    raise BadRecord("far_future", "the event time is too far ahead of the record's own time")
            except BadRecord as unreadable:
                return Input(last_ms, partition, offset, key, value, at_ms, unreadable)
            last_ms = time_ms
            return make(Input, (time_ms, partition, offset, key, value, at_ms, payload))

        return read


def source_of(pipeline: Pipeline, role: str, topic: str, features: FeaturesWire, examples: ExamplesWire) -> Source:
    """The source for an input with this role."""
    if role == "events":
        decode, time_of = pipeline.event_decoder()
        return Source(role, topic, decode, time_of, duration(pipeline.events.far_future), pipeline.events.max_bytes)
    if role == "labels":
        decode, time_of = pipeline.label_decoder()
        return Source(role, topic, decode, time_of, duration(pipeline.labels.far_future), pipeline.labels.max_bytes)
    if role == "registry":
        return Source(role, topic, _registry_decoder(), lambda record: BEFORE_ALL)
    # What we publish comes after what it was made of, whose own Kafka time may be ahead by `grace` (docs/topics.md).
    far_ms = duration(pipeline.events.far_future) + pipeline.grace_ms
    if role == "features":
        return Source(role, topic, features.decode, lambda record: int(record["time_ms"]), far_ms)
    if role == "examples":
        far_ms = max(far_ms, duration(pipeline.labels.far_future) + pipeline.grace_ms)
        return Source(role, topic, examples.decode, lambda record: int(record["label_time_ms"]), far_ms)
    return Source(role, topic, _prediction_decoder(pipeline.task), lambda record: int(record.time_ms), far_ms)


def _registry_decoder() -> Callable[[bytes | None], Command | Fact | BadRecord]:
    """Commands and facts; what is neither is handed on as it is, to become a dead letter without a time of its own."""
    decode: Callable[[bytes], Command | Fact] = msgspec.json.Decoder(Command | Fact).decode

    def read(value: bytes | None) -> Command | Fact | BadRecord:
        try:
            return decode(value or b"")
        except UNREADABLE as error:
            return BadRecord("malformed", f"neither a command nor a fact: {error}"[:DETAIL_CHARACTERS])

    return read


def _prediction_decoder(task: str) -> Callable[[bytes | None], Any]:
    """What the drift stage takes of a prediction, with the types of its task: state holds them."""
    fields = [
        ("event_id", str | Long),
        ("time_ms", Long),
        ("prediction", _ANSWERS[task] | None),
        ("probability", float | None),
        ("probabilities", dict[str, float] | None),
        ("partition", Long),
        ("offset", Long),
    ]
    decode = msgspec.json.Decoder(msgspec.defstruct("Answered", fields, frozen=True, gc=False)).decode

    def read(value: bytes | None) -> Any:
        try:
            return decode(value or b"")
        except UNREADABLE as error:
            raise BadRecord("malformed", "not a prediction") from error

    return read
