"""Why a value does not fit its field: the slow, exact classification behind every rejected record.

Fast paths (msgspec, fastavro) only say yes or no. When they say no, `fault_of_row` looks again, field by
field in the schema's order, so that the reason and the detail depend on the record alone: not on the order of
its keys, nor on a library's wording.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import msgspec
import re2

from headrace.schemas.records import REASONS

__all__ = ["FLOAT32_MAX", "RANGES", "BadRecord", "Fault", "Field", "Kind", "fault_of_row", "fault_of_value", "matcher"]

Kind = Literal["boolean", "int", "long", "float", "double", "string", "bytes", "enum"]
Fault = tuple[str, str]

RANGES: dict[str, tuple[int, int]] = {"int": (-(2**31), 2**31 - 1), "long": (-(2**63), 2**63 - 1)}
FLOAT32_MAX = 3.4028234663852886e38
_DETAIL_CHARS = 200
_SHOWN_CHARS = 40


class BadRecord(Exception):
    """A record that is no record of its schema: `reason` is a key of `REASONS`, `detail` names the field.

    The detail is a pure function of the record and the schema, and has at most 200 characters.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        if reason not in REASONS:
            raise ValueError(f"unknown reason {reason!r}; the reasons are {', '.join(REASONS)}")
        detail = detail if len(detail) <= _DETAIL_CHARS else detail[: _DETAIL_CHARS - 3] + "..."
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}" if self.detail else self.reason


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a flat record: its Avro type and what is expected of its values.

    `null_first` tells ``["null", T]`` from ``[T, "null"]`` (only the wire bytes differ). A field that is not
    `required` takes `default` where it is absent. `low` and `high` include the type's own range for int and long.
    """

    name: str
    kind: Kind
    nullable: bool = False
    null_first: bool = True
    required: bool = True
    default: Any = None
    symbols: tuple[str, ...] = ()
    logical: str | None = None
    low: float | None = None
    high: float | None = None
    allowed: tuple[Any, ...] | None = None
    pattern: str | None = None
    longest: int | None = None

    @property
    def expected(self) -> str:
        """What a value must be, in words."""
        text: str = self.kind
        allowed = self.allowed if self.allowed is not None else self.symbols
        if allowed:
            text += " among " + ", ".join(_shown(value) for value in allowed)
        own_low, own_high = RANGES.get(self.kind, (None, None))
        low, high = (None if self.low == own_low else self.low), (None if self.high == own_high else self.high)
        if low is not None and high is not None:
            text += f" between {low} and {high}"
        elif low is not None or high is not None:
            text += f" of at least {low}" if low is not None else f" of at most {high}"
        if self.longest is not None:
            text += f" of at most {self.longest} {'bytes' if self.kind == 'bytes' else 'characters'}"
        if self.pattern is not None:
            text += f" matching {self.pattern}"
        return text + (" or null" if self.nullable else "")


@cache
def matcher(pattern: str) -> Callable[[str], bool]:
    """Whether a whole string matches, in time linear in its length whatever the pattern (RE2); `re2.error` else."""
    options = re2.Options()
    options.log_errors = False
    match = re2.compile(pattern, options).fullmatch

    def matches(text: str) -> bool:
        try:
            return match(text.encode()) is not None  # of bytes it need not tell where, in letters
        except UnicodeEncodeError:  # half a surrogate pair is no text
            return False

    return matches


def fault_of_row(fields: Iterable[Field], row: Mapping[str, Any]) -> Fault | None:
    """The first fault of a row in the order of the fields; absent fields come before ill-typed ones."""
    fields = tuple(fields)
    for field in fields:
        if field.required and field.name not in row:
            return "missing_field", f"{field.name}: expected {field.expected}, got nothing"
    for field in fields:
        if field.name in row and (fault := fault_of_value(field, row[field.name])) is not None:
            return fault
    return None


def fault_of_value(field: Field, value: Any) -> Fault | None:
    """The reason and detail why a value does not fit, or None if it does."""
    reason = _reason(field, value)
    return None if reason is None else (reason, _cut(f"{field.name}: ", field.expected, value))


def _reason(field: Field, value: Any) -> str | None:
    if value is None:
        return None if field.nullable else "wrong_type"
    if isinstance(value, float) and not math.isfinite(value):
        return "non_finite"
    if field.kind == "boolean":
        return None if isinstance(value, bool) else "wrong_type"
    if field.kind in ("int", "long", "float", "double"):
        return _number_reason(field, value)
    return _text_reason(field, value)


def _number_reason(field: Field, value: Any) -> str | None:
    integral = field.kind in RANGES
    if isinstance(value, bool) or not isinstance(value, int if integral else (int, float)):
        return "wrong_type"
    if not integral:
        try:
            value = float(value)
        except OverflowError:
            return "non_finite"
        if field.kind == "float" and abs(value) > FLOAT32_MAX:
            return "non_finite"
    if (field.low is not None and value < field.low) or (field.high is not None and value > field.high):
        return "out_of_range"
    return None if field.allowed is None or value in field.allowed else "not_allowed"


def _text_reason(field: Field, value: Any) -> str | None:
    if field.kind == "bytes":
        if isinstance(value, str):  # JSON carries bytes as base64
            try:
                value = msgspec.convert(value, bytes)
            except msgspec.ValidationError:
                return "wrong_type"
        if not isinstance(value, bytes):
            return "wrong_type"
    elif not isinstance(value, str):
        return "wrong_type"
    if field.longest is not None and len(value) > field.longest:
        return "not_allowed"
    if field.pattern is not None and not matcher(field.pattern)(value):
        return "not_allowed"
    allowed = field.symbols if field.allowed is None else field.allowed
    return "not_allowed" if allowed and value not in allowed else None


def _cut(start: str, expected: str, value: Any) -> str:
    got = f", got {_shown(value)}"
    text = f"{start}expected {expected}"
    room = _DETAIL_CHARS - len(got)
    return (text if len(text) <= room else text[: room - 3] + "...") + got


def _shown(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int):
        return str(value) if abs(value) < 10**30 else "an integer of more than 30 digits"
    if isinstance(value, float):
        return repr(float(value))
    if isinstance(value, str):
        text = json.dumps(value[: _SHOWN_CHARS + 1])
        return text if len(text) <= _SHOWN_CHARS else text[: _SHOWN_CHARS - 3] + "..."
    if isinstance(value, bytes):
        return f"{len(value)} bytes"
    if isinstance(value, Mapping):
        return "an object"
    return "an array" if isinstance(value, (list, tuple)) else f"a {type(value).__name__}"
