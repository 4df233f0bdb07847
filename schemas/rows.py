"""Row to bytes: the publisher's side, from plain Python or pandas values to canonical JSON and to keys."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from headrace.schemas.contract import Schema
from headrace.schemas.faults import BadRecord, Field

__all__ = ["json_encoder", "key_of", "plain"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_UNITS = {"timestamp-millis": ("ms", timedelta(milliseconds=1)), "timestamp-micros": ("us", timedelta(microseconds=1))}
_ABSENT = ("NaTType", "NAType")  # pandas' other nulls


def json_encoder(schema: Schema) -> Callable[[Mapping[str, Any]], bytes]:
    """A function from a row to its JSON bytes: all fields, in the schema's order, defaults filled in.

    Rows may hold numpy and pandas values. NaN, NaT and NA are null where the field is nullable; a whole float is an
    integer where the field is one (pandas has no other column of integers and nulls); a datetime is a timestamp, UTC
    if it has no offset.
    The function raises BadRecord for a row that does not fit. Keys that are no fields are left out.
    """
    fields, target = schema.fields, schema.struct
    convert, encode = msgspec.convert, msgspec.json.Encoder().encode

    def encode_row(row: Mapping[str, Any]) -> bytes:
        values = {field.name: plain(field, row[field.name]) for field in fields if field.name in row}
        if (fault := schema.fault(values)) is not None:
            raise BadRecord(*fault)
        try:
            return encode(convert(values, target))
        except (msgspec.ValidationError, UnicodeEncodeError):
            raise BadRecord("not_utf8", "a string of the row is not UTF-8") from None

    return encode_row


def key_of(field: Field, value: Any) -> bytes | None:
    """The key of a record whose key field has this value: the value's text, of bytes base64 as in JSON; None for null.

    Values may be numpy's and pandas', as those of rows.
    """
    entity = plain(field, value)
    if entity is None or entity != entity:
        return None
    return b64encode(entity) if isinstance(entity, bytes) else str(entity).encode()


def plain(field: Field, value: Any) -> Any:
    """The value as plain Python of the field's type, where that is possible without loss; else as it is."""
    kind = type(value)
    if kind is str or kind is int or kind is bool or value is None:
        return value
    if kind.__name__ in _ABSENT:
        return None
    if kind.__name__ == "datetime64":
        return _from_datetime64(field, value)
    if kind is not float and hasattr(value, "item") and hasattr(value, "dtype"):
        value = value.item()
    if isinstance(value, float):
        if value != value and field.nullable:
            return None
        return int(value) if field.kind in ("int", "long") and value.is_integer() else float(value)
    if isinstance(value, datetime) and field.logical is not None:
        moment = value if value.tzinfo is not None else value.replace(tzinfo=UTC)
        return (moment - _EPOCH) // _UNITS[field.logical][1]
    return str(value) if isinstance(value, str) else value


def _from_datetime64(field: Field, value: Any) -> Any:
    if value != value:
        return None
    return (
        value if field.logical is None else int(value.astype(f"datetime64[{_UNITS[field.logical][0]}]").astype("int64"))
    )
