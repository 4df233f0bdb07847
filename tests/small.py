"""A pipeline small enough to see through: what tests of the declaration, the chain and the runtime in memory vary."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
from river import linear_model, naive_bayes, preprocessing
from river.drift import ADWIN, PageHinkley

from headrace import Events, Labels, Pipeline, Proxies, count, field, watch_error, watch_prediction
from headrace.streams import memory
from headrace.streams.identity import pickling

__all__ = [
    "ANSWERS",
    "CLASSES",
    "DAY_MS",
    "EVENT",
    "FAR",
    "HOUR_MS",
    "LABEL",
    "NOW_MS",
    "TASKS",
    "WATCHED",
    "Pickled",
    "Scribbling",
    "Scripted",
    "event",
    "known",
    "play",
    "small",
]

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
NOW_MS = 100 * DAY_MS
"""Kafka's time of every record that `play` feeds."""

TIMESTAMP = {"type": "long", "logicalType": "timestamp-millis"}

EVENT = {
    "type": "record",
    "name": "Visit",
    "fields": [
        {"name": "id", "type": "string"},
        {"name": "shop", "type": "string"},
        {"name": "at", "type": TIMESTAMP},
        {"name": "spent", "type": "double"},
        {"name": "note", "type": ["null", "string"], "default": None},
    ],
}

LABEL = {
    "type": "record",
    "name": "Return",
    "fields": [{"name": "id", "type": "string"}, {"name": "at", "type": TIMESTAMP}, {"name": "y", "type": "boolean"}],
}


ANSWERS: dict[str, Any] = {
    "as always": {True: 0.75, False: 0.25},
    "raises": ValueError("no \ud800 idea"),
    "NaN": math.nan,
    "NaN probability": {True: math.nan, False: 0.5},
    "infinite": {True: math.inf, False: 0.0},
    "a list": [0.5, 0.5],
    "an array": np.array([0.5, 0.5]),
    "text for a bool": "yes",
    "text for a probability": {True: "much"},
    "a number for a bool": 0.7,
    "half a character": "\ud800",
    "half a character's probability": {"\ud800": 0.5, True: 0.5},
    "an endless number": 10**400,
    "numpy probabilities": {True: np.float64(0.25), False: np.float64(0.75)},
    "numpy keys": {np.True_: 0.25, np.False_: 0.75},
    "single precision": {True: np.float32(0.25), False: np.float32(0.75)},
    "a numpy label": np.True_,
    "integers": {True: 1, False: 0},
}
"""What a `Scripted` model can be told to answer."""


class Scripted:
    """A model that answers {True: 0.75, False: 0.25}; asked about a negative `spent`, it answers ANSWERS[answer].

    It counts what it learns; with `fails` it raises when it is taught a negative `spent`.
    """

    def __init__(self, answer: str = "as always", fails: bool = False) -> None:
        self.answer, self.fails, self.learned = answer, fails, 0

    def clone(self) -> Scripted:
        return Scripted(self.answer, self.fails)

    def predict_one(self, x: Any) -> Any:
        answer = ANSWERS["as always" if x["spent"] >= 0 else self.answer]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def learn_one(self, x: Any, y: Any) -> None:
        self.learned += 1
        if x["spent"] < 0 and self.fails:
            raise ValueError(f"{object()} cannot be learned")


class Scribbling(Scripted):
    """A model that writes into the features it is given."""

    def clone(self) -> Scribbling:
        return Scribbling(self.answer, self.fails)

    def predict_one(self, x: Any) -> Any:
        x["spent"] = x["spent"] + 1
        return super().predict_one(x)

    def learn_one(self, x: Any, y: Any) -> None:
        x["spent"] = -1.0
        super().learn_one(x, y)


class Pickled:
    """Objects as pickles; snapshots have tests of their own. `extra` is what they may name besides."""

    def __init__(self, extra: Any = ()) -> None:
        self._extra = frozenset(extra)

    def seal(self, name: str, value: Any) -> bytes:
        """To bytes."""
        return pickling.dumps(value)

    def open(self, name: str, data: bytes) -> Any:
        """And back."""
        return pickling.loads(data, self._extra)


CLASSES = [(Scripted.__module__, name) for name in ("Scripted", "Scribbling")]


def small(**changed: Any) -> Pipeline:
    """The pipeline with some of its arguments changed; `events` and `labels` are dicts of what to change in those."""
    events = {"schema": EVENT, "id": "id", "key": "shop", "time": "at"} | changed.pop("events", {})
    labels = {"schema": LABEL, "id": "id", "time": "at", "y": "y", "ttl": "2d"} | changed.pop("labels", {})
    declared = {
        "task": "binary",
        "features": {"spent": field("spent"), "visits": count(by="shop", over="3h")},
        "models": {"logreg": preprocessing.StandardScaler() | linear_model.LogisticRegression()},
        "champion": "logreg",
        "events": events if isinstance(events, Events) else Events(**events),
        "labels": labels if isinstance(labels, Labels) else Labels(**labels),
    }
    return Pipeline(**({"name": "small"} | declared | changed))


def event(id: str, hour: float = 0.0, shop: str = "a", spent: float = 1.0, **more: Any) -> tuple[bytes, bytes]:
    """An event's key and value."""
    record = {"id": id, "shop": shop, "at": int(hour * HOUR_MS), "spent": spent} | more
    return shop.encode(), json.dumps(record).encode()


def known(id: str, hour: float, y: Any = True, shop: str = "a") -> tuple[bytes, bytes]:
    """A label's key and value."""
    return shop.encode(), json.dumps({"id": id, "at": int(hour * HOUR_MS), "y": y}).encode()


def play(pipeline: Pipeline, events: Any, labels: Any = (), **options: Any) -> memory.Backtest:
    """Run the pipeline in memory over these records."""
    return memory.run(pipeline, [list(labels), list(events)], **({"now_ms": NOW_MS} | options))


def numbered(label: Any) -> float:
    """The label of a regression."""
    return float(label.y)


WATCHED = {
    "drift": [watch_error(ADWIN()), watch_prediction(ADWIN()), watch_prediction(PageHinkley())],
    "proxies": Proxies(every=10),
}
"""Whatever looks at answers, beside the scores."""

TASKS: dict[str, Any] = {
    "binary": {"labels": {"y": "y"}, "models": {"good": linear_model.LogisticRegression()}},
    "multiclass": {"labels": {"y": "y"}, "models": {"good": naive_bayes.GaussianNB()}},
    "regression": {"labels": {"y": numbered}, "models": {"good": linear_model.LinearRegression()}},
}
FAR = [1e308, -1.7e308, 1e200, 5e-324, -5.0]
"""Answers that some model might give."""
