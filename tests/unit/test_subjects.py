"""Which schema reads what another one wrote."""

from __future__ import annotations

import io
from typing import Any

import fastavro
import pytest

from headrace.schemas.subjects import compatible, version


def record(*fields: Any, name: str = "R") -> dict[str, Any]:
    return {"type": "record", "name": name, "fields": list(fields)}


def field(type_: Any, name: str = "f", **more: Any) -> dict[str, Any]:
    return {"name": name, "type": type_, **more}


def enum(*symbols: str, name: str = "E", **more: Any) -> dict[str, Any]:
    return {"type": "enum", "name": name, "symbols": list(symbols), **more}


MILLIS = {"type": "long", "logicalType": "timestamp-millis"}
MICROS = {"type": "long", "logicalType": "timestamp-micros"}

CASES = [
    ("int", "int", []),
    ("int", "long", []),
    ("int", "double", []),
    ("long", "int", ["f: the writer's long cannot be read as int"]),
    ("double", "float", ["f: the writer's double cannot be read as float"]),
    ("string", "bytes", []),
    ("string", "int", ["f: the writer's string cannot be read as int"]),
    ("int", ["null", "int"], []),
    (["null", "int"], "int", ["f: the writer's may be null, the reader's int may not"]),
    (["int", "null"], ["null", "long"], []),
    (enum("a"), enum("a", "b"), []),
    (enum("a", "b"), enum("a"), ["f: the reader's enum lacks b"]),
    (enum("a", name="F"), enum("a"), ["f: the writer's enum is F, the reader's E"]),
    (["null", enum("a", name="F")], ["null", enum("a")], ["f: the writer's enum is F, the reader's E"]),
    (enum("a", name="x.E"), ["null", enum("a", namespace="y")], []),
    (enum("a", name="F"), enum("a", aliases=["F"]), []),
    (MILLIS, MILLIS, []),
    (MILLIS, MICROS, ["f: the writer's is timestamp-millis, the reader's timestamp-micros"]),
    ({"type": "array", "items": "int"}, "int", ["f: the writer's array cannot be read as int"]),
]


@pytest.mark.parametrize(("written", "read", "problems"), CASES, ids=str)
def test_types(written: Any, read: Any, problems: list[str]) -> None:
    """A pair of types is compatible by Avro's rules, and the problem names the field."""
    assert compatible(record(field(written)), record(field(read))) == problems


VALUES = {"int": 1, "long": 2**40, "double": 0.1, "string": "a", "enum": "b", "null": None, "array": [1]}


@pytest.mark.parametrize(("written", "read", "problems"), [case for case in CASES if MILLIS not in case], ids=str)
def test_agrees_with_fastavro(written: Any, read: Any, problems: list[str]) -> None:
    """What is called compatible fastavro reads, and what is not it refuses."""
    branches = written if isinstance(written, list) else [written]
    first = next((branch for branch in branches if isinstance(branch, dict)), branches[0])
    kind = first if isinstance(first, str) else first["type"]
    value = "a" if kind == "enum" and len(first["symbols"]) == 1 else VALUES[kind]
    out = io.BytesIO()
    writer, reader = (fastavro.parse_schema(record(field(type_))) for type_ in (written, read))
    fastavro.schemaless_writer(out, writer, {"f": value})
    out.seek(0)
    try:
        fastavro.schemaless_reader(out, writer, reader)
        refused = False
    except Exception:
        refused = True
    assert refused == bool(problems)


def test_added_field_needs_a_default() -> None:
    """A field the writer does not have needs a default in the reader."""
    old = record(field("int"))
    assert compatible(old, record(field("int"), field("int", "g"))) == [
        "g: the writer has no such field, and the reader no default"
    ]
    assert compatible(old, record(field("int"), field("int", "g", default=1))) == []


def test_alias() -> None:
    """A renamed field or record is found by its alias."""
    new = record(field("int", "g", aliases=["f"]), name="S") | {"aliases": ["R"]}
    assert compatible(record(field("int")), new) == []


def test_other_name() -> None:
    """Records of another name are not compatible."""
    assert compatible(record(field("int")), record(field("int"), name="S")) == [
        "the writer's record is R, the reader's S"
    ]


def test_enums_are_found_by_their_full_names() -> None:
    """An enum that a field names with its namespace is the one declared before."""
    writer = record(field(enum("a"), "e"), field(["null", "x.E"])) | {"namespace": "x"}
    assert compatible(writer, record(field(enum("a"), "e"), field(["null", "E"]))) == []
    assert compatible(record(field(enum("b"), "e"), field("E")), writer) == [
        "e: the reader's enum lacks b",
        "f: the reader's enum lacks b",
    ]


def test_writer_may_be_nested() -> None:
    """Fields of the writer that the reader does not have may be anything."""
    nested = field({"type": "record", "name": "N", "fields": [field("int")]}, "n")
    assert compatible(record(field("int"), nested), record(field("int"))) == []


def test_version_ignores_what_does_not_change_the_bytes() -> None:
    """A doc or a default leaves the version as it is; a type changes it."""
    plain = version(record(field("int")))
    assert version(record(field("int", doc="x", default=1))) == plain
    assert version(record(field("long"))) != plain
