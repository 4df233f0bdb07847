"""The chain: all processors of a group composed into one callable per input, over one set of stores.

It is a pure function of its stores and the records it is given, in their order: no clock, no Kafka. Both runtimes, the
audit and recovery run this very object. Outputs are collected as (role, key, value, headers) until they are taken.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import msgspec

from headrace.processors.base import Rejected, StoreSpec
from headrace.processors.baselines import Baselines
from headrace.processors.drift import Drift, error_of
from headrace.processors.evaluate import Evaluate
from headrace.processors.features import duration
from headrace.processors.join import Early, Join
from headrace.processors.predict import NOTHING, Predict, Served, answerer
from headrace.processors.train import Train
from headrace.processors.validate import Validate
from headrace.schemas.published import ExamplesWire, FeaturesWire
from headrace.schemas.records import Input, Prediction
from headrace.schemas.wire import BadRecord
from headrace.streams.pipeline import BASELINES, Pipeline
from headrace.streams.state import ObjectCodec, Stores
from headrace.streams.topology import Group

__all__ = ["Chain", "Output", "Source"]

Output = tuple[str, bytes | None, bytes | None, list[tuple[str, bytes]] | None]

_START = -(2**62)


class Source(NamedTuple):
    """How one input is read: bytes to record, record to time, and how far ahead of its Kafka time it may be."""

    role: str
    topic: str
    decode: Callable[[bytes | None], Any]
    time_of: Callable[[Any], int]
    far_future_ms: int | None

    def read(
        self, last_ms: int, partition: int, offset: int, key: bytes | None, value: bytes | None, at_ms: int
    ) -> Input:
        """The record with its time; an unreadable one has the time of the record before it."""
        try:
            payload = self.decode(value)
            time_ms = self.time_of(payload)
        except BadRecord as unreadable:
            return Input(last_ms, partition, offset, key, value, at_ms, unreadable)
        if self.far_future_ms is not None and time_ms > at_ms + self.far_future_ms:
            bad = BadRecord("far_future", "the event time is too far ahead of the record's own time")
            return Input(last_ms, partition, offset, key, value, at_ms, bad)
        return Input(time_ms, partition, offset, key, value, at_ms, payload)


class Pending(NamedTuple):
    """What waits for a label. The first two items order its expiry (see `Join`)."""

    time_ms: int
    offset: int
    partition: int
    key: bytes | None
    keys: tuple[Any, ...]
    x: dict[str, Any] | None
    answers: tuple[Any, ...]
    served: tuple[Any, Any]
    model: str | None


class Chain:
    """One group of stages over one partition.

    Parameters
    ----------
    pipeline, group, shard
        What to run, and for which partition.
    topics
        Role → topic name, for the coordinates in dead letters and alerts.
    codec
        How models and detectors are written at checkpoints.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        group: Group,
        shard: int = 0,
        *,
        topics: Callable[[str], str] | None = None,
        codec: ObjectCodec | None = None,
    ) -> None:
        self.pipeline = pipeline
        self.group = group
        self.shard = shard
        self.topic = topics or (lambda role: f"{pipeline.name}.{role}")
        self.outputs: list[Output] = []
        self._models = tuple(pipeline.models)
        self._scored = (*self._models, *BASELINES)
        self._champion = self._models.index(pipeline.champion)
        self._build_processors()
        self._build_wires()
        self.stores = Stores(self._wanted(), codec)
        self.sources = tuple(self._source(role) for role in group.inputs)
        self.bind()

    def bind(self) -> None:
        """Look up what the hot path needs from the stores; to be called again after a restore."""
        states = self.stores.states
        self.clock: list[Any] = states["chain"]["clock"].value
        self.counts: dict[str, int] = states["chain"]["counts"].value
        if self.group.front:
            self._featurize = self.featurize.compile(states["featurize"])
            self._outcome = self.featurize.compile_update(states["featurize"])
        if self.group.back:
            models = states["models"]
            self._progress: list[Any] = states["chain"]["progress"].value
            self._answer = tuple(answerer(self.pipeline.task, models[name].value) for name in self._models)
        handlers = {
            "events": self._on_event,
            "labels": self._on_label if self.group.back else self._on_outcome,
            "features": self._on_features if self.group.back else self._watch_features,
            "examples": self._watch_example,
            "predictions": self._watch_prediction,
        }
        self._handlers = tuple(handlers[role] for role in self.group.inputs)

    def process(self, rank: int, item: Input) -> None:
        """Process one record of the input with this rank; what it makes is appended to `outputs`."""
        self.clock[1][rank] = item.time_ms
        self._handlers[rank](item)

    def take(self) -> list[Output]:
        """The outputs since the last call."""
        outputs, self.outputs = self.outputs, []
        return outputs

    @property
    def stream_time_ms(self) -> int:
        """The largest event time accepted so far."""
        return int(self.clock[0])

    @property
    def pending(self) -> int:
        """Predictions waiting for their label."""
        if not self.group.back:
            return 0
        states = self.stores.states["join"]
        return len(states["pending"]) - self.counts.get("unpredicted_pending", 0)

    def summary(self) -> dict[str, dict[str, float | None]]:
        """Progressive metrics of every model and baseline so far."""
        return self.evaluate.summary(self.stores.states["evaluate"]) if self.group.back else {}

    # -- composition ---------------------------------------------------------------------------------------------

    def _build_processors(self) -> None:
        p = self.pipeline
        self.validate = Validate(p.horizon_ms)
        self.featurize = p.featurize
        self.join = Join(p.ttl_ms)
        self.predict = Predict(p.task)
        self.train = Train(self._models)
        self.baselines = Baselines(p.task)
        roles = (
            dict.fromkeys(self._models, "challenger") | {p.champion: "champion"} | dict.fromkeys(BASELINES, "baseline")
        )
        self.evaluate = Evaluate(p.task, self._scored, roles, every=p.evaluate_every, shard=self.shard)
        topic = self.topic("events")
        watches = p.drift if self.group.watches else ()
        self.drifts = [(w, Drift(w.signal, w.detector, topic=topic, kind=w.kind, task=p.task)) for w in watches]
        self._on_error = self._watching("error")
        self._on_prediction = self._watching("prediction")
        self._on_feature = self._watching("feature")

    def _watching(self, kind: str) -> tuple[tuple[str, Any, str], ...]:
        return tuple(
            (watch.name, drift, f"drift.{i}") for i, (watch, drift) in enumerate(self.drifts) if watch.kind == kind
        )

    def _build_wires(self) -> None:
        p = self.pipeline
        event_fields = list(p.event_schema.avro["fields"])
        id_field = next(f for f in event_fields if f["name"] == p.events.id)
        features = p.featurize.fields()
        self.features_wire = FeaturesWire(p.name, id_field, event_fields, features)
        self.examples_wire = ExamplesWire(p.name, p.task, id_field, features)
        self._json = msgspec.json.Encoder().encode

    def _wanted(self) -> dict[str, tuple[StoreSpec, ...]]:
        group, p = self.group, self.pipeline
        inputs = len(group.inputs)
        wanted: dict[str, tuple[StoreSpec, ...]] = {
            "chain": (
                StoreSpec("clock", "cell", initial=lambda: [_START, [0] * inputs]),
                StoreSpec("counts", "cell", initial=dict),
                StoreSpec("progress", "cell", initial=lambda: [0, None]),
            )
        }
        if group.front:
            wanted |= {"validate": self.validate.stores(), "featurize": self.featurize.stores()}
        if group.front or group.back:
            wanted["join"] = self.join.stores()
        if group.back:
            fresh = p.fresh_models()
            wanted["models"] = tuple(
                StoreSpec(name, "cell", initial=partial(_itself, model), codec="object") for name, model in fresh.items()
            )
            wanted |= {"baselines": tuple(self.baselines.stores()), "evaluate": tuple(self.evaluate.stores())}
        for i, (_, drift) in enumerate(self.drifts):
            wanted[f"drift.{i}"] = tuple(drift.stores())
        return wanted

    def _source(self, role: str) -> Source:
        p = self.pipeline
        if role == "events":
            decode, time_of = p.event_decoder()
            return Source(role, self.topic(role), decode, time_of, duration(p.events.far_future))
        if role == "labels":
            decode, time_of = p.label_decoder()
            return Source(role, self.topic(role), decode, time_of, duration(p.labels.far_future))
        wires: dict[str, Any] = {"features": self.features_wire, "examples": self.examples_wire}
        wire = wires.get(role)
        if wire is not None:
            field = "label_time_ms" if role == "examples" else "time_ms"
            return Source(role, self.topic(role), wire.decode, lambda record: int(record[field]), None)
        return Source(role, self.topic(role), _prediction_decoder(), lambda record: int(record.time_ms), None)

    # -- counting and dead letters -------------------------------------------------------------------------------

    def _count(self, name: str, by: int = 1) -> None:
        self.counts[name] = self.counts.get(name, 0) + by

    def _dead(self, stage: str, role: str, reason: str, detail: str, item: Any) -> None:
        self._count(f"dead.{stage}.{reason}")
        headers = [
            ("reason", reason.encode()),
            ("detail", detail.encode()),
            ("stage", stage.encode()),
            ("topic", self.topic(role).encode()),
            ("partition", str(item.partition).encode()),
            ("offset", str(item.offset).encode()),
        ]
        self.outputs.append(("dead-letter", item.key, item.value, headers))

    def _advance(self, time_ms: int) -> None:
        """Stream time moves on; what it overtakes expires, oldest first, before the record itself is processed."""
        if time_ms <= self.clock[0]:
            return
        self.clock[0] = time_ms
        for event_id, overtaken in self.join.expire(time_ms, self.stores.states["join"]):
            if isinstance(overtaken, Early):
                if self.group.back:
                    self._count("labels.orphan")
                    self._dead("join", "labels", "orphan", f"no event {event_id!r} within the time to live", overtaken)
                continue
            entry = Pending(*overtaken)
            if self.pipeline.on_expiry is not None:
                self._learn(event_id, entry, self.pipeline.on_expiry, time_ms, None)
            if self.group.back:
                self._count(
                    "expired" if entry.x is not None else "unpredicted_pending", 1 if entry.x is not None else -1
                )

    # -- events --------------------------------------------------------------------------------------------------

    def _on_event(self, item: Input) -> None:
        self.counts["events"] = self.counts.get("events", 0) + 1
        event = item.payload
        if type(event) is BadRecord:
            self._dead("validate", "events", event.reason, event.detail, item)
            return
        p, states, time_ms = self.pipeline, self.stores.states, item.time_ms
        if time_ms > self.clock[0]:
            self._advance(time_ms)
        event_id = getattr(event, p.events.id)
        if not self.validate.process(event_id, time_ms, self.clock[0], states["validate"]):
            self._count("duplicates")
            return
        try:
            x = self._featurize(event, time_ms, self.clock[0])
        except Rejected as rejected:
            self._dead("featurize", "events", rejected.reason, rejected.detail, item)
            return
        self.counts["features"] = self.counts.get("features", 0) + 1
        key = item.key if item.key is not None else str(getattr(event, p.events.key)).encode()
        value = self.features_wire.encode(event_id, time_ms, item.partition, item.offset, event, x)
        self.outputs.append(("features", key, value, None))
        keys = self.featurize.outcome_keys(event)
        if self.group.back:
            columns = {name: getattr(event, name) for name in p.columns}
            self._ask(event_id, time_ms, item, key, keys, x, columns)
        elif keys:
            self._wait(event_id, Pending(time_ms, item.offset, item.partition, key, keys, x, (), (None, None), None))

    def _on_features(self, item: Input) -> None:
        record = item.payload
        self._count("features")
        if type(record) is BadRecord:
            self._dead("predict", "features", record.reason, record.detail, item)
            return
        self._advance(item.time_ms)
        columns = {name: record["event"][name] for name in self.pipeline.columns}
        event = Input(item.time_ms, record["partition"], record["offset"], item.key, item.value, 0, None)
        self._ask(record["event_id"], item.time_ms, event, item.key, (), record["features"], columns)

    def _ask(
        self, event_id: Any, time_ms: int, item: Input, key: bytes | None, keys: Any, x: dict[str, Any], columns: Any
    ) -> None:
        """Predict, publish the champion's answer, and wait for the label."""
        learned, learned_until_ms = self._progress
        model = f"{self.pipeline.champion}/{self.shard}@{learned}"
        try:
            answers = self._answers(x)
            served = self.predict.process(answers[self._champion]) if learned else NOTHING
        except Rejected as rejected:
            self._dead("predict", "events", rejected.reason, rejected.detail, item)
            self._count("unpredicted_pending")
            self._wait(event_id, Pending(time_ms, item.offset, item.partition, key, keys, None, (), (None, None), None))
            return
        self.counts["predictions"] = self.counts.get("predictions", 0) + 1
        live_from = self.pipeline.live_from_ms
        if live_from is None or time_ms >= live_from:
            self._publish(event_id, time_ms, item, key, model, served, learned, learned_until_ms, columns)
        else:
            self._count("history")
        if self._on_feature:
            self._see_features(x, time_ms, item.partition, item.offset)
        answers += self.baselines.answer(self.stores.states["baselines"])
        self._wait(
            event_id,
            Pending(time_ms, item.offset, item.partition, key, keys, x, answers, (served[0], served[1]), model),
        )

    def _answers(self, x: dict[str, Any]) -> tuple[Any, ...]:
        answers = []
        for rank, answer in enumerate(self._answer):
            try:
                answers.append(answer(x))
            except Exception as error:
                if rank == self._champion:
                    raise Rejected("predict_error", f"{type(error).__name__}: {error}"[:200]) from error
                self._count(f"model_errors.{self._models[rank]}")
                answers.append(None)
        return tuple(answers)

    def _publish(
        self,
        event_id: Any,
        time_ms: int,
        item: Input,
        key: bytes | None,
        model: str,
        served: Served,
        learned: int,
        learned_until_ms: int | None,
        columns: dict[str, Any],
    ) -> None:
        prediction = Prediction(
            event_id=event_id,
            time_ms=time_ms,
            prediction=served.prediction,
            probability=served.probability,
            probabilities=served.probabilities,
            reason=None if learned else "untrained",
            model=model,
            learned_until_ms=learned_until_ms,
            behind_ms=None if learned_until_ms is None else max(0, time_ms - learned_until_ms),
            partition=item.partition,
            offset=item.offset,
            columns=columns,
        )
        self.outputs.append(("predictions", key, self._json(prediction), None))
        if self._on_prediction:
            self._see_prediction(prediction)

    def _wait(self, event_id: Any, entry: Pending) -> None:
        early = self.join.process(event_id, entry.time_ms, entry, self.stores.states["join"])
        if early is not None:
            self._labelled(event_id, entry, early)

    # -- labels --------------------------------------------------------------------------------------------------

    def _label(self, item: Input) -> tuple[Any, Early] | None:
        """The label's id and value, or None when it is not one (and the reason was counted)."""
        record = item.payload
        bad = record if type(record) is BadRecord else None
        if bad is None:
            try:
                y = self.pipeline.legal_label(self.pipeline.label_of(record))
            except Exception as error:
                bad = BadRecord("bad_label", f"{type(error).__name__}: {error}"[:200])
        if bad is not None:
            if self.group.back:
                self._dead("join", "labels", bad.reason, bad.detail, item)
            return None
        return getattr(record, self.pipeline.labels.id), Early(
            item.time_ms, item.offset, item.partition, y, item.key, item.value
        )

    def _on_label(self, item: Input) -> None:
        self._count("labels")
        found = self._label(item)
        if found is None:
            return
        self._advance(item.time_ms)
        event_id, label = found
        outcome, overtaken = self.join.update(event_id, label, self.stores.states["join"])
        if overtaken is not None:
            self._labelled(event_id, Pending(*overtaken), label)
            return
        self._count(f"labels.{outcome}")
        if outcome == "late":
            self._dead("join", "labels", "late_label", f"event {event_id!r} had expired", item)

    def _on_outcome(self, item: Input) -> None:
        """A label, for a group that only keeps windows over outcomes: bad ones are another group's to report."""
        found = self._label(item)
        if found is None or not self.featurize.outcome_bys:
            return
        self._advance(item.time_ms)
        event_id, label = found
        _, overtaken = self.join.update(event_id, label, self.stores.states["join"])
        if overtaken is not None:
            self._learn(event_id, Pending(*overtaken), label.y, label.time_ms, label)

    def _labelled(self, event_id: Any, entry: Pending, label: Early) -> None:
        if self.group.back:
            if entry.x is None:
                self._count("unpredicted_pending", -1)
            else:
                self.counts["labelled"] = self.counts.get("labelled", 0) + 1
        self._learn(event_id, entry, label.y, label.time_ms, label)

    def _learn(self, event_id: Any, entry: Pending, y: Any, time_ms: int, label: Early | None) -> None:
        """An outcome became known: windows over outcomes, the example, evaluation, drift, learning; in this order."""
        states = self.stores.states
        if entry.keys:
            self._outcome(entry.keys, y, time_ms, self.clock[0])
        if not self.group.back or entry.x is None:
            return
        progress = self._progress
        progress[0] = n = progress[0] + 1
        progress[1] = time_ms if progress[1] is None else max(progress[1], time_ms)
        prediction, probability = entry.served
        head = {
            "n": n,
            "event_id": event_id,
            "time_ms": entry.time_ms,
            "label_time_ms": time_ms,
            "partition": entry.partition,
            "offset": entry.offset,
            "model": entry.model,
            "label": y,
            "prediction": prediction,
            "probability": probability,
        }
        self.outputs.append(("examples", entry.key, self.examples_wire.encode(head, entry.x), None))
        closed = self.evaluate.process(y, entry.answers, n, time_ms, states["evaluate"])
        for evaluation in closed:
            self.outputs.append(("evaluations", evaluation.model.encode(), self._json(evaluation), None))
        if self._on_error:
            self._see_error(prediction, y, time_ms, entry.partition, entry.offset)
        self.baselines.update(y, states["baselines"])
        for name, problem in self.train.process(entry.x, y, states["models"]).items():
            item = label or Early(time_ms, entry.offset, entry.partition, y, entry.key, None)
            self._dead(
                "train", "labels" if label else "events", "train_error", f"{name} at example {n}: {problem}", item
            )

    # -- drift ---------------------------------------------------------------------------------------------------

    def _watch_features(self, item: Input) -> None:
        record = item.payload
        if type(record) is BadRecord:
            self._dead("drift", "features", record.reason, record.detail, item)
            return
        self._see_features(record["features"], record["time_ms"], record["partition"], record["offset"])

    def _watch_prediction(self, item: Input) -> None:
        if type(item.payload) is BadRecord:
            self._dead("drift", "predictions", item.payload.reason, item.payload.detail, item)
            return
        self._see_prediction(item.payload)

    def _watch_example(self, item: Input) -> None:
        record = item.payload
        if type(record) is BadRecord:
            self._dead("drift", "examples", record.reason, record.detail, item)
            return
        self._see_error(
            record["prediction"], record["label"], record["label_time_ms"], record["partition"], record["offset"]
        )

    def _see_features(self, x: dict[str, Any], time_ms: int, partition: int, offset: int) -> None:
        for feature, drift, name in self._on_feature:
            self._see(drift, name, x.get(feature), time_ms, partition, offset)

    def _see_prediction(self, prediction: Prediction) -> None:
        value = _signal(prediction)
        for _, drift, name in self._on_prediction:
            self._see(drift, name, value, prediction.time_ms, prediction.partition, prediction.offset)

    def _see_error(self, prediction: Any, y: Any, time_ms: int, partition: int, offset: int) -> None:
        error = error_of(self.pipeline.task, prediction, y)
        for _, drift, name in self._on_error:
            self._see(drift, name, error, time_ms, partition, offset)

    def _see(self, drift: Drift, name: str, value: Any, time_ms: int, partition: int, offset: int) -> None:
        if value is None:
            return
        alert = drift.process(value, time_ms, partition, offset, self.stores.states[name])
        if alert is not None:
            self._count("alerts")
            self.outputs.append(("alerts", alert.alert_id.encode(), self._json(alert), None))


def _itself(value: Any) -> Any:
    return value


def _signal(prediction: Prediction) -> Any:
    """The number that is watched of a prediction: how probable it is, or its value."""
    if prediction.probability is not None:
        return prediction.probability
    if prediction.probabilities:
        return max(prediction.probabilities.values())
    return prediction.prediction if type(prediction.prediction) is float else None


def _prediction_decoder() -> Callable[[bytes | None], Prediction]:
    decode = msgspec.json.Decoder(Prediction).decode

    def read(value: bytes | None) -> Prediction:
        try:
            return decode(value or b"")
        except (msgspec.MsgspecError, ValueError) as error:
            raise BadRecord("malformed", "not a prediction") from error

    return read
