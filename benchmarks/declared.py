"""The pipelines that scenarios run, made anew under a name of their own, and the records that go through them."""

from __future__ import annotations

import copy
import functools
import json
import random
from collections.abc import Sequence
from functools import partial
from typing import Any

from river.drift import ADWIN
from river.linear_model import LogisticRegression
from river.preprocessing import StandardScaler

from headrace import Events, Labels, Pipeline, count, field, label, mean, time_since_last, watch_error
from headrace.examples.flights import flights as example
from headrace.examples.flights_data import flights as flight_rows
from headrace.processors.compiled import PLANS
from headrace.streams import data
from headrace.streams.data import Outgoing
from headrace.streams.pipeline import OPTIONAL

__all__ = ["Records", "flight_records", "flights", "make", "synthetic", "synthetic_records"]

Records = tuple[list[Outgoing], list[Outgoing]]

_TIMESTAMP = {"type": "long", "logicalType": "timestamp-millis"}
_EVENT = {
    "type": "record",
    "name": "Reading",
    "fields": [
        {"name": "id", "type": "string"},
        {"name": "entity", "type": "string"},
        {"name": "at", "type": _TIMESTAMP},
        {"name": "value", "type": "double"},
        {"name": "padding", "type": "string"},
    ],
}
_LABEL = {
    "type": "record",
    "name": "Outcome",
    "fields": [{"name": "id", "type": "string"}, {"name": "at", "type": _TIMESTAMP}, {"name": "y", "type": "boolean"}],
}
_LABEL_DELAY_MS = 20_000
_START_MS = 1_700_000_000_000


def flights(
    name: str,
    drift: bool = False,
    model: str = "logreg",
    plans: Sequence[str] = PLANS,
    publish: Sequence[str] = OPTIONAL,
) -> Pipeline:
    """The example pipeline with one of its models; without its detectors unless `drift` is set."""
    pipeline = copy.copy(example)
    pipeline.name, pipeline.champion = name, model
    pipeline.models = {model: example.fresh_models()[model]}
    pipeline.plans, pipeline.publish = tuple(plans), tuple(publish)
    if not drift:
        pipeline.drift = ()
    return pipeline


@functools.lru_cache(maxsize=2)
def flight_records(count_: int) -> Records:
    """The first flights of 2013, and the labels of those that have one."""
    return data.records(example, flight_rows(count_))


def synthetic(name: str, tiles: int = 12, models: int = 1, partitions: int = 1, drift: bool = False) -> Pipeline:
    """Three windows by entity over `tiles` tiles of a minute, and `models` logistic regressions."""
    over = f"{tiles}m"
    windows: dict[str, Any] = {"by": "entity", "over": over, "tile": "1m"}
    return Pipeline(
        name,
        task="binary",
        events=Events(_EVENT, id="id", key="entity", time="at", duplicates_within="1m"),
        labels=Labels(_LABEL, id="id", time="at", y="y", ttl="1m"),
        features={
            "value": field("value"),
            "readings": count(**windows),
            "mean_value": mean("value", default=0.0, **windows),
            "late": mean(label(), default=0.0, **windows),
            "since_s": time_since_last(by="entity", over="7d", default=0.0),
        },
        models={f"logreg{i}": StandardScaler() | LogisticRegression() for i in range(models)},
        champion="logreg0",
        drift=[watch_error(ADWIN())] if drift else [],
        partitions=partitions,
    )


def synthetic_records(
    count_: int, keys: int, seed: int, payload: int = 100, touch: bool = False, step_ms: int = 10
) -> Records:
    """`count_` events of `keys` entities `step_ms` apart, labelled 20 s later; values of about `payload` bytes.

    With `touch`, the first events go through all keys once, so that state has its full size as soon as possible.
    """
    chance = random.Random(seed)
    events, labels = [], []
    for i in range(count_):
        at = _START_MS + i * step_ms
        entity = i % keys if touch and i < keys else chance.randrange(keys)
        value = chance.gauss(0.0, 1.0)
        name, key = f"r{i:08d}", f"e{entity:07d}"
        event = {"id": name, "entity": key, "at": at, "value": value, "padding": ""}
        line = json.dumps(event)
        if len(line) < payload:
            line = line[:-2] + "x" * (payload - len(line)) + line[-2:]
        events.append(Outgoing(at, key.encode(), line.encode()))
        known = at + _LABEL_DELAY_MS
        y = value + chance.gauss(0.0, 1.0) > 0
        labels.append(Outgoing(known, key.encode(), json.dumps({"id": name, "at": known, "y": y}).encode()))
    return events, labels


_KINDS = {"flights": flights, "synthetic": synthetic}


def make(kind: str, name: str, **options: Any) -> Pipeline:
    """The pipeline of this kind; ValueError names the kinds."""
    if kind not in _KINDS:
        raise ValueError(f"kind is {kind!r}; legal: {', '.join(_KINDS)}")
    return partial(_KINDS[kind], name)(**options)  # type: ignore[operator]
