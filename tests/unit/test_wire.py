"""Values as they arrive: what is accepted, and the reason and detail of what is not."""

from __future__ import annotations

import io
import json
import math
from typing import Any

import fastavro
import msgspec
import numpy as np
import pandas as pd
import pytest

from headrace.schemas.avro import record_decoder, record_encoder, single_object
from headrace.schemas.contract import between, load_schema, matches, max_length, one_of
from headrace.schemas.wire import BadRecord, Decoder, guess_format, json_encoder, time_of

FLIGHT = {
    "type": "record",
    "name": "Flight",
    "fields": [
        {"name": "id", "type": "string"},
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "flight", "type": "int"},
        {"name": "distance", "type": "double"},
        {"name": "delay", "type": ["null", "double"], "default": None},
        {"name": "status", "type": {"type": "enum", "name": "S", "symbols": ["ok", "off"]}, "default": "ok"},
    ],
}
EXPECT = {"distance": between(0, 6000), "id": [matches("[A-Z]+"), max_length(3)]}
SCHEMA = load_schema(FLIGHT, expect=EXPECT)
GOOD: dict[str, Any] = {"id": "UA", "at": 1357035300000, "flight": 1545, "distance": 1400.0}
HEADER = single_object(SCHEMA)


def refusal(decode: Any, value: Any) -> tuple[str, str]:
    with pytest.raises(BadRecord) as caught:
        decode(value)
    return caught.value.reason, caught.value.detail


def text(**changes: Any) -> bytes:
    return json.dumps(GOOD | changes).encode()


def framed(schema: dict[str, Any], row: dict[str, Any], start: bytes) -> bytes:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(schema), row)
    return start + out.getvalue()


def test_accepts() -> None:
    """A good record becomes a struct with defaults filled in; unknown fields are ignored."""
    record = Decoder(SCHEMA).decode(text(extra=[1, {"a": None}]))
    assert msgspec.structs.astuple(record) == ("UA", 1357035300000, 1545, 1400.0, None, "ok")


def test_integer_for_a_double() -> None:
    """A JSON integer in a double field is a float."""
    assert type(Decoder(SCHEMA).decode(text(distance=7)).distance) is float


NESTED = b"[" * 5000 + b"]" * 5000
REFUSED = [
    (None, "null", "the record has no value"),
    (b"x" * 5001, "too_large", "expected at most 5000 bytes, got 5001"),
    (b'{"id":"\xff"}', "not_utf8", "byte 7 is no part of UTF-8 text"),
    (text()[:-1] + b',"extra":"\xff"}', "not_utf8", "byte 78 is no part of UTF-8 text"),
    (b"", "malformed", "Input data was truncated"),
    (text()[:-1], "malformed", "Input data was truncated"),
    (text() + b"{}", "malformed", "JSON is malformed: trailing characters (byte 70)"),
    (b"\xef\xbb\xbf" + text(), "malformed", "a byte order mark stands before the JSON document"),
    (b'{"id":1,' + text()[1:], "malformed", "a field stands twice in the object, once with an illegal value"),
    (text(id="x")[:-1], "malformed", "Input data was truncated"),
    (b'{"x":' + NESTED[4000:6000] + b"}", "too_deep", "expected at most 200 levels of nesting"),
    (b'{"id":' + NESTED[4000:6000] + b"}", "too_deep", "expected at most 200 levels of nesting"),
    (b"[1]", "wrong_type", "expected an object, got an array"),
    (b"null", "wrong_type", "expected an object, got null"),
    (b"{}", "missing_field", "id: expected string of at most 3 characters matching [A-Z]+, got nothing"),
    (b'{"id":1}', "missing_field", "at: expected long, got nothing"),
    (text(flight=True), "wrong_type", "flight: expected int, got true"),
    (text(flight=1.0), "wrong_type", "flight: expected int, got 1.0"),
    (text(flight="1"), "wrong_type", 'flight: expected int, got "1"'),
    (text(flight=None), "wrong_type", "flight: expected int, got null"),
    (text(flight=2**31), "out_of_range", "flight: expected int, got 2147483648"),
    (text(flight=10**400), "out_of_range", "flight: expected int, got an integer of more than 30 digits"),
    (text(at=2**63), "out_of_range", "at: expected long, got 9223372036854775808"),
    (text(distance=-1), "out_of_range", "distance: expected double between 0 and 6000, got -1"),
    (text(distance=math.nan), "non_finite", "distance: expected double between 0 and 6000, got nan"),
    (text(delay=-math.inf), "non_finite", "delay: expected double or null, got -inf"),
    (text(delay=0).replace(b": 0}", b": 1e400}"), "non_finite", "delay: expected double or null, got inf"),
    (text(delay=10**400), "non_finite", "delay: expected double or null, got an integer of more than 30 digits"),
    (text(extra=math.nan), "non_finite", "NaN is no JSON number"),
    (text(status="late"), "not_allowed", 'status: expected enum among "ok", "off", got "late"'),
    (text(id="ua"), "not_allowed", 'id: expected string of at most 3 characters matching [A-Z]+, got "ua"'),
    (text(id="UA\n"), "not_allowed", 'id: expected string of at most 3 characters matching [A-Z]+, got "UA\\n"'),
    (text(id="UAUA"), "not_allowed", 'id: expected string of at most 3 characters matching [A-Z]+, got "UAUA"'),
    (text(id={}), "wrong_type", "id: expected string of at most 3 characters matching [A-Z]+, got an object"),
]


@pytest.mark.parametrize(("value", "reason", "detail"), REFUSED)
def test_refuses(value: bytes | None, reason: str, detail: str) -> None:
    """Each way of being wrong has its reason, and a detail that names the field and what was expected."""
    assert refusal(Decoder(SCHEMA, max_bytes=5000).decode, value) == (reason, detail)


def test_depth_does_not_depend_on_the_stack() -> None:
    """Documents just within the limit are accepted, and just beyond it refused, also far down the stack."""
    decode = Decoder(SCHEMA).decode
    within, beyond = (text()[:-1] + b',"x":' + b"[" * n + b"]" * n + b"}" for n in (199, 200))

    def down(levels: int) -> tuple[str, str]:
        if levels:
            return down(levels - 1)
        assert decode(within).id == "UA"
        return refusal(decode, beyond)

    assert down(0) == down(400) == ("too_deep", "expected at most 200 levels of nesting")


def test_brackets_in_strings_are_not_depth() -> None:
    """Brackets inside strings, escaped quotes included, and side by side do not count."""
    value = text(a="[" * 300, b='\\"[' * 300, c=[[]] * 300)
    assert Decoder(SCHEMA).decode(value).id == "UA"


def test_many_escapes_take_linear_time() -> None:
    """The slow look at depth stays linear on an unclosed string of escapes (it would take hours otherwise)."""
    value = b'{"x":"' + b'\\"[' * 300_000
    assert refusal(Decoder(SCHEMA).decode, value)[0] == "malformed"


def test_first_fault_in_schema_order() -> None:
    """With two faults the first field of the schema is named, whatever the order of the keys."""
    keys = ["distance", "flight", "at", "id"]
    value = json.dumps({key: [] for key in keys}).encode()
    assert refusal(Decoder(SCHEMA).decode, value)[1].startswith("id: ")


def test_float_is_rounded_to_32_bits() -> None:
    """A float field holds what Avro would: 32 bits; what does not fit them is not finite."""
    decode = Decoder(load_schema({"type": "record", "name": "R", "fields": [{"name": "f", "type": "float"}]})).decode
    assert decode(b'{"f":0.1}').f == float(np.float32(0.1))
    assert refusal(decode, b'{"f":1e39}')[0] == "non_finite"


def test_bytes_are_base64_in_json() -> None:
    """Bytes travel as base64 in JSON; anything else is of the wrong type."""
    decode = Decoder(load_schema({"type": "record", "name": "R", "fields": [{"name": "f", "type": "bytes"}]})).decode
    assert decode(b'{"f":"YWI="}').f == b"ab"
    assert refusal(decode, b'{"f":"?"}') == ("wrong_type", 'f: expected bytes, got "?"')


def test_one_of() -> None:
    """Only the declared values are allowed; null where the field is nullable."""
    schema = load_schema(
        {"type": "record", "name": "R", "fields": [{"name": "f", "type": ["null", "int"]}]}, expect={"f": one_of(1, 2)}
    )
    decode = Decoder(schema).decode
    assert [decode(b'{"f":2}').f, decode(b'{"f":null}').f] == [2, None]
    assert refusal(decode, b'{"f":3}') == ("not_allowed", "f: expected int among 1, 2 or null, got 3")


@pytest.mark.parametrize(
    "changes", [{"format": "csv"}, {"max_bytes": 0}, {"max_bytes": True}, {"schemas": {1: FLIGHT}}], ids=str
)
def test_illegal_decoder(changes: dict[str, Any]) -> None:
    """Wrong arguments are refused, naming the legal ones."""
    with pytest.raises(ValueError, match="legal"):
        Decoder(SCHEMA, **changes)


ROW = GOOD | {"delay": None, "status": "off"}
WRITER = {
    "type": "record",
    "name": "Flight",
    "fields": [
        {"name": "tags", "type": {"type": "array", "items": "string"}},
        {"name": "flight", "type": "int"},
        {"name": "id", "type": "string"},
        {"name": "distance", "type": "int"},
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "status", "type": {"type": "enum", "name": "S", "symbols": ["off", "ok", "lost"]}},
    ],
}
AVRO = Decoder(SCHEMA, "avro", schemas={7: WRITER, 8: FLIGHT}, max_bytes=1000).decode


@pytest.mark.parametrize("start", [HEADER, b"\0\0\0\0\x08"], ids=["single object", "registry"])
def test_avro_of_the_readers_schema(start: bytes) -> None:
    """Both framings are told apart by their first bytes."""
    assert msgspec.structs.asdict(AVRO(framed(FLIGHT, ROW, start))) == ROW


@pytest.mark.parametrize("start", [single_object(WRITER), b"\0\0\0\0\x07"], ids=["single object", "registry"])
def test_avro_of_a_writers_schema(start: bytes) -> None:
    """A record of another writer is resolved: order, promotion, defaults, symbols, fields left out."""
    row = {"tags": ["a"], "flight": 1, "id": "UA", "distance": 10, "at": 5, "status": "ok"}
    read = msgspec.structs.astuple(AVRO(framed(WRITER, row, start)))
    assert read == ("UA", 5, 1, 10.0, None, "ok")
    assert type(read[3]) is float


@pytest.mark.parametrize("type_", ["bytes", ["bytes", "null"]], ids=str)
@pytest.mark.parametrize("default", ["abc", "abcd", "\u00ff"])
def test_avro_of_a_writer_without_bytes(type_: Any, default: str) -> None:
    """A default of bytes that the writer has not is what Avro says: each character is a byte."""
    writer = {"type": "record", "name": "R", "fields": [{"name": "a", "type": "string"}]}
    reader = load_schema(writer | {"fields": [*writer["fields"], {"name": "b", "type": type_, "default": default}]})
    record = Decoder(reader, "avro", schemas={7: writer}).decode(framed(writer, {"a": "x"}, b"\0\0\0\0\x07"))
    assert msgspec.structs.astuple(record) == ("x", default.encode("latin-1"))


def test_avro_refuses() -> None:
    """Each way of being wrong has its reason in Avro too."""
    good = framed(FLIGHT, ROW, HEADER)
    lost = {"tags": [], "flight": 1, "id": "UA", "distance": 10, "at": 5, "status": "lost"}
    values = {
        "null": None,
        "too_large": b"\0" * 1001,
        "not text": good.replace(b"UA", b"\xff\xff"),
        "unknown id": b"\0\0\0\0\x09abc",
        "unknown fingerprint": HEADER[:-1] + bytes((HEADER[-1] ^ 1,)) + good[10:],
        "truncated": good[:-1],
        "trailing": good + b"\0",
        "neither": b"{}",
        "empty": b"",
        "NaN": framed(FLIGHT, ROW | {"distance": math.nan}, HEADER),
        "infinite": framed(FLIGHT, ROW | {"delay": math.inf}, HEADER),
        "range": framed(FLIGHT, ROW | {"distance": 7000.0}, HEADER),
        "symbol": framed(WRITER, lost, b"\0\0\0\0\x07"),
    }
    assert {name: refusal(AVRO, value)[0] for name, value in values.items()} == {
        "null": "null",
        "too_large": "too_large",
        "not text": "not_utf8",
        "unknown id": "unknown_schema",
        "unknown fingerprint": "unknown_schema",
        "truncated": "malformed",
        "trailing": "malformed",
        "neither": "malformed",
        "empty": "malformed",
        "NaN": "non_finite",
        "infinite": "non_finite",
        "range": "out_of_range",
        "symbol": "not_allowed",
    }


@pytest.mark.parametrize("reference", ["Color", "paint.Color", ["null", "paint.Color"]], ids=str)
def test_avro_of_an_enum_by_name(reference: Any) -> None:
    """A later field may name an enum with its namespace or without."""
    color = {"type": "enum", "name": "Color", "symbols": ["red", "blue"]}
    fields = [{"name": "a", "type": color}, {"name": "b", "type": reference}]
    schema = load_schema({"type": "record", "name": "R", "namespace": "paint", "fields": fields})
    value = framed(dict(schema.avro), {"a": "red", "b": "blue"}, single_object(schema))
    assert msgspec.structs.astuple(Decoder(schema, "avro").decode(value)) == ("red", "blue")


def test_avro_needs_a_schema_of_avro() -> None:
    """A name that two types have is legal in JSON, where nobody asks for it; Avro refuses it, and so do we."""
    same = {"type": "enum", "name": "R", "symbols": ["a"]}
    schema = load_schema({"type": "record", "name": "R", "fields": [{"name": "a", "type": same}]})
    assert Decoder(schema).decode(b'{"a": "a"}').a == "a"
    with pytest.raises(ValueError, match="R is no Avro schema: redefined named type: R"):
        Decoder(schema, "avro")


LIST = {"type": "record", "name": "Flight", "fields": [*FLIGHT["fields"], {"name": "next", "type": ["null", "Flight"]}]}
NULLS = {
    "type": "record",
    "name": "Flight",
    "fields": [*FLIGHT["fields"], {"name": "x", "type": {"type": "array", "items": "null"}}],
}
INNER = {"type": "record", "name": "Inner", "fields": [{"name": "next", "type": ["null", "air.Inner"]}]}
SPACE = FLIGHT | {"namespace": "air", "fields": [*FLIGHT["fields"], {"name": "x", "type": INNER}]}
EMPTY = {"type": "fixed", "name": "Empty", "size": 0}
FULL = FLIGHT | {
    "namespace": "air",
    "fields": [
        *FLIGHT["fields"],
        {"name": "x", "type": EMPTY},
        {"name": "y", "type": {"type": "array", "items": "air.Empty"}},
    ],
}
TEXT = FLIGHT | {"fields": [{"name": field["name"], "type": "string"} for field in FLIGHT["fields"]]}


@pytest.mark.parametrize(
    ("writer", "problem"),
    [
        (LIST, "Flight is recursive"),
        (NULLS, "array of items without bytes"),
        (SPACE, r"air\.Inner is recursive"),
        (FULL, "array of items without bytes"),
        (TEXT, "at: the writer's string cannot be read as long"),
        ({"type": "record", "name": "Flight", "fields": [{"name": "x", "type": "nonsense"}]}, "is no Avro schema"),
    ],
)
def test_writers_that_cannot_be_read(writer: dict[str, Any], problem: str) -> None:
    """A writer's schema that cannot be read, or not safely, is refused at once."""
    with pytest.raises(ValueError, match=problem):
        Decoder(SCHEMA, "avro", schemas={1: writer})


def test_single_object_header() -> None:
    """The header is C3 01 and the CRC-64-AVRO fingerprint of the canonical form, little endian."""
    assert HEADER[:2] == b"\xc3\x01"
    canonical = fastavro.schema.to_parsing_canonical_form(FLIGHT)
    crc = 0xC15D213AA4D7A795
    for byte in canonical.encode():
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0xC15D213AA4D7A795 if crc & 1 else 0)
    assert HEADER[2:] == crc.to_bytes(8, "little")


def test_encoder_of_no_fields() -> None:
    """A record without fields has no bytes."""
    assert record_encoder([], "item")({}) == b""


def test_encoder_absent_keys() -> None:
    """An absent key is the default, or null where there is none and the field is nullable."""
    encode = record_encoder(
        [{"name": "a", "type": "int", "default": 3}, {"name": "b", "type": ["null", "double"]}], "item"
    )
    assert encode({}) == b"\x06\x00"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({}, "class: expected string, got nothing"),
        ({"class": None}, "class: expected string, got null"),
        ({"class": b"x"}, "class: expected string, got 1 bytes"),
        ({"class": "x", "n": 2**31}, "n: expected int or null, got 2147483648"),
        ({"class": "x", "n": 1.0}, "n: expected int or null, got 1.0"),
        ({"class": "x", "d": "1"}, 'd: expected double or null, got "1"'),
        ({"class": "x", "e": "q"}, 'e: expected enum among "p" or null, got "q"'),
    ],
    ids=str,
)
@pytest.mark.parametrize("access", ["item", "attr"])
def test_encoder_refuses(row: dict[str, Any], message: str, access: Any) -> None:
    """A value that does not fit raises ValueError naming the field (a keyword as a name included)."""
    fields = [
        {"name": "class", "type": "string"},
        {"name": "n", "type": ["null", "int"]},
        {"name": "d", "type": ["null", "double"]},
        {"name": "e", "type": ["null", {"type": "enum", "name": "E", "symbols": ["p"]}]},
    ]
    complete = {"n": None, "d": None, "e": None} | row
    record = row if access == "item" else type("Row", (), complete)()
    with pytest.raises(ValueError, match="expected") as caught:
        record_encoder(fields, access)(record)
    assert str(caught.value) == message


def test_illegal_access() -> None:
    """An unknown way of access is refused, naming the legal ones."""
    with pytest.raises(ValueError, match="legal are attr, item"):
        record_encoder([], "key")  # type: ignore[arg-type]


def test_decoder_names_illegal_types() -> None:
    """The compiled decoder refuses a type it does not read, naming the field."""
    avro = {"type": "record", "name": "R", "fields": [{"name": "f", "type": {"type": "map", "values": "int"}}]}
    with pytest.raises(ValueError, match="field 'f' of R"):
        record_decoder(avro)


def test_rows_of_pandas() -> None:
    """numpy and pandas values become plain JSON; NaN, NaT and NA are null in nullable fields; keys are in order."""
    frame = pd.DataFrame(
        {"distance": [7, 8], "flight": [1.0, 2.0], "id": ["UA", "B"], "delay": [np.nan, 1.5], "x": [1, 1]}
    )
    frame["at"] = pd.to_datetime([5, 6], unit="ms", utc=True)
    encode = json_encoder(SCHEMA)
    rows = [encode(row) for row in frame.to_dict("records")]
    assert rows == [
        b'{"id":"UA","at":5,"flight":1,"distance":7.0,"delay":null,"status":"ok"}',
        b'{"id":"B","at":6,"flight":2,"distance":8.0,"delay":1.5,"status":"ok"}',
    ]


@pytest.mark.parametrize(
    "moment",
    [
        pd.Timestamp("2013-01-01T10:15:00"),
        pd.Timestamp("2013-01-01T05:15:00-0500"),
        np.datetime64("2013-01-01T10:15"),
        np.int64(1357035300000),
        1357035300000.0,
    ],
    ids=repr,
)
def test_rows_with_times(moment: Any) -> None:
    """Any kind of moment gives the same milliseconds; without an offset it is UTC."""
    assert json_encoder(SCHEMA)(GOOD | {"at": moment}) == json_encoder(SCHEMA)(GOOD)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"at": pd.NaT}, "wrong_type"),
        ({"at": np.datetime64("NaT")}, "wrong_type"),
        ({"flight": pd.NA}, "wrong_type"),
        ({"flight": 1.5}, "wrong_type"),
        ({"flight": np.bool_(True)}, "wrong_type"),
        ({"distance": np.nan}, "non_finite"),
        ({"id": "AB\ud800"}, "not_allowed"),
        ({"status": "x"}, "not_allowed"),
    ],
    ids=str,
)
def test_rows_refused(changes: dict[str, Any], reason: str) -> None:
    """A row that does not fit is refused before it is published."""
    assert refusal(json_encoder(SCHEMA), GOOD | changes)[0] == reason


def test_row_with_half_a_character() -> None:
    """A lone surrogate has no UTF-8 and is refused."""
    encode = json_encoder(load_schema(FLIGHT))
    assert refusal(encode, GOOD | {"id": "\ud800"})[0] == "not_utf8"


def time(type_: Any, value: Any) -> int:
    schema = load_schema({"type": "record", "name": "R", "fields": [{"name": "t", "type": type_}]})
    return time_of(schema, "t")(schema.struct(t=value))


@pytest.mark.parametrize(
    ("type_", "value", "ms"),
    [
        ({"type": "long", "logicalType": "timestamp-millis"}, 5, 5),
        ({"type": "long", "logicalType": "timestamp-micros"}, 5999, 5),
        ({"type": "long", "logicalType": "timestamp-micros"}, -1, -1),
        ("string", "1970-01-01T00:00:01Z", 1000),
        ("string", "1970-01-01T00:00:01", 1000),
        ("string", "1970-01-01T01:00:01.0019+01:00", 1001),
        ("string", "1969-12-31T23:59:59.9999Z", -1),
        ("string", "0001-01-01T00:00:00+14:00", -62135647200000),
    ],
)
def test_time(type_: Any, value: Any, ms: int) -> None:
    """Times are milliseconds, rounded down; without an offset UTC."""
    assert time(type_, value) == ms


def test_time_unreadable() -> None:
    """A string that is no time is a bad record."""
    with pytest.raises(BadRecord, match='wrong_type: t: expected a time in ISO-8601, got "noon"'):
        time("string", "noon")


@pytest.mark.parametrize("type_", ["long", "double", ["null", "string"]], ids=str)
def test_time_of_an_illegal_field(type_: Any) -> None:
    """A field without a unit, or nullable, is refused as the time, naming what is legal."""
    schema = load_schema({"type": "record", "name": "R", "fields": [{"name": "t", "type": type_}]})
    with pytest.raises(ValueError, match="legal are timestamp-millis, timestamp-micros, and string"):
        time_of(schema, "t")


@pytest.mark.parametrize(
    ("value", "guess"),
    [
        (b"\0\0\0\0\x07abc", "Avro with registry framing (schema id 7)"),
        (HEADER + b"abc", "Avro in single-object encoding"),
        (b"a,b,1\n", "CSV"),
        (b"a\tb", "tab-separated text"),
        (b"<a/>", "XML"),
        (b'{"id":1}\n{"id":2}', "several JSON lines in one record"),
        (b"{'a': 1}", "Python dicts printed as text (single quotes), not JSON"),
        (b'"{}"', "JSON inside a JSON string (encoded twice?)"),
        (b'{"id":"A","x":1}', "JSON objects of another schema: missing field at, flight, distance"),
        (text(flight="1"), "JSON objects of another schema: wrong_type: flight"),
        (text(), "JSON objects that fit Flight"),
        (msgspec.msgpack.encode(GOOD), "MessagePack"),
        (b"\x0a\x02UA\x10\x96\x01", "Protocol Buffers, or another binary format"),
        (b"\xfa\xfb\xfc", "an unknown binary format"),
        (None, "records without a value (tombstones)"),
    ],
    ids=str,
)
def test_guess(value: bytes | None, guess: str) -> None:
    """The guess names what the bytes look like."""
    assert guess_format([value], SCHEMA) == guess


def test_guess_goes_by_the_majority() -> None:
    """One odd record does not change the guess."""
    assert guess_format([b"a,b", b"<a/>", b"c,d"]) == "CSV"
