"""A contract on data: a flat Avro record, what is expected of its values, and the typed struct they make.

The types are ``boolean``, ``int`` (32 bits), ``long`` (64 bits), ``float``, ``double``, ``string``, ``bytes`` (base64
in JSON), ``enum``, and ``["null", T]`` of any of them. ``timestamp-millis`` and ``timestamp-micros`` are longs; other
logical types are read as the type below them, as the Avro specification asks. A field is required unless it has a
default.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import msgspec

from headrace.schemas.expectations import Expectation, between, expecting, matches, max_length, one_of
from headrace.schemas.faults import (
    FLOAT32_MAX,
    RANGES,
    BadRecord,
    Fault,
    Field,
    Kind,
    fault_of_row,
    fault_of_value,
    matcher,
)
from headrace.schemas.names import spelled_out

__all__ = [
    "BadRecord",
    "Expectation",
    "Field",
    "Schema",
    "between",
    "load_schema",
    "matches",
    "max_length",
    "one_of",
    "read_avro",
]

_KINDS: tuple[str, ...] = tuple(kind for kind in get_args(Kind) if kind != "enum")
_LEGAL = f'{", ".join(_KINDS)}, an enum, or ["null", one of these]'
_TIMESTAMPS = ("timestamp-millis", "timestamp-micros")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z", re.ASCII)


@dataclass(frozen=True, slots=True, eq=False)
class Schema:
    """A flat record: its fields in order, the Avro schema they came from, and the struct type that JSON decodes to.

    `struct` is a frozen msgspec struct whose attributes are the fields; decoding to it checks types, ranges, symbols,
    patterns and expectations in one pass. Unknown fields of a document are ignored.
    """

    name: str
    namespace: str
    fields: tuple[Field, ...]
    avro: Mapping[str, Any]
    struct: type[msgspec.Struct]

    @property
    def fullname(self) -> str:
        """The name with its namespace."""
        return f"{self.namespace}.{self.name}" if self.namespace else self.name

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the fields, in order."""
        return tuple(field.name for field in self.fields)

    def field(self, name: str) -> Field:
        """The field of this name; ValueError naming the fields if there is none."""
        for field in self.fields:
            if field.name == name:
                return field
        raise ValueError(f"{self.fullname} has no field {name!r}; its fields are {', '.join(self.names)}")

    def columns(self) -> list[dict[str, Any]]:
        """The fields as plain dicts of `name`, `type`, `nullable`, and `logical` (a timestamp's unit, or None)."""
        return [
            {"name": field.name, "type": field.kind, "nullable": field.nullable, "logical": field.logical}
            for field in self.fields
        ]

    def fault(self, row: Mapping[str, Any]) -> Fault | None:
        """The reason and detail why a row does not fit, or None if it does."""
        return fault_of_row(self.fields, row)

    def expecting(self, expect: Mapping[str, Expectation | Sequence[Expectation]]) -> Schema:
        """This schema with expectations on some of its fields."""
        if not isinstance(expect, Mapping):
            raise ValueError(
                f"expect is of type {type(expect).__name__}; legal: a dict of a field's name to what is expected"
            )
        changed = {name: expecting(self.field(name), wanted) for name, wanted in expect.items()}
        fields = tuple(changed.get(field.name, field) for field in self.fields)
        return replace(self, fields=fields, struct=_struct(self.name, fields))


def load_schema(
    source: str | Path | Mapping[str, Any] | Schema,
    base: Path | None = None,
    expect: Mapping[str, Expectation | Sequence[Expectation]] | None = None,
) -> Schema:
    """Load a flat record from the path of an .avsc file (relative to `base`), JSON text, or a mapping.

    Raises ValueError, naming the field and the legal types, if the schema or an expectation on it is wrong.
    """
    if isinstance(source, Schema):
        schema = source
    else:
        avro = read_avro(source, base)
        namespace, _, name = str(avro["name"]).rpartition(".")
        namespace = namespace or str(avro.get("namespace") or "")
        fields = _fields(avro, namespace)
        schema = Schema(name, namespace, fields, avro, _struct(name, fields))
    return schema.expecting(expect) if expect else schema


def read_avro(source: str | Path | Mapping[str, Any], base: Path | None = None) -> dict[str, Any]:
    """Read an Avro record schema, flat or not, as a plain dict; ValueError if it is none."""
    where = "the schema"
    if isinstance(source, Mapping):
        avro: Any = source
    elif isinstance(source, (str, Path)):
        text = str(source)
        if isinstance(source, Path) or not text.lstrip().startswith(("{", "[", '"')):
            path = (base or Path()) / source
            where = str(source)
            try:
                text = path.read_text(encoding="utf-8")
            except FileNotFoundError as error:
                raise ValueError(f"there is no schema file {path}") from error
            except (OSError, UnicodeDecodeError) as error:
                raise ValueError(f"cannot read the schema file {path}: {error}") from error
        try:
            avro = json.loads(text)
        except ValueError as error:
            raise ValueError(f"{where} is not JSON: {error}") from error
    else:
        raise ValueError(f"a schema is a path, JSON text or a mapping; got {type(source).__name__}")
    if not isinstance(avro, Mapping) or avro.get("type") != "record" or not isinstance(avro.get("fields"), Sequence):
        raise ValueError(f'{where} is not an Avro record: it needs "type": "record", a "name" and "fields"')
    if not isinstance(avro.get("name"), str) or not all(_NAME.match(part) for part in avro["name"].split(".")):
        raise ValueError(f"{where} has no legal name; legal are letters, digits and _; got {avro.get('name')!r}")
    return dict(avro)


def _fields(avro: Mapping[str, Any], namespace: str) -> tuple[Field, ...]:
    known: dict[str, Any] = {}
    fields: dict[str, Field] = {}
    for declared in avro["fields"]:
        name = declared.get("name") if isinstance(declared, Mapping) else None
        if not isinstance(name, str) or not _NAME.match(name) or name.startswith("__"):
            raise ValueError(
                f"field {name!r} of {avro['name']}: legal names are letters, digits and _, not beginning with __"
            )
        if name in fields:
            raise ValueError(f"field {name!r} of {avro['name']} is declared twice")
        fields[name] = _field(name, declared, spelled_out(declared.get("type"), namespace, known))
    if not fields:
        raise ValueError(f"{avro['name']} has no fields; it needs at least one")
    return tuple(fields.values())


def _field(name: str, declared: Mapping[str, Any], kind: Any) -> Field:
    nullable = null_first = False
    if isinstance(kind, Sequence) and not isinstance(kind, str):
        others = [branch for branch in kind if branch != "null"]
        if len(kind) != 2 or len(others) != 1:
            raise ValueError(f"field {name!r} has the type {_shown(kind)}; legal are {_LEGAL}")
        nullable, null_first, kind = True, kind[0] == "null", others[0]
    logical = None
    while isinstance(kind, Mapping) and kind.get("type") != "enum":
        logical, kind = logical or kind.get("logicalType"), kind.get("type")
    symbols: tuple[str, ...] = ()
    if isinstance(kind, Mapping):
        symbols, kind = _symbols(name, kind), "enum"
    if kind not in get_args(Kind) or (kind == "enum" and not symbols):
        raise ValueError(f"field {name!r} has the type {_shown(declared.get('type'))}; legal are {_LEGAL}")
    if logical in _TIMESTAMPS and kind != "long":
        raise ValueError(f"field {name!r} is a {logical} of type {kind}; legal is long")
    low, high = RANGES.get(kind, (None, None))
    field = Field(
        name, kind, nullable, null_first, True, None, symbols, logical if logical in _TIMESTAMPS else None, low, high
    )
    return _with_default(field, declared["default"]) if "default" in declared else field


def _shown(avro: Any) -> str:
    return json.dumps(avro, default=str)[:200]


def _symbols(name: str, enum: Mapping[str, Any]) -> tuple[str, ...]:
    symbols, own = enum.get("symbols"), enum.get("name")
    if not isinstance(own, str) or not isinstance(symbols, Sequence) or isinstance(symbols, str) or not symbols:
        raise ValueError(f'field {name!r} is an enum without "name" and "symbols"')
    if not all(isinstance(symbol, str) and _NAME.match(symbol) for symbol in symbols) or len(set(symbols)) < len(
        symbols
    ):
        raise ValueError(f"field {name!r} has illegal symbols; legal are distinct names of letters, digits and _")
    return tuple(symbols)


def _with_default(field: Field, default: Any) -> Field:
    if field.kind == "bytes" and isinstance(default, str):
        default = default.encode("latin-1")
    if field.kind in ("float", "double") and isinstance(default, int) and not isinstance(default, bool):
        default = float(default)
    if (fault := fault_of_value(field, default)) is not None:
        raise ValueError(f"the default of field {fault[1]}")
    return replace(field, required=False, default=default)


def _struct(name: str, fields: Sequence[Field]) -> type[msgspec.Struct]:
    patterned = [field for field in fields if field.pattern is not None]
    return msgspec.defstruct(
        name,
        [
            (field.name, _annotation(field)) if field.required else (field.name, _annotation(field), field.default)
            for field in fields
        ],
        namespace={"__post_init__": _matching(patterned)} if patterned else None,
        frozen=True,
        gc=False,
        kw_only=True,
    )


def _matching(fields: Sequence[Field]) -> Callable[[Any], None]:
    """What a struct checks last: that strings match their patterns."""
    checks = [(field.name, matcher(str(field.pattern))) for field in fields]

    def check(record: Any) -> None:
        for name, fits in checks:
            value = getattr(record, name)
            if value is not None and not fits(value):
                raise ValueError(f"{name} does not match")

    return check


def _annotation(field: Field) -> Any:
    low, high = field.low, field.high
    if field.kind == "float":
        low = -FLOAT32_MAX if low is None else max(low, -FLOAT32_MAX)
        high = FLOAT32_MAX if high is None else min(high, FLOAT32_MAX)
    plain: Any = _PYTHON[field.kind]
    allowed = field.symbols if field.allowed is None else field.allowed
    meta: dict[str, Any] = {"ge": low, "le": high, "max_length": field.longest}
    if allowed:  # the allowed values satisfy all other expectations already
        plain = Literal[allowed]
    elif any(limit is not None for limit in meta.values()):
        plain = Annotated[plain, msgspec.Meta(**meta)]
    return plain | None if field.nullable else plain


_PYTHON: dict[str, type] = {
    "boolean": bool,
    "int": int,
    "long": int,
    "float": float,
    "double": float,
    "string": str,
    "bytes": bytes,
    "enum": str,
}
