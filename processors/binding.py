"""Features resolved against an event's columns: what is read, which windows share a store, what each answers."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from math import isfinite
from operator import attrgetter
from typing import Any

from headrace.processors.base import Rejected
from headrace.processors.features import (
    LONGEST_KEPT,
    TYPES,
    Field,
    Function,
    Label,
    Type,
    Window,
    coerce,
    failed,
    returns,
    too_long,
)
from headrace.processors.slots import Part, parts_of
from headrace.processors.windows import Group, Table

__all__ = ["Asked", "Bound", "Fed", "Plan", "Reader", "key_of", "outcome"]

NEEDS = {
    "count": ("n",), "sum": ("n", "sum"), "mean": ("n", "sum"), "min": ("min",), "max": ("max",),
    "variance": ("spread",), "last": ("last",), "time_since_last": ("seen",),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Reader:
    """A value of the event: a column or what a function answers, as `type`, for the feature `name`.

    `kept` says that a window keeps it: then it is no long text.
    """

    name: str
    source: str | Callable[[Any], Any]
    type: Type
    nullable: bool
    default: Any = None
    kept: bool = False

    def read(self, event: Any) -> Any:
        """Answer the value as its declared type, None where it is missing; raises `Rejected`."""
        if isinstance(self.source, str):
            value = attrgetter(self.source)(event)
        else:
            try:
                value = self.source(event)
            except Exception as error:
                failed(self.name, error)
        if value is None and self.default is not None:
            return self.default
        value = coerce(self.name, self.type, self.nullable, value)
        if self.kept and value is not None and len(value) > LONGEST_KEPT:
            too_long(self.name)
        return value


@dataclass(frozen=True, slots=True)
class Asked:
    """What a feature asks of group number `group`: `how`, over `span` tiles, from `parts`."""

    group: int
    how: str
    span: int
    parts: tuple[Part, ...]
    default: Any

    def answer(self, slots: tuple[Any, ...], time_ms: int) -> Any:
        """Answer the aggregate from a window's merged slots; `default` where it holds nothing."""
        first, *more = (slots[part.at + i] for part in self.parts for i in range(part.width))
        match self.how:
            case "count":
                return first or self.default
            case "sum":
                return more[0] if first else self.default
            case "mean":
                return more[0] / first if first else self.default
            case "variance":
                return more[1] / (first - 1) if first > 1 else self.default
            case "min" | "max":
                return first if isfinite(first) else self.default
            case "last":
                return self.default if first is None else more[0]
            case _:
                return self.default if first is None else max(0, time_ms - first) / 1000.0


@dataclass(frozen=True, slots=True)
class Bound:
    """A feature of this type, read or asked."""

    name: str
    type: Type
    nullable: bool
    source: Reader | Asked

    def checked(self, value: Any) -> Any:
        """Answer an aggregate's `value`; raises `Rejected` where sums overflowed."""
        if isinstance(value, float) and not isfinite(value):
            raise Rejected("feature_nan", self.name)
        return value


@dataclass(frozen=True, slots=True)
class Fed:
    """A group and what feeds its values: numbers of the plan's readers, or for `outcomes` the labels' classes.

    `table` is the number of its table in the plan, `place` where in the rows of that it is.
    """

    group: Group
    outcomes: bool
    feeds: tuple[Any, ...]
    table: int
    place: int


@dataclass
class Plan:
    """All features of a pipeline, resolved; construction names the feature that is wrong and what would be right."""

    columns: Mapping[str, str]
    nullable: Collection[str]
    task: str
    bound: list[Bound] = field(default_factory=list)
    readers: list[Reader] = field(default_factory=list)
    groups: list[Fed] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)

    def bind(self, features: Mapping[str, Any]) -> Plan:
        """Resolve `features`."""
        drafts: dict[tuple[Any, ...], _Draft] = {}
        asked: dict[str, tuple[_Draft, list[tuple[str, int | None, bool]], Type]] = {}
        for name, feature in features.items():
            if isinstance(feature, Window):
                asked[name] = self._draft(name, feature, drafts)
        order = list(drafts.values())
        for draft in order:
            draft.group = draft.make(ones=draft.outcomes and self.task != "regression")
        bys = list(dict.fromkeys(draft.by for draft in order))
        for by in bys:
            mine = [draft.group for draft in order if draft.by == by]
            self.tables.append(Table(by, tuple(sorted(mine, key=attrgetter("name")))))
        for draft in order:
            table = bys.index(draft.by)
            place = self.tables[table].groups.index(draft.group)
            self.groups.append(Fed(draft.group, draft.outcomes, tuple(draft.feeds), table, place))
        for name, feature in features.items():
            if isinstance(feature, Window):
                draft, needs, kind = asked[name]
                laid = {(part.kind, part.value, part.missing): part for part in draft.group.parts}
                parts = tuple(laid[need] for need in needs)
                default = _default(name, feature.default, kind)
                source = Asked(order.index(draft), feature.how, feature.over_ms // feature.tile_ms, parts, default)
                self.bound.append(Bound(name, kind, default is None, source))
            else:
                self.bound.append(self._plain(name, feature))
        return self

    def _plain(self, name: str, feature: Any) -> Bound:
        if isinstance(feature, Field):
            kind, missing = self._column(name, feature.name)
            default = _default(name, feature.default, kind)
            nullable = missing and default is None
            return Bound(name, kind, nullable, Reader(name, feature.name, kind, nullable, default if missing else None))
        function = feature.function if isinstance(feature, Function) else feature
        if not callable(function):
            raise ValueError(
                f"feature {name!r} must be field(...), an aggregate such as count(by=..., over=...), or a function "
                f"of the event, not {feature!r}"
            )
        kind, nullable = returns(function, name)
        return Bound(name, kind, nullable, Reader(name, function, kind, nullable))

    def _draft(self, name: str, window: Window, drafts: dict[Any, _Draft]) -> Any:
        for column in window.by or ():
            self._column(name, column)
        outcomes = isinstance(window.value, Label)
        draft = drafts.setdefault((outcomes, window.by, window.tile_ms), _Draft(outcomes, window.by, window.tile_ms))
        draft.spans.add(window.over_ms // window.tile_ms)
        kind: Type = "long" if window.how == "count" else "double"
        feed, missing = None, False
        if isinstance(window.value, Label):
            if window.how != "count":
                feed = draft.feed(self._label(name, window.value), "label")
        elif window.value is not None:
            reader = self._value(name, window.how, window.value)
            kind = reader.type if window.how == "last" else kind
            missing = reader.nullable
            if window.how != "count" or missing:
                feed = draft.feed(self._reader(reader), _called(reader))
            elif callable(window.value):
                self._reader(reader)  # it is there for every event, or the event is refused
        rows = (None, False)
        needs = [(part, *(rows if part == "n" and not missing else (feed, missing))) for part in NEEDS[window.how]]
        draft.parts.update(dict.fromkeys(needs))
        return draft, needs, kind

    def _value(self, name: str, how: str, value: str | Callable[[Any], Any]) -> Reader:
        if isinstance(value, str):
            kind, missing = self._column(name, value)
        else:
            kind, missing = returns(value, name)
        if how not in ("last", "count"):
            if kind == "string":
                raise ValueError(f"feature {name!r}: {how} is of numbers; legal for a string: last, count")
            kind = "double"
        return Reader(name, value, kind, missing, kept=kind == "string" and how == "last")

    def _reader(self, reader: Reader) -> int:
        for i, known in enumerate(self.readers):
            if replace(known, name=reader.name, kept=reader.kept) == reader:
                if reader.kept and not known.kept:
                    self.readers[i] = reader
                return i
        self.readers.append(reader)
        return len(self.readers) - 1

    def _label(self, name: str, label: Label) -> str | int | None:
        if self.task == "multiclass" and label.of is None:
            raise ValueError(f'feature {name!r}: in a multiclass pipeline say which class: label(of="...")')
        if self.task != "multiclass" and label.of is not None:
            raise ValueError(f"feature {name!r}: label(of=...) is for multiclass; in {self.task} say label()")
        return label.of

    def _column(self, name: str, column: str) -> tuple[Type, bool]:
        if column not in self.columns:
            legal = ", ".join(self.columns)
            raise ValueError(f"feature {name!r}: {column!r} is not a column of the event; legal: {legal}")
        if self.columns[column] not in TYPES:
            legal = ", ".join(c for c, kind in self.columns.items() if kind in TYPES)
            raise ValueError(f"feature {name!r}: column {column!r} is of type {self.columns[column]}; legal: {legal}")
        return TYPES[self.columns[column]], column in self.nullable


@dataclass(eq=False)
class _Draft:
    """A group while features are still added to it."""

    outcomes: bool
    by: tuple[str, ...] | None
    tile_ms: int
    spans: set[int] = field(default_factory=set)
    feeds: dict[Any, str] = field(default_factory=dict)
    parts: dict[tuple[str, int | None, bool], None] = field(default_factory=dict)
    group: Group = None  # type: ignore[assignment]

    def feed(self, source: Any, called: str) -> int:
        """Answer which of the group's values `source` is."""
        self.feeds.setdefault(source, f"{called}/{source}" if called == "label" else called)
        return list(self.feeds).index(source)

    def make(self, *, ones: bool) -> Group:
        """Answer the group; `ones` says that its values are all 0.0 or 1.0.

        Its name changes with its layout: tuples of another layout are never misread.
        """
        spans, parts = tuple(sorted(self.spans)), parts_of(self.parts)
        layout = repr((spans, [(p.kind, p.value, p.missing) for p in parts], list(self.feeds.values())))
        kind = "outcomes" if self.outcomes else "events"
        name = f"{kind}-{self.tile_ms // 1000}s-{zlib.crc32(layout.encode()):08x}"
        return Group(name, self.by, self.tile_ms, spans, parts, len(self.feeds), ones)


def key_of(by: tuple[str, ...] | None, event: Any) -> Any:
    """Answer the event's key in a grouping; None if a column of it is null."""
    if by is None:
        return ""
    key = attrgetter(*by)(event)
    return None if len(by) > 1 and None in key else key


def outcome(of: str | int | None, task: str, y: Any) -> float:
    """Answer the number that a label is in a window; raises `Rejected` where it is none."""
    if task == "multiclass":
        return 1.0 if y == of else 0.0
    if task == "binary":
        return 1.0 if y else 0.0
    try:
        value = float(y)
    except (TypeError, ValueError, OverflowError) as error:
        raise Rejected("bad_label", f"not a number: {type(y).__name__}") from error
    if not isfinite(value):
        raise Rejected("bad_label", "NaN or infinite")
    return value


def _called(reader: Reader) -> str:
    named = reader.source if isinstance(reader.source, str) else getattr(reader.source, "__qualname__", "function")
    return f"{named}:{reader.type}"


def _default(name: str, default: Any, kind: Type) -> Any:
    try:
        return coerce(name, kind, True, default)
    except Rejected as error:
        raise ValueError(f"feature {name!r}: its default must be a finite {kind} or None, not {default!r}") from error
