"""Sliding aggregates over event time, held as tiles in immutable tuples.

A tile is ``floor(t / tile)``. The window of length ``over`` at time t covers the last ``over / tile`` tiles up to
and including the tile of t, so it reaches back between ``over - tile`` and ``over``. What a group holds of a key is

    (head, *slots of head, *closed slots per window length, (tile, *slots, tile, *slots, ...))

`head` is its newest tile and the inner tuple has the older ones, oldest first. `closed` is the fold of the older
tiles that a window ending in `head` covers: while a key stays in one tile, asking and adding are O(1).

Groups by the same columns are a `Table`, and share a store: one row a key, with what each group holds of it, or None.

Which tiles are visible depends on times alone, never on what has been dropped or evicted: a window of k tiles that
ends in `tile` sees ``max(tile, floor) - k < i <= tile``, where ``floor = (stream_time - grace) // tile``. Dropping
what is not after ``floor - k`` can therefore not be seen. Folds always go from the oldest tile to the newest, so a
result is the same double whether it comes from `closed` or from the tiles, before and after a restore.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from headrace.processors.base import Keyed
from headrace.processors.slots import KINDS, Part, define, indent, listed

__all__ = ["Group", "Idle", "Table", "check_tile", "default_tile", "duration", "since", "spell"]

MAX_TILES = 1_500
UNITS = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1_000}


@dataclass(frozen=True)
class Group:
    """All aggregates over one source, key and tile: the functions that fold and change what is held of a key.

    `spans` are the window lengths in tiles, `parts` the slots, `values` how many values a row brings, `ones` whether
    they are all 0.0 or 1.0.
    """

    name: str
    by: tuple[str, ...] | None
    tile_ms: int
    spans: tuple[int, ...]
    parts: tuple[Part, ...]
    values: int
    ones: bool = False

    @cached_property
    def width(self) -> int:
        """Answer the number of slots of a tile."""
        return sum(part.width for part in self.parts)

    @cached_property
    def span(self) -> int:
        """Answer the longest window, in tiles."""
        return max(self.spans)

    @property
    def zeros(self) -> tuple[str, ...]:
        """Answer the source of an empty tile's slots."""
        return tuple(zero for part in self.parts for zero in KINDS[part.kind].zero)

    def slots(self, prefix: str) -> list[str]:
        """Answer names for the slots of a tile."""
        return [f"{prefix}{i}" for i in range(self.width)]

    def adds(self, prefix: str, values: str) -> str:
        """Source that adds one row's values at time ``t`` to the slots named with `prefix`."""
        return "\n".join(part.add(prefix, values) for part in self.parts)

    def merges(self, prefix: str, other: str) -> str:
        """Source that merges a later tile's slots into those named with `prefix`."""
        return "\n".join(part.merge(prefix, other) for part in self.parts)

    def clear(self, prefix: str) -> str:
        """Source that makes the slots named with `prefix` those of an empty tile."""
        return "; ".join(f"{name} = {zero}" for name, zero in zip(self.slots(prefix), self.zeros, strict=True))

    def folded(self, tiles: str, names: list[str]) -> list[str] | None:
        """Source that sets `names` to the merged slots of `tiles` from place ``at`` on; None where it takes a loop."""
        parts = [part.fold(f"{tiles}[at + {{}}::{self.width + 1}]", exact=self.ones) for part in self.parts]
        slots = [source for part in parts for source in part or ()]
        if None in parts:
            return None
        return [f"{name} = {source}" for name, source in zip(names, slots, strict=True)]

    @cached_property
    def loopless(self) -> bool:
        """Whether `folded` has an answer."""
        return self.folded("", self.slots("")) is not None

    @cached_property
    def fold(self) -> Callable[[tuple[Any, ...], int, int], tuple[Any, ...]]:
        """``fold(tiles, low, high)``: the merged slots of the tiles within [low, high], in the order given."""
        step, slots = self.width + 1, self.slots("a")
        folded = self.folded("tiles", slots)
        loop = f"""
    {self.clear("a")}
    each = iter(tiles)
    for i, {listed(self.slots("b"))[1:-1]} in zip({"each, " * step}):
        if low <= i <= high:
{indent(self.merges("a", "b"), 3)}"""
        slices = f"""
    indexes = tiles[::{step}]
    tiles = tiles[:bisect(indexes, high + 1) * {step}]
    at = bisect(indexes, low) * {step}
{indent(chr(10).join(folded or ()))}"""
        source = f"""
def fold(tiles, low, high):
{loop if folded is None else slices}
    return {listed(slots)}
"""
        fold: Callable[[tuple[Any, ...], int, int], tuple[Any, ...]] = define(source, "fold")
        return fold

    @cached_property
    def add(self) -> Callable[..., tuple[Any, ...]]:
        """``add(held, tile, t, keep, *values)``: what a key holds after one more row; drops tiles before `keep`."""
        step = self.width + 1
        slots = ", ".join(self.slots("a"))
        closed = [f"c{i}_{j}" for i in range(len(self.spans)) for j in range(self.width)]
        empty = ", ".join(self.zeros * len(self.spans))
        values = "".join(f", v{i}" for i in range(self.values))
        refold = ", ".join(f"*fold(tiles, head - {span - 1}, head - 1)" for span in self.spans)
        source = f"""
def add(held, tile, t, keep{values}):
    if held is None:
        {self.clear("a")}
{indent(self.adds("a", "v"), 2)}
        return (tile, {slots}, {empty}, ())
    head, {slots}, {", ".join(closed)}, tiles = held
    if tile == head:
{indent(self.adds("a", "v"), 2)}
        return (head, {slots}, {", ".join(closed)}, tiles)
    if tile > head:
        tiles = since(tiles + (head, {slots}), keep, {step})
        head = tile
        {self.clear("a")}
{indent(self.adds("a", "v"), 2)}
    else:
        tiles = since(tiles, keep, {step})
        at, end = place(tiles, tile, {step})
        newest = ({slots},)
        if at == end:
            {self.clear("a")}
        else:
            {slots}, = tiles[at + 1:end]
{indent(self.adds("a", "v"), 2)}
        tiles = tiles[:at] + (tile, {slots}) + tiles[end:]
        {slots}, = newest
    return (head, {slots}, {refold}, tiles)
"""
        made: Callable[..., tuple[Any, ...]] = define(source, "add", fold=self.fold, since=since, place=_place)
        return made

    def ask(self, held: tuple[Any, ...] | None, span: int, tile: int, floor: int) -> tuple[Any, ...]:
        """Answer the merged slots that a window of `span` tiles ending in `tile` sees."""
        tiles = () if held is None else held[-1] + held[: self.width + 1]
        return self.fold(tiles, max(tile, floor) - span + 1, tile)

    @cached_property
    def stride(self) -> int:
        """Answer how many tiles the floor moves on from one sweep to the next."""
        return max(1, self.span // 2)


@dataclass(frozen=True)
class Table:
    """The groups by the same columns: a store with one row a key, in which each group has its place."""

    by: tuple[str, ...] | None
    groups: tuple[Group, ...]

    @cached_property
    def name(self) -> str:
        """Answer what its store is called: the columns, then the groups, whatever order they are declared in."""
        return "/".join(["+".join(self.by or ()), *(group.name for group in self.groups)])

    def places_in(self, name: str) -> list[int | None] | None:
        """Answer where in the rows of a store with this `name` each group is; None if its rows are by other columns."""
        columns, *groups = name.split("/")
        if columns != "+".join(self.by or ()):
            return None
        return [groups.index(group.name) if group.name in groups else None for group in self.groups]

    def idle(self, store: Any) -> list[Idle]:
        """Answer the keys that may have been idle for long, of each group; see `Idle`."""
        return [Idle(store, place) for place in range(len(self.groups))]

    def change(
        self,
        store: Keyed,
        idle: list[Idle],
        place: int,
        key: Any,
        tile: int,
        t: int,
        floor: int,
        values: tuple[Any, ...],
    ) -> None:
        """Add one row of values to what a group holds of `key`."""
        row = store.get(key) or (None,) * len(self.groups)
        group, held = self.groups[place], row[place]
        new = group.add(held, tile, t, floor - group.span + 1, *values)
        store.put(key, (*row[:place], new, *row[place + 1 :]))
        if held is None:
            idle[place].tiles[new[0]].append(key)

    def sweep(self, store: Keyed, idle: list[Idle], place: int, floor: int) -> int:
        """Evict from a group, all at once, the keys that no window of it could see at the last multiple of `stride`.

        What remains depends on `floor` alone. Answers the floor from which there may be more to evict.
        """
        group, noted = self.groups[place], idle[place]
        swept = floor - floor % group.stride
        if noted.swept is None or swept > noted.swept:
            noted.swept = swept
            for key in noted.before(swept - group.span + 1, store):
                row = store.get(key)
                rest = (*row[:place], None, *row[place + 1 :])
                if any(rest):
                    store.put(key, rest)
                else:
                    store.pop(key)
        return swept + group.stride


class Idle:
    """Keys by a tile that was their newest: which may have been idle for long. Derived from a store, never written.

    A key stays under the tile that was its newest when it was noted. When that one's turn comes and the store says that
    the key has moved on, it is noted again. All keys before a tile are evicted together, so no order among them can
    matter. It is about the group at one place of the store's rows.
    """

    __slots__ = ("_place", "swept", "tiles")

    def __init__(self, store: Any, place: int) -> None:
        self._place = place
        self.swept: int | None = None
        self.tiles: defaultdict[int, list[Any]] = defaultdict(list)
        for key, row in store.items():
            if row[place] is not None:
                self.tiles[row[place][0]].append(key)

    def before(self, tile: int, store: Keyed) -> list[Any]:
        """Take out the keys whose newest tile is before `tile`."""
        tiles, place = self.tiles, self._place
        if not tiles or min(tiles) >= tile:
            return []
        out: list[Any] = []
        for old in [i for i in tiles if i < tile]:
            for key in tiles.pop(old):
                newest = store.get(key)[place][0]
                if newest < tile:
                    out.append(key)
                else:
                    tiles[newest].append(key)
        return out


def duration(text: str) -> int:
    """Answer the milliseconds of ``"90s"``, ``"15m"``, ``"3h"`` or ``"2d"``."""
    match = re.fullmatch(r"([1-9][0-9]{0,8})([smhd])", text) if isinstance(text, str) else None
    if match is None:
        raise ValueError(f'a duration is a whole number and a unit s, m, h or d, such as "15m", not {text!r}')
    return int(match[1]) * UNITS[match[2]]


def spell(ms: int) -> str:
    """Answer the shortest text that `duration` reads as `ms` (a whole number of seconds)."""
    return next(f"{ms // size}{unit}" for unit, size in UNITS.items() if ms % size == 0)


def default_tile(over_ms: int) -> int:
    """Answer the smallest tile of whole seconds that divides `over_ms` into at most twelve."""
    seconds = over_ms // 1_000
    return next(1_000 * tile for tile in range(-(-seconds // 12), seconds + 1) if seconds % tile == 0)


def check_tile(over_ms: int, tile_ms: int) -> None:
    """Refuse a tile that does not divide `over_ms`, or divides it into too many, naming the nearest legal ones."""
    if over_ms % tile_ms == 0 and over_ms // tile_ms <= MAX_TILES:
        return
    seconds, wanted = over_ms // 1_000, tile_ms // 1_000
    low = -(-seconds // MAX_TILES)
    below = next((i for i in range(min(wanted, seconds), low - 1, -1) if seconds % i == 0), None)
    above = next((i for i in range(max(wanted, low), seconds + 1) if seconds % i == 0), None)
    legal = " or ".join(spell(1_000 * i) for i in (below, above) if i is not None)
    raise ValueError(
        f"tile {spell(tile_ms)} does not divide {spell(over_ms)} into 1 to {MAX_TILES} tiles; legal: {legal}"
    )


def since(tiles: tuple[Any, ...], keep: int, step: int) -> tuple[Any, ...]:
    """Answer the tiles from `keep` on."""
    return tiles[bisect_left(tiles[::step], keep) * step :]


def _place(tiles: tuple[Any, ...], tile: int, step: int) -> tuple[int, int]:
    """Answer where `tile` begins and ends; where it belongs, twice, if it is not there."""
    at = bisect_left(tiles[::step], tile) * step
    return at, at + step if at < len(tiles) and tiles[at] == tile else at
