"""Avro, compiled: encoders and decoders of records of primitives, generated once and run often.

The bytes are those of `fastavro.schemaless_writer`, and what is read equals `fastavro.schemaless_reader`, except that
logical types are not applied: a timestamp is the long it is written as. Where fastavro wraps or truncates a value
that does not fit its field, these raise ValueError.
"""

from __future__ import annotations

import keyword
import struct
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, Literal, NoReturn, get_args

from fastavro.schema import fingerprint, to_parsing_canonical_form

from headrace.schemas.avro_reader import record_decoder
from headrace.schemas.contract import Field, Schema, load_schema
from headrace.schemas.faults import fault_of_value
from headrace.schemas.varint import ENDS, HEADS, high_parts, int_bytes, long_bytes, long_table

__all__ = [
    "Access",
    "canonical",
    "encoding_space",
    "expressions",
    "fields_of",
    "plain",
    "record_decoder",
    "record_encoder",
    "single_object",
]

Access = Literal["attr", "item"]
Fields = Schema | Mapping[str, Any] | Iterable[Field | Mapping[str, Any]]

_CACHED_STRINGS = 4096  # per field; beyond it strings are encoded anew
_PACKED = {"float": "f", "double": "d"}


def record_encoder(fields: Fields, access: Access = "attr") -> Callable[[Any], bytes]:
    """A function that writes a record of these fields as Avro does.

    `fields` is a schema, or the list of its fields. With ``attr`` it reads attributes. With ``item`` it reads a
    mapping in which an absent key is the field's default, or null where the field has none and is nullable. A value
    that does not fit raises ValueError naming the field.
    """
    if access not in get_args(Access):
        raise ValueError(f"access is {access!r}; legal are attr, item")
    wanted = fields_of(fields)
    space = encoding_space()
    parts = expressions(wanted, lambda field: _read(field, access, space), space)
    body = parts[0] if len(parts) == 1 else f"join(({', '.join(parts)}))"

    def refuse(record: Any, error: Exception) -> NoReturn:
        raise ValueError(_misfit(wanted, access, record)) from error

    space["refuse"] = refuse
    source = [
        "def encode(record):",
        "    try:",
        *(["        get = record.get"] if access == "item" and "get(" in body else []),
        f"        return {body}",
        "    except Exception as error:",
        "        refuse(record, error)",
    ]
    exec(compile("\n".join(source), f"<encoder of {len(wanted)} fields>", "exec"), space)
    encode: Callable[[Any], bytes] = space["encode"]
    return encode


def encoding_space() -> dict[str, Any]:
    """What the source made by `expressions` refers to, whatever the fields."""
    return {
        "join": b"".join,
        "table": long_table(),
        "heads": HEADS,
        "ends": ENDS,
        "rest": high_parts(),
        "int_": int_bytes,
        "long_": long_bytes,
        "bytes_": _bytes,
    }


def expressions(
    fields: tuple[Field, ...],
    read: Callable[[Field], str],
    space: dict[str, Any],
    mark: str = "",
    keep: Mapping[str, str] | None = None,
    kept: Mapping[str, str] | None = None,
    unique: Collection[str] = (),
) -> list[str]:
    """Source of the bytes of `fields`, in parts; `read` answers the source of a field's value.

    What it refers to is put into `space`, under names that end in `mark` and a number. The bytes of a field in `keep`
    are given that name, those of a field in `kept` have it already. Strings of a field in `unique` do not come again.
    """
    keep, kept = keep or {}, kept or {}
    parts: list[str] = []
    at = 0
    while at < len(fields):
        run = at
        while run < len(fields) and fields[run].kind in _PACKED and not fields[run].nullable:
            run += 1
        name = fields[at].name
        if name in kept:
            parts.append(kept[name])
            at += 1
        elif run > at:
            layout = struct.Struct("<" + "".join(_PACKED[field.kind] for field in fields[at:run]))
            space[f"pack{mark}{at}"] = layout.pack
            parts.append(f"pack{mark}{at}({', '.join(read(field) for field in fields[at:run])})")
            at = run
        else:
            part = _part(fields[at], f"{mark}{at}", read(fields[at]), space, cached=name not in unique)
            parts.append(f"({keep[name]} := {part})" if name in keep else part)
            at += 1
    return parts


def single_object(schema: Schema | Mapping[str, Any]) -> bytes:
    """The ten bytes before a record in Avro's single-object encoding: C3 01 and the schema's fingerprint."""
    return b"\xc3\x01" + bytes.fromhex(fingerprint(canonical(schema), "CRC-64-AVRO"))


def canonical(schema: Schema | Mapping[str, Any]) -> str:
    """The schema in Avro's parsing canonical form: equal for schemas that write the same bytes."""
    return to_parsing_canonical_form(plain(schema.avro if isinstance(schema, Schema) else schema))


def plain(schema: Any) -> Any:
    """A copy of an Avro schema without logical types, so that a reader hands out what is on the wire."""
    if isinstance(schema, Mapping):
        return {key: plain(value) for key, value in schema.items() if key != "logicalType"}
    return [plain(value) for value in schema] if isinstance(schema, (list, tuple)) else schema


def fields_of(fields: Fields) -> tuple[Field, ...]:
    if isinstance(fields, (Schema, Mapping)):
        return load_schema(fields).fields
    listed = list(fields)
    if any(isinstance(field, Field) for field in listed):
        if not all(isinstance(field, Field) for field in listed):
            raise ValueError("fields are either all Field, or all Avro fields (mappings with a name and a type)")
        return tuple(field for field in listed if isinstance(field, Field))
    return load_schema({"type": "record", "name": "fields", "fields": listed}).fields if listed else ()


def _read(field: Field, access: Access, space: dict[str, Any]) -> str:
    name = field.name
    if access == "attr":
        return f"getattr(record, {name!r})" if keyword.iskeyword(name) else f"record.{name}"
    if not field.required and field.default is not None:
        space[f"default_{name}"] = field.default
        return f"get({name!r}, default_{name})"
    return f"get({name!r})" if field.nullable else f"record[{name!r}]"


def _part(field: Field, at: str, value: str, space: dict[str, Any], *, cached: bool = True) -> str:
    """The source of one field, whose value is `value`; what it refers to goes into `space`.

    `cached`: strings come again.
    """
    null, prefix = b"", b""
    if field.nullable:
        null, prefix = (b"\x00", b"\x02") if field.null_first else (b"\x02", b"\x00")
    known: dict[Any, bytes] = {None: null} if field.nullable else {}
    if field.kind in ("boolean", "enum"):
        values = (False, True) if field.kind == "boolean" else field.symbols
        known |= {
            value: prefix + (bytes((i,)) if field.kind == "boolean" else long_bytes(i))
            for i, value in enumerate(values)
        }
        space[f"of{at}"] = known
        return f"of{at}[{value}]"
    if field.kind == "string" and not cached:
        space[f"text{at}"], space[f"null{at}"] = _string_encoder({}, prefix, room=0), null
        return f"(null{at} if (v := {value}) is None else text{at}(v))" if field.nullable else f"text{at}({value})"
    if field.kind == "string":
        space[f"known{at}"], space[f"new{at}"] = known.get, _string_encoder(known, prefix)
        return f"(known{at}(v := {value}) or new{at}(v))"
    if field.kind in _PACKED:
        layout = struct.Struct("<B" + _PACKED[field.kind])
        space[f"pack{at}"], space[f"null{at}"] = layout.pack, null
        return f"(null{at} if (v := {value}) is None else pack{at}({prefix[0]}, v))"
    if field.kind == "bytes":
        written = "bytes_(v)"
    else:
        small = len(long_table())
        written = f"(table[v] if 0 <= v < {small} else {field.kind}_(v))"
        low = len(HEADS) - 1
        if field.kind == "long":
            written = (
                f"(table[v] if 0 <= v < {small} else heads[v << 1 & {low}] + "
                f"(ends[v >> 13] if v < {1 << 27} else heads[v >> 13 & {low}] + rest[v >> 27]) "
                f"if 0 < v < {1 << 62} else long_(v))"
            )
    if not field.nullable:
        return written.replace("v", f"(v := {value})", 1) if field.kind == "bytes" else _with_value(written, value)
    space[f"null{at}"], space[f"prefix{at}"] = null, prefix
    return f"(null{at} if (v := {value}) is None else prefix{at} + {written})"


def _with_value(written: str, value: str) -> str:
    return written.replace("0 <= v", f"0 <= (v := {value})", 1)


def _string_encoder(known: dict[Any, bytes], prefix: bytes, room: int = _CACHED_STRINGS) -> Callable[[str], bytes]:
    """What is called for a string that is not in `known`, and puts it there while there is room."""

    def encode(value: str) -> bytes:
        data = value.encode()
        size = len(data)
        written = prefix + (ENDS[size << 1] if size < 8192 else long_bytes(size)) + data
        if len(known) < room and size < 64:
            known[value] = written
        return written

    return encode


def _bytes(value: bytes) -> bytes:
    if not isinstance(value, (bytes, bytearray)):
        raise TypeError("not bytes")
    return long_bytes(len(value)) + value


def _misfit(fields: tuple[Field, ...], access: Access, record: Any) -> str:
    for field in fields:
        if access == "attr":
            value, absent = getattr(record, field.name, None), not hasattr(record, field.name)
        else:
            value, absent = record.get(field.name, field.default), field.name not in record
        if absent and field.required and not field.nullable:
            return f"{field.name}: expected {field.expected}, got nothing"
        if (fault := fault_of_value(field, value)) is not None and fault[0] != "non_finite":
            return fault[1]
    return "the record does not fit its schema"
