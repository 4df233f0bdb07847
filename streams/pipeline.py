"""A pipeline, as its author declares it: no Kafka in it. Wrong declarations fail here, when the file is loaded."""

from __future__ import annotations

import copy
import math
import re
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from datetime import UTC, datetime
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal

from headrace.processors.compiled import PLANS
from headrace.processors.drift import Drift
from headrace.processors.features import duration
from headrace.processors.featurize import Featurize
from headrace.processors.gate import Gate
from headrace.processors.proxies import Proxies
from headrace.processors.retrain import Retrain
from headrace.processors.scan import Scan
from headrace.processors.watches import Watch
from headrace.schemas.contract import Schema, load_schema
from headrace.schemas.faults import RANGES
from headrace.schemas.wire import Decoder, time_of
from headrace.streams.errors import DeclarationError
from headrace.streams.hashing import function_hash, state_hash
from headrace.streams.pickling import forbidden_globals

__all__ = ["BASELINES", "OPTIONAL", "TASKS", "Events", "Labels", "Pipeline", "Versions"]

TASKS = ("binary", "multiclass", "regression")
BASELINES = ("no-change", "prior")
OPTIONAL = ("features", "examples")
"""Roles of the topics that need not be written: nothing of the runtime reads them in one task with all stages."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")

Task = Literal["binary", "multiclass", "regression"]


@dataclass(frozen=True, slots=True)
class Events:
    """The events a pipeline predicts on.

    Parameters
    ----------
    schema
        An Avro record of primitives: the path of an .avsc file (relative to the pipeline's file), a dict, or JSON text.
    id, key, time
        The fields holding the event's id, its entity, and its event time (a timestamp, or an ISO-8601 string).
    format
        ``json`` or ``avro`` (registry-framed, or single-object encoding).
    expect
        What else must hold of a field: `between`, `one_of`, `matches`, `max_length`.
    duplicates_within
        How long, in stream time, an event id is remembered. At least the labels' `ttl`.
    grace
        Events up to this much behind stream time still change windows; later ones are only predicted.
    far_future
        Stream time may run ahead of Kafka's time by this much and no more: beyond `grace`, one producer's wrong clock
        would keep everybody's events out of the windows.
        An event whose time is more than this ahead of its Kafka record time is a dead letter.
    max_bytes
        A longer value is a dead letter.
    schemas
        Writers' schemas by registry id, for ``avro``.
    """

    schema: Any
    id: str
    key: str
    time: str
    format: Literal["json", "avro"] = "json"
    expect: Mapping[str, Any] = field(default_factory=dict)
    duplicates_within: str = "2d"
    grace: str = "15m"
    far_future: str = "10m"
    max_bytes: int = 1_000_000
    schemas: Mapping[int, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Labels:
    """The feedback: what turned out, when it became known.

    Parameters
    ----------
    schema, id, time, format, expect, far_future, max_bytes, schemas
        As for `Events`; `time` is when the label became known.
    y
        The field holding the label, or a function of the label record.
    ttl
        How long an event waits for its label, in stream time.
    on_expiry
        ``"drop"``, or the label that an expired event counts as (no click: ``False``).
    """

    schema: Any
    id: str
    time: str
    y: str | Callable[[Any], Any]
    ttl: str = "2d"
    on_expiry: Any = "drop"
    format: Literal["json", "avro"] = "json"
    expect: Mapping[str, Any] = field(default_factory=dict)
    far_future: str = "10m"
    max_bytes: int = 1_000_000
    schemas: Mapping[int, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Versions:
    """Which versions of the models are kept as snapshots on `P.models`.

    Parameters
    ----------
    every
        A model is published at the first checkpoint after it has learned this many examples more; 0: never.
    keep
        How many versions of each model stay; the first one published after each promotion stays besides.
    """

    every: int = 1000
    keep: int = 10

    def __post_init__(self) -> None:
        _legal(self.every, type(self.every) is int and self.every >= 0, "versions.every", "a whole number, 0 or more")
        _whole(self.keep, "versions.keep")


class Pipeline:
    """Events in, predictions out, learning from labels as they become known.

    Parameters
    ----------
    name
        Prefix of its topics, group and transactional ids.
    task
        ``binary``, ``multiclass`` or ``regression``.
    events, labels
        The inputs.
    features
        Name → `field`, an aggregate, or a plain function of the event. The names are the contract; their order is the
        order of the features a model is given.
    models
        Name → a River estimator, or any object with River's methods. They are cloned. Unseeded random ones are refused.
    champion
        The model whose predictions are published.
    gate
        `Gate`: what the other models have to show before one of them becomes the champion. Without it nobody does, but
        by command.
    drift
        `watch_error`, `watch_feature`, `watch_features`, `watch_label`, `watch_prediction`.
    proxies
        `Proxies(every=1000)`: evaluations of predictions and features before labels come, later beside what came.
    retrain
        `Retrain`: when fresh copies of models are to be learned from the training log, to challenge the champion.
    operators
        Public keys (64 hexadecimal digits, see `headrace keys show`) whose signed commands are obeyed, the workers' own
        among them; none: everybody's who may write to the registry.
    columns
        Event columns that predictions carry along.
    live_from
        Events before this time (ISO-8601, or milliseconds) train and are evaluated, but predictions are not published.
    evaluate_every
        Examples in an evaluation window.
    shadow
        The share of events, chosen by id, for which the shadow topic has what the other models would have answered.
    versions
        Which versions of the models are published; no output depends on it.
    partitions
        Partitions of events and labels. More than one means a model per partition, and every window must be by the
        entity key, so that a partition is a lane of its own.
    topics
        Other names for its topics, by role (``{"events": "flights-raw"}``).
    classes
        (module, name) of the author's own classes in models, which snapshots may then name.
    compiled
        Whether models that match one of the plans of `processors/compiled.py` are run by it. No result depends on it,
        so it is no part of the specification.
    publish
        Which of the topics that may be missing are written: ``features`` and ``examples``. What is left out is neither
        audited nor explained, and a pipeline that leaves any out runs with all stages in one task only.
    data
        A function returning a DataFrame (or the path of a file) that backtests and demos use when none is given.
    """

    def __init__(
        self,
        name: str,
        *,
        task: Task,
        events: Events,
        labels: Labels,
        features: Mapping[str, Any],
        models: Mapping[str, Any],
        champion: str,
        gate: Gate | None = None,
        drift: Sequence[Watch] = (),
        proxies: Proxies | None = None,
        retrain: Sequence[Retrain] = (),
        operators: Sequence[str] = (),
        columns: Sequence[str] = (),
        live_from: str | int | None = None,
        evaluate_every: int = 1000,
        shadow: float = 0.01,
        versions: Versions | None = None,
        partitions: int = 1,
        topics: Mapping[str, str] | None = None,
        classes: Collection[tuple[str, str]] = (),
        data: Callable[[], Any] | str | Path | None = None,
        compiled: bool = True,
        publish: Collection[str] = OPTIONAL,
    ) -> None:
        base = Path(sys._getframe(1).f_globals.get("__file__", ".")).parent
        self.folder = base
        self.name = _legal(name, _named(name), "name", "letters, digits, '.', '_' and '-', at most 100")
        self.task = _legal(task, task in TASKS, "task", ", ".join(TASKS))
        self.events, self.labels = events, labels
        self.event_schema = _schema(events, base, "events")
        self.label_schema = _schema(labels, base, "labels")
        self._check_ids()
        self.ttl_ms = _duration(labels.ttl, "labels.ttl")
        self.horizon_ms = _duration(events.duplicates_within, "events.duplicates_within")
        if self.horizon_ms < self.ttl_ms:
            raise DeclarationError(
                f"events.duplicates_within is {events.duplicates_within}, less than labels.ttl {labels.ttl}: "
                "an id must be remembered at least as long as its label is awaited."
            )
        self.grace_ms = _duration(events.grace, "events.grace")
        for what, declared in (("events", events), ("labels", labels)):
            _duration(declared.far_future, f"{what}.far_future")
        _declared(self.event_decoder, "events")
        _declared(self.label_decoder, "labels")
        self.on_expiry = None if labels.on_expiry == "drop" else self._expiry(labels.on_expiry)
        self.label_of = self._label_function(labels.y)
        self.classes = frozenset(classes)
        self.features = dict(features)
        self.featurize = _declared(self._featurize, "features")
        self.models = self._models(models)
        self.champion = _legal(champion, champion in self.models, "champion", ", ".join(self.models))
        self.gate = self._gate(gate)
        self.proxies = proxies
        for name in (proxies.features or ()) if proxies else ():
            _legal(name, name in self.features, "proxies", "a declared feature: " + ", ".join(self.features))
        _legal(columns, not isinstance(columns, str), "columns", "a sequence of fields of the schema")
        self.columns = tuple(_column(self.event_schema, c, "columns") for c in columns)
        self.live_from_ms = _moment(live_from)
        self.evaluate_every = _whole(evaluate_every, "evaluate_every")
        self.shadow = float(_legal(shadow, _is_share(shadow), "shadow", "a number from 0 to 1"))
        self.versions = Versions() if versions is None else versions
        self.partitions = _whole(partitions, "partitions")
        self.topic_names = self._topics(topics or {})
        _legal(
            publish, not isinstance(publish, str) and set(publish) <= set(OPTIONAL), "publish", f"some of {OPTIONAL}"
        )
        self.publish = tuple(role for role in OPTIONAL if role in publish)
        self.drift = self._watches(drift)
        self.retrain = self._retrain(retrain)
        for key in operators:
            _legal(key, _is_key(key), "operators", "64 hexadecimal digits, the public key of `headrace keys show`")
        self.operators = tuple(operators)
        self.data = data
        self.plans = PLANS if compiled else ("model",)
        self._check_lanes()

    def __repr__(self) -> str:
        return f"Pipeline({self.name!r}, task={self.task!r}, models={list(self.models)}, champion={self.champion!r})"

    def backtest(self, source: Any = None, **options: Any) -> Any:
        """The whole pipeline in memory over a DataFrame or file: no Kafka, no Java. See `headrace.streams.memory`."""
        from headrace.streams.memory import backtest

        return backtest(self, source, **options)

    def fresh_models(self) -> dict[str, Any]:
        """Untrained copies of the declared models."""
        return {name: _clone(model) for name, model in self.models.items()}

    def legal_label(self, y: Any) -> Any:
        """`y` as a label of this task; ValueError says what is legal."""
        if self.task == "binary":
            if type(y) is bool:
                return y
            raise ValueError("a binary label is a bool")
        if self.task == "multiclass":
            if type(y) in (int, bool) and -(2**63) <= y < 2**63:
                return y
            if type(y) is str and y.encode() is not None:  # which raises for what is no Unicode text
                return y
            raise ValueError("a multiclass label is a str or an int of 64 bits")
        if type(y) in (int, float) and math.isfinite(y):
            return float(y)
        raise ValueError("a regression label is a finite number")

    def event_decoder(self) -> tuple[Callable[[bytes | None], Any], Callable[[Any], int]]:
        """How an event's bytes become a record, and how a record tells its time."""
        return _reader(self.event_schema, self.events)

    def label_decoder(self) -> tuple[Callable[[bytes | None], Any], Callable[[Any], int]]:
        """How a label's bytes become a record, and how a record tells its time."""
        return _reader(self.label_schema, self.labels)

    def spec(self) -> dict[str, Any]:
        """Everything that determines outputs, as plain values: compared with the journal before anything runs."""
        return {
            "name": self.name,
            "task": self.task,
            "events": _plain(self.events) | {"schema": _plain(self.event_schema.avro)},
            "labels": _plain(self.labels) | {"schema": _plain(self.label_schema.avro)},
            "features": {name: _plain(feature) for name, feature in self.features.items()},
            "models": {
                name: {"declared": _shown(model), "hash": self.model_hashes[name]}
                for name, model in self.models.items()
            },
            "champion": self.champion,
            "gate": None if self.gate is None else _plain(self.gate),
            "drift": [_watched(watch) for watch in self.drift],
            **({} if self.proxies is None else {"proxies": _plain(self.proxies)}),
            **({} if not self.retrain else {"retrain": [_plain(declared) for declared in self.retrain]}),
            **({} if not self.operators else {"operators": list(self.operators)}),
            "columns": list(self.columns),
            "live_from_ms": self.live_from_ms,
            "evaluate_every": self.evaluate_every,
            "shadow": self.shadow,
            "topics": dict(sorted(self.topic_names.items())),
            **({} if self.publish == OPTIONAL else {"publish": list(self.publish)}),
        }

    @cached_property
    def model_hashes(self) -> dict[str, str]:
        """Name → hash of the model as it is declared, untrained."""
        return {name: state_hash(model) for name, model in self.models.items()}

    def _expiry(self, y: Any) -> Any:
        try:
            return self.legal_label(y)
        except (ValueError, OverflowError) as error:
            raise DeclarationError(f"labels.on_expiry is {y!r}; legal: 'drop', or a label: {error}.") from error

    def _topics(self, topics: Mapping[str, str]) -> dict[str, str]:
        from headrace.streams.topics import ROLES  # which imports this module

        for role in topics:
            _legal(role, role in ROLES, "topics", ", ".join(ROLES))
        return dict(topics)

    def _featurize(self) -> Featurize:
        columns = {f["name"]: f["type"] for f in self.event_schema.columns()}
        nullable = {f["name"] for f in self.event_schema.columns() if f["nullable"]}
        return Featurize(self.features, columns, nullable, self.task, self.grace_ms)

    def _label_function(self, y: str | Callable[[Any], Any]) -> Callable[[Any], Any]:
        if callable(y):
            return y
        name = _column(self.label_schema, y, "labels.y")
        return lambda record: getattr(record, name)

    def _models(self, models: Mapping[str, Any]) -> dict[str, Any]:
        if not models:
            raise DeclarationError("models is empty: declare at least one River estimator.")
        for name, model in models.items():
            _legal(name, _named(name) and name not in BASELINES, "models", f"a name like topics', not of {BASELINES}")
            if isinstance(model, type):
                raise DeclarationError(f"models[{name!r}] is a class: give an object, {model.__name__}().")
            for method in ("learn_one", "predict_one"):
                if not callable(getattr(model, method, None)):
                    raise DeclarationError(f"models[{name!r}] has no {method}(): give an object with River's methods.")
            try:
                refused = forbidden_globals(model, self.classes)
            except Exception as error:
                raise DeclarationError(f"models[{name!r}] cannot be written in snapshots: {error}") from error
            if refused:
                raise DeclarationError(
                    f"models[{name!r}] needs {', '.join(refused)}, which snapshots do not admit: declare them in "
                    "classes=, or use River's own."
                )
            unseeded = _unseeded(model)
            if unseeded:
                raise DeclarationError(f"models[{name!r}]: {unseeded} is random and has no seed: give it one (seed=1).")
        return {name: _clone(model) for name, model in models.items()}

    def _watches(self, drift: Sequence[Watch]) -> tuple[Watch, ...]:
        watches = []
        for watch in drift:
            if not isinstance(watch, Watch):
                raise DeclarationError("drift takes watch_error, watch_feature, watch_label and watch_prediction.")
            _declared(partial(Drift, watch.signal, watch.detector, topic="-", kind=watch.kind, task=self.task), "drift")
            if watch.react is not None and watch.react.model is not None:
                model = watch.react.model
                if watch.react.kind == "retraining":
                    _legal("examples", "examples" in self.publish, "drift: retrain", "with examples among publish=")
                _legal(model, model in self.models, "drift: react", "a declared model: " + ", ".join(self.models))
            for name in watch.names:
                _legal(name, name in self.features, "drift", "a declared feature: " + ", ".join(self.features))
            types = {field["name"]: field["type"] for field in self.featurize.fields()}
            if isinstance(watch.detector, Scan):
                self._check_scan(watch, types)
            of_feature = types[watch.names[0]] if watch.kind == "feature" else "double"
            watches.append(_declared(partial(watch.calibrated, self.task, of_feature), "drift"))
        return tuple(watches)

    def _check_scan(self, watch: Watch, types: Mapping[str, Any]) -> None:
        text = [name for name in watch.names if "string" in types[name]]
        if watch.kind == "features" and text:
            raise DeclarationError(
                f"drift: watch_features takes numbers; {text[0]!r} is text: give it a watch of its own."
            )
        if watch.detector.statistic == "ks" and (text or (watch.kind == "label" and self.task == "multiclass")):
            raise DeclarationError(f"drift: {watch.signal} is text, which has no order for 'ks'; legal: 'js', 'psi'.")

    def _gate(self, gate: Gate | None) -> Gate | None:
        _legal(gate, gate is None or isinstance(gate, Gate), "gate", "None, Gate(...)")
        if gate is not None:
            _declared(partial(gate.loss_of, self.task), "gate")
            names = list(dict.fromkeys([*self.features, *(f["name"] for f in self.event_schema.columns())]))
            for name in gate.segments:
                _legal(name, name in names, "gate.segments", "a feature or a field of the events: " + ", ".join(names))
        return gate

    def _retrain(self, retrain: Sequence[Retrain]) -> tuple[Retrain, ...]:
        for declared in retrain:
            _legal(declared, isinstance(declared, Retrain), "retrain", "a sequence of Retrain(...)")
            _legal(declared.model, declared.model in self.models, "retrain", ", ".join(self.models))
        names = [declared.model for declared in retrain]
        _legal(names, len(set(names)) == len(names), "retrain", "each model once")
        _legal("examples", not names or "examples" in self.publish, "retrain", "with examples among publish=")
        return tuple(retrain)

    def _check_ids(self) -> None:
        event, label = self.event_schema.field(self.events.id), self.label_schema.field(self.labels.id)
        if (event.kind in RANGES) != (label.kind in RANGES):
            raise DeclarationError(
                f"labels.id {label.name!r} is of type {label.kind}, but events.id {event.name!r} of type {event.kind}: "
                "no label would ever find its event."
            )

    def _check_lanes(self) -> None:
        if self.partitions == 1:
            return
        for name, feature in self.features.items():
            by = getattr(feature, "by", self.events.key)
            if by not in (self.events.key, (self.events.key,)):
                raise DeclarationError(
                    f"features[{name!r}] is by {by!r}, but with {self.partitions} partitions every window must be by "
                    f"the entity key {self.events.key!r}: use partitions=1, or make {by!r} the key."
                )


def _legal(value: Any, ok: Any, what: str, legal: str) -> Any:
    if not ok:
        raise DeclarationError(f"{what} is {value!r}; legal: {legal}.")
    return value


def _named(name: Any) -> bool:
    return isinstance(name, str) and _NAME.fullmatch(name) is not None


def _is_key(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value) is not None


def _is_share(value: Any) -> bool:
    return type(value) in (int, float) and 0 <= value <= 1


def _whole(value: Any, what: str) -> int:
    return int(_legal(value, type(value) is int and value >= 1, what, "a whole number, 1 or more"))


def _declared(make: Callable[[], Any], what: str) -> Any:
    try:
        return make()
    except DeclarationError:
        raise
    except (ValueError, TypeError) as error:
        raise DeclarationError(f"{what}: {error}") from error


def _duration(text: str, what: str) -> int:
    try:
        return duration(text)
    except ValueError as error:
        raise DeclarationError(f"{what}: {error}") from error


def _schema(declared: Events | Labels, base: Path, what: str) -> Schema:
    try:
        schema = load_schema(declared.schema, base=base, expect=declared.expect)
    except (ValueError, OSError) as error:
        raise DeclarationError(f"{what}.schema: {error}") from error
    _legal(declared.format, declared.format in ("json", "avro"), f"{what}.format", "json, avro")
    for part in ("id", "time", "key") if isinstance(declared, Events) else ("id", "time"):
        _column(schema, getattr(declared, part), f"{what}.{part}")
    kinds = {f["name"]: (f["type"], f["nullable"]) for f in schema.columns()}
    kind, nullable = kinds[declared.id]
    usable = kind in ("string", "int", "long", "enum") and not nullable
    _legal(declared.id, usable, f"{what}.id", "a string or integer, not nullable")
    return schema


def _column(schema: Schema, name: str, what: str) -> str:
    names = [f["name"] for f in schema.columns()]
    return str(_legal(name, name in names, what, "a field of the schema: " + ", ".join(names)))


def _reader(schema: Schema, declared: Events | Labels) -> tuple[Callable[[bytes | None], Any], Callable[[Any], int]]:
    decoder = Decoder(schema, declared.format, max_bytes=declared.max_bytes, schemas=declared.schemas)
    return decoder.decode, time_of(schema, declared.time)


def _moment(value: str | int | None) -> int | None:
    if value is None or isinstance(value, int):
        return value
    try:
        moment = datetime.fromisoformat(value)
    except (ValueError, TypeError) as error:
        raise DeclarationError(f"live_from is {value!r}; legal: ISO-8601, such as 2013-02-01T00:00:00Z.") from error
    return round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)


def _clone(model: Any) -> Any:
    return model.clone() if callable(getattr(model, "clone", None)) else copy.deepcopy(model)


def _unseeded(part: Any, name: str = "", depth: int = 0) -> str | None:
    """The name of the first random part without a seed, however deep in wrappers.

    River gives an inner object's parameters as (class, parameters), a step's under its name; what has no such
    parameters is walked by its attributes.
    """
    if depth > 16:
        return None
    if isinstance(part, tuple) and len(part) == 2 and isinstance(part[0], type) and isinstance(part[1], Mapping):
        name, part = part[0].__name__, part[1]
    elif isinstance(part, list | tuple):
        part = dict(enumerate(part))
    elif callable(getattr(part, "_get_params", None)):
        name = type(part).__name__
        try:
            part = part._get_params()
        except AttributeError:  # a parameter that is not kept under its name
            part = vars(part)
    elif callable(getattr(part, "learn_one", None)):
        name, part = type(part).__name__, getattr(part, "__dict__", {})
    if not isinstance(part, Mapping):
        return None
    if "seed" in part and part["seed"] is None:
        return name
    found = (_unseeded(inner, str(key), depth + 1) for key, inner in part.items())
    return next((unseeded for unseeded in found if unseeded), None)


def _shown(model: Any) -> str:
    """A model for people; a few of River's, such as `SelectType` of two types, cannot say what they are."""
    try:
        return _scrub(repr(model))
    except Exception:
        return type(model).__qualname__


def _scrub(text: str) -> str:
    return re.sub(r" at 0x[0-9a-f]+", "", text)


def _watched(watch: Watch) -> dict[str, Any]:
    """A watch as plain values; its budget is in its detector."""
    plain = {name: value for name, value in _plain(watch).items() if name != "false_alarms_every"}
    return plain | {"hash": state_hash(watch.detector)}


def _plain(value: Any) -> Any:
    """A declaration as plain values that are the same in every process."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if is_dataclass(value) and not isinstance(value, type):
        return {"is": type(value).__name__} | {f.name: _plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    if callable(value) and hasattr(value, "__code__"):
        return {"function": value.__name__, "hash": function_hash(value)}
    if isinstance(value, Path):
        return value.name
    return _scrub(repr(value))
