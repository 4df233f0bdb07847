"""Slots: the components that aggregates are made of, as source that adds a value and that merges two tiles.

They are written once, here, and pasted into the functions of a group and into the unrolled processor, so all of them
do the same operations in the same order. A spread is Welford's within a tile, Chan's, Golub's and LeVeque's over tiles.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Any, NamedTuple

__all__ = ["FOLDING", "KINDS", "Part", "define", "indent", "listed", "parts_of"]


class _Kind(NamedTuple):
    """A kind of slots: `zero` of each; the source that adds a value `v` at `t`, that merges a later tile b into a.

    `fold` gives each slot over all tiles in one expression, to the same bits as merging them one after the other; a
    slot's values over the tiles, oldest first, are {s0}, {s1} and so on. It is for tiles that each have a value.
    """

    zero: tuple[str, ...]
    add: str
    merge: str
    fold: tuple[str, ...] = ()


KINDS = {
    "n": _Kind(("0",), "{a0} += 1", "{a0} += {b0}", ("total({s0})",)),
    # not total(): from Python 3.12 on it compensates for rounding, and gives other doubles
    "sum": _Kind(("0.0",), "{a0} += {v}", "{a0} += {b0}", ("reduce(plus, {s0}, 0.0)",)),
    "min": _Kind(("inf",), "if {v} < {a0}: {a0} = {v}", "if {b0} < {a0}: {a0} = {b0}", ("least({s0}, default=inf)",)),
    "max": _Kind(("-inf",), "if {v} > {a0}: {a0} = {v}", "if {b0} > {a0}: {a0} = {b0}", ("most({s0}, default=-inf)",)),
    "spread": _Kind(
        ("0", "0.0", "0.0"),
        "{a0} += 1\nd = {v} - {a1}\n{a1} += d / {a0}\n{a2} += d * ({v} - {a1})",
        "if not {a0}: {a0} = {b0}; {a1} = {b1}; {a2} = {b2}\n"
        "elif {b0}:\n"
        "    d = {b1} - {a1}; m = {a0} + {b0}\n"
        "    {a1} += d * ({b0} / m); {a2} += {b2} + d * d * ({a0} * {b0} / m); {a0} = m",
    ),
    "last": _Kind(
        ("None", "None"),
        "if {a0} is None or t >= {a0}: {a0} = t; {a1} = {v}",
        "if {b0} is not None: {a0} = {b0}; {a1} = {b1}",
        ("({s0} or NONE)[-1]", "({s1} or NONE)[-1]"),
    ),
    "seen": _Kind(
        ("None",),
        "if {a0} is None or t > {a0}: {a0} = t",
        "if {b0} is not None: {a0} = {b0}",
        ("({s0} or NONE)[-1]",),
    ),
}


FOLDING = {
    "total": sum, "least": min, "most": max, "reduce": reduce, "plus": add, "NONE": (None,), "bisect": bisect_left
}  # fmt: skip
"""What the source of a fold refers to."""


@dataclass(frozen=True, slots=True)
class Part:
    """Some slots of a tile: their kind, which of the group's values feeds them (None: the row), where they start."""

    kind: str
    value: int | None
    at: int
    missing: bool

    @property
    def width(self) -> int:
        """Answer the number of slots."""
        return len(KINDS[self.kind].zero)

    def add(self, prefix: str, values: str) -> str:
        """Source that adds value number `self.value` (named ``values + number``) to the slots named with `prefix`."""
        v = f"{values}{self.value}"
        source = KINDS[self.kind].add.format(v=v, **_names("a", prefix, self.at, self.width))
        return f"if {v} is not None:\n{indent(source)}" if self.missing else source

    def merge(self, prefix: str, other: str) -> str:
        """Source that merges the slots named with `other` (a later tile) into those named with `prefix`."""
        names = _names("a", prefix, self.at, self.width) | _names("b", other, self.at, self.width)
        return KINDS[self.kind].merge.format(**names)

    def fold(self, slot: str, *, exact: bool) -> list[str] | None:
        """Source of the slots over all tiles, None if it takes a loop.

        `slot`, formatted with the place of a slot in a tile, is its values; `exact`: sums are of zeros and ones.
        """
        fold = KINDS[self.kind].fold
        if not fold or (self.missing and self.kind == "last"):
            return None
        if exact and self.kind == "sum":
            fold = ("total({s0}, 0.0)",)
        names = {f"s{i}": slot.format(self.at + i + 1) for i in range(self.width)}
        return [source.format(**names) for source in fold]


def parts_of(wanted: Iterable[tuple[str, int | None, bool]]) -> tuple[Part, ...]:
    """Lay out one part after the other, for each (kind, value, missing)."""
    parts: list[Part] = []
    for kind, value, missing in wanted:
        at = parts[-1].at + parts[-1].width if parts else 0
        parts.append(Part(kind, value, at, missing))
    return tuple(parts)


def indent(source: str, levels: int = 1) -> str:
    """Answer `source` moved right by `levels`."""
    return "\n".join("    " * levels + line for line in source.split("\n"))


def listed(names: list[str]) -> str:
    """Answer the source of a tuple of `names`."""
    return f"({', '.join(names)},)"


def define(source: str, name: str, **names: Any) -> Any:
    """Run `source`, which sees `names`, and answer what it calls `name`."""
    scope: dict[str, Any] = {"inf": float("inf"), **FOLDING, **names}
    exec(compile(source, f"<headrace {name}>", "exec"), scope)
    return scope[name]


def _names(letter: str, prefix: str, at: int, width: int) -> dict[str, str]:
    return {f"{letter}{i}": f"{prefix}{at + i}" for i in range(width)}
