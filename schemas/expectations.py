"""What may be expected of a field's values beyond their type: ranges, sets, patterns, lengths."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import re2

from headrace.schemas.faults import RANGES, Field, fault_of_value, matcher

__all__ = ["Expectation", "between", "expecting", "matches", "max_length", "one_of"]


@dataclass(frozen=True, slots=True)
class Expectation:
    """Something expected of a field's values beyond its type; made by `between`, `one_of`, `matches`, `max_length`."""

    name: str
    kinds: tuple[str, ...]
    limits: tuple[Any, ...]


def between(low: float | None = None, high: float | None = None) -> Expectation:
    """Expect a number from `low` to `high`, both included; None leaves a side open."""
    given = [limit for limit in (low, high) if limit is not None]
    if not given or any(isinstance(limit, bool) or not isinstance(limit, (int, float)) for limit in given):
        raise ValueError(f"between(low, high) takes numbers, at least one of them; got {low!r}, {high!r}")
    if not all(abs(limit) <= sys.float_info.max for limit in given) or given != sorted(given):
        raise ValueError(f"between(low, high) takes finite numbers with low <= high; got {low!r}, {high!r}")
    return Expectation("between", ("int", "long", "float", "double"), (low, high))


def one_of(*values: str | int) -> Expectation:
    """Expect one of these strings or integers."""
    kinds = {type(value) for value in values}
    if kinds not in ({str}, {int}):
        raise ValueError(f"one_of(...) takes strings or integers, at least one and all alike; got {values!r}")
    return Expectation(
        "one_of", ("string", "enum") if kinds == {str} else ("int", "long"), tuple(dict.fromkeys(values))
    )


def matches(regex: str) -> Expectation:
    """Expect the whole string to match a regular expression of RE2: as Python's, but no look-around or backreferences.

    So no string takes longer than its length allows; ``\\d``, ``\\w`` and ``\\s`` are ASCII there.
    """
    try:
        matcher(regex)
    except (re2.error, TypeError) as error:
        raise ValueError(f"matches({regex!r}) is not a regular expression of RE2: {error}") from error
    return Expectation("matches", ("string",), (regex,))


def max_length(n: int) -> Expectation:
    """Expect at most `n` characters of a string, or `n` bytes."""
    if isinstance(n, bool) or not isinstance(n, int) or n < 0:
        raise ValueError(f"max_length(n) takes an integer of at least 0; got {n!r}")
    return Expectation("max_length", ("string", "bytes"), (n,))


def expecting(field: Field, wanted: Expectation | Sequence[Expectation]) -> Field:
    """The field with these expectations; ValueError if they cannot be met by its type."""
    for expectation in wanted if isinstance(wanted, list | tuple) else (wanted,):
        if not isinstance(expectation, Expectation):
            raise ValueError(f"field {field.name!r}: legal expectations are between, one_of, matches, max_length")
        if field.kind not in expectation.kinds:
            legal = ", ".join(expectation.kinds)
            raise ValueError(f"field {field.name!r} is {field.kind}; {expectation.name} is legal for {legal}")
        field = _narrowed(field, expectation)
    for value in field.allowed or ():
        if (fault := fault_of_value(field, value)) is not None:
            raise ValueError(f"one_of names an impossible value for field {fault[1]}")
    if not field.required and (fault := fault_of_value(field, field.default)) is not None:
        raise ValueError(f"the default of field {fault[1]}")
    return field


def _narrowed(field: Field, expectation: Expectation) -> Field:
    if expectation.name == "between":
        low, high = expectation.limits
        if field.kind in RANGES and any(not isinstance(limit, (int, type(None))) for limit in (low, high)):
            raise ValueError(f"field {field.name!r} is {field.kind}; between takes integers for it")
        lows = [limit for limit in (field.low, low) if limit is not None]
        highs = [limit for limit in (field.high, high) if limit is not None]
        low, high = max(lows, default=None), min(highs, default=None)
        if low is not None and high is not None and low > high:
            raise ValueError(f"field {field.name!r}: no {field.kind} lies between {low} and {high}")
        return replace(field, low=low, high=high)
    if expectation.name == "one_of":
        if field.kind == "enum" and not set(expectation.limits) <= set(field.symbols):
            raise ValueError(f"field {field.name!r}: one_of takes symbols of its enum: {', '.join(field.symbols)}")
        return replace(field, allowed=expectation.limits)
    if expectation.name == "matches":
        return replace(field, pattern=expectation.limits[0])
    return replace(field, longest=expectation.limits[0])
