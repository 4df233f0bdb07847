"""Windows against a recomputation over the whole history, through late events, eviction and restores."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.processors.base import Rejected
from headrace.processors.features import count, field, label, last, max_, mean, min_, sum_, time_since_last, variance
from headrace.processors.featurize import Featurize
from headrace.processors.windows import MAX_TILES, Idle, check_tile, default_tile, duration, spell
from headrace.streams.stores import KeyedStore

GRACE_MS = 20_000
COLUMNS = {"key": "string", "side": "string", "v": "double", "m": "double", "whole": "long"}
NULLABLE = {"key", "m"}


class Event(msgspec.Struct):
    key: str | None
    side: str
    v: float
    m: float | None
    whole: int


def doubled(event: Event) -> float | None:
    return None if event.v < -900 else 2 * event.v


FEATURES = {
    "v": field("v"),
    "coarse": count(by="key", over="60s", tile="20s"),
    "n": count(by="key", over="60s", tile="10s"),
    "n30": count(by="key", over="30s", tile="10s", default=-1),
    "filled": count("m", by="key", over="60s", tile="10s"),
    "whole": sum_("whole", by="key", over="60s", tile="10s"),
    "total": sum_("m", by="key", over="30s", tile="10s"),
    "mean": mean("v", by="key", over="60s", tile="10s"),
    "least": min_(doubled, by=("side", "key"), over="60s", tile="5s"),
    "most": max_("m", by=("side", "key"), over="60s", tile="5s", default=0.0),
    "spread": variance("v", by=None, over="60s", tile="20s"),
    "latest": last("side", by="key", over="60s", tile="10s"),
    "latest_there": last("m", by=None, over="60s", tile="30s"),
    "since": time_since_last(by="key", over="60s", tile="10s"),
    "rate": mean(label(), by="key", over="60s", tile="10s"),
    "known": count(label(), by="side", over="30s", tile="10s"),
}

number = st.one_of(st.integers(-1000, 1000).map(float), st.floats(-1e6, 1e6))
events = st.builds(
    Event,
    key=st.sampled_from(["a", "b", "c", None]),
    side=st.sampled_from(["x", "y"]),
    v=number,
    m=st.none() | number,
    whole=st.integers(-(2**40), 2**40),
)
labels = st.tuples(st.sampled_from(["a", "b", "c", None]), st.sampled_from(["x", "y"]), st.booleans())
steps = st.lists(
    st.tuples(
        st.sampled_from([0, 0, 1, 500, 4_000, 11_000, 45_000, 90_000]),
        st.sampled_from([0, 0, 0, 1, 3_000, 12_000, 20_000, 20_001, 70_000, -5_000]),
        st.one_of(events, labels),
        st.sampled_from(["", "", "", "", "restore"]),
    ),
    max_size=60,
)


def featurize() -> Featurize:
    return Featurize(FEATURES, COLUMNS, NULLABLE, "binary", GRACE_MS)


def fresh(processor: Featurize) -> dict[str, Any]:
    return restored(processor, {spec.name: KeyedStore() for spec in processor.stores()})


def restored(processor: Featurize, state: dict[str, Any]) -> dict[str, Any]:
    """What a checkpoint of `state` brings back, in another order."""
    new: dict[str, Any] = {}
    for spec in processor.stores():
        items = msgspec.msgpack.decode(msgspec.msgpack.encode(list(state[spec.name].items())))
        new[spec.name] = store = KeyedStore()
        store.data.update((tuples(key), tuples(value)) for key, value in reversed(items))
        new[spec.name + ".index"] = spec.index(store)
    return new


def tuples(value: Any) -> Any:
    return tuple(map(tuples, value)) if isinstance(value, list) else value


def content(state: dict[str, Any]) -> Any:
    """The stores, and whether the indexes are right."""
    stores = {name: dict(store.items()) for name, store in state.items() if not name.endswith(".index")}
    return stores, [idle_soon_enough(state[f"{name}.index"], store) for name, store in stores.items()]


def idle_soon_enough(idle: list[Idle], store: dict[Any, Any]) -> bool:
    """Whether each key is noted once for each group, under a tile that is not after its newest, and nothing else is."""
    for place, its in enumerate(idle):
        held = {key: row[place] for key, row in store.items() if row[place] is not None}
        noted = [(key, tile) for tile, keys in its.tiles.items() for key in keys]
        if len(noted) != len(held) or any(tile > held[key][0] for key, tile in noted):
            return False
    return True


class History:
    """Every row that ever counted; a window is computed from all of them."""

    def __init__(self) -> None:
        self.rows: list[tuple[Any, int, int, Any]] = []

    def tiles(self, key: Any, over_s: int, tile_s: int, t: int, stream: int) -> list[list[tuple[int, Any]]]:
        tile = t // (tile_s * 1000)
        low = max(tile, (stream - GRACE_MS) // (tile_s * 1000)) - over_s // tile_s + 1
        found: dict[int, list[tuple[int, Any]]] = {}
        for name, at, row in self.rows:
            if name == key and low <= at // (tile_s * 1000) <= tile:
                found.setdefault(at // (tile_s * 1000), []).append((at, row))
        return [found[i] for i in sorted(found)]


def added(tiles: list[list[float]]) -> float:
    total = 0.0
    for tile in tiles:
        part = 0.0
        for value in tile:
            part += value
        total += part
    return total


def naive(event: Event, t: int, stream: int, seen: History, outcomes: History) -> dict[str, Any]:
    """The features of `event`, by the definitions alone."""
    x: dict[str, Any] = {"v": event.v}
    x |= {"coarse": 0, "n": 0, "n30": -1, "filled": 0, "whole": 0.0, "total": 0.0, "most": 0.0}
    null = event.key is None
    by_key = [] if null else seen.tiles(("key", event.key), 60, 10, t, stream)
    short = [] if null else seen.tiles(("key", event.key), 30, 10, t, stream)
    by_side = [] if null else seen.tiles(("side", event.side, event.key), 60, 5, t, stream)
    rows = [row for tile in by_key for row in tile]
    x["coarse"] = 0 if null else sum(map(len, seen.tiles(("key", event.key), 60, 20, t, stream)))
    x["n"] = len(rows)
    x["n30"] = sum(map(len, short)) or -1
    x["filled"] = sum(e.m is not None for _, e in rows)
    x["whole"] = float(sum(e.whole for _, e in rows))
    x["total"] = added([[e.m for _, e in tile if e.m is not None] for tile in short])
    if rows:
        x["mean"] = added([[e.v for _, e in tile] for tile in by_key]) / len(rows)
        newest = max(at for at, _ in rows)
        x["latest"] = [e.side for at, e in rows if at == newest][-1]
        x["since"] = max(0, t - newest) / 1000
    sided = [e for tile in by_side for _, e in tile]
    x["least"] = min((2 * e.v for e in sided if e.v >= -900), default=None)
    x["most"] = max((e.m for e in sided if e.m is not None), default=0.0)
    there = [(at, e.m) for tile in seen.tiles("all", 60, 30, t, stream) for at, e in tile if e.m is not None]
    if there:
        newest = max(at for at, _ in there)
        x["latest_there"] = [m for at, m in there if at == newest][-1]
    every = [e.v for tile in seen.tiles("all", 60, 20, t, stream) for _, e in tile]
    if len(every) > 1:
        x["spread"] = float(np.var(every, ddof=1))
    known = [] if null else outcomes.tiles(("key", event.key), 60, 10, t, stream)
    if known:
        late = [y for tile in known for _, y in tile]
        x["rate"] = sum(late) / len(late)
    x["known"] = sum(map(len, outcomes.tiles(("side", event.side), 30, 10, t, stream)))
    return {name: x[name] for name in FEATURES if x.get(name) is not None}


def remember(seen: History, t: int, event: Event) -> None:
    seen.rows.append(("all", t, event))
    if event.key is not None:
        seen.rows += [(("key", event.key), t, event), (("side", event.side, event.key), t, event)]


@settings(max_examples=150)
@given(steps)
def test_windows_equal_a_recomputation_over_the_whole_history(steps: list[Any]) -> None:
    """Every feature equals its definition over all rows that counted, bit for bit; a variance within 1e-9."""
    processor = featurize()
    state, seen, outcomes, stream = fresh(processor), History(), History(), 1_000_000
    for advance, behind, what, then in steps:
        stream += advance
        t = stream - behind
        stream = max(stream, t)
        if isinstance(what, Event):
            expected = naive(what, t, stream, seen, outcomes)
            x = processor.process(what, t, stream, state)
            assert list(x) == list(expected)
            scale = max((abs(e.v) for _, _, e in seen.rows), default=1.0)
            assert x.pop("spread", 0.0) == pytest.approx(expected.pop("spread", 0.0), rel=1e-9, abs=1e-12 * scale**2)
            assert x == expected
            if t >= stream - GRACE_MS:
                remember(seen, t, what)
        else:
            key, side, y = what
            keys = processor.outcome_keys(Event(key, side, 0.0, None, 0))
            processor.update(keys, y, t, stream, state)
            if t >= stream - GRACE_MS:
                outcomes.rows += [] if key is None else [(("key", key), t, float(y))]
                outcomes.rows.append((("side", side), t, float(y)))
        if then == "restore":
            state = restored(processor, state)


@settings(max_examples=150)
@given(steps)
def test_the_unrolled_processor_has_the_same_results_and_the_same_state(steps: list[Any]) -> None:
    """Compiled or not, restored or not: equal features, rejections, stores and indexes after every step."""
    processor = featurize()
    plain, other, stream = fresh(processor), fresh(processor), 1_000_000
    process, update = processor.compile(other), processor.compile_update(other)
    for advance, behind, what, then in steps:
        stream += advance
        t = stream - behind
        stream = max(stream, t)
        if isinstance(what, Event):
            x, y = answer(processor.process, what, t, stream, plain), answer(process, what, t, stream)
            assert msgspec.msgpack.encode(x) == msgspec.msgpack.encode(y)
        else:
            about = Event(what[0], what[1], 0.0, None, 0)
            keys = processor.outcome_keys(about)
            assert processor.compile_keys()(about) == keys
            processor.update(keys, what[2], t, stream, plain)
            update(keys, what[2], t, stream)
        assert content(plain) == content(other)
        if then == "restore":
            other = restored(processor, other)
            process, update = processor.compile(other), processor.compile_update(other)


def answer(process: Any, *arguments: Any) -> Any:
    try:
        return list(process(*arguments).items())
    except Rejected as rejected:
        return (rejected.reason, rejected.detail)


@settings(max_examples=60)
@given(steps)
def test_a_store_holds_no_key_and_no_tile_that_no_window_can_see(steps: list[Any]) -> None:
    """Memory is bounded by the keys and tiles within the longest window and the grace."""
    processor = featurize()
    state, stream = fresh(processor), 1_000_000
    for advance, behind, what, _ in steps:
        stream += advance
        t = stream - behind
        stream = max(stream, t)
        if isinstance(what, Event):
            processor.process(what, t, stream, state)
        else:
            processor.update(processor.outcome_keys(Event(what[0], what[1], 0.0, None, 0)), what[2], t, stream, state)
        for table in processor.plan.tables:
            store = state[table.name].data
            assert all(any(row) for row in store.values())
            assert idle_soon_enough(state[table.name + ".index"], store)
            for place, group in enumerate(table.groups):
                floor = (stream - GRACE_MS) // group.tile_ms
                oldest = floor - floor % group.stride - group.span + 1
                for held in filter(None, (row[place] for row in store.values())):
                    step = group.width + 1
                    assert held[0] >= oldest
                    assert list(held[-1][::step]) == sorted({*held[-1][::step]} - {held[0]})
                    assert len(held[-1]) // step <= group.span + (GRACE_MS + 5_000) // group.tile_ms + 1


@given(st.integers(1, 400_000))
def test_a_duration_is_read_as_it_is_spelled(seconds: int) -> None:
    """`duration` undoes `spell`."""
    assert duration(spell(1000 * seconds)) == 1000 * seconds


@given(st.integers(1, 400_000))
def test_the_default_tile_is_legal_and_of_whole_seconds(seconds: int) -> None:
    """The default tile divides the window into 1 to 12, whatever the window."""
    tile = default_tile(1000 * seconds)
    check_tile(1000 * seconds, tile)
    assert 1 <= 1000 * seconds / tile <= 12
    assert tile % 1000 == 0


@given(st.integers(1, 20_000), st.integers(1, 30_000))
def test_a_refused_tile_comes_with_legal_ones(over: int, tile: int) -> None:
    """Every tile that the error names is accepted."""
    try:
        check_tile(1000 * over, 1000 * tile)
    except ValueError as error:
        named = str(error).rpartition(": ")[2].split(" or ")
        for text in named:
            check_tile(1000 * over, duration(text))
    else:
        assert over % tile == 0
        assert over // tile <= MAX_TILES


@given(st.lists(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=20), min_size=1, max_size=12))
def test_variance_over_tiles_is_sound_far_from_zero(tiles: list[list[float]]) -> None:
    """The error of a spread merged over tiles grows with the condition of the values, not with its square."""
    processor = Featurize({"s": variance("v", by=None, over="12s", tile="1s")}, {"v": "double"}, (), "binary", 0)
    group = processor.plan.groups[0].group
    held, values = None, []
    for i, tile in enumerate(tiles):
        for value in tile:
            values.append(value + 1e9)
            held = group.add(held, i, 1000 * i, 0, values[-1])
    n, _, m2 = group.ask(held, 12, len(tiles) - 1, 0)
    assert n == len(values)
    exact = np.array(values, dtype=np.longdouble)
    expected = float(((exact - exact.mean()) ** 2).sum())
    ulp = 2.0**-52 * 1e9
    assert abs(m2 - expected) <= 4 * n * ulp * (math.sqrt(n * expected) + n * ulp)
