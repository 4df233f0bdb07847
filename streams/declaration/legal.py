"""What is legal in a declaration: each refusal names the value and the legal ones."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from headrace.processors.features import duration
from headrace.processors.registry import NAME
from headrace.schemas.contract import Schema
from headrace.schemas.wire import moment_ms
from headrace.streams.errors import DeclarationError

__all__ = [
    "column",
    "declared",
    "is_key",
    "is_name",
    "is_share",
    "is_topic",
    "legal",
    "milliseconds",
    "moment",
    "whole",
]

T = TypeVar("T")


def legal(value: T, ok: Any, what: str, choices: str) -> T:
    """Return `value`; a `DeclarationError` names it and what is legal, unless `ok`."""
    if not ok:
        raise DeclarationError(f"{what} is {value!r}; legal: {choices}.")
    return value


def is_name(name: Any) -> bool:
    """Whether this may be the name of a pipeline, or of a model."""
    return isinstance(name, str) and NAME.fullmatch(name) is not None


def is_topic(name: Any) -> bool:
    """Whether Kafka takes this as the name of a topic."""
    return isinstance(name, str) and re.fullmatch(r"(?!\.{1,2}\Z)[A-Za-z0-9._-]{1,249}", name) is not None


def is_key(value: Any) -> bool:
    """Whether this is an Ed25519 public key in hexadecimal digits."""
    return isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value) is not None


def is_share(value: Any) -> bool:
    """Whether this is a number from 0 to 1."""
    return type(value) in (int, float) and 0 <= value <= 1


def whole(value: Any, what: str) -> int:
    """A whole number, 1 or more."""
    return int(legal(value, type(value) is int and value >= 1, what, "a whole number, 1 or more"))


def declared(make: Callable[[], T], what: str) -> T:
    """What `make` makes; what it has against its arguments is a `DeclarationError`."""
    try:
        return make()
    except DeclarationError:
        raise
    except (ValueError, TypeError) as error:
        raise DeclarationError(f"{what}: {error}") from error


def milliseconds(text: str, what: str) -> int:
    """A duration such as 3h, in milliseconds."""
    return declared(partial(duration, text), what)


def column(schema: Schema, name: str, what: str) -> str:
    """A field of the schema."""
    names = [f["name"] for f in schema.columns()]
    return legal(name, name in names, what, "a field of the schema: " + ", ".join(names))


def moment(value: str | int | None) -> int | None:
    """A time, given as ISO-8601 or in milliseconds, in milliseconds."""
    if value is None or isinstance(value, int):
        return value
    try:
        return moment_ms(value)
    except (ValueError, TypeError, OverflowError) as error:
        raise DeclarationError(f"live_from is {value!r}; legal: ISO-8601, such as 2013-02-01T00:00:00Z.") from error
