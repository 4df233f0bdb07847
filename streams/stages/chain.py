"""The chain: all processors of a group composed into one callable per input, over one set of stores.

It is a pure function of its stores and the records it is given, in their order: no clock, no Kafka. Both runtimes, the
audit and recovery run this very object. Its segments are `front`, `back` and `watch`: chained they call one another
directly, cut they read one another's topic. Outputs are collected as (role, key, value, headers) until they are taken.
"""

from __future__ import annotations

import keyword
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from operator import attrgetter
from typing import Any

from headrace.processors.base import described
from headrace.processors.baselines import BASELINES
from headrace.processors.evaluate import Evaluate
from headrace.processors.join import Early, Join
from headrace.processors.predict import UNASKED
from headrace.processors.segments import resized
from headrace.schemas.names import spelled_out
from headrace.schemas.published import ExamplesWire, FeaturesWire
from headrace.schemas.records import Input
from headrace.schemas.wire import BadRecord
from headrace.streams.errors import UsageError
from headrace.streams.pipeline import OPTIONAL, Pipeline
from headrace.streams.stages.back import Back
from headrace.streams.stages.context import Context, Output
from headrace.streams.stages.decisions import Decisions
from headrace.streams.stages.front import Front
from headrace.streams.stages.gating import Gating
from headrace.streams.stages.retraining import History, Schedule, folded, grown
from headrace.streams.stages.sources import source_of
from headrace.streams.stages.wanted import model_store, wanted_stores
from headrace.streams.stages.watch import Watching, detectors
from headrace.streams.state import Stores
from headrace.streams.stores import CellStore, ObjectCodec
from headrace.streams.topology import STAGES, Group

__all__ = ["Chain", "Output"]

_EARLY: Any = tuple.__new__
_CHUNK = 512
"""Records after which what was noted is settled: few enough to stay in the processor's caches."""


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

    Attributes
    ----------
    pipeline, declared
        The pipeline with the retrained models that take part, and without them.
    history
        The training log, where models may be retrained; the task sets it.
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
        if group.stages != STAGES and pipeline.publish != OPTIONAL:
            raise UsageError(
                f"Pipeline {pipeline.name} does not publish {' and '.join(OPTIONAL)}, which stages that run apart meet "
                "in: run all stages together, or leave publish= out of the declaration."
            )
        self.pipeline, self.group, self.shard = pipeline, group, shard
        self.declared = pipeline
        self.history: History | None = None
        if group.watches and not group.back and any(watch.react is not None for watch in pipeline.drift):
            raise UsageError("A watch with react= decides who serves: run the drift stage with predict, in one group.")
        self.topic = topics or (lambda role: f"{pipeline.name}.{role}")
        self.join = Join(pipeline.ttl_ms)
        self.evaluate = self._evaluate()
        columns = pipeline.gate.segments if pipeline.gate is not None and group.back else ()
        self._drifts = detectors(pipeline, self.topic("events"), columns) if group.watches else []
        event_fields = spelled_out(pipeline.event_schema.avro)["fields"]
        id_field = next(field for field in event_fields if field["name"] == pipeline.events.id)
        features = pipeline.featurize.fields()
        time = pipeline.event_schema.field(pipeline.events.time)
        whole = time.name if time.logical == "timestamp-millis" else None
        self.features_wire = FeaturesWire(pipeline.name, id_field, event_fields, features, time_field=whole)
        self.examples_wire = ExamplesWire(pipeline.name, pipeline.task, id_field, features)
        self.sources = tuple(
            source_of(pipeline, role, self.topic(role), self.features_wire, self.examples_wire) for role in group.inputs
        )
        wanted = wanted_stores(pipeline, group, self.shard, self.join, self.evaluate, self._drifts)
        self.stores = Stores(wanted, codec)
        self.bind()

    def bind(self) -> None:
        """Compose the segments over the stores as they are; to be called again after a restore."""
        context = self.context = Context(self.pipeline, self.group, self.shard, self.topic, self.stores.states)
        self.clock, self.counts = context.clock, context.counts
        group = self.group
        joins = "join" in context.states
        self._expire = self.join.compile_expire(context.states["join"], self.clock[0]) if joins else lambda _: []
        watching = Watching(context, self._drifts) if group.watches else None
        front = Front(context, self.features_wire, self._advance) if group.front else None
        self._on_outcome = None if front is None else front.outcome
        self._back: Back | None = None
        self.decisions: Decisions | None = None
        self._gating: Gating | None = None
        if group.back:
            self.decisions = Decisions(context, self._settle)
            if watching is not None:
                watching.decisions = self.decisions
            if self.pipeline.gate is not None:
                self._gating = Gating(context, self.decisions, attributes=group.front)
            sees = (watching.features, watching.prediction, watching.error) if watching else (None, None, None)
            columns = _columns(self.pipeline.columns, attributes=group.front)
            schedule = Schedule(context, self.decisions) if self.declared.retrain else None
            surroundings = (context, self.decisions, self.join, self.evaluate, self.examples_wire, self._on_outcome)
            self._back = Back(*surroundings, columns, *sees, self._gating, schedule)
        else:
            compiled: tuple[Any, Any] = self.join.compile(context.states["join"]) if group.front else (None, None)
            self._wait_for, self._answer_to = compiled
        on_event = None if front is None else front.events(self._forward())
        handlers = {
            "events": on_event,
            "labels": self._labels(),
            "features": self._on_features,
            "registry": self.decisions.on_record if self.decisions is not None else None,
        }
        if watching is not None and not group.back:
            handlers |= {role: partial(watching.on_record, role) for role in group.inputs}
        self._handlers: tuple[Any, ...] = tuple(handlers[role] for role in group.inputs)

    def process(
        self, batch: list[tuple[int, Input]], epoch: int = 0, starts: Sequence[int] | None = None
    ) -> dict[int, Input]:
        """Process records in this order, each of the input with its rank; what they make is appended to the outputs.

        `epoch` is the journal's, `starts` are the offsets of the inputs before the batch. Answers the last record of
        each input.
        """
        leading = 0
        if self.decisions is not None:
            at = dict(zip(self.group.inputs, starts or (), strict=False))
            self.decisions.begin(epoch, at)
            self._reshape(epoch, at)
            leading = self._lead(batch, epoch, at)
        handlers, settle = self._handlers, self._settle
        for start in range(leading, len(batch), _CHUNK):
            for rank, item in batch[start : start + _CHUNK]:
                handlers[rank](item)
            settle()
        last = dict(batch)
        for rank, item in last.items():
            self.clock[1][rank] = item[0]
        return last

    def _lead(self, batch: list[tuple[int, Input]], epoch: int, at: dict[str, int]) -> int:
        """Take the leading records, after each of which the chain may have another shape; returns how many."""
        count, leading = 0, self.group.leading
        for rank, item in batch:
            if rank >= leading:
                break
            self._handlers[rank](item)
            self._reshape(epoch, at)
            count += 1
        return count

    def _settle(self) -> None:
        self.context.outbox.settle()
        if self._gating is not None:
            self._gating.settle()
        if self._back is not None:
            self._back.forget()

    def take(self) -> list[Output]:
        """The outputs since the last call."""
        return self.context.outbox.take()

    @property
    def stream_time_ms(self) -> int:
        """The largest event time accepted so far."""
        return int(self.clock[0])

    @property
    def pending(self) -> int:
        """Predictions waiting for their label."""
        if not self.group.back:
            return 0
        return len(self.stores.states["join"]["pending"]) - self.counts.get("refused_pending", 0)

    def learned(self) -> list[tuple[str, int, int]]:
        """Each model that learns, with how many examples there were, and how many of them were before it began."""
        since: dict[str, int] = self.stores.states["chain"]["since"].value
        learning = [m for m in self.pipeline.models if not self.decisions or self.decisions.status(m) != "retired"]
        return [(name, self.context.progress[0], since.get(name, 0)) for name in learning]

    def anew(self, models: Iterable[str]) -> None:
        """These models begin here, untrained: what was learned before was learned by others under their names."""
        self.stores.states["chain"]["since"].value.update(dict.fromkeys(models, self.context.progress[0]))

    def summary(self) -> dict[str, dict[str, float | None]]:
        """Progressive metrics of every model and baseline so far."""
        return self.evaluate.summary(self.stores.states["evaluate"]) if self.group.back else {}

    # -- retrained models ----------------------------------------------------------------------------------------

    def load(self, entries: dict[tuple[str, str, Any], bytes]) -> None:
        """Take the state of a checkpoint, retrained models included."""
        shape = CellStore("chain.retrained", [], None)
        for (processor, name, key), data in entries.items():
            if (processor, name) == ("chain", "retrained"):
                shape.load(key, data)
        shape.loaded()
        for name, base in shape.value:
            model = grown(self.declared, [(name, base)]).models[name]
            self.stores.add("models", model_store(name, model))
        self.pipeline = grown(self.declared, shape.value)
        self.evaluate = self._evaluate()
        self.stores.load(entries)
        self.bind()

    def _reshape(self, epoch: int, at: dict[str, int]) -> None:
        """Let retrained models in that have caught up, and those go that have retired."""
        decisions = self.decisions
        if decisions is None or not decisions.moved:
            return
        decisions.moved = False
        shape: list[Any] = self.stores.states["chain"]["retrained"].value
        wanted, there = decisions.retrained, [name for name, _ in shape]
        if list(wanted) == there:
            return
        old, n = list(self.pipeline.models), self.context.progress[0]
        since: dict[str, int] = self.stores.states["chain"]["since"].value
        outputs = self.take()
        for name in [name for name in there if name not in wanted]:
            self.stores.drop("models", name)
            since.pop(name, None)
        for name in [name for name in wanted if name not in there]:
            entry = decisions.registry["models"][name]
            model, since[name] = folded(self.declared, self.history, name, entry, n)
            self.stores.add("models", model_store(name, model))
        shape[:] = [[name, base] for name, base in shape if name in wanted]
        shape += [[name, base] for name, base in wanted.items() if name not in there]
        self.pipeline = grown(self.declared, shape)
        self.evaluate = self._evaluate()
        self.rank([old.index(name) if name in old else None for name in self.pipeline.models])
        self.bind()
        self.context.outbox.resume(outputs)
        bound = self.decisions
        if bound is not None:
            bound.moved = False
            bound.begin(epoch, at)

    def rank(self, ranks: list[int | None]) -> None:
        """Bring what is kept by rank of the models into their new order; None is a new one."""
        states, baselines = self.stores.states, len(BASELINES)
        fresh = self.evaluate.fresh
        scored = states["evaluate"]["evaluation"].value
        kept = scored["models"]
        scored["models"] = [fresh() if rank is None else kept[rank] for rank in ranks] + kept[-baselines:]
        if "segments" in states:
            resized(states["segments"], ranks, self.pipeline.task)

        def answered(entry: tuple[Any, ...]) -> tuple[Any, ...]:
            answers = entry[6]
            if not answers:
                return entry
            mine = tuple([UNASKED if rank is None else answers[rank] for rank in ranks])
            return (*entry[:6], mine + tuple(answers[-baselines:]), *entry[7:])

        states["join"]["pending"].change(answered)

    # -- composition ---------------------------------------------------------------------------------------------

    def _evaluate(self) -> Evaluate:
        p = self.pipeline
        models = tuple(p.models)
        roles = dict.fromkeys(models, "challenger") | {p.champion: "champion"} | dict.fromkeys(BASELINES, "baseline")
        return Evaluate(p.task, (*models, *BASELINES), roles, every=p.evaluate_every, shard=self.shard)

    def _forward(self) -> Callable[..., None]:
        """Where a featurized event goes next: to be predicted, or (cut) only to wait for its outcome."""
        if self._back is not None:
            return self._back.ask

        def wait(event_id: Any, item: Input, key: Any, keys: Any, x: Any, event: Any) -> None:
            if keys:
                entry = (item[0], item[2], item[1], key, keys, None, (), None, None, None)
                early = self._wait_for(event_id, entry)
                if early is not None and self._on_outcome is not None:
                    self._on_outcome(keys, early.y, early.time_ms)

        return wait

    # -- what several segments need ------------------------------------------------------------------------------

    def _advance(self, time_ms: int) -> None:
        """Stream time moves on; what it overtakes expires, oldest first, before the record itself is processed."""
        context = self.context
        self.clock[0] = time_ms
        for event_id, overtaken in self._expire(time_ms):
            if isinstance(overtaken, Early):
                if self._back is not None:
                    context.count("labels.orphan")
                    detail = f"no event {event_id!r} within the time to live"
                    context.dead("join", "labels", "orphan", detail, overtaken)
            elif self._back is not None:
                self._back.expired(event_id, overtaken, time_ms)
            elif self.pipeline.on_expiry is not None and self._on_outcome is not None:
                self._on_outcome(overtaken[4], self.pipeline.on_expiry, time_ms)

    def _labels(self) -> Callable[[Input], None]:
        """What takes a label, for whoever needs it. Bad ones are reported by the group that predicts."""
        p, back, context, clock, counts = self.pipeline, self._back, self.context, self.clock, self.counts
        label_of, legal, id_of, make = p.label_of, p.legal_label, attrgetter(p.labels.id), _EARLY
        flags = p.task == "binary"
        if p.task == "multiclass":
            legal = self._one_of_the_classes
        answer = self._outcome_of_label if back is None else back.on_label

        def on_label(item: Input) -> None:
            time_ms, partition, offset, key, value, _, record = item
            counts["labels"] += 1
            bad = record if record.__class__ is BadRecord else None
            if bad is None:
                try:
                    y = label_of(record)
                    if not flags or y.__class__ is not bool:
                        y = legal(y)
                except Exception as error:
                    bad = BadRecord("bad_label", described(error))
            if bad is not None:
                if back is not None:
                    context.dead("join", "labels", bad.reason, bad.detail, item)
                return
            if time_ms > clock[0]:
                self._advance(time_ms)
            answer(item, id_of(record), make(Early, (time_ms, offset, partition, y, key, value)))

        return on_label

    def _one_of_the_classes(self, y: Any) -> Any:
        """`y` as a label of a multiclass pipeline that has not too many classes; ValueError says what is legal."""
        y = self.pipeline.legal_label(y)
        seen, most = self.stores.states["join"]["classes"].value, self.pipeline.labels.most_classes
        if y not in seen:
            if len(seen) >= most:
                raise ValueError(f"class number {most + 1}: labels.most_classes is {most}")
            seen[y] = None
        return y

    def _outcome_of_label(self, _: Input, event_id: Any, label: Early) -> None:
        """A label where nothing is predicted: only windows over outcomes need it."""
        if self.pipeline.featurize.outcome_bys and self._on_outcome is not None:
            _, entry = self._answer_to(event_id, label)
            if entry is not None:
                self._on_outcome(entry[4], label.y, label.time_ms)

    def _on_features(self, item: Input) -> None:
        """An event that another group has featurized."""
        record = item.payload
        self.counts["features"] += 1
        if type(record) is BadRecord:
            self.context.dead("predict", "features", record.reason, record.detail, item)
            return
        if item.time_ms > self.clock[0]:
            self._advance(item.time_ms)
        self.context.origin = item
        event = item._replace(partition=record["partition"], offset=record["offset"])
        if self._back is not None:
            before = self.stores.states["join"]["pending"].pop(record["event_id"])
            if before is not None:  # the group that featurizes had come past its time to live
                self._back.expired(record["event_id"], before, self.clock[0])
            self._back.ask(record["event_id"], event, item.key, (), record["features"], record["event"])


def _columns(names: tuple[str, ...], *, attributes: bool) -> Callable[[Any], dict[str, Any]]:
    """A function from an event, or the same as a dict, to those of its columns that predictions carry."""
    if not attributes:
        return lambda event: {name: event[name] for name in names}
    pairs = ", ".join(f"{name!r}: getattr(event, {name!r})" for name in names)
    if not any(keyword.iskeyword(name) for name in names):
        pairs = ", ".join(f"{name!r}: event.{name}" for name in names)
    columns: Callable[[Any], dict[str, Any]] = eval(f"lambda event: {{{pairs}}}")
    return columns
