"""The plain loop: what somebody would write without Headrace, in one process and without Kafka.

`json.loads`, the same features, predict, score, learn when the label comes. No validation, no deduplication, no
journal, nothing published, nothing that survives the process. The features come from the same compiled function as
the lane's, so that what is compared is everything around them.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

from river import metrics

from headrace.streams.state import KeyedStore

__all__ = ["main", "run"]


def run(pipeline: Any, events: Sequence[bytes], labels: Sequence[bytes], model: Any) -> dict[str, Any]:
    """Process all in time order, labels first at equal times; returns seconds, probabilities and metrics."""
    state: dict[str, Any] = {}
    for spec in pipeline.featurize.stores():
        state[spec.name] = KeyedStore()
        if spec.index:
            state[f"{spec.name}.index"] = spec.index(state[spec.name])
    features = pipeline.featurize.compile(state)
    outcome = pipeline.featurize.compile_update(state)
    keys_of = pipeline.featurize.compile_keys()
    began = time.perf_counter()
    found = _loop(pipeline, events, labels, model, features, outcome, keys_of)
    return {"seconds": time.perf_counter() - began, **found}


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
    found = run(pipeline, [r.value for r in events], [r.value for r in labels], model)
    del found["probabilities"]
    print(json.dumps({"what": "ended", "cpu_s": time.process_time() - used, **found}), flush=True)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
