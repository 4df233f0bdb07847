"""The records Headrace publishes, and the input record it is given.

JSON records are msgspec structs, encoded in field order. Published bytes name input coordinates only:
no output offset and no wall clock. Times are milliseconds since 1970-01-01T00:00:00Z (event time).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

__all__ = ["REASONS", "Alert", "Evaluation", "Input", "Prediction"]


class Input(NamedTuple):
    """One input record as the chain sees it; `payload` is what `value` decoded to, or a `BadRecord`."""

    time_ms: int
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    timestamp_ms: int
    payload: Any


class Prediction(msgspec.Struct, frozen=True, gc=False):
    """One answer of the champion (or, on the shadow topic, of a challenger)."""

    event_id: str | int
    time_ms: int
    prediction: bool | int | float | str | None
    probability: float | None
    probabilities: dict[str, float] | None
    reason: str | None
    model: str
    learned_until_ms: int | None
    behind_ms: int | None
    partition: int
    offset: int
    columns: dict[str, Any]


class Evaluation(msgspec.Struct, frozen=True):
    """Progressive metrics of one model or baseline, overall or in a window of examples."""

    model: str
    role: str
    shard: int
    segment: str | None
    window: str
    n: int
    scored: int
    first_n: int
    last_n: int
    first_time_ms: int
    last_time_ms: int
    metrics: dict[str, float | None]


class Alert(msgspec.Struct, frozen=True):
    """Something an operator may want to know, with its evidence."""

    alert_id: str
    kind: str
    signal: str
    severity: str
    status: str
    message: str
    detector: str
    statistic: dict[str, float]
    n: int
    topic: str
    partition: int
    first_offset: int
    last_offset: int
    time_ms: int


REASONS: dict[str, str] = {
    "null": "the record has no value",
    "too_large": "the value is longer than the declared maximum",
    "not_utf8": "the value is not UTF-8",
    "malformed": "the value is not a whole document of the declared format",
    "too_deep": "the document is nested too deeply",
    "missing_field": "a required field is absent",
    "wrong_type": "a field has another type than the schema says",
    "non_finite": "a number is NaN, infinite, or too large to represent",
    "out_of_range": "a number is outside the declared range",
    "not_allowed": "a value is not among the declared ones",
    "unknown_schema": "the schema that the record names is not known",
    "far_future": "the event time is too far ahead of the record's own Kafka time",
    "feature_error": "a feature raised",
    "feature_nan": "a feature is NaN or infinite",
    "feature_type": "a feature has another type than it declares",
    "predict_error": "the champion raised, or answered NaN",
    "train_error": "a model raised while learning",
    "bad_label": "the label function raised or gave an illegal label",
    "orphan": "no event with this id came within the label's time to live",
    "late_label": "the label came after its event had expired",
}
