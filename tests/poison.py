"""The poison corpus: bad inputs by name, each with the reason that its dead letter must give, and pipelines for them.

Rows say for which input they are (events, labels) and how that input is encoded (json, avro). Avro rows come with a
frame: a registry id of `WRITERS`, or the header of a single object. `visits` reads JSON, `visits_avro` Avro; otherwise
they are the same. Nothing here depends on a clock: "far future" is the year 3000.
"""

from __future__ import annotations

import gzip
import io
import json
import math
import random
from typing import Any, Literal, NamedTuple

import fastavro
from river.linear_model import LogisticRegression
from river.preprocessing import StandardScaler

from headrace import Events, Labels, Pipeline, between, count, field, label, max_length, mean
from headrace.schemas.avro import plain, single_object

__all__ = [
    "CORPUS", "EVOLVED", "HOUR_MS", "MAX_BYTES", "VISIT", "WRITERS", "Bad", "Format", "event", "framed", "known",
    "visits", "visits_avro",
]  # fmt: skip

Role = Literal["events", "labels"]
Format = Literal["json", "avro"]
Row = dict[str, Any]

MAX_BYTES = 100_000
HOUR_MS = 3_600_000
_YEAR_3000_MS = 32_503_680_000_000

VISIT: Row = {
    "type": "record",
    "name": "Visit",
    "fields": [
        {"name": "id", "type": "string"},
        {"name": "shop", "type": ["null", "string"]},
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "spent", "type": "double"},
        {"name": "items", "type": "int", "default": 1},
        {"name": "member", "type": "boolean", "default": False},
        {"name": "channel", "type": {"type": "enum", "name": "Channel", "symbols": ["door", "web"]}, "default": "door"},
        {"name": "weight", "type": ["null", "float"], "default": None},
        {"name": "token", "type": ["null", "bytes"], "default": None},
        {"name": "note", "type": ["null", "string"], "default": None},
    ],
}
RETURN: Row = {
    "type": "record",
    "name": "Return",
    "fields": [{"name": "id", "type": "string"}, {"name": "at", "type": "string"}, {"name": "y", "type": "boolean"}],
}
EVOLVED: Row = {
    "type": "record",
    "name": "Visit",
    "fields": [
        {"name": "channel", "type": {"type": "enum", "name": "Channel", "symbols": ["web", "door", "phone"]}},
        {"name": "spent", "type": "float"},
        {"name": "id", "type": "string"},
        {"name": "till", "type": "int"},
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "shop", "type": ["null", "string"]},
    ],
}
"""A later version of the producer's: another order, promotable types, a field and a symbol more, others left out."""
LISTED = EVOLVED | {
    "fields": [*EVOLVED["fields"], {"name": "basket", "type": {"type": "array", "items": "string"}}],
}

WRITERS: dict[int, Row] = {1: VISIT, 2: EVOLVED, 3: LISTED}
"""Registry id → schema, of events; the labels' own is 7."""


def _declared(name: str, format: Format) -> Pipeline:
    return Pipeline(
        name,
        task="binary",
        events=Events(
            VISIT, id="id", key="shop", time="at", format=format, max_bytes=MAX_BYTES,
            expect={"spent": between(-100.0, 1e6), "note": max_length(50)},
            schemas=WRITERS if format == "avro" else {},
        ),
        labels=Labels(
            RETURN, id="id", time="at", y="y", ttl="2d", format=format, max_bytes=MAX_BYTES,
            schemas={7: RETURN} if format == "avro" else {},
        ),
        features={
            "spent": field("spent"),
            "visits_3h": count(by="shop", over="3h"),
            "returned_6h": mean(label(), by="shop", over="6h", default=0.0),
        },
        models={"logreg": StandardScaler() | LogisticRegression()},
        champion="logreg",
        columns=["channel", "note"],
        evaluate_every=50,
    )  # fmt: skip


visits = _declared("visits", "json")
visits_avro = _declared("visits-avro", "avro")


def event(format: Format, name: str, hour: float, **more: Any) -> tuple[bytes, bytes]:
    """A good event's key and value."""
    row = _visit(id=name, at=int(hour * HOUR_MS), **more)
    return b"a", json.dumps(row).encode() if format == "json" else framed(VISIT, row, _id(1))


def known(format: Format, name: str, hour: float, y: bool = True) -> tuple[bytes, bytes]:
    """A good label's key and value; `hour` is of the first day of 1970."""
    row = {
        "id": name,
        "at": f"1970-01-{1 + int(hour // 24):02}T{int(hour % 24):02}:{int(hour * 60 % 60):02}:00Z",
        "y": y,
    }
    return b"a", json.dumps(row).encode() if format == "json" else framed(RETURN, row, _id(7))


class Bad(NamedTuple):
    """One bad input."""

    role: Role
    format: Format
    name: str
    value: bytes | None
    reason: str

    def __str__(self) -> str:
        return f"{self.role}-{self.format}-{self.name.replace(' ', '-')}"


def _visit(**changed: Any) -> Row:
    row = {"id": "x", "shop": "a", "at": HOUR_MS, "spent": 1.5, "items": 2, "member": True, "channel": "web"}
    return row | {"weight": 0.5, "token": None, "note": "n"} | changed


def _return(**changed: Any) -> Row:
    return {"id": "x", "at": "1970-01-01T01:00:00Z", "y": True} | changed


def _text(row: Row, **changed: Any) -> bytes:
    return json.dumps(row | changed).encode()


def _without(row: Row, name: str) -> bytes:
    return json.dumps({key: value for key, value in row.items() if key != name}).encode()


def _id(number: int) -> bytes:
    return b"\0" + number.to_bytes(4, "big")


def framed(schema: Row, row: Row, frame: bytes) -> bytes:
    """A row as Avro, behind a frame."""
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(plain(schema)), row)
    return frame + out.getvalue()


def _long(number: int) -> bytes:
    """A long as Avro writes it: zigzag, seven bits a byte."""
    rest, out = (number << 1) ^ (number >> 63), b""
    while rest > 127:
        rest, out = rest >> 7, out + bytes((rest & 127 | 128,))
    return out + bytes((rest,))


def _string(text: bytes) -> bytes:
    return _long(len(text)) + text


_GOOD = _text(_visit())
_DEEP = b"[" * 100_000 + b"]" * 100_000
_NOISE = random.Random(1).randbytes(1_048_000)


def _json_events() -> dict[str, tuple[bytes | None, str]]:
    """Name → value and reason."""

    def raw(name: str, written: bytes) -> bytes:
        return _text(_visit(**{name: 4711})).replace(b"4711", written)

    return {
        # no document
        "a tombstone": (None, "null"),
        "empty": (b"", "malformed"),
        "white space": (b" \r\n\t", "malformed"),
        "cut in the middle": (_GOOD[: len(_GOOD) // 2], "malformed"),
        "cut by one byte": (_GOOD[:-1], "malformed"),
        "two documents": (_GOOD * 2, "malformed"),
        "a document and a NUL": (_GOOD + b"\0", "malformed"),
        "a trailing comma": (_GOOD[:-1] + b",}", "malformed"),
        "a comment": (b"/* v2 */" + _GOOD, "malformed"),
        "CSV": (b"x,a,3600000,1.5,2,true,web", "malformed"),
        "XML": (b"<visit id='x'/>", "malformed"),
        "a Python dict": (repr(_visit()).encode(), "malformed"),
        "a byte order mark": (b"\xef\xbb\xbf" + _GOOD, "malformed"),
        "a line break in a string": (raw("note", b'"a\nb"'), "malformed"),
        "a lone surrogate": (_text(_visit(note="\ud800")), "malformed"),
        "a number with a leading zero": (raw("spent", b"01"), "malformed"),
        "a hexadecimal number": (raw("spent", b"0x1F"), "malformed"),
        "a field twice": (b'{"id":7,' + _GOOD[1:], "malformed"),
        # no text
        "Latin-1": (raw("note", '"Müller"'.encode("latin-1")), "not_utf8"),
        "Latin-1 in an undeclared field": (_GOOD[:-1] + b',"by":"\xfc"}', "not_utf8"),
        "UTF-16": (_GOOD.decode().encode("utf-16"), "not_utf8"),
        "overlong UTF-8": (raw("note", b'"\xc0\xaf"'), "not_utf8"),
        "a surrogate in UTF-8": (raw("note", b'"\xed\xa0\x80"'), "not_utf8"),
        "gzip": (gzip.compress(_GOOD, mtime=0), "not_utf8"),
        "Avro in a JSON topic": (b"\xc3\x01" + bytes(20), "not_utf8"),
        # too much
        "over the declared size": (_text(_visit(note="x" * MAX_BYTES)), "too_large"),
        "as large as Kafka takes": (_NOISE, "too_large"),
        "deep in a field": (b'{"id":' + _DEEP[99_000:101_000] + b"}", "too_deep"),
        "deep in an undeclared field": (_GOOD[:-1] + b',"x":' + _DEEP[99_000:101_000] + b"}", "too_deep"),
        "deep and never closed": (_DEEP[:90_000], "too_deep"),
        # no object
        "an array": (b"[" + _GOOD + b"]", "wrong_type"),
        "JSON null": (b"null", "wrong_type"),
        "a bare number": (b"17", "wrong_type"),
        "encoded twice": (json.dumps(_GOOD.decode()).encode(), "wrong_type"),
        # fields
        "an empty object": (b"{}", "missing_field"),
        "no id": (_without(_visit(), "id"), "missing_field"),
        "no time": (_without(_visit(), "at"), "missing_field"),
        "no entity": (_without(_visit(), "shop"), "missing_field"),
        "an id that is null": (_text(_visit(id=None)), "wrong_type"),
        "an id that is a number": (_text(_visit(id=7)), "wrong_type"),
        "an id that is an object": (_text(_visit(id={})), "wrong_type"),
        "a time that is null": (_text(_visit(at=None)), "wrong_type"),
        "a time as text": (_text(_visit(at="1970-01-01T01:00:00Z")), "wrong_type"),
        "a time with a fraction": (_text(_visit(at=1.5)), "wrong_type"),
        "a number as text": (_text(_visit(spent="1.5")), "wrong_type"),
        "a number that is a bool": (_text(_visit(spent=True)), "wrong_type"),
        "a number that is an array": (_text(_visit(spent=[1.5])), "wrong_type"),
        "an int with a fraction": (_text(_visit(items=2.5)), "wrong_type"),
        "a bool as a number": (_text(_visit(member=1)), "wrong_type"),
        "bytes that are no base64": (_text(_visit(token="?")), "wrong_type"),
        "an unknown symbol": (_text(_visit(channel="fax")), "not_allowed"),
        "a symbol in capitals": (_text(_visit(channel="WEB")), "not_allowed"),
        "a text too long": (_text(_visit(note="x" * 51)), "not_allowed"),
        # numbers
        "NaN": (_text(_visit(spent=math.nan)), "non_finite"),
        "Infinity": (_text(_visit(spent=math.inf)), "non_finite"),
        "1e400": (raw("spent", b"1e400"), "non_finite"),
        "-1e400": (raw("weight", b"-1e400"), "non_finite"),
        "1e39 in 32 bits": (raw("weight", b"1e39"), "non_finite"),
        "an integer of 400 digits": (raw("spent", b"1" * 400), "non_finite"),
        "NaN in an undeclared field": (_GOOD[:-1] + b',"x":NaN}', "non_finite"),
        "an int of 33 bits": (_text(_visit(items=2**32)), "out_of_range"),
        "an int of 5000 digits": (raw("items", b"9" * 5000), "out_of_range"),
        "a time of 70 bits": (_text(_visit(at=2**70)), "out_of_range"),
        "above the expected range": (_text(_visit(spent=1e6 + 1)), "out_of_range"),
        "below the expected range": (_text(_visit(spent=-101)), "out_of_range"),
        "far future": (_text(_visit(at=_YEAR_3000_MS)), "far_future"),
        "the last millisecond of 64 bits": (_text(_visit(at=2**63 - 1)), "far_future"),
    }  # fmt: skip


def _json_labels() -> dict[str, tuple[bytes | None, str]]:
    return {
        "a tombstone": (None, "null"),
        "empty": (b"", "malformed"),
        "cut in the middle": (_text(_return())[:20], "malformed"),
        "not UTF-8": (_text(_return(id="4711")).replace(b"4711", b"\xff"), "not_utf8"),
        "over the declared size": (_text(_return(why="x" * MAX_BYTES)), "too_large"),
        "deep": (b'{"id":' + _DEEP[99_000:101_000] + b"}", "too_deep"),
        "an array": (b"[" + _text(_return()) + b"]", "wrong_type"),
        "an event": (_without(_visit(), "at"), "missing_field"),
        "no id": (_without(_return(), "id"), "missing_field"),
        "no label": (_without(_return(), "y"), "missing_field"),
        "a label that is null": (_text(_return(y=None)), "wrong_type"),
        "a label as text": (_text(_return(y="true")), "wrong_type"),
        "a label as a number": (_text(_return(y=1)), "wrong_type"),
        "an id of another type": (_text(_return(id=1)), "wrong_type"),
        "a time as a number": (_text(_return(at=HOUR_MS)), "wrong_type"),
        "a time that is none": (_text(_return(at="yesterday")), "wrong_type"),
        "a day that is none": (_text(_return(at="1970-02-30T00:00:00Z")), "wrong_type"),
        "a time of the year 10000": (_text(_return(at="10000-01-01T00:00:00Z")), "wrong_type"),
        "an offset of 30 hours": (_text(_return(at="1970-01-01T00:00:00+30:00")), "wrong_type"),
        "NaN in an undeclared field": (_text(_return(x=math.nan)), "non_finite"),
        "far future": (_text(_return(at="3000-01-01T00:00:00Z")), "far_future"),
        "the last second of the calendar": (_text(_return(at="9999-12-31T23:59:59Z")), "far_future"),
    }  # fmt: skip


def _avro_events() -> dict[str, tuple[bytes | None, str]]:
    own, single = framed(VISIT, _visit(), _id(1)), framed(VISIT, _visit(), single_object(VISIT))
    later = {"channel": "web", "spent": 1.5, "id": "x", "till": 3, "at": HOUR_MS, "shop": "a"}
    start, middle = _string(b"x") + b"\2" + _string(b"a"), _long(HOUR_MS) + bytes(8)
    rest = _long(2) + b"\1" + _long(0) + bytes(3)
    old = _string(b"x") + _long(3) + _long(HOUR_MS) + b"\2" + _string(b"a")
    return {
        # frames
        "a tombstone": (None, "null"),
        "empty": (b"", "malformed"),
        "half a frame": (_id(1)[:3], "malformed"),
        "a frame and nothing in it": (_id(1), "malformed"),
        "half a header": (single[:7], "malformed"),
        "no frame": (own[5:], "malformed"),
        "JSON in an Avro topic": (_GOOD, "malformed"),
        "an Avro file": (b"Obj\1" + own, "malformed"),
        "an unknown registry id": (_id(9) + own[5:], "unknown_schema"),
        "the largest registry id": (b"\0\xff\xff\xff\xff" + own[5:], "unknown_schema"),
        "an unknown fingerprint": (b"\xc3\1" + bytes(8) + own[5:], "unknown_schema"),
        "a label as a single object": (framed(RETURN, _return(), single_object(RETURN)), "unknown_schema"),
        # damage
        "cut by one byte": (own[:-1], "malformed"),
        "a single object cut in the middle": (single[:20], "malformed"),
        "a byte too many": (own + b"\0", "malformed"),
        "two records": (own + own, "malformed"),
        "a negative length": (_id(1) + _long(-1) + own[6:], "malformed"),
        "a length of 62 bits": (_id(1) + _long(2**61) + own[6:], "malformed"),
        "a number of eleven bytes": (_id(1) + start + b"\x80" * 10 + b"\1" + bytes(8) + rest, "malformed"),
        "no such branch": (_id(1) + start + middle + rest[:-1] + b"\4", "malformed"),
        "no such symbol": (_id(1) + start + middle + rest[:2] + _long(2) + bytes(3), "malformed"),
        "a negative symbol": (_id(1) + start + middle + rest[:2] + _long(-1) + bytes(3), "malformed"),
        "a bool of 2": (_id(1) + start + middle + rest[:1] + b"\2" + rest[2:], "malformed"),
        "a text that is not UTF-8": (single.replace(b"\2x", b"\2\xff", 1), "not_utf8"),
        "over the declared size": (own + bytes(MAX_BYTES), "too_large"),
        # values
        "an int of 33 bits": (_id(1) + start + middle + _long(2**32) + rest[1:], "out_of_range"),
        "NaN": (framed(VISIT, _visit(spent=math.nan), _id(1)), "non_finite"),
        "Infinity in 32 bits": (framed(VISIT, _visit(weight=math.inf), single_object(VISIT)), "non_finite"),
        "above the expected range": (framed(VISIT, _visit(spent=2e6), _id(1)), "out_of_range"),
        "a text too long": (framed(VISIT, _visit(note="x" * 51), _id(1)), "not_allowed"),
        "far future": (framed(VISIT, _visit(at=_YEAR_3000_MS), single_object(VISIT)), "far_future"),
        # of another writer
        "a writer's symbol that nobody reads": (framed(EVOLVED, later | {"channel": "phone"}, _id(2)), "not_allowed"),
        "a writer's negative symbol": (_id(2) + _long(-1) + bytes(4) + old, "malformed"),
        "a writer's negative branch": (_id(2) + _long(0) + bytes(4) + old[:-3] + b"\1" + _string(b"a"), "malformed"),
        "a writer's record cut by one byte": (framed(EVOLVED, later, single_object(EVOLVED))[:-1], "malformed"),
        "a writer's record and a byte": (framed(EVOLVED, later, _id(2)) + b"\0", "malformed"),
        "a writer's NaN": (framed(EVOLVED, later | {"spent": math.nan}, _id(2)), "non_finite"),
        "a writer's list without an end": (_id(3) + _long(0) + bytes(4) + old + _long(2**40), "malformed"),
        "the frame of another writer": (_id(2) + own[5:], "malformed"),
    }  # fmt: skip


def _avro_labels() -> dict[str, tuple[bytes | None, str]]:
    own = framed(RETURN, _return(), _id(7))
    return {
        "a tombstone": (None, "null"),
        "cut by one byte": (own[:-1], "malformed"),
        "a byte too many": (own + b"\1", "malformed"),
        "JSON in an Avro topic": (_text(_return()), "malformed"),
        "the events' registry id": (framed(VISIT, _visit(), _id(1)), "unknown_schema"),
        "a bool of 2": (own[:-1] + b"\2", "malformed"),
        "a text that is not UTF-8": (own.replace(b"\2x", b"\2\xff", 1), "not_utf8"),
        "a time that is none": (framed(RETURN, _return(at="soon"), single_object(RETURN)), "wrong_type"),
        "far future": (framed(RETURN, _return(at="3000-01-01T00:00:00Z"), _id(7)), "far_future"),
    }  # fmt: skip


_TABLES: dict[tuple[Role, Format], dict[str, tuple[bytes | None, str]]] = {
    ("events", "json"): _json_events(),
    ("labels", "json"): _json_labels(),
    ("events", "avro"): _avro_events(),
    ("labels", "avro"): _avro_labels(),
}
CORPUS: tuple[Bad, ...] = tuple(
    Bad(role, format, name, value, reason)
    for (role, format), table in _TABLES.items()
    for name, (value, reason) in table.items()
)
"""Every bad input."""
