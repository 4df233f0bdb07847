"""A pipeline, as its author declares it: no Kafka in it. Wrong declarations fail here, when the file is loaded."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headrace.processors.compiled import PLANS
from headrace.processors.features import check_takes_one
from headrace.processors.featurize import Featurize
from headrace.processors.gate import Gate
from headrace.processors.metrics import TASKS, Task
from headrace.processors.proxies import Proxies
from headrace.processors.retrain import Retrain
from headrace.processors.watches import Watch
from headrace.streams.declaration import consistency
from headrace.streams.declaration.inputs import MOST_CLASSES, Events, Labels, class_type, reader_of, schema_of
from headrace.streams.declaration.legal import (
    column,
    declared,
    is_key,
    is_name,
    is_share,
    is_topic,
    legal,
    milliseconds,
    moment,
    whole,
)
from headrace.streams.declaration.plain import clone, fed_by, plain, shown, unmeasured, watched
from headrace.streams.errors import DeclarationError
from headrace.streams.identity.hashing import state_hash

if TYPE_CHECKING:
    from headrace.streams.memory import Backtest

__all__ = ["LEAST_BYTES", "OPTIONAL", "Events", "Labels", "Pipeline", "Versions"]

OPTIONAL = ("features", "examples")
"""Roles of the topics that need not be written: with all stages in one task, only retraining reads one of them."""

_MOST_CHARACTERS = 1_000
"""Of a label that is text: models, metrics and predictions have it again and again."""

LEAST_BYTES, _MOST_BYTES = 1_000_000, 10_000_000
"""Topics take what may come of inputs of so many bytes, however small `max_bytes` is; and no larger ones, as then no
request of a client would hold it."""


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
        legal(self.every, type(self.every) is int and self.every >= 0, "versions.every", "a whole number, 0 or more")
        whole(self.keep, "versions.keep")


_KINDS: dict[str, type] = {
    "events": Events, "labels": Labels, "gate": Gate, "proxies": Proxies, "versions": Versions,
}  # fmt: skip


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
        Trees do not estimate their size, as that would depend on restarts: River's ``max_size`` has no effect.
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
        self.name = legal(name, is_name(name), "name", "letters, digits, '.', '_' and '-', at most 100")
        self.task = legal(task, task in TASKS, "task", ", ".join(TASKS))
        for what, value in {"events": events, "labels": labels}.items():
            legal(value, isinstance(value, _KINDS[what]), what, f"{_KINDS[what].__name__}(...)")
        for what, value in {"gate": gate, "proxies": proxies, "versions": versions}.items():
            legal(value, value is None or isinstance(value, _KINDS[what]), what, f"None, {_KINDS[what].__name__}(...)")
        for what, value in {"drift": drift, "retrain": retrain}.items():
            legal(value, isinstance(value, list | tuple), what, "a list")
        for what, value in {"features": features, "models": models, "topics": topics or {}}.items():
            legal(value, isinstance(value, Mapping), what, "a dict, by name")
        several = {"operators": operators, "columns": columns, "classes": classes, "publish": publish}
        for what, value in several.items():
            legal(value, isinstance(value, Collection) and not isinstance(value, str), what, "a sequence")
        self.events, self.labels = events, labels
        self.event_schema = schema_of(events, base, "events")
        self.label_schema = schema_of(labels, base, "labels")
        consistency.ids(self.event_schema.field(events.id), self.label_schema.field(labels.id))
        self.ttl_ms = milliseconds(labels.ttl, "labels.ttl")
        self.horizon_ms = milliseconds(events.duplicates_within, "events.duplicates_within")
        if self.horizon_ms < self.ttl_ms:
            raise DeclarationError(
                f"events.duplicates_within is {events.duplicates_within}, less than labels.ttl {labels.ttl}: "
                "an id must be remembered at least as long as its label is awaited."
            )
        self.grace_ms = milliseconds(events.grace, "events.grace")
        for what, given in (("events", events), ("labels", labels)):
            milliseconds(given.far_future, f"{what}.far_future")
        declared(self.event_decoder, "events")
        declared(self.label_decoder, "labels")
        self.max_bytes = max(LEAST_BYTES, events.max_bytes, labels.max_bytes)
        legal(self.max_bytes, self.max_bytes <= _MOST_BYTES, "max_bytes", f"{_MOST_BYTES:,} at most")
        self.label_of = self._label_function(labels.y)
        self._class_type = class_type(labels, self.label_schema) if task == "multiclass" else None
        whole(labels.most_classes, "labels.most_classes")
        self.on_expiry = None if labels.on_expiry == "drop" else self._expiry(labels.on_expiry)
        for each in classes:
            pair = isinstance(each, tuple) and [type(word) for word in each] == [str, str]
            legal(each, pair, "classes", '("module", "name"), text and a tuple each')
        self.classes = frozenset(classes)
        self.features = dict(features)
        self.featurize = declared(self._featurize, "features")
        self.models = consistency.models(models, self.classes)
        self.champion = legal(champion, champion in self.models, "champion", ", ".join(self.models))
        self.gate = consistency.gate(gate, task, self.features, [f["name"] for f in self.event_schema.columns()])
        self.proxies = consistency.proxies(proxies, task, self.features, self._declared_label)
        self.columns = tuple(column(self.event_schema, c, "columns") for c in columns)
        self.live_from_ms = moment(live_from)
        self.evaluate_every = whole(evaluate_every, "evaluate_every")
        self.shadow = float(legal(shadow, is_share(shadow), "shadow", "a number from 0 to 1"))
        self.versions = Versions() if versions is None else versions
        self.partitions = whole(partitions, "partitions")
        self.topic_names = self._topics(topics or {})
        legal(publish, set(publish) <= set(OPTIONAL), "publish", f"some of {OPTIONAL}")
        self.publish = tuple(role for role in OPTIONAL if role in publish)
        types = {field["name"]: field["type"] for field in self.featurize.fields()}
        self.drift = consistency.watches(drift, task, types, self.models, self.publish)
        self.retrain = consistency.retraining(retrain, self.models, self.publish)
        for key in operators:
            legal(key, is_key(key), "operators", "64 hexadecimal digits, the public key of `headrace keys show`")
        self.operators = tuple(operators)
        self.data = data
        self.plans = PLANS if compiled else ("model",)
        consistency.lanes(self.features, events.key, self.partitions)

    def __repr__(self) -> str:
        return f"Pipeline({self.name!r}, task={self.task!r}, models={list(self.models)}, champion={self.champion!r})"

    def backtest(self, source: Any = None, **options: Any) -> Backtest:
        """The whole pipeline in memory over a DataFrame or file: no Kafka, no Java. See `headrace.streams.memory`."""
        from headrace.streams.memory import backtest

        return backtest(self, source, **options)

    def fresh_models(self) -> dict[str, Any]:
        """Untrained copies of the declared models."""
        return {name: unmeasured(clone(model)) for name, model in self.models.items()}

    def legal_label(self, y: Any) -> Any:
        """`y` as a label of this task; ValueError says what is legal."""
        if self.task == "binary":
            if type(y) is bool:
                return y
            raise ValueError("a binary label is a bool")
        if self._class_type is not None:
            if type(y) is not self._class_type:
                raise ValueError(f"a label is a {self._class_type.__name__} here")
            if type(y) is int and not -(2**63) <= y < 2**63:
                raise ValueError("a label is an int of 64 bits at most")
            if type(y) is str:
                if len(y) > _MOST_CHARACTERS:
                    raise ValueError(f"a label is text of {_MOST_CHARACTERS:,} characters at most")
                y.encode()  # which raises for what is no Unicode text
            return y
        if type(y) in (int, float) and math.isfinite(y):
            return float(y)
        raise ValueError("a regression label is a finite number")

    def learned_label(self, published: Any) -> Any:
        """What models learn of a label as examples have it: there a multiclass label is text. None stays None."""
        if published is None:
            return None
        if self._class_type is bool:
            return published == "True"
        return int(published) if self._class_type is int else published

    def event_decoder(self) -> tuple[Callable[[bytes | None], Any], Callable[[Any], int]]:
        """How an event's bytes become a record, and how a record tells its time."""
        return reader_of(self.event_schema, self.events)

    def label_decoder(self) -> tuple[Callable[[bytes | None], Any], Callable[[Any], int]]:
        """How a label's bytes become a record, and how a record tells its time."""
        return reader_of(self.label_schema, self.labels)

    def spec(self) -> dict[str, Any]:
        """Everything that determines outputs, as plain values: compared with the journal before anything runs."""
        return {
            "name": self.name,
            "task": self.task,
            "events": plain(self.events) | {"schema": plain(self.event_schema.avro)},
            "labels": self._plain_labels() | {"schema": plain(self.label_schema.avro)},
            "features": self._plain_features(),
            "models": {
                name: {"declared": shown(model), "hash": self.model_hashes[name]} for name, model in self.models.items()
            },
            "order": {
                "features": list(self.features),
                "models": list(self.models),
                "outcomes": [by and list(by) for by in self.featurize.outcome_bys],
                **({"feeds": feeds} if (feeds := fed_by(self.featurize.plan)) else {}),
            },
            "champion": self.champion,
            "gate": None if self.gate is None else plain(self.gate),
            "drift": [watched(watch) for watch in self.drift],
            **({} if self.proxies is None else {"proxies": plain(self.proxies)}),
            **({} if not self.retrain else {"retrain": [plain(declared) for declared in self.retrain]}),
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

    def _plain_features(self) -> dict[str, Any]:
        """With the types of functions, which are annotations and no code; those of columns are in the schema."""
        types = {field["name"]: field["type"] for field in self.featurize.fields()}
        return {
            name: plain(feature) | ({"type": types[name]} if callable(feature) else {})
            for name, feature in self.features.items()
        }

    def _plain_labels(self) -> dict[str, Any]:
        """Without what is as it was before it could be declared."""
        said: dict[str, Any] = plain(self.labels)
        if self.labels.most_classes == MOST_CLASSES:
            del said["most_classes"]
        return said

    def _declared_label(self, y: Any) -> Any:
        """`y`, which a declaration names, as a label; that one of a record is a symbol is seen when it is decoded."""
        symbols = () if callable(self.labels.y) else self.label_schema.field(self.labels.y).symbols
        if symbols and y not in symbols:
            raise ValueError(f"a label is one of {', '.join(symbols)}")
        return self.legal_label(y)

    def _expiry(self, y: Any) -> Any:
        try:
            return self._declared_label(y)
        except (ValueError, OverflowError) as error:
            raise DeclarationError(f"labels.on_expiry is {y!r}; legal: 'drop', or a label: {error}.") from error

    def _topics(self, topics: Mapping[str, str]) -> dict[str, str]:
        from headrace.streams.topics import ROLES, name_of  # which imports this module

        for role, name in topics.items():
            legal(role, role in ROLES, "topics", ", ".join(ROLES))
            legal(name, is_topic(name), f"topics[{role!r}]", "letters, digits, '.', '_' and '-', at most 249")
        roles: dict[str, str] = {}
        for role in ROLES:
            name = name_of(self.name, topics, role)
            if roles.setdefault(name, role) != role:
                raise DeclarationError(f"topics: {roles[name]} and {role} are both {name!r}; give each its own.")
        return dict(topics)

    def _featurize(self) -> Featurize:
        columns = {f["name"]: f["type"] for f in self.event_schema.columns()}
        nullable = {f["name"] for f in self.event_schema.columns() if f["nullable"]}
        made = Featurize(self.features, columns, nullable, self.task, self.grace_ms)
        for name, feature in self.features.items():
            of = getattr(getattr(feature, "value", None), "of", None)
            if of is not None:
                declared(partial(self._declared_label, of), f"features[{name!r}], label(of={of!r})")
        return made

    def _label_function(self, y: str | Callable[[Any], Any]) -> Callable[[Any], Any]:
        if callable(y):
            declared(partial(check_takes_one, y, "labels.y"), "labels")
            return y
        name = column(self.label_schema, y, "labels.y")
        return lambda record: getattr(record, name)
