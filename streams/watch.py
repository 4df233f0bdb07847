"""The drift stage of a chain: detectors on features, predictions and errors; what they find are alerts."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec

from headrace.processors.drift import Drift, error_of
from headrace.processors.metrics import Task
from headrace.processors.predict import Served
from headrace.streams.context import Context
from headrace.streams.pipeline import Pipeline

__all__ = ["Watching", "detectors"]

_json = msgspec.json.Encoder().encode


def detectors(pipeline: Pipeline, topic: str) -> list[Drift]:
    """One processor for each declared watch."""
    return [Drift(w.signal, w.detector, topic=topic, kind=w.kind, task=pipeline.task) for w in pipeline.drift]


class Watching:
    """Feeds the detectors; `features`, `prediction` and `error` are None where nobody watches them."""

    def __init__(self, context: Context, drifts: list[Drift]) -> None:
        self.context = context
        self._task = context.pipeline.task
        watched = [
            (watch.name, drift, context.states[f"drift.{i}"])
            for i, (watch, drift) in enumerate(zip(context.pipeline.drift, drifts, strict=True))
        ]
        self.features = self._watch(watched, "feature", _feature)
        self.prediction = self._watch(watched, "prediction", partial(_answer, self._task))
        self.error = self._watch(watched, "error", partial(_error, self._task))

    def _watch(self, watched: list[Any], kind: str, value_of: Callable[..., Any]) -> Callable[..., None] | None:
        """What notes a row (what to take the value from, time, partition, offset) for the detectors of a kind."""
        mine = [w for w in watched if w[1].kind == kind]
        if not mine:
            return None

        def settle(rows: list[Any]) -> list[Any]:
            found: list[Any] = [()] * len(rows)
            for name, drift, state in mine:
                process = drift.process
                for i, (*about, time_ms, partition, offset) in enumerate(rows):
                    value = value_of(name, *about)
                    if value is SKIPPED:
                        continue
                    alert = process(value, time_ms, partition, offset, state)
                    if alert is not None:
                        self.context.count("alerts")
                        found[i] = [*found[i], ("alerts", alert.alert_id.encode(), _json(alert), None)]
            return found

        outbox = self.context.outbox
        mark, (number, note) = outbox.mark, outbox.line(settle, aside=True)

        def see(*row: Any) -> None:
            mark(number)
            note(row)

        return see


SKIPPED: Any = object()
"""In place of a value: there is nothing to see, not even something missing."""


def _feature(name: str, x: dict[str, Any]) -> Any:
    return x.get(name)


def _answer(task: str, _: str, served: Served) -> Any:
    """P(True), the largest probability, or the number."""
    label, probability, probabilities = served
    if probability is not None:
        return probability
    if probabilities:
        return max(probabilities.values())
    return float(label) if task == "regression" and label is not None else SKIPPED


def _error(task: Task, _: str, prediction: Any, y: Any) -> Any:
    return SKIPPED if prediction is None else error_of(task, prediction, y)
