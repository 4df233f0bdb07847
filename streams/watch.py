"""The drift stage of a chain: detectors on features, predictions and errors; what they find are alerts."""

from __future__ import annotations

from typing import Any

import msgspec

from headrace.processors.drift import Drift, error_of
from headrace.schemas.records import Prediction
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
        self._features = [w for w in watched if w[1].kind == "feature"]
        self._predictions = [w for w in watched if w[1].kind == "prediction"]
        self._errors = [w for w in watched if w[1].kind == "error"]
        self.features = self._see_features if self._features else None
        self.prediction = self._see_prediction if self._predictions else None
        self.error = self._see_error if self._errors else None

    def _see_features(self, x: dict[str, Any], time_ms: int, partition: int, offset: int) -> None:
        for name, drift, state in self._features:
            self._alert(drift.process(x.get(name), time_ms, partition, offset, state))

    def _see_prediction(self, prediction: Prediction) -> None:
        value = prediction.probability
        if value is None:
            if prediction.probabilities:
                value = max(prediction.probabilities.values())
            elif self._task == "regression" and prediction.prediction is not None:
                value = float(prediction.prediction)
            else:
                return
        for _, drift, state in self._predictions:
            self._alert(drift.process(value, prediction.time_ms, prediction.partition, prediction.offset, state))

    def _see_error(self, prediction: Any, y: Any, time_ms: int, partition: int, offset: int) -> None:
        if prediction is None:
            return
        error = error_of(self._task, prediction, y)
        for _, drift, state in self._errors:
            self._alert(drift.process(error, time_ms, partition, offset, state))

    def _alert(self, alert: Any) -> None:
        if alert is not None:
            self.context.count("alerts")
            self.context.outputs.append(("alerts", alert.alert_id.encode(), _json(alert), None))
