"""Bytes to record: one typed pass where all is well, and an exact reason where it is not.

Any bytes whatsoever give a struct of the schema or raise `BadRecord`, as a function of the bytes alone. Times are
milliseconds since 1970-01-01T00:00:00Z; an ISO-8601 time without an offset is taken as UTC.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from operator import attrgetter
from typing import Any, Literal, get_args

import msgspec

from headrace.schemas.avro_wire import avro_reader
from headrace.schemas.contract import Schema
from headrace.schemas.faults import BadRecord
from headrace.schemas.guess import guess_format
from headrace.schemas.rows import json_encoder

__all__ = ["BadRecord", "Decoder", "Format", "guess_format", "json_encoder", "moment_ms", "time_of"]

Format = Literal["json", "avro"]

_DEEPEST = 200
_SHALLOW_BYTES = 2 * _DEEPEST  # a document this short is not deeper, unless it is broken as well
_BRACKETS = re.compile(rb'"(?:[^"\\]|\\.)*+(?:"|\\?\Z)?|[\[\]{}]', re.DOTALL)
_HUGE = 10**400
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


class Decoder:
    """Decodes the values of a topic to structs of a schema.

    Parameters
    ----------
    schema
        What the records must be.
    format
        ``json``, or ``avro``: registry framing and single-object encoding, told apart by the first bytes.
    max_bytes
        A longer value is refused unread.
    schemas
        For ``avro``: the writers' schemas by registry id. What another schema than the reader's wrote is resolved.

    A field of type float is rounded to 32 bits, as it would be in Avro. Unknown fields are ignored.
    """

    def __init__(
        self,
        schema: Schema,
        format: Format = "json",
        max_bytes: int = 1_000_000,
        schemas: Mapping[int, Any] | None = None,
    ) -> None:
        if format not in get_args(Format):
            raise ValueError(f"format is {format!r}; legal are json, avro")
        if isinstance(max_bytes, bool) or not isinstance(max_bytes, int) or max_bytes < 1:
            raise ValueError(f"max_bytes is {max_bytes!r}; legal are integers of at least 1")
        if format == "json" and schemas:
            raise ValueError("schemas (writers' schemas by registry id) is legal for the format avro only")
        self.schema = schema
        self.format = format
        self.max_bytes = max_bytes
        self.decode: Callable[[bytes | None], Any] = (
            _json_decoder(schema, max_bytes) if format == "json" else _avro_decoder(schema, max_bytes, schemas or {})
        )
        """The struct that a value is; BadRecord if it is none."""
        singles = [field.name for field in schema.fields if field.kind == "float"]
        if singles:
            self.decode = _rounding(self.decode, singles)


def time_of(schema: Schema, field: str) -> Callable[[Any], int]:
    """A function from a record to its event time in milliseconds, rounded down.

    The field is a timestamp-millis, a timestamp-micros, or a string in ISO-8601 (without an offset: UTC), and not
    nullable. The function raises BadRecord for a string that is no time.
    """
    declared = schema.field(field)
    legal = "legal are timestamp-millis, timestamp-micros, and string (ISO-8601), not nullable"
    if declared.nullable:
        raise ValueError(f"the time field {field!r} is nullable; {legal}")
    read = attrgetter(field)
    if declared.logical == "timestamp-millis":
        return read
    if declared.logical == "timestamp-micros":
        return lambda record: read(record) // 1000
    if declared.kind != "string":
        raise ValueError(f"the time field {field!r} is {declared.kind}; {legal}")

    def parse(record: Any) -> int:
        try:
            return moment_ms(read(record))
        except (ValueError, OverflowError):
            shown = json.dumps(read(record)[:40])
            raise BadRecord("wrong_type", f"{field}: expected a time in ISO-8601, got {shown}") from None

    return parse


def moment_ms(text: str) -> int:
    """A time in ISO-8601 (without an offset: UTC) in milliseconds, rounded down; ValueError, OverflowError for none."""
    moment = datetime.fromisoformat(text)
    return ((moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - _EPOCH) // _MILLISECOND


def _json_decoder(schema: Schema, max_bytes: int) -> Callable[[bytes | None], Any]:
    read = msgspec.json.Decoder(schema.struct).decode
    short = min(_SHALLOW_BYTES, max_bytes)

    def decode(value: bytes | None) -> Any:
        if value is None:
            raise BadRecord("null", "the record has no value")
        if len(value) > short:
            _measure(value, max_bytes)
        try:
            if not value.isascii():
                value.decode()
            return read(value)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise _json_fault(schema, value, error) from None

    return decode


def _measure(value: bytes, max_bytes: int) -> None:
    """Refuse what is too long, or nested more deeply than any parser's limit (which depends on the caller's stack)."""
    if len(value) > max_bytes:
        raise BadRecord("too_large", f"expected at most {max_bytes} bytes, got {len(value)}")
    if value.count(b"{") + value.count(b"[") > _DEEPEST:
        depth = 0
        for match in _BRACKETS.finditer(value):
            first = value[match.start()]
            depth += 1 if first in b"[{" else -1 if first in b"]}" else 0
            if depth > _DEEPEST:
                raise BadRecord("too_deep", f"expected at most {_DEEPEST} levels of nesting")


def _json_fault(schema: Schema, value: bytes, error: Exception) -> BadRecord:
    """What is wrong with a document that msgspec refused: first the document, then the fields in their order."""
    try:
        text = value.decode()
    except UnicodeDecodeError as found:
        return BadRecord("not_utf8", f"byte {found.start} is no part of UTF-8 text")
    constants: list[str] = []

    def constant(token: str) -> float:
        constants.append(token)
        return float(token)

    try:
        row = json.loads(
            text, parse_constant=constant, parse_int=lambda digits: int(digits) if len(digits) < 400 else _HUGE
        )
    except RecursionError:
        return BadRecord("too_deep", f"expected at most {_DEEPEST} levels of nesting")
    except ValueError:
        return BadRecord("malformed", _malformed(value))
    if not isinstance(row, dict):
        found_type = "an array" if isinstance(row, list) else "null" if row is None else f"a bare {type(row).__name__}"
        return BadRecord("wrong_type", f"expected an object, got {found_type}")
    if (fault := schema.fault(row)) is not None:
        return BadRecord(*fault)
    if constants:
        return BadRecord("non_finite", f"{constants[0]} is no JSON number")
    if isinstance(error, msgspec.ValidationError):
        return BadRecord("malformed", "a field stands twice in the object, once with an illegal value")
    return BadRecord("malformed", _malformed(value))


def _malformed(value: bytes) -> str:
    if value.startswith(b"\xef\xbb\xbf"):
        return "a byte order mark stands before the JSON document"
    try:
        msgspec.json.decode(value, type=msgspec.Raw)
    except msgspec.DecodeError as error:
        return str(error)
    return "not a whole JSON document"


def _avro_decoder(schema: Schema, max_bytes: int, schemas: Mapping[int, Any]) -> Callable[[bytes | None], Any]:
    read = avro_reader(schema, schemas)

    def decode(value: bytes | None) -> Any:
        if value is None:
            raise BadRecord("null", "the record has no value")
        if len(value) > max_bytes:
            raise BadRecord("too_large", f"expected at most {max_bytes} bytes, got {len(value)}")
        return read(value)

    return decode


def _rounding(decode: Callable[[bytes | None], Any], names: list[str]) -> Callable[[bytes | None], Any]:
    single, set_ = struct.Struct("<f"), msgspec.structs.force_setattr

    def rounded(value: bytes | None) -> Any:
        record = decode(value)
        for name in names:
            number = getattr(record, name)
            if number is not None:
                set_(record, name, single.unpack(single.pack(number))[0])
        return record

    return rounded
