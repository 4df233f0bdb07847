"""Small pipelines that together use every part of the chain, and cost little."""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

from river import drift, linear_model, preprocessing

import headrace as h
from headrace.streams.pipeline import Pipeline

__all__ = ["SPAN_MS", "T0_MS", "Variant", "pipeline"]

T0_MS = 1_699_900_000_000
SPAN_MS = 6 * 3_600_000

_EVENT = {
    "type": "record",
    "name": "Event",
    "fields": [
        {"name": "id", "type": "string"},
        {"name": "who", "type": "string"},
        {"name": "t", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "v", "type": "double"},
        {"name": "c", "type": ["null", "string"], "default": None},
    ],
}
_LABEL = {
    "type": "record",
    "name": "Label",
    "fields": [
        {"name": "id", "type": "string"},
        {"name": "t", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "y", "type": "boolean"},
    ],
}


class Variant(NamedTuple):
    """What is drawn of a pipeline."""

    partitions: int
    on_expiry: Any
    live: bool
    short_ttl: bool


def half(event: Any) -> float:
    """A feature in plain Python that fails on some values."""
    return 1.0 / (event.v - 13.0)


@cache
def pipeline(variant: Variant) -> Pipeline:
    """The pipeline of a variant, made once."""
    return Pipeline(
        "sim",
        task="binary",
        events=h.Events(
            _EVENT, id="id", key="who", time="t", expect={"v": h.between(-100, 100)}, duplicates_within="9h"
        ),
        labels=h.Labels(
            _LABEL, id="id", time="t", y="y", ttl="40m" if variant.short_ttl else "3h", on_expiry=variant.on_expiry
        ),
        features={
            "v": h.field("v"),
            "half": half,
            "seen": h.count(by="who", over="1h", tile="10m"),
            "mean_v": h.mean("v", by="who", over="2h", tile="30m", default=0.0),
            "late": h.mean(h.label(), by="who", over="2h", tile="20m", default=0.0),
            "since": h.time_since_last(by="who", default=0.0),
        },
        models={
            "logreg": preprocessing.StandardScaler() | linear_model.LogisticRegression(),
            "alma": linear_model.ALMAClassifier(),
        },
        champion="logreg",
        drift=[
            h.watch_error(drift.PageHinkley(min_instances=4, threshold=0.4, delta=0.001)),
            h.watch_feature("late", drift.PageHinkley(min_instances=4, threshold=0.3, delta=0.001)),
        ],
        columns=["c"],
        live_from=T0_MS + SPAN_MS // 4 if variant.live else None,
        evaluate_every=7,
        partitions=variant.partitions,
    )
