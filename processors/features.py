"""What an author writes in ``features={...}``: columns, plain functions, and aggregates over windows.

Each is a frozen value; `Featurize` resolves them against the event's columns. The names ending in an underscore are
exported without it.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, Literal, NoReturn, TypeAlias

import numpy as np

from headrace.processors.base import DETAIL_CHARACTERS, Rejected, described
from headrace.processors.windows import check_tile, default_tile, duration

__all__ = [
    "LONGEST_KEPT", "TYPES", "Field", "Function", "Label", "Type", "Window", "check_takes_one", "coerce", "count",
    "duration", "failed", "field", "label", "last", "max_", "mean", "min_", "returns", "sum_", "time_since_last",
    "too_long", "variance",
]  # fmt: skip

Type = Literal["double", "long", "string", "boolean"]
Value: TypeAlias = "str | Callable[[Any], Any] | Label"

TYPES: dict[str, Type] = {
    "double": "double", "float": "double", "long": "long", "int": "long", "string": "string", "boolean": "boolean",
}  # fmt: skip
"""Avro primitive of a column → type of a feature."""

LONGEST_KEPT = 1_000
"""Characters of a text that a window keeps: all tiles of a key are one record."""

RETURNS: dict[Any, Type] = {float: "double", int: "long", str: "string", bool: "boolean"}


@dataclass(frozen=True, slots=True)
class Field:
    """A column of the event; missing where the event's is null, unless there is a default."""

    name: str
    default: Any = None


@dataclass(frozen=True, slots=True)
class Function:
    """A plain function of the event, of the type that it is annotated with; a lambda is ``float | None``."""

    function: Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class Label:
    """The label, as a number, when it becomes known: 1.0 or 0.0; y itself in a regression; whether y is `of`."""

    of: str | int | None = None


@dataclass(frozen=True, slots=True)
class Window:
    """An aggregate over the rows of one key in the last `over_ms`, in tiles of `tile_ms`.

    `value` is None where rows themselves count. `default` is the answer where the window holds no value (for a
    variance: fewer than two) or the key is null; None means missing.
    """

    how: str
    value: Value | None
    by: tuple[str, ...] | None
    over_ms: int
    tile_ms: int
    default: Any


def field(name: str, *, default: Any = None) -> Field:
    """A column of the event, as it is."""
    if not isinstance(name, str) or not name:
        raise ValueError(f"field takes the name of a column, not {name!r}")
    return Field(name, default)


def label(*, of: str | int | None = None) -> Label:
    """The outcome of earlier events, as they become known; `of` names a class in a multiclass pipeline."""
    return Label(of)


def count(
    value: Value | None = None,
    *,
    by: str | tuple[str, ...] | None,
    over: str,
    tile: str | None = None,
    default: int | None = 0,
) -> Window:
    """How many rows, or how many with `value`, a ``long``."""
    return _window("count", value, by, over, tile, default)


def sum_(
    value: Value, *, by: str | tuple[str, ...] | None, over: str, tile: str | None = None, default: float | None = 0.0
) -> Window:
    """The sum of `value`."""
    return _window("sum", _given(value), by, over, tile, default)


def mean(
    value: Value, *, by: str | tuple[str, ...] | None, over: str, tile: str | None = None, default: float | None = None
) -> Window:
    """The mean of `value`."""
    return _window("mean", _given(value), by, over, tile, default)


def min_(
    value: Value, *, by: str | tuple[str, ...] | None, over: str, tile: str | None = None, default: float | None = None
) -> Window:
    """The least `value`, a ``double``."""
    return _window("min", _given(value), by, over, tile, default)


def max_(
    value: Value, *, by: str | tuple[str, ...] | None, over: str, tile: str | None = None, default: float | None = None
) -> Window:
    """The greatest `value`, a ``double``."""
    return _window("max", _given(value), by, over, tile, default)


def variance(
    value: Value, *, by: str | tuple[str, ...] | None, over: str, tile: str | None = None, default: float | None = None
) -> Window:
    """The sample variance of `value` (n - 1 below the line)."""
    return _window("variance", _given(value), by, over, tile, default)


def last(
    value: Value, *, by: str | tuple[str, ...] | None, over: str, tile: str | None = None, default: Any = None
) -> Window:
    """The `value` of the latest row that has one, in its own type; text has 1,000 characters at most."""
    return _window("last", _given(value), by, over, tile, default)


def time_since_last(
    *, by: str | tuple[str, ...] | None, over: str = "7d", tile: str | None = None, default: float | None = None
) -> Window:
    """The seconds since the latest row within `over`; 0.0 for a late event whose tile has a later row."""
    return _window("time_since_last", None, by, over, tile, default)


def check_takes_one(function: Callable[..., Any], what: str) -> None:
    """Raise ValueError where `function` cannot be called with one argument; what does not say is let be."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return
    try:
        signature.bind(None)
    except TypeError as error:
        raise ValueError(f"{what} is a function of one record, and cannot be called with one: {error}") from error


def returns(function: Callable[[Any], Any], name: str) -> tuple[Type, bool]:
    """Answer the type that a feature function is annotated with, and whether it may be missing."""
    check_takes_one(function, f"feature {name!r}")
    target = function
    while hasattr(target, "func"):
        target = target.func
    code = target if hasattr(target, "__code__") else type(target).__call__
    if getattr(code, "__name__", "") == "<lambda>":
        return "double", True
    hint = getattr(code, "__annotations__", {}).get("return", ...)
    if isinstance(hint, str):
        try:
            hint = eval(hint, getattr(code, "__globals__", {}))
        except Exception:
            hint = ...
    parts = getattr(hint, "__args__", None) or (hint,)
    types = [RETURNS[part] for part in parts if isinstance(part, type) and part in RETURNS]
    missing = type(None) in parts
    if len(types) != 1 or len(types) + missing != len(parts):
        raise ValueError(
            f"feature {name!r}: annotate what its function returns: float, int, str or bool, or one of these | None "
            f"(def {getattr(code, '__name__', name)}(event) -> float)"
        )
    return types[0], missing


def coerce(name: str, kind: Type, nullable: bool, value: Any) -> Any:
    """Answer `value` as plain Python of the declared type, the same after an Avro round trip; raises `Rejected`."""
    if value is None:
        if nullable:
            return None
        raise Rejected("feature_type", f"{name}: {kind} is declared, the value is None")
    if kind == "double" and isinstance(value, Real | np.bool_):
        return _finite(name, value)
    if kind == "long" and isinstance(value, Integral | np.bool_):
        number = int(value)
        if -(2**63) <= number < 2**63:
            return number
        raise Rejected("feature_type", f"{name}: more than 64 bits")
    if kind == "string" and isinstance(value, str):
        if value.isascii() or not any("\ud800" <= character <= "\udfff" for character in value):
            return str(value)
        raise Rejected("feature_type", f"{name}: not Unicode text (a lone surrogate)")
    if kind == "boolean" and isinstance(value, bool | np.bool_):
        return bool(value)
    raise Rejected("feature_type", f"{name}: {kind} is declared, the value is of type {type(value).__name__}")


def too_long(name: str) -> NoReturn:
    """Reject the record whose text a window would keep."""
    raise Rejected("feature_type", f"{name}: text of more than {LONGEST_KEPT:,} characters, which a window would keep")


def failed(name: str, error: Exception) -> NoReturn:
    """Reject the record on which the author's function raised `error`."""
    raise Rejected("feature_error", f"{name}: {described(error)}"[:DETAIL_CHARACTERS]) from error


def _finite(name: str, value: Any) -> float:
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise Rejected("feature_nan", name)
    return number


def _given(value: Any) -> Any:
    if value is None:
        raise ValueError("value must be a column, a function of the event, or label()")
    return value


def _window(how: str, value: Any, by: Any, over: str, tile: str | None, default: Any) -> Window:
    if value is not None and not (isinstance(value, str | Label) or callable(value)):
        raise ValueError(f"{how}: value must be a column, a function of the event, or label(), not {value!r}")
    columns = (by,) if isinstance(by, str) else by if by is None else tuple(by)
    if columns is not None and not (columns and all(isinstance(c, str) for c in columns) and _different(columns)):
        raise ValueError(f"{how}: by must be a column, a tuple of different columns, or None for all, not {by!r}")
    over_ms = duration(over)
    tile_ms = default_tile(over_ms) if tile is None else duration(tile)
    check_tile(over_ms, tile_ms)
    return Window(how, value, columns, over_ms, tile_ms, default)


def _different(columns: tuple[str, ...]) -> bool:
    return len(set(columns)) == len(columns)
