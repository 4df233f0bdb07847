"""What bytes look like, for the message an author reads when hardly any record could be decoded."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from itertools import islice

import msgspec

from headrace.schemas.contract import Schema

__all__ = ["guess_format"]

_SAMPLE = 200


def guess_format(values: Iterable[bytes | None], schema: Schema | None = None) -> str:
    """What most of the first 200 values look like, as a phrase: "Avro with registry framing (schema id 7)".

    With a `schema`, JSON objects are compared with its fields.
    """
    looks = Counter(_look(value, schema) for value in islice(values, _SAMPLE))
    if not looks:
        return "nothing: there are no values"
    return min(looks, key=lambda look: (-looks[look], look))


def _look(value: bytes | None, schema: Schema | None) -> str:
    if value is None:
        return "records without a value (tombstones)"
    if not value.strip():
        return "empty values"
    for begin, name in _MAGIC.items():
        if value.startswith(begin):
            return name
    if value[0] == 0 and len(value) > 5:
        return f"Avro with registry framing (schema id {int.from_bytes(value[1:5], 'big')})"
    try:
        text = value.decode()
    except UnicodeDecodeError:
        return _binary(value)
    if text.isprintable() or text.translate(dict.fromkeys(range(9, 14))).isprintable():
        return _text(text, schema)
    return _binary(value)


_MAGIC = {
    b"Obj\x01": "an Avro container file",
    b"\xc3\x01": "Avro in single-object encoding",
    b"PAR1": "a Parquet file",
    b"\x1f\x8b": "gzip",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\x04\x22\x4d\x18": "lz4",
    b"\xff\xfe": "UTF-16 text",
    b"\xfe\xff": "UTF-16 text",
    b"\x80\x04\x95": "a Python pickle",
    b"\x80\x05\x95": "a Python pickle",
}


def _text(text: str, schema: Schema | None) -> str:
    text = text.strip()
    if text.startswith("\ufeff"):
        return "text with a byte order mark before it"
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return _other_text(text)
    if isinstance(document, dict):
        return _object(document, schema)
    if isinstance(document, list):
        return "JSON arrays, expected one object per record"
    return "bare JSON values" if not isinstance(document, str) else "JSON inside a JSON string (encoded twice?)"


def _object(document: dict[str, object], schema: Schema | None) -> str:
    if schema is None:
        return "JSON objects"
    if {"schema", "payload"} <= document.keys():
        return "JSON objects in Kafka Connect's envelope (schema, payload)"
    fault = schema.fault(document)
    if fault is None:
        return f"JSON objects that fit {schema.fullname}"
    missing = [field.name for field in schema.fields if field.required and field.name not in document]
    if missing:
        return f"JSON objects of another schema: missing field {', '.join(missing[:3])}" + (
            ", ..." if missing[3:] else ""
        )
    return f"JSON objects of another schema: {fault[0]}: {fault[1].partition(':')[0]}"


def _other_text(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    if len(lines) > 1 and all(line.startswith("{") and line.endswith("}") for line in map(str.strip, lines)):
        return "several JSON lines in one record"
    if text.startswith(("{'", "{ '")):
        return "Python dicts printed as text (single quotes), not JSON"
    if text.startswith(("{", "[")):
        return "broken JSON"
    if text.startswith("<"):
        return "XML"
    for separator, name in ((",", "CSV"), ("\t", "tab-separated text"), (";", "CSV with semicolons")):
        if lines[0].count(separator) >= 1:
            return name
    return "plain text"


def _binary(value: bytes) -> str:
    if 0x80 <= value[0] <= 0x9F or value[0] in (0xDC, 0xDD, 0xDE, 0xDF):
        try:
            if isinstance(msgspec.msgpack.decode(value), (dict, list)):
                return "MessagePack"
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            pass
    return "Protocol Buffers, or another binary format" if _protobuf(value) else "an unknown binary format"


def _protobuf(value: bytes) -> bool:
    """Whether the bytes are a sequence of tags and values as in Protocol Buffers."""
    at = 0
    while at < len(value):
        tag, at = _varint(value, at)
        kind = tag & 7
        if not tag >> 3:
            return False
        if kind == 0:
            _, at = _varint(value, at)
        elif kind == 2:
            length, at = _varint(value, at)
            at += length
        elif kind in (1, 5):
            at += 8 if kind == 1 else 4
        else:
            return False
    return at == len(value)


def _varint(value: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while at < len(value) and shift < 64:
        byte = value[at]
        at += 1
        number |= (byte & 127) << shift
        if byte < 128:
            return number, at
        shift += 7
    return 0, len(value) + 1
