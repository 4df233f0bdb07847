"""Outputs: the rows that the stages note, as the records that are published.

What an `Outbox` settles; each function here answers one that takes rows and gives what each came to.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from headrace.processors.predict import Predict
from headrace.schemas.published import ExamplesWire, FeaturesWire
from headrace.schemas.records import Alert, Evaluation, Prediction, Shadow, version_of
from headrace.streams.stages.outbox import Output

__all__ = ["Packed", "alerted", "evaluated", "featurized", "learned", "predicted", "shadowed"]

_json = msgspec.json.Encoder().encode

Packed = dict[int, tuple[dict[str, Any], bytes]]
"""The bytes of features, by their identity, beside them."""
Columns = Callable[[Any], dict[str, Any]]
"""Of an event: the columns that its predictions carry."""


def featurized(wire: FeaturesWire, keep: Packed | None) -> Callable[[list[Any]], list[Output]]:
    """Rows to features; their bytes are put into `keep`, where examples follow."""
    encode, pack = wire.encode, wire.pack

    def settle(rows: list[Any]) -> list[Output]:
        outputs: list[Output] = []
        for key, event_id, time_ms, partition, offset, event, x in rows:
            packed = pack(x)
            if keep is not None:
                keep[id(x)] = x, packed
            outputs.append(("features", key, encode(event_id, time_ms, partition, offset, event, packed), None))
        return outputs

    return settle


def predicted(columns_of: Columns) -> Callable[[list[Any]], list[Output]]:
    """Rows to predictions."""

    def settle(rows: list[Any]) -> list[Output]:
        outputs: list[Output] = []
        for key, event_id, time_ms, served, trained, model, until_ms, partition, offset, event in rows:
            label, probability, probabilities = served
            behind_ms = None if until_ms is None else time_ms - until_ms if time_ms > until_ms else 0
            reason = None if trained else "untrained"
            columns = columns_of(event)
            prediction = Prediction(
                event_id,
                time_ms,
                label,
                probability,
                probabilities,
                reason,
                model,
                until_ms,
                behind_ms,
                partition,
                offset,
                columns,
            )
            outputs.append(("predictions", key, _json(prediction), None))
        return outputs

    return settle


def shadowed(task: str, shard: int, columns_of: Columns) -> Callable[[list[Any]], list[Output]]:
    """Rows to what models that did not serve would have answered."""
    serve = Predict(task).process

    def settle(rows: list[Any]) -> list[Output]:
        outputs: list[Output] = []
        for key, event_id, time_ms, n, until_ms, partition, offset, event, name, role, answer in rows:
            label, probability, probabilities = serve(answer)
            shadow = Shadow(
                event_id,
                time_ms,
                label,
                probability,
                probabilities,
                None,
                version_of(name, shard, n),
                until_ms,
                None if until_ms is None else max(0, time_ms - until_ms),
                partition,
                offset,
                columns_of(event),
                role,
            )
            outputs.append(("shadow", key, _json(shadow), None))
        return outputs

    return settle


def learned(wire: ExamplesWire, kept: Packed) -> Callable[[list[Any]], list[Output]]:
    """Rows to examples; features whose bytes were `kept` are not encoded again."""
    pack = wire.pack
    encode: Callable[..., bytes] = wire.encode

    def settle(rows: list[Any]) -> list[Output]:
        outputs: list[Output] = []
        for key, n, event_id, asked_ms, time_ms, partition, offset, model, y, prediction, probability, x in rows:
            known = kept.pop(id(x), None)
            last = known[1] if known is not None and known[0] is x else pack(x)
            head = (n, event_id, asked_ms, time_ms, partition, offset, model, y, prediction, probability)
            outputs.append(("examples", key, encode(*head, last), None))
        return outputs

    return settle


def evaluated(record: Evaluation) -> Output:
    """An evaluation."""
    return "evaluations", record.model.encode(), _json(record), None


def alerted(alert: Alert) -> Output:
    """An alert."""
    return "alerts", alert.alert_id.encode(), _json(alert), None
