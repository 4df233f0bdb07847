"""The plain loop: what the flights pipeline must answer, computed with River and nothing of ours.

It remembers everything it has ever seen, one sorted list of times per key, and counts in those lists: slow ways, but
easy to check. The rules:

- Labels and events are merged by time; a label goes before an event of the same time, the rest keeps its file order.
- Stream time is the largest time so far, the record at hand included. Before a record is processed, whatever has waited
  for longer than `ttl_ms` of stream time expires: events without a label, labels without an event. At exactly
  `ttl_ms` it is still in time. How an event or a label ended is remembered for another `ttl_ms`.
- An event is first described by what was known before it, then counted. An outcome is counted when it meets its event,
  in the tile of the label's time. No description depends on what is in the event's future.
- A window is its last `over_ms / tile_ms` tiles, the one that has begun included. No key (null): the default. Events
  later than the grace are not known here: use events in the order of their time.
- Every model answers when the event comes, is scored with that answer and learns when the label comes.
- The first label of an event trains; further ones are counted as `duplicate` (the same) or `corrected` (another).
- An event whose id came within `horizon_ms` before is a duplicate and ignored.
"""

from __future__ import annotations

import copy
import heapq
from bisect import bisect_left, insort
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from river import base, evaluate, metrics, stream

__all__ = ["Features", "Spec", "river_delayed", "run"]

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS
NEW_YORK = ZoneInfo("America/New_York")
ENTITIES = ("carrier", "origin", "dest", "tailnum")
EXPIRED = object()
COUNTS = (
    *("events", "duplicates", "predictions", "labelled", "expired", "pending"),
    *("labels", "duplicate", "corrected", "late", "orphan", "early", "waiting"),
)


def is_late(label: dict[str, Any]) -> bool:
    """The label of the flights pipeline: more than 15 minutes late."""
    return bool(label["arr_delay"] > 15)


@dataclass(frozen=True)
class Spec:
    """What to run: models by name, and the pipeline's few numbers. The models given are not changed."""

    models: dict[str, Any]
    y: Callable[[dict[str, Any]], bool] = is_late
    ttl_ms: int = 2 * DAY_MS
    horizon_ms: int = 2 * DAY_MS

    def __post_init__(self) -> None:
        if self.horizon_ms < self.ttl_ms:
            raise ValueError(f"horizon_ms is {self.horizon_ms}; it must be at least ttl_ms, {self.ttl_ms}")


class Times:
    """All times at which something happened to each key, sorted."""

    def __init__(self) -> None:
        self.of: dict[str, list[int]] = {}

    def add(self, key: str | None, time_ms: int) -> None:
        """Something happened to this key; to none, nothing."""
        if key is not None:
            insort(self.of.setdefault(key, []), time_ms)

    def count(self, key: str | None, at_ms: int, over_ms: int, tile_ms: int) -> int:
        """How many lie in the window at `at_ms`."""
        times = self.of.get(key, []) if key is not None else []
        end = (at_ms // tile_ms + 1) * tile_ms
        return bisect_left(times, end) - bisect_left(times, end - over_ms)

    def last(self, key: str | None, at_ms: int, over_ms: int, tile_ms: int) -> int | None:
        """The latest in the window at `at_ms`; None if there is none."""
        times = self.of.get(key, []) if key is not None else []
        end = (at_ms // tile_ms + 1) * tile_ms
        index = bisect_left(times, end) - 1
        return times[index] if index >= 0 and times[index] >= end - over_ms else None


class Features:
    """The features of the flights pipeline, in their order."""

    def __init__(self) -> None:
        self.departures = {entity: Times() for entity in ENTITIES}
        self.arrivals = {entity: Times() for entity in ENTITIES}
        self.late_arrivals = {entity: Times() for entity in ENTITIES}

    def describe(self, event: dict[str, Any]) -> dict[str, Any]:
        """The features of this event, from what was added before."""
        local = datetime.fromtimestamp(event["scheduled_departure"] / 1000, NEW_YORK)
        return {
            "distance": float(event["distance"]),
            "hour": (local.hour * 60 + local.minute) / 60,
            "weekday": local.weekday(),
            "carrier_flights_3h": self._flights(event, "carrier", 3 * HOUR_MS, 15 * MINUTE_MS),
            "origin_flights_1h": self._flights(event, "origin", HOUR_MS, 5 * MINUTE_MS),
            "tail_flights_24h": self._flights(event, "tailnum", 24 * HOUR_MS, 2 * HOUR_MS),
            "carrier_late_3h": self._late(event, "carrier", 3 * HOUR_MS, 15 * MINUTE_MS),
            "origin_late_1h": self._late(event, "origin", HOUR_MS, 5 * MINUTE_MS),
            "tail_late_24h": self._late(event, "tailnum", 24 * HOUR_MS, 2 * HOUR_MS),
            "dest_late_3h": self._late(event, "dest", 3 * HOUR_MS, 15 * MINUTE_MS),
            "since_tail_s": self._since(event, "tailnum", 7 * DAY_MS, 14 * HOUR_MS),
        }

    def add_event(self, event: dict[str, Any]) -> None:
        """Count a departure."""
        for entity in ENTITIES:
            self.departures[entity].add(event[entity], event["scheduled_departure"])

    def add_outcome(self, event: dict[str, Any], late: bool, known_ms: int) -> None:
        """Count an arrival, when it became known."""
        for entity in ENTITIES:
            self.arrivals[entity].add(event[entity], known_ms)
            if late:
                self.late_arrivals[entity].add(event[entity], known_ms)

    def _flights(self, event: dict[str, Any], by: str, over_ms: int, tile_ms: int) -> int:
        return self.departures[by].count(event[by], event["scheduled_departure"], over_ms, tile_ms)

    def _late(self, event: dict[str, Any], by: str, over_ms: int, tile_ms: int) -> float:
        at_ms = event["scheduled_departure"]
        known = self.arrivals[by].count(event[by], at_ms, over_ms, tile_ms)
        late = self.late_arrivals[by].count(event[by], at_ms, over_ms, tile_ms)
        return late / known if known else 0.0

    def _since(self, event: dict[str, Any], by: str, over_ms: int, tile_ms: int) -> float:
        at_ms = event["scheduled_departure"]
        last_ms = self.departures[by].last(event[by], at_ms, over_ms, tile_ms)
        return 0.0 if last_ms is None else max(at_ms - last_ms, 0) / 1000


@dataclass
class Waiting:
    """An event that waits for its label, with what was said about it."""

    event: dict[str, Any]
    x: dict[str, Any]
    answers: dict[str, dict[bool, float]]


@dataclass
class Loop:
    """The state of a run."""

    spec: Spec
    models: dict[str, Any]
    metrics: dict[str, metrics.base.Metrics]
    features: Features = field(default_factory=Features)
    now_ms: int = -(2**63)
    seen: dict[str, int] = field(default_factory=dict)
    pending: dict[str, Waiting] = field(default_factory=dict)
    early: dict[str, dict[str, Any]] = field(default_factory=dict)
    done: dict[str, tuple[int, Any]] = field(default_factory=dict)
    deadlines: list[tuple[int, str, str]] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)
    learned: list[tuple[str, bool]] = field(default_factory=list)
    scored: dict[str, int] = field(default_factory=dict)

    def advance(self, time_ms: int) -> None:
        """Stream time goes on; what has waited too long expires."""
        self.now_ms = max(self.now_ms, time_ms)
        while self.deadlines and self.deadlines[0][0] < self.now_ms:
            deadline_ms, what, event_id = heapq.heappop(self.deadlines)
            waiting = self.pending.get(event_id)
            early = self.early.get(event_id)
            if what == "event" and waiting and self._deadline(waiting.event["scheduled_departure"]) == deadline_ms:
                del self.pending[event_id]
                self.done[event_id] = (self.now_ms, EXPIRED)
                self.counts["expired"] += 1
            elif what == "label" and early and self._deadline(early["arrived_at"]) == deadline_ms:
                del self.early[event_id]
                self.counts["orphan"] += 1

    def ask(self, event: dict[str, Any]) -> None:
        """A new event: describe it, let every model answer, count it, and wait for its label."""
        event_id, time_ms = event["event_id"], event["scheduled_departure"]
        if event_id in self.seen and self.now_ms - self.seen[event_id] <= self.spec.horizon_ms:
            self.counts["duplicates"] += 1
            return
        self.seen[event_id] = self.now_ms
        x = self.features.describe(event)
        answers = {name: model.predict_proba_one(x) for name, model in self.models.items()}
        self.features.add_event(event)
        self.counts["predictions"] += 1
        self.rows.append({"event_id": event_id, "x": x, "p": {name: _p_true(p) for name, p in answers.items()}})
        self.pending[event_id] = Waiting(event, x, answers)
        heapq.heappush(self.deadlines, (self._deadline(time_ms), "event", event_id))
        if event_id in self.early:
            self.counts["early"] += 1
            self._learn(self.early.pop(event_id))

    def tell(self, label: dict[str, Any]) -> None:
        """A label: learn from it if its event waits for it, else count what it is."""
        event_id = label["event_id"]
        if event_id in self.pending:
            self._learn(label)
        elif event_id in self.done and self.now_ms - self.done[event_id][0] <= self.spec.ttl_ms:
            y = self.done[event_id][1]
            self.counts["late" if y is EXPIRED else "duplicate" if y == self.spec.y(label) else "corrected"] += 1
        elif event_id in self.early:
            same = self.spec.y(self.early[event_id]) == self.spec.y(label)
            self.counts["duplicate" if same else "corrected"] += 1
        else:
            self.early[event_id] = label
            heapq.heappush(self.deadlines, (self._deadline(label["arrived_at"]), "label", event_id))

    def _learn(self, label: dict[str, Any]) -> None:
        event_id = label["event_id"]
        waiting = self.pending.pop(event_id)
        y = self.spec.y(label)
        self.done[event_id] = (self.now_ms, y)
        self.counts["labelled"] += 1
        self.learned.append((event_id, y))
        for name, model in self.models.items():
            if waiting.answers[name]:
                self.metrics[name].update(y, waiting.answers[name])
                self.scored[name] += 1
            model.learn_one(waiting.x, y)
        self.features.add_outcome(waiting.event, y, label["arrived_at"])

    def _deadline(self, time_ms: int) -> int:
        return time_ms + self.spec.ttl_ms


def run(events: Iterable[dict[str, Any]], labels: Iterable[dict[str, Any]], spec: Spec) -> dict[str, Any]:
    """Everything the pipeline must answer for these events and labels, each in the order of its file.

    ``event_ids``    the events that were answered, in order
    ``features``     their features, in the same order
    ``predictions``  by model: P(True) of each; None where a model had no answer (River's `{}`)
    ``learned``      (event id, y) in the order of learning
    ``metrics``      by model: ROCAUC, Accuracy, and how many answers were `scored`
    ``counts``       events, duplicates, predictions = labelled + expired + pending; labels = labelled + duplicate +
                     corrected + late + orphan + waiting; `early` of the labelled ones came before their event
    ``models``       the models as they are at the end
    """
    names = list(spec.models)
    both = {name: metrics.ROCAUC() + metrics.Accuracy() for name in names}
    loop = Loop(spec, {name: copy.deepcopy(model) for name, model in spec.models.items()}, both)
    loop.scored = dict.fromkeys(names, 0)
    loop.counts = dict.fromkeys(COUNTS, 0)
    told = ((label["arrived_at"], False, label) for label in labels)
    asked = ((event["scheduled_departure"], True, event) for event in events)
    for time_ms, is_event, record in heapq.merge(told, asked, key=lambda entry: entry[:2]):
        loop.counts["events" if is_event else "labels"] += 1
        loop.advance(time_ms)
        (loop.ask if is_event else loop.tell)(record)
    loop.counts |= {"pending": len(loop.pending), "waiting": len(loop.early)}
    return {
        "event_ids": [row["event_id"] for row in loop.rows],
        "features": [row["x"] for row in loop.rows],
        "predictions": {name: [row["p"][name] for row in loop.rows] for name in names},
        "learned": loop.learned,
        "metrics": {
            name: {"ROCAUC": float(both[name][0].get()), "Accuracy": both[name][1].get(), "scored": loop.scored[name]}
            for name in names
        },
        "counts": loop.counts,
        "models": loop.models,
    }


def river_delayed(
    dataset: Iterable[Any],
    model: Any,
    metric: metrics.base.Metric,
    delay: Any = None,
    moment: Any = None,
) -> dict[str, Any]:
    """What River itself makes of this data with labels that are `delay` late: its metric, and every answer.

    ``metric`` is that of `evaluate.progressive_val_score`; ``predictions`` are the answers to the questions of
    `stream.simulate_qa`, in their order: the probabilities by class of a classifier, else the prediction. The model
    and the metric given are not changed. Without `moment` the time is the number of the row, and `delay` counts rows.
    """
    rows = list(dataset)
    score = evaluate.progressive_val_score(rows, copy.deepcopy(model), copy.deepcopy(metric), moment, delay)
    learner = copy.deepcopy(model)
    answer = learner.predict_proba_one if isinstance(learner, base.Classifier) else learner.predict_one
    predictions = []
    for _, x, y in stream.simulate_qa(rows, moment, delay):
        if y is None:
            predictions.append(answer(x))
        else:
            learner.learn_one(x, y)
    return {"metric": score, "predictions": predictions, "model": learner}


def _p_true(answer: dict[bool, float]) -> float | None:
    return answer.get(True, 0.0) if answer else None
