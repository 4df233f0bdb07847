"""Tiles, durations and what a key holds."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from headrace.processors.slots import parts_of
from headrace.processors.windows import Group, Table, check_tile, default_tile, duration, spell
from headrace.streams.stores import KeyedStore


def group(*spans: int) -> Group:
    parts = parts_of([("n", None, False), ("sum", 0, False)])
    return Group("g", ("key",), 10_000, spans, parts, 1)


@pytest.mark.parametrize(
    ("text", "ms"), [("90s", 90_000), ("15m", 900_000), ("3h", 10_800_000), ("2d", 172_800_000), ("1s", 1_000)]
)
def test_a_duration_is_a_whole_number_and_a_unit(text: str, ms: int) -> None:
    """Seconds, minutes, hours and days become milliseconds."""
    assert duration(text) == ms


@pytest.mark.parametrize(
    "text", ["", "3", "h", "0s", "-1h", "1.5h", "3 h", "3H", "10ms", "1w", "3h\n", "\u0661s", None, 5]
)
def test_anything_else_is_no_duration(text: Any) -> None:
    """The error shows a legal duration."""
    with pytest.raises(ValueError, match='such as "15m"'):
        duration(text)


@pytest.mark.parametrize(("over", "tile"), [("3h", "15m"), ("1h", "5m"), ("90s", "9s"), ("7s", "1s"), ("2d", "4h")])
def test_the_default_tile_is_a_twelfth_or_the_next_that_divides(over: str, tile: str) -> None:
    """Whole seconds, at most twelve tiles, no remainder."""
    assert spell(default_tile(duration(over))) == tile


def test_a_tile_that_does_not_divide_is_refused_with_its_neighbours() -> None:
    """The nearest legal tiles on both sides are named."""
    with pytest.raises(ValueError, match="tile 7m does not divide 1h into 1 to 1500 tiles; legal: 400s or 450s"):
        check_tile(duration("1h"), duration("7m"))


def test_a_tile_longer_than_the_window_is_refused() -> None:
    """The legal tile is then the window itself."""
    with pytest.raises(ValueError, match="legal: 1h"):
        check_tile(duration("1h"), duration("2h"))


def test_too_many_tiles_are_refused() -> None:
    """The smallest tile that keeps the number of tiles legal is named."""
    with pytest.raises(ValueError, match="legal: 1m"):
        check_tile(duration("1d"), duration("1s"))


def test_a_key_that_stays_in_its_tile_shares_its_older_tiles() -> None:
    """Adding to the newest tile copies no older one."""
    g = group(3)
    held = g.add(None, 4, 0, 0, 1.0)
    held = g.add(held, 5, 0, 0, 2.0)
    assert g.add(held, 5, 0, 0, 2.5)[-1] is held[-1]


def test_what_a_key_holds_is_its_newest_tile_the_closed_windows_and_the_older_tiles() -> None:
    """The layout: head, slots, slots of the closed part per span, older tiles oldest first."""
    g = group(2, 3)
    held = None
    for tile, value in [(4, 1.0), (5, 2.0), (6, 4.0), (6, 8.0)]:
        held = g.add(held, tile, 0, 0, value)
    assert held == (6, 2, 12.0, 1, 2.0, 2, 3.0, (4, 1, 1.0, 5, 1, 2.0))


def test_a_late_row_goes_to_its_own_tile() -> None:
    """A tile is created between two others, and the closed part is computed anew."""
    g = group(3)
    held = g.add(g.add(None, 4, 0, 0, 1.0), 6, 0, 0, 4.0)
    assert g.add(held, 5, 0, 0, 2.0) == (6, 1, 4.0, 2, 3.0, (4, 1, 1.0, 5, 1, 2.0))


def test_tiles_that_fell_out_of_the_window_are_dropped_when_the_key_moves_on() -> None:
    """Only tiles from `keep` on stay."""
    g = group(3)
    held = g.add(g.add(g.add(None, 1, 0, 0, 1.0), 4, 0, 0, 1.0), 6, 0, 4, 4.0)
    assert held[-1] == (4, 1, 1.0)


def test_a_window_asked_in_the_past_sees_no_later_tile() -> None:
    """Asked as of tile 5, tile 6 does not exist."""
    g = group(3)
    held = g.add(g.add(None, 5, 0, 0, 1.0), 6, 0, 0, 4.0)
    assert g.ask(held, 3, 5, 0) == (1, 1.0)


def table(*spans: int) -> tuple[Table, KeyedStore, list[Any]]:
    """A table of two groups with these spans, its store and the index of that."""
    groups = (group(*spans), replace(group(*spans), name="h"))
    made = Table(("key",), groups)
    store = KeyedStore()
    return made, store, made.idle(store)


def test_idle_keys_are_evicted_when_no_window_can_see_them() -> None:
    """A key lives exactly as long as its newest tile is visible from the floor, in each group by itself."""
    made, store, idle = table(3)
    for place, key, tile in [(0, "a", 1), (0, "b", 2), (0, "a", 3), (1, "a", 1)]:
        made.change(store, idle, place, key, tile, 0, 0, (1.0,))
    made.sweep(store, idle, 0, 4)
    assert sorted(store.data) == ["a", "b"]
    made.sweep(store, idle, 0, 5)
    assert sorted(store.data) == ["a"]
    made.sweep(store, idle, 0, 6)
    assert [held is None for held in store.data["a"]] == [True, False]
    made.sweep(store, idle, 1, 6)
    assert not store.data
    assert not idle[0].tiles
    assert not idle[1].tiles


def test_a_sweep_waits_until_half_a_window_has_passed() -> None:
    """What is held is a function of the floor, whatever floors were swept before."""
    for floors in ([7, 8, 9, 10, 11, 12], [12], [9, 12]):
        made, store, idle = table(8)
        for key, tile in [("a", 1), ("b", 4), ("c", 5)]:
            made.change(store, idle, 1, key, tile, 0, 0, (1.0,))
        assert [made.sweep(store, idle, 1, floor) for floor in floors][-1] == 16
        assert sorted(store.data) == ["c"]
        assert made.groups[1].stride == 4


def test_the_index_of_idle_keys_is_derived_from_the_store() -> None:
    """Rebuilt from a store it is what it was."""
    made, store, idle = table(3)
    for key, tile in [("a", 1), ("b", 2), ("a", 3)]:
        made.change(store, idle, 0, key, tile, 0, 0, (1.0,))
    again = made.idle(store)
    assert [noted.tiles for noted in again] == [{2: ["b"], 3: ["a"]}, {}]
    assert [noted.tiles for noted in idle] == [{1: ["a"], 2: ["b"]}, {}]
    assert again[0].before(3, store) == idle[0].before(3, store) == ["b"]
    assert idle[0].tiles == {3: ["a"]}


def test_a_row_is_found_under_the_name_of_another_table() -> None:
    """By the names of the groups, if it is by the same columns."""
    made, _, _ = table(3)
    assert made.name == "key/g/h"
    assert made.places_in("key/h/x/g") == [2, 0]
    assert made.places_in("key/x") == [None, None]
    assert made.places_in("side/g/h") is None
