"""The wire against its models: msgspec's verdict against ours, and compiled Avro against fastavro."""

from __future__ import annotations

import io
import json
import struct
from typing import Any

import fastavro
import msgspec
from hypothesis import example, given
from hypothesis import strategies as st

from headrace.schemas.avro import plain, record_decoder, record_encoder, single_object
from headrace.schemas.contract import Schema, between, load_schema, matches, max_length, one_of
from headrace.schemas.records import REASONS
from headrace.schemas.wire import BadRecord, Decoder, guess_format, json_encoder

EVENT = {
    "type": "record",
    "name": "Event",
    "fields": [
        {"name": "b", "type": "boolean"},
        {"name": "i", "type": ["null", "int"], "default": None},
        {"name": "l", "type": "long"},
        {"name": "f", "type": ["float", "null"]},
        {"name": "d", "type": "double"},
        {"name": "s", "type": "string", "default": "x"},
        {"name": "y", "type": ["null", "bytes"]},
        {"name": "e", "type": {"type": "enum", "name": "E", "symbols": ["p", "q"]}},
        {"name": "o", "type": ["null", "string"]},
    ],
}
EXPECT = {
    "l": between(-5, 2**40),
    "s": [matches("[a-z\u00e9]*"), max_length(3)],
    "o": one_of("u", "v"),
    "d": between(0),
}
SCHEMA = load_schema(EVENT, expect=EXPECT)
WRITER = EVENT | {"fields": [{"name": "n", "type": {"type": "map", "values": "bytes"}}, *EVENT["fields"][::-1]]}
HEADER = single_object(SCHEMA)
DECODERS = [Decoder(SCHEMA), Decoder(SCHEMA, "avro", schemas={1: WRITER})]

numbers = st.integers(-(2**70), 2**70) | st.floats() | st.sampled_from([0, 1, -5, 2**31, 2**63, 10**310, 1e39, 3.5e38])
scalars = st.none() | st.booleans() | numbers | st.text(max_size=5) | st.sampled_from(["p", "u", "abc", "YQ=="])
anything = scalars | st.lists(scalars, max_size=2) | st.dictionaries(st.text(max_size=2), scalars, max_size=2)
fitting = {
    "b": st.booleans(),
    "i": st.none() | st.integers(-(2**31), 2**31 - 1),
    "l": st.integers(-5, 2**40),
    "f": st.none() | st.floats(width=32, allow_nan=False, allow_infinity=False),
    "d": st.floats(min_value=0, allow_infinity=False),
    "s": st.sampled_from(["", "a", "abc", "\u00e9"]),
    "y": st.none() | st.binary(max_size=9),
    "e": st.sampled_from(["p", "q"]),
    "o": st.sampled_from([None, "u", "v"]),
}
good_rows = st.fixed_dictionaries(fitting)


def outcome(decoder: Decoder, value: bytes | None) -> Any:
    try:
        return decoder.decode(value)
    except BadRecord as refused:
        return refused


def check_total(value: bytes | None) -> None:
    for decoder in DECODERS:
        first = outcome(decoder, value)
        if isinstance(first, BadRecord):
            assert first.reason in REASONS
            assert len(first.detail) <= 200
            assert str(first) == str(outcome(decoder, value))
        else:
            assert isinstance(first, SCHEMA.struct)
    assert guess_format([value], SCHEMA)


@given(st.binary(max_size=80) | st.text(max_size=80).map(str.encode))
@example(b'{"b":"\\ud800"}')
@example(b'"\\')
def test_any_bytes(value: bytes) -> None:
    """Any bytes give a struct or a BadRecord, the same each time."""
    check_total(value)


@given(st.sampled_from([HEADER, b"\0\0\0\0\x01", single_object(WRITER)]), st.binary(max_size=60))
@example(b"\0\0\0\0\x01", b"\xff" * 20)
@example(HEADER, b"\x01" * 20)
def test_any_bytes_in_a_known_frame(start: bytes, value: bytes) -> None:
    """Any bytes behind the header of a known schema give a struct or a BadRecord."""
    check_total(start + value)


@given(good_rows, st.data())
def test_damaged_values(row: dict[str, Any], data: st.DataObject) -> None:
    """Cutting, flipping and doubling bytes of good values give a struct or a BadRecord."""
    value = data.draw(st.sampled_from([json_encoder(SCHEMA)(row), written(EVENT, row, HEADER)]))
    at = data.draw(st.integers(0, len(value) - 1))
    byte = bytes((data.draw(st.integers(0, 255)),))
    check_total(data.draw(st.sampled_from([value[:at], value[:at] + byte + value[at + 1 :], value[:at] + value])))


@given(
    good_rows,
    st.dictionaries(st.sampled_from([*fitting, "extra"]), anything, max_size=2),
    st.sets(st.sampled_from([*fitting]), max_size=1),
)
def test_verdict_is_msgspecs(row: dict[str, Any], changes: dict[str, Any], dropped: set[str]) -> None:
    """Our slow look finds a fault in a document exactly if the fast pass refuses it."""
    row |= {"y": None} | changes
    document = {key: value for key, value in row.items() if key not in dropped}
    try:
        value = json.dumps(document, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return
    fault = SCHEMA.fault(json.loads(value))
    refused = outcome(DECODERS[0], value)
    try:
        msgspec.json.decode(value, type=SCHEMA.struct)
    except msgspec.ValidationError:
        assert fault == (refused.reason, refused.detail)
    except msgspec.DecodeError:  # NaN or infinite, in whatever field
        assert (fault[0] if fault else "non_finite") == refused.reason
    else:
        assert fault is None
        assert isinstance(refused, SCHEMA.struct)


@given(good_rows)
def test_rows_come_back(row: dict[str, Any]) -> None:
    """What the publisher encodes, in JSON or Avro, the decoder reads back; the bytes are a function of the record."""
    value = json_encoder(SCHEMA)(row)
    record = DECODERS[0].decode(value)
    assert msgspec.structs.asdict(record) == row
    assert json_encoder(SCHEMA)(dict(reversed(row.items()))) == value
    assert DECODERS[1].decode(written(EVENT, row, HEADER)) == record
    assert DECODERS[1].decode(written(WRITER, row | {"n": {"k": b"v"}}, b"\0\0\0\0\x01")) == record


def written(avro: dict[str, Any], row: dict[str, Any], start: bytes = b"") -> bytes:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(plain(avro)), row)
    return start + out.getvalue()


Case = tuple[dict[str, Any], dict[str, Any]]
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "boolean": st.booleans(),
    "int": st.integers(-(2**31), 2**31 - 1) | st.integers(-200, 20000),
    "long": st.integers(-(2**63), 2**63 - 1) | st.integers(-20000, 20000) | st.integers(0, 62).map(lambda n: 2**n),
    "float": st.floats(width=32),
    "double": st.floats() | st.integers(-5, 5),
    "string": st.text() | st.sampled_from(["", "a", "x" * 64, "y" * 9000]),
    "bytes": st.binary(),
    "enum": st.sampled_from(["p", "q", "r"]),
}


@st.composite
def records(draw: st.DrawFn, depth: int = 1, path: str = "") -> Case:
    """A schema and a row of it."""
    fields, row = [], {}
    for n in range(draw(st.integers(1, 8))):
        name = f"f{path}_{n}"
        kind = draw(st.sampled_from([*VALUES, *(["record"] if depth else [])]))
        if kind == "record":
            type_, value = draw(records(depth=depth - 1, path=f"{path}_{n}"))
            type_["name"] = f"R{path}_{n}"
        else:
            type_, value = kind, draw(VALUES[kind])
            if kind == "enum":
                type_ = {"type": "enum", "name": f"E{path}_{n}", "symbols": ["p", "q", "r"]}
        form = draw(st.sampled_from(["plain", "null first", "null last"]))
        if form != "plain":
            type_ = ["null", type_] if form == "null first" else [type_, "null"]
            value = draw(st.sampled_from([None, value]))
        fields.append({"name": name, "type": type_})
        row[name] = value
    return {"type": "record", "name": "R", "fields": fields}, row


@given(records(depth=0))
def test_encoder_writes_fastavros_bytes(case: Case) -> None:
    """The compiled encoder, by item and by attribute, twice over, writes the bytes of fastavro."""
    avro, row = case
    expected = written(avro, row)
    by_item, by_attr = record_encoder(avro["fields"], "item"), record_encoder(load_schema(avro), "attr")
    record = type("Row", (), row)()
    assert [by_item(row), by_item(row), by_attr(record), by_attr(record)] == [expected] * 4
    sparse = {name: value for name, value in row.items() if value is not None}
    assert by_item(sparse) == expected


@given(records(), st.binary(max_size=12), st.binary(max_size=3))
def test_decoder_reads_what_fastavro_reads(case: Case, before: bytes, after: bytes) -> None:
    """The compiled decoder reads nested records as fastavro does, at any offset, and says where they end."""
    avro, row = case
    value = written(avro, row)
    expected = fastavro.schemaless_reader(io.BytesIO(value), fastavro.parse_schema(avro))
    read, end = record_decoder(avro)(before + value + after, len(before))
    assert bits(read) == bits(expected)
    assert list(read) == list(expected)
    assert end == len(before) + len(value)


@given(records(), st.data())
def test_decoder_refuses_truncated_bytes(case: Case, data: st.DataObject) -> None:
    """A truncated record raises ValueError, and nothing else."""
    avro, row = case
    value = written(avro, row)
    cut = value[: data.draw(st.integers(0, len(value) - 1))]
    try:
        record_decoder(avro)(cut, 0)
    except ValueError:
        return
    raise AssertionError("a truncated record was read")


def bits(value: Any) -> Any:
    """The value with floats as their bytes, so that NaN equals NaN and -0.0 is not 0.0."""
    if isinstance(value, float):
        return struct.pack("<d", value)
    return {key: bits(part) for key, part in value.items()} if isinstance(value, dict) else value


def test_schema_of_the_tests() -> None:
    """The schema under test has each of the kinds."""
    assert isinstance(SCHEMA, Schema)
    assert {field.kind for field in SCHEMA.fields} == set(VALUES)
