"""Whether the parts of a declaration, each legal by itself, fit together; each is answered as the pipeline keeps it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any

from headrace.processors.baselines import BASELINES
from headrace.processors.drift import Drift, spelled
from headrace.processors.gate import Gate
from headrace.processors.predict import last_step
from headrace.processors.proxies import Proxies
from headrace.processors.registry import LONGEST_BASE, MOST_RETRAINED, SERVING
from headrace.processors.retrain import Retrain
from headrace.processors.scan import Scan
from headrace.processors.watches import Watch
from headrace.schemas.contract import Field
from headrace.schemas.faults import RANGES
from headrace.streams.declaration.legal import declared, is_name, legal
from headrace.streams.declaration.plain import clone, unseeded
from headrace.streams.errors import DeclarationError
from headrace.streams.identity.pickling import forbidden_globals

__all__ = ["gate", "ids", "lanes", "models", "proxies", "retraining", "watches"]

_SHORT_BASE = f"a model whose name has {LONGEST_BASE} characters at most, as its copies' names are longer"


def models(models: Mapping[str, Any], classes: Collection[tuple[str, str]]) -> dict[str, Any]:
    """Untrained copies of objects that learn, are the same again in every process, and can be written in snapshots."""
    if not models:
        raise DeclarationError("models is empty: declare at least one River estimator.")
    for name, model in models.items():
        legal(name, is_name(name) and name not in BASELINES, "models", f"a name like topics', not of {BASELINES}")
        if isinstance(model, type):
            raise DeclarationError(f"models[{name!r}] is a class: give an object, {model.__name__}().")
        last = last_step(model)
        where = "" if last is model else f" ends with {type(last).__name__}, which"
        for method in ("learn_one", "predict_one"):
            if not callable(getattr(last, method, None)):
                raise DeclarationError(
                    f"models[{name!r}]{where} has no {method}(): give an object with River's methods."
                )
        try:
            refused = forbidden_globals(model, classes)
        except Exception as error:
            raise DeclarationError(f"models[{name!r}] cannot be written in snapshots: {error}") from error
        if refused:
            raise DeclarationError(
                f"models[{name!r}] needs {', '.join(refused)}, which snapshots do not admit: declare them in "
                "classes=, or use River's own."
            )
        random = unseeded(model)
        if random:
            raise DeclarationError(f"models[{name!r}]: {random} is random and has no seed: give it one (seed=1).")
    copies = {name: clone(model) for name, model in models.items()}
    for name, copy in copies.items():
        if not callable(getattr(copy, "learn_one", None)):
            raise DeclarationError(f"models[{name!r}].clone() returns {copy!r}: let it return an untrained copy.")
    return copies


def watches(
    drift: Sequence[Watch], task: str, types: Mapping[str, Any], models: Collection[str], publish: Collection[str]
) -> tuple[Watch, ...]:
    """Watches of what is declared, calibrated; `types` are the features'."""
    watches = []
    for watch in drift:
        if not isinstance(watch, Watch):
            raise DeclarationError(
                "drift takes watch_error, watch_feature, watch_features, watch_label and watch_prediction."
            )
        declared(partial(Drift, watch.signal, watch.detector, topic="-", kind=watch.kind, task=task), "drift")
        if watch.react is not None and watch.react.model is not None:
            model = watch.react.model
            if watch.react.kind == "retraining":
                legal("examples", "examples" in publish, "drift: retrain", "with examples among publish=")
                legal(model, len(model) <= LONGEST_BASE, "drift: retrain", _SHORT_BASE)
            legal(model, model in models, "drift: react", "a declared model: " + ", ".join(models))
        for name in watch.names:
            legal(name, name in types, "drift", "a declared feature: " + ", ".join(types))
        if isinstance(watch.detector, Scan):
            _check_scan(watch, task, types)
        of_feature = types[watch.names[0]] if watch.kind == "feature" else "double"
        watches.append(declared(partial(watch.calibrated, task, of_feature), "drift"))
    told = [(watch.kind, watch.signal, spelled(watch.detector)) for watch in watches]
    for place, (_, signal, detector) in enumerate(told):
        if told[place] in told[:place]:
            raise DeclarationError(
                f"drift: two watches of {signal} with {detector} would tell of the same alerts: leave one out."
            )
    return tuple(watches)


def _check_scan(watch: Watch, task: str, types: Mapping[str, Any]) -> None:
    text = [name for name in watch.names if "string" in types[name]]
    if watch.kind == "features" and text:
        raise DeclarationError(f"drift: watch_features takes numbers; {text[0]!r} is text: give it a watch of its own.")
    if watch.detector.statistic == "ks" and (text or (watch.kind == "label" and task == "multiclass")):
        raise DeclarationError(f"drift: {watch.signal} is text, which has no order for 'ks'; legal: 'js', 'psi'.")


def gate(gate: Gate | None, task: str, features: Collection[str], columns: Collection[str]) -> Gate | None:
    """A gate whose loss is one of the task, and whose segments are features or columns of the events."""
    if gate is not None:
        declared(partial(gate.loss_of, task), "gate")
        names = list(dict.fromkeys([*features, *columns]))
        for name in gate.segments:
            legal(name, name in names, "gate.segments", "a feature or a field of the events: " + ", ".join(names))
    return gate


def proxies(
    proxies: Proxies | None, task: str, features: Collection[str], label: Callable[[Any], Any]
) -> Proxies | None:
    """Proxies of declared features, whose costs are of labels: `label` raises for what is none."""
    if proxies is not None:
        for name in proxies.features or ():
            legal(name, name in features, "proxies", "a declared feature: " + ", ".join(features))
        legal(proxies.costs, not proxies.costs or task != "regression", "proxies.costs", "None in a regression")
        for pair in proxies.costs or ():
            for y in pair:
                declared(partial(label, y), f"proxies.costs of {pair!r}")
    return proxies


def retraining(retrain: Sequence[Retrain], models: Collection[str], publish: Collection[str]) -> tuple[Retrain, ...]:
    """Each declared model at most once, where the examples that it is to learn are published."""
    for one in retrain:
        legal(one, isinstance(one, Retrain), "retrain", "a sequence of Retrain(...)")
        legal(one.model, one.model in models, "retrain", ", ".join(models))
        legal(one.model, len(one.model) <= LONGEST_BASE, "retrain", _SHORT_BASE)
    names = [one.model for one in retrain]
    legal(names, len(set(names)) == len(names), "retrain", "each model once")
    most = MOST_RETRAINED - len(SERVING)
    legal(names, len(names) <= most, "retrain", f"{most} models at most")
    legal("examples", not names or "examples" in publish, "retrain", "with examples among publish=")
    return tuple(retrain)


def ids(event: Field, label: Field) -> None:
    """The ids of labels can be ids of events."""
    if (event.kind in RANGES) != (label.kind in RANGES):
        raise DeclarationError(
            f"labels.id {label.name!r} is of type {label.kind}, but events.id {event.name!r} of type {event.kind}: "
            "no label would ever find its event."
        )


def lanes(features: Mapping[str, Any], key: str, partitions: int) -> None:
    """With several partitions, no window needs events of two."""
    if partitions == 1:
        return
    for name, feature in features.items():
        by = getattr(feature, "by", key)
        if by not in (key, (key,)):
            raise DeclarationError(
                f"features[{name!r}] is by {by!r}, but with {partitions} partitions every window must be by "
                f"the entity key {key!r}: use partitions=1, or make {by!r} the key."
            )
