"""Ids and outcomes are forgotten to the millisecond, though what is forgotten is swept away later."""

from __future__ import annotations

from typing import Any

import pytest

from headrace.processors.join import Early, Join
from headrace.processors.validate import Validate
from headrace.streams.state import Stores

TTL_MS = 1_600
STRIDE_MS = TTL_MS // 16


def restored(stores: Stores, processor: Any) -> Stores:
    """What a successor has."""
    after = Stores({"p": processor.stores()})
    after.load({key: data for key, data in stores.freeze() if data is not None})
    return after


def label(time_ms: int, y: bool = True) -> Early:
    return Early(time_ms, 0, 0, y, None, None)


@pytest.mark.parametrize("restart", [False, True])
@pytest.mark.parametrize(("stream_ms", "outcome"), [(10 + TTL_MS, "duplicate"), (11 + TTL_MS, "early")])
def test_an_outcome_is_known_for_a_time_to_live(stream_ms: int, outcome: str, restart: bool) -> None:
    """Whether or not it was swept away, and whether or not the worker was restarted in between."""
    join = Join(TTL_MS)
    stores = Stores({"p": join.stores()})
    state = stores.states["p"]
    join.process("a", (0, 0), state)
    assert join.update("a", label(10), state)[0] == "labelled"
    expire = join.compile_expire(state, 10)
    expire(stream_ms)
    assert len(state["done"]) == 1, "it is not swept yet"
    if restart:
        state = restored(stores, join).states["p"]
        join.compile_expire(state, stream_ms)
    assert join.update("a", label(stream_ms), state)[0] == outcome


def test_outcomes_are_swept_away_in_time() -> None:
    """All that are forgotten, at the next multiple of a sixteenth of the time to live."""
    join = Join(TTL_MS)
    state = Stores({"p": join.stores()}).states["p"]
    for i in range(STRIDE_MS):
        join.process(i, (i, i), state)
        join.update(i, label(i), state)
    expire = join.compile_expire(state, STRIDE_MS - 1)
    expire(TTL_MS + STRIDE_MS - 1)
    assert len(state["done"]) == STRIDE_MS
    expire(TTL_MS + STRIDE_MS)
    assert len(state["done"]) == 0


def test_a_label_in_time_leaves_no_deadline_to_be_looked_at() -> None:
    """What has met its label is passed over; what has not expires in the order of its time, late events included."""
    join = Join(TTL_MS)
    state = Stores({"p": join.stores()}).states["p"]
    for offset, (event_id, time_ms) in enumerate([("a", 0), ("b", 5), ("d", 9), ("c", 7)]):
        join.process(event_id, (time_ms, offset), state)
    join.update("a", label(6), state)
    expire = join.compile_expire(state, 9)
    assert [name for name, _ in expire(TTL_MS + 8)] == ["b", "c"]
    assert state["pending.index"].first_ms == 9
    assert [name for name, _ in expire(TTL_MS + 10)] == ["d"]


@pytest.mark.parametrize("restart", [False, True])
def test_an_id_is_known_for_a_horizon(restart: bool) -> None:
    """A repeated event within it is a duplicate, one after it is new."""
    validate = Validate(TTL_MS)
    stores = Stores({"p": validate.stores()})
    state = stores.states["p"]
    assert validate.process("a", 10, state)
    if restart:
        state = restored(stores, validate).states["p"]
    is_new = validate.compile(state)
    assert not is_new("a", 10 + TTL_MS)
    assert is_new("a", 11 + TTL_MS)
    assert len(state["seen"]) == 1
    assert is_new("b", 2 * TTL_MS + 2 * STRIDE_MS)
    assert list(state["seen"].data) == ["b"]
