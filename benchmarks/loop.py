"""The plain loop: what somebody would write without Headrace, in one process and without Kafka.

`json.loads`, the same features, predict, score, learn when the label comes. No validation, no deduplication, no
journal, nothing published, nothing that survives the process. The features come from the same compiled function as
the lane's, so that what is compared is everything around them; or, with `plain_windows`, from windows that are written
for the flights by hand.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

from river import metrics

from benchmarks.peers import flight_windows
from headrace.streams.stores import KeyedStore

__all__ = ["main", "run"]


def run(
    pipeline: Any, events: Sequence[bytes], labels: Sequence[bytes], model: Any, *, plain_windows: bool = False
) -> dict[str, Any]:
    """Process all in time order, labels first at equal times; returns seconds, probabilities and metrics."""
    windows = _by_hand() if plain_windows else _compiled(pipeline)
    began = time.perf_counter()
    found = _loop(pipeline, events, labels, model, *windows)
    return {"seconds": time.perf_counter() - began, **found}


def _compiled(pipeline: Any) -> tuple[Callable[..., Any], Callable[..., None], Callable[[Any], Any]]:
    state: dict[str, Any] = {}
    for spec in pipeline.featurize.stores():
        state[spec.name] = KeyedStore()
        if spec.index:
            state[f"{spec.name}.index"] = spec.index(state[spec.name])
    features = pipeline.featurize.compile(state)
    outcome = pipeline.featurize.compile_update(state)
    return features, outcome, pipeline.featurize.compile_keys()


def _by_hand() -> tuple[Callable[..., Any], Callable[..., None], Callable[[Any], Any]]:
    """The windows that the peers are given."""
    held: dict[str, dict[str, Any]] = {column: {} for column in flight_windows.TILE_MS}

    def features(record: Any, now: int, _: int) -> dict[str, Any]:
        event = vars(record)
        own = flight_windows.entities(event)
        x = flight_windows.features(event, {c: held[c][value] for c, value in own.items() if value in held[c]})
        for column, value in own.items():
            if value not in held[column]:
                held[column][value] = flight_windows.empty()
            flight_windows.add_event(column, held[column][value], now)
        return x

    def outcome(own: dict[str, str], y: bool, known_ms: int, _: int) -> None:
        for column, value in own.items():
            flight_windows.add_outcome(column, held[column][value], known_ms, y)

    return features, outcome, lambda record: flight_windows.entities(vars(record))


def _loop(
    pipeline: Any,
    events: Sequence[bytes],
    labels: Sequence[bytes],
    model: Any,
    features: Callable[..., Any],
    outcome: Callable[..., None],
    keys_of: Callable[[Any], Any],
) -> dict[str, Any]:
    id_of, time_of = pipeline.events.id, pipeline.events.time
    label_id, label_time, y_of = pipeline.labels.id, pipeline.labels.time, pipeline.label_of
    auc, accuracy = metrics.ROCAUC(), metrics.Accuracy()
    pending: dict[Any, Any] = {}
    probabilities = []

    def learn(known: dict[str, Any]) -> None:
        entry = pending.pop(known[label_id], None)
        if entry is not None:
            keys, x, p = entry
            y = y_of(SimpleNamespace(**known))
            outcome(keys, y, known[label_time], known[label_time])
            if p:
                auc.update(y, p)
                accuracy.update(y, max(p, key=p.get))
            model.learn_one(x, y)

    waiting = map(json.loads, labels)
    label = next(waiting, None)
    for raw in events:
        event = json.loads(raw)
        now = event[time_of]
        while label is not None and label[label_time] <= now:
            learn(label)
            label = next(waiting, None)
        record = SimpleNamespace(**event)
        x = features(record, now, now)
        p = model.predict_proba_one(x)
        probabilities.append(p.get(True))
        pending[event[id_of]] = (keys_of(record), x, p)
    while label is not None:
        learn(label)
        label = next(waiting, None)
    return {"probabilities": probabilities, "roc_auc": auc.get(), "accuracy": accuracy.get()}


def main(job: dict[str, Any]) -> None:
    """One run as a process of its own, which says on stdout what it took."""
    from benchmarks import declared

    pipeline = declared.make(job["kind"], "loop", **job["options"])
    events, labels = declared.flight_records(job["events"])
    (model,) = pipeline.fresh_models().values()
    used = time.process_time()
    plain = job.get("plain_windows", False)
    found = run(pipeline, [r.value for r in events], [r.value for r in labels], model, plain_windows=plain)
    del found["probabilities"]
    print(json.dumps({"what": "ended", "cpu_s": time.process_time() - used, **found}), flush=True)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
