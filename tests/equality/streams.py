"""River's data sets as the events and labels of a pipeline, and as the rows that River itself is given."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

from river import datasets

from headrace import Backtest, Events, Labels, Pipeline, field
from headrace.streams import memory

__all__ = ["STREAMS", "Stream", "backtest", "rows"]

STEP_MS = 1_000
"""Time between two rows; a label without a delay comes one millisecond after its event."""


@dataclass(frozen=True)
class Stream:
    """A data set and its task."""

    dataset: Callable[[], Any]
    task: Any
    label: str


STREAMS = {
    "Phishing": Stream(datasets.Phishing, "binary", "boolean"),
    "Bananas": Stream(datasets.Bananas, "binary", "boolean"),
    "ImageSegments": Stream(datasets.ImageSegments, "multiclass", "string"),
    "TrumpApproval": Stream(datasets.TrumpApproval, "regression", "double"),
}


@cache
def rows(name: str, limit: int | None = None) -> list[tuple[dict[str, Any], Any]]:
    """The rows of a data set in their order, the columns in theirs.

    Columns are renamed, as `1` and `vedge-mean` are no names in Avro, such that their alphabetical order stays: River's
    forests draw from it.
    """
    found = list(STREAMS[name].dataset())[:limit]
    return [({"x_" + column.replace("-", "_"): value for column, value in x.items()}, y) for x, y in found]


def pipeline(name: str, models: dict[str, Any], champion: str) -> Pipeline:
    """A pipeline whose features are the columns as they are."""
    stream, (first, _) = STREAMS[name], rows(name)[0]
    types = {column: "long" if type(value) is int else "double" for column, value in first.items()}
    time = {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}}
    head = [{"name": "id", "type": "long"}, {"name": "entity", "type": "string"}, time]
    columns = [{"name": column, "type": type_} for column, type_ in types.items()]
    told = [{"name": "id", "type": "long"}, time, {"name": "y", "type": stream.label}]
    return Pipeline(
        name.lower(),
        task=stream.task,
        events=Events(
            {"type": "record", "name": "Row", "fields": head + columns},
            id="id",
            key="entity",
            time="at",
            duplicates_within="365d",
        ),
        labels=Labels({"type": "record", "name": "Answer", "fields": told}, id="id", time="at", y="y", ttl="365d"),
        features={column: field(column) for column in types},
        models=models,
        champion=champion,
    )


def backtest(name: str, data: list[Any], models: dict[str, Any], delay: Any = None, champion: str = "") -> Backtest:
    """The runtime in memory over `data`. `delay` counts rows, or is a function of (x, y) that does."""
    late = delay if callable(delay) else lambda x, y: delay
    events, labels = [], []
    for i, (x, y) in enumerate(data):
        at = i * STEP_MS
        events.append((b"-", json.dumps({"id": i, "entity": "-", "at": at} | x).encode()))
        known = at + 1 if delay is None else at + late(x, y) * STEP_MS
        labels.append((known, json.dumps({"id": i, "at": known, "y": y}).encode()))
    labels.sort(key=lambda label: label[0])
    declared = pipeline(name, models, champion or next(iter(models)))
    return memory.run(declared, [[(b"-", value) for _, value in labels], events], now_ms=365 * 86_400_000)
