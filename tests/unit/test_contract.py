"""Schemas as they are loaded, and the expectations on them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from headrace.schemas.contract import between, load_schema, matches, max_length, one_of
from headrace.schemas.faults import BadRecord


def record(*fields: Any) -> dict[str, Any]:
    return {"type": "record", "name": "R", "namespace": "org.x", "fields": list(fields)}


def field(type_: Any, **more: Any) -> dict[str, Any]:
    return {"name": "f", "type": type_, **more}


def test_load_from_mapping_text_and_file(tmp_path: Path) -> None:
    """A mapping, JSON text and a file relative to the base give the same fields."""
    avro = record(field("int"), {"name": "g", "type": ["null", "string"], "default": None})
    (tmp_path / "r.avsc").write_text(json.dumps(avro))
    loaded = [load_schema(avro), load_schema(json.dumps(avro)), load_schema("r.avsc", base=tmp_path)]
    assert [schema.fields for schema in loaded] == [loaded[0].fields] * 3


def test_names() -> None:
    """The full name has the namespace, also one that stands in the name."""
    dotted = {"type": "record", "name": "a.b.R", "namespace": "ignored", "fields": [field("int")]}
    assert [load_schema(record(field("int"))).fullname, load_schema(dotted).fullname] == ["org.x.R", "a.b.R"]


def test_columns() -> None:
    """Columns tell name, type, nullability and timestamp unit."""
    schema = load_schema(record(field(["null", {"type": "long", "logicalType": "timestamp-micros"}])))
    assert schema.columns() == [{"name": "f", "type": "long", "nullable": True, "logical": "timestamp-micros"}]


def test_enum_by_name() -> None:
    """A later field may name an enum that an earlier one declared."""
    enum = {"type": "enum", "name": "E", "symbols": ["a", "b"]}
    schema = load_schema(record(field(enum), {"name": "g", "type": ["null", "E"]}))
    assert schema.field("g").symbols == ("a", "b")


def test_unknown_logical_type_is_the_type_below() -> None:
    """A logical type we do not know is ignored, as Avro asks."""
    found = load_schema(record(field({"type": "int", "logicalType": "date"}))).field("f")
    assert (found.kind, found.logical) == ("int", None)


@pytest.mark.parametrize(
    ("type_", "legal"),
    [
        ("strng", "boolean, int, long, float, double, string, bytes, an enum"),
        ({"type": "array", "items": "int"}, "boolean, int"),
        (["null", "int", "string"], "boolean, int"),
        (["int"], "boolean, int"),
        (["null", "null"], "boolean, int"),
        (["null", ["null", "int"]], "boolean, int"),
        ({"type": "map", "values": ["null", "int"]}, "boolean, int"),
        ({"type": "record", "name": "N", "fields": []}, "boolean, int"),
        ({"type": "int", "logicalType": "timestamp-millis"}, "legal is long"),
        ({"type": "enum", "name": "E", "symbols": ["a", "a"]}, "distinct"),
        ({"type": "enum", "name": "E", "symbols": []}, "symbols"),
        (None, "boolean, int"),
    ],
    ids=str,
)
def test_illegal_type(type_: Any, legal: str) -> None:
    """A type that cannot be is refused, naming the field and what is legal."""
    with pytest.raises(ValueError, match="field 'f'") as caught:
        load_schema(record(field(type_)))
    assert legal in str(caught.value)


@pytest.mark.parametrize(
    "source",
    [
        "{",
        "[1]",
        '{"type": "record", "name": "R"}',
        {"type": "enum", "name": "R", "symbols": ["a"]},
        {"type": "record", "name": "1R", "fields": [field("int")]},
        record(),
        record("f"),
        record(field("int"), field("long")),
        record({"name": "a-b", "type": "int"}),
        record({"name": "__class__", "type": "int"}),
        "no/such/file.avsc",
        7,
    ],
    ids=str,
)
def test_illegal_schema(source: Any) -> None:
    """What is no flat record raises ValueError, whatever it is."""
    with pytest.raises(ValueError, match=r"schema|record|field"):
        load_schema(source)


@pytest.mark.parametrize(
    ("type_", "default"),
    [("int", "x"), ("int", 2**31), ("string", None), ("boolean", 0), (["null", "int"], 1.5)],
    ids=str,
)
def test_illegal_default(type_: Any, default: Any) -> None:
    """A default that does not fit its field is refused, naming the field."""
    with pytest.raises(ValueError, match="default of field f: expected"):
        load_schema(record(field(type_, default=default)))


def test_integer_default_of_a_double_is_a_float() -> None:
    """The default 1 of a double is 1.0."""
    default = load_schema(record(field("double", default=1))).struct().f  # type: ignore[attr-defined]
    assert type(default) is float


@pytest.mark.parametrize(
    ("type_", "wanted"),
    [
        ("string", between(0, 1)),
        ("int", between(0.5, 1)),
        ("int", between(2**31, 2**40)),
        ("double", one_of("a")),
        ("double", one_of(1)),
        ("int", matches("a")),
        ("boolean", max_length(1)),
        ({"type": "enum", "name": "E", "symbols": ["a"]}, one_of("b")),
        ("string", [one_of("aa", "b"), max_length(1)]),
        ("string", [max_length(1), one_of("aa", "b")]),
        ("string", "between(0, 1)"),
    ],
    ids=str,
)
def test_illegal_expectation(type_: Any, wanted: Any) -> None:
    """An expectation that the type cannot meet is refused when it is declared, naming the field."""
    with pytest.raises(ValueError, match=r"field '?f'?"):
        load_schema(record(field(type_)), expect={"f": wanted})


def test_expectation_on_no_field() -> None:
    """An expectation on a field that is not there is refused, naming those that are."""
    with pytest.raises(ValueError, match="no field 'x'; its fields are f"):
        load_schema(record(field("int")), expect={"x": between(0, 1)})


def test_default_must_meet_expectations() -> None:
    """A default outside the declared range is refused."""
    with pytest.raises(ValueError, match="default of field f: expected int between 1 and 2, got 0"):
        load_schema(record(field("int", default=0)), expect={"f": between(1, 2)})


@pytest.mark.parametrize(
    "make",
    [
        lambda: between(),
        lambda: between(2, 1),
        lambda: between(0, float("nan")),
        lambda: between(0, 10**400),
        lambda: between("a", "b"),  # type: ignore[arg-type]
        lambda: one_of(),
        lambda: one_of("a", 1),
        lambda: one_of(True),
        lambda: matches("("),
        lambda: matches("(?=a)a"),
        lambda: matches(3),  # type: ignore[arg-type]
        lambda: max_length(-1),
        lambda: max_length(True),
    ],
)
def test_illegal_limits(make: Any) -> None:
    """Limits that make no sense are refused where they are written."""
    with pytest.raises(ValueError, match=r"between|one_of|matches|max_length"):
        make()


def test_two_ranges_intersect() -> None:
    """Expectations on one field add up."""
    found = load_schema(record(field("int")), expect={"f": [between(0, 10), between(5)]}).field("f")
    assert (found.low, found.high) == (5, 10)


def test_bad_record_has_a_closed_list_of_reasons() -> None:
    """A reason that is not on the list is a mistake of ours."""
    with pytest.raises(ValueError, match="unknown reason 'odd'"):
        BadRecord("odd")


def test_detail_is_cut() -> None:
    """Neither a long list of symbols nor a long value makes a detail longer than 200 characters."""
    symbols = [f"symbol_{i}" for i in range(100)]
    schema = load_schema(record(field({"type": "enum", "name": "E", "symbols": symbols})))
    fault = schema.fault({"f": "x" * 1000})
    assert fault is not None
    assert len(fault[1]) <= 200
    assert fault[1].endswith(', got "' + "x" * 36 + "...")
