"""The drift stage of a chain: detectors on features, predictions, labels and errors; what they find are alerts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any

from headrace.processors.base import described
from headrace.processors.drift import Drift, error_of
from headrace.processors.features import duration
from headrace.processors.metrics import Task
from headrace.processors.predict import Served
from headrace.processors.proxies import Proxies, Proxy
from headrace.processors.watches import Reaction
from headrace.schemas.records import Alert, Input
from headrace.schemas.wire import BadRecord
from headrace.streams.pipeline import Pipeline
from headrace.streams.stages.context import Context
from headrace.streams.stages.decisions import Decisions
from headrace.streams.stages.outputs import alerted, evaluated

__all__ = ["Watching", "detectors", "proxy"]


def detectors(pipeline: Pipeline, topic: str, columns: Sequence[str] = ()) -> list[Drift]:
    """One processor for each declared watch; `columns` are those of the gate's segments, where they are at hand."""
    return [
        Drift(
            w.signal,
            w.detector,
            topic=topic,
            kind=w.kind,
            task=pipeline.task,
            severity=w.severity,
            cooldown_ms=duration(w.cooldown),
            columns=columns,
        )
        for w in pipeline.drift
    ]


def proxy(pipeline: Pipeline, wish: Proxies, shard: int) -> Proxy:
    """The processor of the declared proxies."""
    features = tuple(pipeline.features) if wish.features is None else wish.features
    return Proxy(pipeline.task, wish, features, pipeline.ttl_ms, shard)


class Watching:
    """Feeds the detectors; `features`, `prediction` and `error` are None where nobody watches them.

    Each takes what values are taken from, then time, partition, offset and the event's id. Errors come with labels.
    """

    def __init__(self, context: Context, drifts: list[Drift]) -> None:
        self.context = context
        self.decisions: Decisions | None = None
        self._segmented = bool(drifts) and drifts[0].breakdown is not None
        task = context.pipeline.task
        watched = [
            (drift, context.states[f"drift.{i}"], _value_of(watch.kind, watch.names, task), watch.react)
            for i, (watch, drift) in enumerate(zip(context.pipeline.drift, drifts, strict=True))
        ]
        self.features = self._watch(watched, "feature", "features")
        self.prediction = self._watch(watched, "prediction")
        self.error = self._watch(watched, "error", "label")
        if context.pipeline.proxies is not None:
            self._approximate(context.pipeline.proxies)

    def on_record(self, role: str, item: Input) -> None:
        """A record of a topic that only this stage reads, where another group writes it."""
        record = item.payload
        if type(record) is BadRecord:
            self.context.dead("drift", role, record.reason, record.detail, item)
        elif role == "features" and self.features is not None:
            at = (record["time_ms"], record["partition"], record["offset"], record["event_id"])
            self.features(record["features"], *at)
        elif role == "predictions" and self.prediction is not None:
            served = (record.prediction, record.probability, record.probabilities)
            self.prediction(served, record.time_ms, record.partition, record.offset, record.event_id)
        elif role == "examples" and self.error is not None:
            at = (record["label_time_ms"], record["partition"], record["offset"], record["event_id"])
            learned_label = self.context.pipeline.learned_label
            try:
                answer, y = map(learned_label, (record["prediction"], record["label"]))
            except ValueError as error:
                self.context.dead("drift", role, "malformed", described(error), item)
            else:
                self.error(answer, y, record["probability"], record["time_ms"], *at)

    def _approximate(self, wish: Proxies) -> None:
        """Tell the proxies what is seen, too. All kinds of rows are one line, as their order counts."""
        context, process = self.context, proxy(self.context.pipeline, wish, self.context.shard).process_many
        state = context.states["proxies"]

        def settle(rows: list[Any]) -> list[Any]:
            found: list[Any] = [()] * len(rows)
            for at, record in process(rows, state):
                found[at] = [*found[at], evaluated(record)]
            return found

        mark, (number, note) = context.outbox.mark, context.outbox.line(settle, aside=True)
        features, prediction, error = self.features, self.prediction, self.error

        def see_features(x: Any, time_ms: int, partition: int, offset: int, event_id: Any) -> None:
            if features is not None:
                features(x, time_ms, partition, offset, event_id)
            mark(number)
            note(("x", x, time_ms, offset))

        def see_prediction(served: Served, time_ms: int, partition: int, offset: int, event_id: Any) -> None:
            if prediction is not None:
                prediction(served, time_ms, partition, offset, event_id)
            mark(number)
            note(("p", served, time_ms, offset))

        def see_error(*row: Any) -> None:
            if error is not None:
                error(*row)
            mark(number)
            note(("y", *row[:5], row[6]))

        self.features, self.prediction, self.error = see_features, see_prediction, see_error

    def _watch(self, watched: list[Any], *kinds: str) -> Callable[..., None] | None:
        """What notes a row (what to take the value from, time, partition, offset, id) for the detectors of a kind."""
        of_kind = [each for each in watched if each[0].kind in kinds]
        mine = [(drift.process_many, state, value_of) for drift, state, value_of, react in of_kind if react is None]
        acting = [self._act(*each) for each in of_kind if each[3] is not None]
        if not of_kind:
            return None
        context, segmented = self.context, self._segmented

        def settle(rows: list[Any]) -> list[Any]:
            found: list[Any] = [()] * len(rows)
            for process, state, value_of in mine:
                values, places = [], []
                for i, row in enumerate(rows):
                    value = value_of(row)
                    if value is not SKIPPED:
                        values.append((value, *row[-4:]))
                        places.append(i)
                segments = [rows[i][-5] for i in places] if segmented else None
                for at, alert in process(values, state, segments):
                    context.count("alerts")
                    i = places[at]
                    found[i] = [*found[i], alerted(alert)]
            return found

        outbox = context.outbox
        mark, (number, note) = outbox.mark, outbox.line(settle, aside=True)

        def see(*row: Any) -> None:
            mark(number)
            note(row)

        def see_and_act(*row: Any) -> None:
            mark(number)
            note(row)
            for act in acting:
                act(row)

        seen = see_and_act if acting else see
        if not segmented:
            return seen
        return lambda *row: seen(*row[:-4], context.values, *row[-4:])

    def _act(self, drift: Drift, state: Any, value_of: Callable[[Any], Any], react: Reaction) -> Callable[[Any], None]:
        """What sees a row at once, not later with others: its alerts change who serves from the next event on."""
        context, process, segmented = self.context, drift.process_many, self._segmented

        def act(row: Any) -> None:
            value = value_of(row)
            if value is SKIPPED:
                return
            for _, alert in process([(value, *row[-4:])], state, [row[-5]] if segmented else None):
                context.count("alerts")
                context.outbox.put(alerted(alert))
                current = state["detector"].value["alert"]["open"]
                if alert.severity == "info" or current is None or current["acted"] or self.decisions is None:
                    continue
                current["acted"] = True
                self._react(react, alert)

        return act

    def _react(self, react: Reaction, alert: Alert) -> None:
        decisions = self.decisions
        assert decisions is not None
        past = decisions.registry["past"]
        model = react.model or (past[-1] if past else None)
        if model is not None:
            evidence = {"alert": alert.alert_id, "signal": alert.signal, "before": decisions.champion}
            at = {"events": alert.last_offset}
            if react.kind == "retraining":
                decisions.retrain(model, react.last or alert.n, at, by="drift", why=alert.message, evidence=evidence)
                return
            decisions.decide(react.kind, model, why=alert.message, evidence=evidence, at=at, by="drift")


SKIPPED: Any = object()
"""In place of a value: there is nothing to see, not even something missing."""


def _value_of(kind: str, names: tuple[str, ...], task: Task) -> Callable[[Any], Any]:
    """How a kind of watch takes its value from a row."""
    if kind == "feature":
        return lambda row: row[0].get(names[0])
    if kind == "features":
        vector = itemgetter(*names)

        def features(row: Any) -> Any:
            try:
                return vector(row[0])
            except KeyError:
                return tuple([row[0].get(name) for name in names])

        return features
    if kind == "prediction":
        return lambda row: _answer(task, row[0])
    if kind == "label":
        return lambda row: row[1] if row[1].__class__ is str else float(row[1])
    return lambda row: SKIPPED if row[0] is None else error_of(task, row[0], row[1])


def _answer(task: str, served: Served) -> Any:
    """P(True), the largest probability, or the number."""
    label, probability, probabilities = served
    if probability is not None:
        return probability
    if probabilities:
        return max(probabilities.values())
    return float(label) if task == "regression" and label is not None else SKIPPED
