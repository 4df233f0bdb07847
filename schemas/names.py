"""The enums of an Avro schema: spelled out wherever they are used, for us to read, or declared once, as Avro asks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["named_once", "spelled_out"]


def spelled_out(avro: Any, space: str = "", known: dict[str, Any] | None = None) -> Any:
    """A copy of a schema, or of a part of it, in which enums and fixed types stand wherever they are named.

    `space` is the namespace around the part; `known` has the types declared before it, by name and by full name.
    """
    known = {} if known is None else known
    if isinstance(avro, str):
        return known.get(_full(avro, space), known.get(avro, avro))
    if isinstance(avro, (list, tuple)):
        return [spelled_out(part, space, known) for part in avro]
    if not isinstance(avro, Mapping):
        return avro
    kind, name = avro.get("type"), str(avro.get("name"))
    full = _full(name, str(avro.get("namespace", space)))
    if kind in ("enum", "fixed"):
        known[name] = known[full] = avro
        return avro
    if kind in ("record", "error"):
        space = full.rpartition(".")[0]
    elif isinstance(kind, str) and "name" not in avro and (named := spelled_out(kind, space, known)) is not kind:
        return named
    inner = ("type", "fields", "items", "values")
    return {key: spelled_out(value, space, known) if key in inner else value for key, value in avro.items()}


def named_once(avro: Any, taken: dict[str, Any]) -> Any:
    """A copy of what is spelled out that declares each enum once, and names it after that.

    `taken` has the types declared before, by full name; an enum with the name of another gets one that is free.
    """
    if isinstance(avro, (list, tuple)):
        return [named_once(part, taken) for part in avro]
    if not isinstance(avro, Mapping):
        return avro
    if avro.get("type") != "enum":
        return {key: named_once(value, taken) if key in ("type", "fields") else value for key, value in avro.items()}
    name, space = str(avro["name"]), str(avro.get("namespace", ""))
    while taken.get(_full(name, space), avro) != avro:
        name += "_"
    if (full := _full(name, space)) in taken:
        return full
    taken[full] = avro
    return {**avro, "name": name}


def _full(name: str, space: str) -> str:
    return f"{space}.{name}" if space and "." not in name else name
