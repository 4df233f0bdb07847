"""Declarations as plain values, the same in every process; and models as they are declared."""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from headrace.processors.binding import Plan
from headrace.processors.watches import Watch
from headrace.streams.identity.hashing import function_hash, python_version, state_hash

__all__ = ["clone", "fed_by", "plain", "shown", "unmeasured", "unseeded", "watched"]


def clone(model: Any) -> Any:
    """An untrained copy of a model that shares nothing with it; River's share a `StatImputer`'s statistics."""
    return copy.deepcopy(model.clone() if callable(getattr(model, "clone", None)) else model)


def unmeasured(model: Any) -> Any:
    """`model`, in which no tree estimates its size any more, however deep in wrappers.

    River's Hoeffding trees do so now and then, by the addresses and histories of objects (`calculate_object_size`), so
    that a tree which was restored in between is left with other estimates than one which was not.
    """
    todo, seen = [model], set()
    while todo:
        part = todo.pop()
        if id(part) in seen or isinstance(part, type | ModuleType):
            continue
        seen.add(id(part))
        if isinstance(part, Mapping):
            todo.extend(part.values())
        elif isinstance(part, list | tuple):
            todo.extend(part)
        held = getattr(part, "__dict__", {})
        if "memory_estimate_period" in held:
            part.memory_estimate_period = math.inf
        todo.extend(held.values())
    return model


def unseeded(part: Any, name: str = "", depth: int = 0) -> str | None:
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
    found = (unseeded(inner, str(key), depth + 1) for key, inner in part.items())
    return next((unseeded for unseeded in found if unseeded), None)


def shown(model: Any) -> str:
    """A model for people; a few of River's, such as `SelectType` of two types, cannot say what they are."""
    try:
        return _scrub(repr(model))
    except Exception:
        return type(model).__qualname__


def _scrub(text: str) -> str:
    return re.sub(r" at 0x[0-9a-f]+", "", text)


def watched(watch: Watch) -> dict[str, Any]:
    """A watch as plain values; its budget is in its detector."""
    said = {name: value for name, value in plain(watch).items() if name != "false_alarms_every"}
    return said | {"hash": state_hash(watch.detector)}


def fed_by(plan: Plan) -> dict[str, list[Any]]:
    """Group of windows → which Python this is, and what function each of its values is, where it is one."""
    found = {}
    for fed in plan.groups:
        sources = [] if fed.outcomes else [plan.readers[i].source for i in fed.feeds]
        hashes = [function_hash(source) if callable(source) else None for source in sources]
        if any(hashes):
            found[fed.group.name] = [python_version(), *hashes]
    return found


def plain(value: Any) -> Any:
    """A declaration as plain values that are the same in every process."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if callable(value) and not isinstance(value, type):
        return {"function": getattr(value, "__name__", type(value).__qualname__), "hash": function_hash(value)}
    if is_dataclass(value) and not isinstance(value, type):
        return {"is": type(value).__name__} | {f.name: plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, set | frozenset):
        return sorted((plain(item) for item in value), key=repr)
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, Path):
        return value.name
    return _scrub(repr(value))
