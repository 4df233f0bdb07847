"""Avro values as they travel: registry framing and single-object encoding, resolved to the reader's schema."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from fastavro import parse_schema, schemaless_reader
from fastavro.read import SchemaResolutionError

from headrace.schemas.avro import canonical, plain, record_decoder, single_object
from headrace.schemas.contract import Schema, read_avro
from headrace.schemas.faults import BadRecord
from headrace.schemas.subjects import clashes

__all__ = ["avro_reader"]

_REGISTRY_BYTES = 5  # 0, and the schema's id as a big-endian int
_SINGLE_BYTES = 10  # C3 01, and the schema's fingerprint
_READ = Callable[[bytes, int], "tuple[Mapping[str, Any], int]"]


def avro_reader(schema: Schema, schemas: Mapping[int, Any]) -> Callable[[bytes], Any]:
    """A function from framed Avro bytes to a struct of `schema`; BadRecord for all other bytes.

    `schemas` maps registry ids to the writers' schemas. ValueError if one of them cannot be read as `schema`.
    """
    _parsed(schema.avro, schema.fullname)
    by_id: dict[bytes, _READ] = {}
    by_header: dict[bytes, _READ] = {single_object(schema): _plan(schema, schema.avro)}
    for number, source in schemas.items():
        if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number < 2**31:
            raise ValueError(f"schemas has the id {number!r}; legal are integers from 0 to 2147483647")
        writer = source.avro if isinstance(source, Schema) else read_avro(source)
        dangers = _dangers(_parsed(writer, f"the schema with id {number}"))
        problems = [text for kind, text in clashes(writer, schema) if kind != "symbol"] + dangers
        if problems:
            raise ValueError(
                f"records of the schema with id {number} cannot be read as {schema.fullname}: {problems[0]}"
            )
        by_id[b"\0" + number.to_bytes(4, "big")] = by_header[single_object(writer)] = _plan(schema, writer)
    finish = _finisher(schema)

    def read(value: bytes) -> Any:
        plan, start = by_id.get(value[:_REGISTRY_BYTES]), _REGISTRY_BYTES
        if plan is None:
            plan, start = by_header.get(value[:_SINGLE_BYTES]), _SINGLE_BYTES
            if plan is None:
                raise _unknown(value)
        try:
            row, end = plan(value, start)
        except SchemaResolutionError:
            raise BadRecord("not_allowed", f"a symbol of the writer is none of {schema.fullname}") from None
        except UnicodeDecodeError:
            raise BadRecord("not_utf8", f"a string of {schema.fullname} is not UTF-8") from None
        except Exception:  # fastavro raises many kinds for damaged bytes
            raise BadRecord("malformed", f"the bytes are no whole record of {schema.fullname}") from None
        if end != len(value):
            raise BadRecord("malformed", f"{len(value) - end} bytes follow the record of {schema.fullname}")
        return finish(row)

    return read


def _parsed(avro: Mapping[str, Any], what: str) -> Any:
    """The schema as fastavro has it, with full names; ValueError where it is none."""
    try:
        return parse_schema(plain(avro))
    except Exception as error:  # fastavro raises many kinds
        raise ValueError(f"{what} is no Avro schema: {error}") from error


def _plan(schema: Schema, writer: Mapping[str, Any]) -> _READ:
    """How to read what `writer` wrote: compiled where it is the reader's own schema, else resolved by fastavro."""
    if canonical(writer) == canonical(schema):
        return record_decoder(schema, whole_ints=False)
    write, read = parse_schema(plain(writer)), _defaulting(schema)
    check = _strict(writer)

    def resolve(value: bytes, start: int) -> tuple[Mapping[str, Any], int]:
        check(value, start)
        source = io.BytesIO(value)
        source.seek(start)
        row: Any = schemaless_reader(source, write, read)
        return row, source.tell()

    return resolve


def _defaulting(schema: Schema) -> Any:
    """The reader's schema for fastavro, which fills in defaults as they stand there: as values, no longer as JSON."""
    read: Any = parse_schema(plain(dict(schema.avro)))
    for declared, field in zip(read["fields"], schema.fields, strict=True):
        if not field.required:
            declared["default"] = field.default
    return read


def _strict(writer: Mapping[str, Any]) -> Callable[[bytes, int], Any]:
    """What refuses damaged bytes that fastavro would read as something: negative symbols and branches, endless numbers.

    Of a writer with arrays, maps or larger unions, fastavro's word is taken.
    """
    try:
        return record_decoder(writer, whole_ints=False)
    except ValueError:
        return lambda value, start: None


def _finisher(schema: Schema) -> Callable[[Mapping[str, Any]], Any]:
    """From a row of Avro's types to the struct: msgspec checks all but NaN, which JSON cannot have."""
    convert, target = msgspec.convert, schema.struct
    floats = [field.name for field in schema.fields if field.kind in ("float", "double")]

    def finish(row: Mapping[str, Any]) -> Any:
        for name in floats:
            number = row[name]
            if number is not None and not math.isfinite(number):
                raise BadRecord(*(schema.fault(row) or ("non_finite", name)))
        try:
            return convert(row, target)
        except msgspec.ValidationError:
            raise BadRecord(*(schema.fault(row) or ("wrong_type", "the record does not fit its schema"))) from None

    return finish


def _unknown(value: bytes) -> BadRecord:
    if value[:1] == b"\0" and len(value) >= _REGISTRY_BYTES:
        return BadRecord(
            "unknown_schema", f"no schema with the registry id {int.from_bytes(value[1:5], 'big')} is known"
        )
    if value[:2] == b"\xc3\x01" and len(value) >= _SINGLE_BYTES:
        return BadRecord("unknown_schema", f"no schema with the fingerprint {value[2:10].hex()} is known")
    return BadRecord(
        "malformed", "expected registry framing (00 and four bytes) or a single object (C3 01 and eight bytes)"
    )


def _dangers(writer: Mapping[str, Any]) -> list[str]:
    """Why a parsed schema is unsafe to skip through: it is recursive, or has arrays of items without bytes."""
    found: list[str] = []
    named: dict[str, Any] = {}
    open_: list[str] = []

    def smallest(avro: Any) -> int:
        """The fewest bytes a value can have."""
        if isinstance(avro, str):
            if avro in open_:
                found.append(f"{avro} is recursive")
                return 1
            if avro in named:
                return smallest(named[avro])
            return 0 if avro == "null" else 1
        if isinstance(avro, (list, tuple)):
            return 1 + min((smallest(branch) for branch in avro), default=0)
        kind = avro.get("type")
        name = str(avro.get("name"))
        if kind in ("record", "error"):
            named[name] = avro
            open_.append(name)
            size = sum([smallest(field["type"]) for field in avro["fields"]])
            open_.pop()
            return size
        if kind == "fixed":
            named[name] = avro
            return int(avro["size"])
        if kind in ("array", "map"):
            if smallest(avro["items" if kind == "array" else "values"]) == 0 and kind == "array":
                found.append("it has an array of items without bytes")
            return 1
        if kind == "enum":
            named[name] = avro
            return 1
        return smallest(kind)

    smallest(writer)
    return found
