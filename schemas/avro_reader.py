"""Avro, compiled: the decoder of a record of primitives, enums and further such records."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from headrace.schemas.contract import Schema
from headrace.schemas.names import spelled_out
from headrace.schemas.varint import read_more

__all__ = ["record_decoder"]

_LAYOUT = {"float": "f", "double": "d"}
_LEGAL = "boolean, int, long, float, double, string, bytes, enum, record, or [null, one of these]"


def record_decoder(
    schema: Schema | Mapping[str, Any], *, whole_ints: bool = True
) -> Callable[[bytes, int], tuple[dict[str, Any], int]]:
    """A function that reads a record at an offset: its fields as a dict, and the offset behind it.

    Fields are booleans, numbers, strings, bytes, enums, records of these, and nullable ones of all; ValueError names
    any other. The function raises ValueError for bytes that are no such record, UnicodeDecodeError if a string of it is
    not UTF-8. Without `whole_ints` an int of more than 32 bits is read as it is, so that one can say what is wrong.
    """
    avro = spelled_out(schema.avro if isinstance(schema, Schema) else schema)
    writer = _Source(str(avro.get("name")), whole_ints)
    result = writer.record(avro)
    lines = "\n".join("        " + line for line in writer.lines)
    source = (
        f"def decode(data, at=0):\n    size = len(data)\n    try:\n{lines}\n        return {result}, at\n"
        "    except UnicodeDecodeError:\n        raise\n    except (IndexError, error, ValueError) as cause:\n"
        "        raise ValueError('the bytes are no whole record of ' + name) from cause\n"
    )
    space = writer.space | {"more": read_more, "error": struct.error, "name": str(avro.get("name"))}
    exec(compile(source, f"<decoder of {avro.get('name')}>", "exec"), space)
    decode: Callable[[bytes, int], tuple[dict[str, Any], int]] = space["decode"]
    return decode


class _Source:
    """Lines of Python that read one value after the other; each method returns the expression of what was read."""

    def __init__(self, name: str, whole_ints: bool) -> None:
        self._whole_ints = whole_ints
        self.lines: list[str] = []
        self.space: dict[str, Any] = {}
        self._indent = ""
        self._variables = 0
        self._name = name

    def record(self, avro: Mapping[str, Any]) -> str:
        """Read the fields of a record."""
        values: list[str] = []
        fields = list(avro["fields"])
        while fields:
            run: list[str] = []
            while fields and (layout := _LAYOUT.get(_base(fields[0]["type"]))) is not None:
                run.append(layout)
                values.append(f"{fields.pop(0)['name']!r}: {self._variable()}")
            if run:
                self._unpack([value.split(": ")[1] for value in values[-len(run) :]], "".join(run))
            else:
                field = fields.pop(0)
                values.append(f"{field['name']!r}: {self.value(field['type'], field['name'])}")
        return "{" + ", ".join(values) + "}"

    def value(self, avro: Any, field: str) -> str:
        """Read a value of any legal type."""
        if isinstance(avro, Sequence) and not isinstance(avro, str):
            return self._nullable(avro, field)
        if isinstance(avro, Mapping) and avro.get("type") == "record":
            result = self._variable()
            self._add(f"{result} = {self.record(avro)}")
            return result
        if isinstance(avro, Mapping) and avro.get("type") == "enum":
            return self._enum(avro)
        kind = _base(avro)
        if kind in _LAYOUT:
            result = self._variable()
            self._unpack([result], _LAYOUT[kind])
            return result
        if kind == "int" and self._whole_ints:
            return self._long("    if n >> 32:", "        raise ValueError('no int')")
        if kind in ("int", "long"):
            return self._long()
        if kind == "boolean":
            return self._boolean()
        if kind in ("string", "bytes"):
            return self._text(kind)
        raise ValueError(f"field {field!r} of {self._name} has the type {avro!r}; legal are {_LEGAL}")

    def _nullable(self, avro: Sequence[Any], field: str) -> str:
        others = [branch for branch in avro if branch != "null"]
        if len(avro) != 2 or len(others) != 1:
            raise ValueError(f"field {field!r} of {self._name} has the type {avro!r}; legal are {_LEGAL}")
        null, other = (0, 2) if avro[0] == "null" else (2, 0)
        result = self._variable()
        self._add("b = data[at]", "at += 1", f"if b == {other}:")
        self._indent += "    "
        self._add(f"{result} = {self.value(others[0], field)}")
        self._indent = self._indent[4:]
        self._add(f"elif b == {null}:", f"    {result} = None", "else:", "    raise ValueError('no such branch')")
        return result

    def _long(self, *check: str) -> str:
        """Read an integer; `check` is for those of more than a byte, as `n` in zigzag."""
        result = self._variable()
        self._add("n = data[at]", "at += 1", "if n > 127:", "    n, at = more(data, at, n)", *check)
        self._add(f"{result} = (n >> 1) ^ -(n & 1)")
        return result

    def _boolean(self) -> str:
        result = self._variable()
        self._add(f"{result} = data[at]", "at += 1", f"if {result} > 1:", "    raise ValueError('no boolean')")
        self._add(f"{result} = {result} == 1")
        return result

    def _enum(self, avro: Mapping[str, Any]) -> str:
        index, symbols = self._long(), f"symbols{self._variables}"
        self.space[symbols] = tuple(avro["symbols"])
        self._add(f"if {index} < 0:", "    raise ValueError('no such symbol')", f"{index} = {symbols}[{index}]")
        return index

    def _text(self, kind: str) -> str:
        length, result = self._long(), self._variable()
        self._add(f"end = at + {length}", "if not at <= end <= size:", "    raise ValueError('truncated')")
        self._add(f"{result} = data[at:end]" + (".decode()" if kind == "string" else ""), "at = end")
        return result

    def _unpack(self, variables: Sequence[str], layout: str) -> None:
        name = f"unpack_{layout}"
        self.space[name] = struct.Struct("<" + layout).unpack_from
        self._add(f"{', '.join(variables)}, = {name}(data, at)", f"at += {struct.calcsize('<' + layout)}")

    def _variable(self) -> str:
        self._variables += 1
        return f"v{self._variables}"

    def _add(self, *lines: str) -> None:
        self.lines += [self._indent + line for line in lines]


def _base(avro: Any) -> str:
    while isinstance(avro, Mapping) and avro.get("type") not in ("enum", "record"):
        avro = avro.get("type")
    return avro if isinstance(avro, str) else ""
