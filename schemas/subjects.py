"""Versions of a schema: what names one, and whether records written with one can be read with another."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from headrace.schemas.avro import single_object
from headrace.schemas.contract import Field, Schema, load_schema, read_avro
from headrace.schemas.names import spelled_out

__all__ = ["clashes", "compatible", "version"]

Source = Schema | Mapping[str, Any] | str | Path
_Kind = tuple[str, str | None, Mapping[str, Any]]
"""A type's name, a timestamp's unit, and an enum as it is declared."""

_PROMOTIONS: dict[str, tuple[str, ...]] = {
    "int": ("long", "float", "double"),
    "long": ("float", "double"),
    "float": ("double",),
    "string": ("bytes",),
    "bytes": ("string",),
}


def version(schema: Source) -> str:
    """The name of a version: the schema's CRC-64-AVRO fingerprint, 16 hexadecimal digits as in single-object headers.

    It changes with names, types and order; not with docs, defaults or logical types.
    """
    return single_object(schema if isinstance(schema, Schema) else read_avro(schema))[2:].hex()


def compatible(writer: Source, reader: Source) -> list[str]:
    """What keeps records of `writer` from being read with `reader`; empty if nothing does.

    By Avro's rules of schema resolution; besides, a timestamp must keep its unit. `reader` is flat; the writer's
    other fields may be anything.
    """
    written = writer.avro if isinstance(writer, Schema) else read_avro(writer)
    return [text for _, text in clashes(written, load_schema(reader))]


def clashes(writer: Mapping[str, Any], reader: Schema) -> Iterator[tuple[str, str]]:
    """The kind (name, field, type, symbol, unit) and text of each problem in reading what `writer` wrote."""
    if _name(writer) not in _names(reader.avro):
        yield "name", f"the writer's record is {_name(writer)}, the reader's {reader.name}"
    written = {field["name"]: field["type"] for field in spelled_out(writer)["fields"]}
    for field, declared in zip(reader.fields, spelled_out(reader.avro)["fields"], strict=True):
        name = next((name for name in (field.name, *declared.get("aliases", ())) if name in written), None)
        if name is None:
            if field.required:
                yield "field", f"{field.name}: the writer has no such field, and the reader no default"
        else:
            enum = next((enum for _, _, enum in _kinds(declared["type"]) if enum), {})
            yield from _type_clashes(field, enum, _kinds(written[name]))


def _type_clashes(field: Field, own: Mapping[str, Any], written: Iterable[_Kind]) -> Iterator[tuple[str, str]]:
    """The problems of one field; `own` is the reader's enum, where it is one."""
    for kind, logical, enum in written:
        if kind == "null":
            if not field.nullable:
                yield "type", f"{field.name}: the writer's may be null, the reader's {field.kind} may not"
        elif kind != field.kind and field.kind not in _PROMOTIONS.get(kind, ()):
            yield "type", f"{field.name}: the writer's {kind} cannot be read as {field.kind}"
        elif logical != field.logical:
            unit, wanted = logical or f"a plain {kind}", field.logical or f"a plain {field.kind}"
            yield "unit", f"{field.name}: the writer's is {unit}, the reader's {wanted}"
        elif kind == "enum" and _name(enum) not in _names(own):
            yield "type", f"{field.name}: the writer's enum is {_name(enum)}, the reader's {_name(own)}"
        elif kind == "enum":
            missing = [symbol for symbol in enum["symbols"] if symbol not in field.symbols]
            if missing:
                yield "symbol", f"{field.name}: the reader's enum lacks {', '.join(missing)}"


def _kinds(avro: Any) -> list[_Kind]:
    """What a type that is spelled out can be."""
    return [_kind(branch) for branch in (avro if isinstance(avro, list) else [avro])]


def _kind(avro: Any) -> _Kind:
    logical = None
    while isinstance(avro, Mapping):
        found = avro.get("logicalType")
        logical = found if found in ("timestamp-millis", "timestamp-micros") else logical
        if avro.get("type") == "enum":
            return "enum", logical, avro
        avro = avro.get("type")
    return str(avro), logical, {}


def _name(avro: Mapping[str, Any]) -> str:
    return str(avro["name"]).rpartition(".")[2]


def _names(avro: Mapping[str, Any]) -> set[str]:
    return {str(name).rpartition(".")[2] for name in (avro["name"], *avro.get("aliases", ()))}
