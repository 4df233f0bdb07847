"""Difference: what two models do not have in common, parameter by parameter and node by node, and how they answer."""

from __future__ import annotations

import copyreg
import math
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import msgspec
import numpy as np

from headrace.streams.identity.canonical import meaningful
from headrace.streams.identity.deepstack import on_deep_stack
from headrace.streams.identity.hashing import state_hash
from headrace.streams.identity.pickling import dumps

__all__ = ["Answers", "Difference", "Leaf", "compare_answers", "difference", "leaves"]

_ABSENT = "absent"


class Leaf(msgspec.Struct):
    """A value that the models do not share, where it is in both of them."""

    path: str
    a: Any
    b: Any
    by: float | None


class Difference(msgspec.Struct):
    """Two models: their sizes, state hashes, and the leaves in which they differ, the largest difference first."""

    a_state: str
    b_state: str
    a_bytes: int
    b_bytes: int
    a_leaves: int
    b_leaves: int
    different: int
    first: list[Leaf]


class Answers(msgspec.Struct):
    """What two models answer to the same questions: largest and mean difference, and how often the label is another.

    A difference is that of probabilities (the largest over the classes), or of numbers (regression).
    """

    asked: int = 0
    largest: float = 0.0
    mean: float = 0.0
    other_label: int = 0


def difference(a: Any, b: Any, most: int = 20) -> Difference:
    """Compare two models; `most` is how many of the leaves that differ are told."""
    ones, others = leaves(a), leaves(b)
    found = [
        Leaf(path, ones.get(path, _ABSENT), others.get(path, _ABSENT), _by(ones.get(path), others.get(path)))
        for path in dict.fromkeys([*ones, *others])
        if path not in ones or path not in others or not _same(ones[path], others[path])
    ]
    found.sort(key=lambda leaf: (leaf.by is not None, -(leaf.by or 0.0)))
    return Difference(
        state_hash(a), state_hash(b), len(on_deep_stack(lambda: dumps(a))), len(on_deep_stack(lambda: dumps(b))),
        len(ones), len(others), len(found), found[:most],
    )  # fmt: skip


def leaves(model: Any) -> dict[str, Any]:
    """Every value that a model is made of, by its path: `_weights['hour']`, `_root.children[0].stats[True]`."""
    return on_deep_stack(lambda: dict(_walk(model, "", {})))


def compare_answers(a: Callable[[Any], Any], b: Callable[[Any], Any], questions: Iterable[Any]) -> Answers:
    """Ask both the same; an answer is {label: probability}, a label, a number, or None."""
    found, total = Answers(), 0.0
    for x in questions:
        one, other = a(x), b(x)
        by = _apart(one, other)
        found.asked += 1
        found.largest = max(found.largest, by)
        found.other_label += _label(one) != _label(other)
        total += by
    found.mean = total / found.asked if found.asked else 0.0
    return found


def _walk(value: Any, path: str, open_: dict[int, str]) -> Iterator[tuple[str, Any]]:
    if value is None or isinstance(value, bool | int | float | str | bytes | np.generic):
        yield path, value.item() if isinstance(value, np.generic) else value
        return
    if isinstance(value, type | types.FunctionType | types.BuiltinFunctionType | types.MethodType):
        yield path, getattr(value, "__qualname__", repr(value))
        return
    if id(value) in open_:
        yield path, f"as {open_[id(value)] or 'the model'}"
        return
    open_[id(value)] = path
    try:
        for name, inner in _parts(value):
            yield from _walk(inner, f"{path}{name}".removeprefix("."), open_)
    finally:
        del open_[id(value)]


def _parts(value: Any) -> Iterable[tuple[str, Any]]:
    """A value's own parts, with how they are reached."""
    if isinstance(value, np.ndarray):
        return [(f"[{i}]", part) for i, part in enumerate(value.ravel().tolist())]
    if isinstance(value, Mapping):
        return [(f"[{key!r}]", part) for key, part in value.items()]
    if isinstance(value, list | tuple):
        return [(f"[{i}]", part) for i, part in enumerate(value)]
    if isinstance(value, set | frozenset):
        return [("{}", ", ".join(sorted(map(repr, value))))]
    reducer = copyreg.dispatch_table.get(type(value))
    reduced = value.__reduce_ex__(4) if reducer is None else reducer(value)
    if isinstance(reduced, str):
        return [("", reduced)]
    _, arguments, state, items, pairs = (*reduced, None, None, None)[:5]
    parts: list[tuple[str, Any]] = []
    state = meaningful(type(value), state)
    for part in state if isinstance(state, tuple) else (state,):
        if isinstance(part, dict):
            parts += [(f".{key}", inner) for key, inner in part.items()]
        elif part is not None:
            parts.append(("", state_hash(part)))
    parts += [(f"[{i}]", part) for i, part in enumerate(items or ())]
    parts += [(f"[{key!r}]", part) for key, part in pairs or ()]
    return parts or [("", state_hash(list(arguments)))]


def _same(a: Any, b: Any) -> bool:
    return type(a) is type(b) and (a == b or (isinstance(a, float) and math.isnan(a) and math.isnan(b)))


def _by(a: Any, b: Any) -> float | None:
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in (a, b))
    return abs(float(a) - float(b)) if numbers else None


def _apart(a: Any, b: Any) -> float:
    if isinstance(a, dict) or isinstance(b, dict):
        one, other = (value if isinstance(value, dict) else {} for value in (a, b))
        return max((abs(one.get(label, 0.0) - other.get(label, 0.0)) for label in {**one, **other}), default=0.0)
    by = _by(a, b)
    return by if by is not None else float(a != b)


def _label(answer: Any) -> Any:
    if isinstance(answer, dict):
        return max(answer, key=answer.__getitem__) if answer else None
    return answer
