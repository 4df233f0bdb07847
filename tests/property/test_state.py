"""State stores against plain values, through freezes, crashes and restores.

A checkpoint counts only when it was written to its end: a crash in the middle leaves the one before. What has been
written is kept as the state topic would keep it after compaction: the last value of each key, None deletes.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from headrace.processors.base import StoreSpec
from headrace.streams import stores as kinds
from headrace.streams.packing import pack, unpack
from headrace.streams.state import Stores
from headrace.streams.stores import CellStore, KeyedStore, LogStore

KEYS = st.sampled_from(["a", "b", "c", ("a", 1), 7]) | st.integers(0, 30)
VALUES = (
    st.integers(-(2**63), 2**63 - 1)
    | st.text(max_size=3)
    | st.tuples(st.floats(allow_nan=False), st.none() | st.binary(max_size=3))
)

_QUICK = settings(max_examples=60, stateful_step_count=50)


class Checkpoints(RuleBasedStateMachine):
    """Rules that all stores share: freeze, write some, finish, crash and restore."""

    def __init__(self) -> None:
        super().__init__()
        self.store = self.fresh()
        self.model: Any = self.empty()
        self.topic: dict[Any, bytes] = {}
        self.saved: Any = self.empty()
        self.writing: Iterator[Any] | None = None
        self.written: list[Any] = []
        self.frozen: Any = None

    def fresh(self) -> Any:
        raise NotImplementedError

    def empty(self) -> Any:
        raise NotImplementedError

    def content(self) -> Any:
        raise NotImplementedError

    def copied(self) -> Any:
        return pickle.loads(pickle.dumps(self.model))

    @precondition(lambda self: self.writing is None)
    @rule()
    def freeze(self) -> None:
        self.writing, self.written, self.frozen = self.store.freeze(), [], self.copied()

    @precondition(lambda self: self.writing is not None)
    @rule(count=st.integers(1, 4))
    def write(self, count: int) -> None:
        for _ in range(count):
            entry = next(self.writing, None)
            if entry is None:
                for key, data in self.written:
                    if data is None:
                        self.topic.pop(key, None)
                    else:
                        self.topic[key] = data
                self.writing, self.saved = None, self.frozen
                return
            self.written.append(entry)

    @rule()
    def crash(self) -> None:
        """Memory is gone, and with it a checkpoint under way; the last whole one comes back."""
        self.store, self.writing = self.fresh(), None
        for key in sorted(self.topic, key=lambda key: key if type(key) is int else 0):
            self.store.load(key, self.topic[key])
        if hasattr(self.store, "loaded"):
            self.store.loaded()
        self.model = self.saved
        self.saved = self.copied()

    @precondition(lambda self: self.writing is None)
    @rule()
    def made_anew(self) -> None:
        """Somebody has deleted the topic and created it again: the next checkpoint has all that memory has."""
        self.topic.clear()
        self.store.again()
        self.freeze()
        self.write(1_000)
        self.crash()

    @invariant()
    def agrees(self) -> None:
        assert self.content() == self.model


class Keyed(Checkpoints):
    """KeyedStore against a dict."""

    def fresh(self) -> KeyedStore:
        return KeyedStore()

    def empty(self) -> dict[Any, Any]:
        return {}

    def content(self) -> dict[Any, Any]:
        assert len(self.store) == len(self.store.data)
        return dict(self.store.items())

    @rule(key=KEYS, value=VALUES)
    def put(self, key: Any, value: Any) -> None:
        self.store.put(key, value)
        self.model[key] = value
        assert self.store.get(key) == value

    @rule(key=KEYS)
    def pop(self, key: Any) -> None:
        assert self.store.pop(key, "none") == self.model.pop(key, "none")
        assert self.store.get(key, "gone") == "gone"


class Log(Checkpoints):
    """LogStore against a dict that keeps its order; chunks are small, so that they die and are rewritten."""

    @initialize(rewrite_above=st.sampled_from([0, 3, 10_000]))
    def choose(self, rewrite_above: int) -> None:
        self.rewrite_above = rewrite_above
        self.store._rewrite_above = rewrite_above

    def fresh(self) -> LogStore:
        store = LogStore()
        store._rewrite_above = getattr(self, "rewrite_above", 10_000)
        return store

    def empty(self) -> dict[Any, Any]:
        return {}

    def content(self) -> list[Any]:
        return dict(self.store.items())  # type: ignore[return-value]

    @rule(key=KEYS, value=VALUES)
    def put(self, key: Any, value: Any) -> None:
        self.store.put(key, value)
        self.model.pop(key, None)
        self.model[key] = value

    @rule(key=KEYS)
    def pop(self, key: Any) -> None:
        assert self.store.pop(key, "none") == self.model.pop(key, "none")

    @precondition(lambda self: self.model)
    @rule(count=st.integers(1, 5))
    def expire(self, count: int) -> None:
        """The oldest go, as expiry does."""
        for key in list(self.model)[:count]:
            self.store.pop(key)
            del self.model[key]

    @invariant()
    def in_order(self) -> None:
        assert list(self.store.items()) == list(self.model.items())


class Cell(Checkpoints):
    """CellStore against a list that grows over several chunks and shrinks again."""

    def fresh(self) -> CellStore:
        return CellStore("cell", [], None)

    def empty(self) -> list[Any]:
        return []

    def content(self) -> Any:
        return self.store.value

    @rule(size=st.integers(0, 40), of=st.sampled_from(["x", "é", 1, 2.5, None]))
    def become(self, size: int, of: Any) -> None:
        self.store.value, self.model = [of] * size, [of] * size

    @rule(value=st.integers(-(2**63), 2**63 - 1))
    def append(self, value: int) -> None:
        """Changed in place while it may be frozen."""
        self.store.value.append(value)
        self.model.append(value)

    @invariant()
    def no_chunk_is_left_over(self) -> None:
        """The topic holds exactly the chunks of the last whole checkpoint."""
        whole = len(pack(self.saved)) if self.topic else 0
        assert len(self.topic) == -(-whole // kinds._CHUNK_BYTES)


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A chunk is full after 30 bytes or three keys."""
    monkeypatch.setattr(kinds, "_CHUNK_BYTES", 30)
    monkeypatch.setattr(kinds, "_LOG_BYTES", 30)
    monkeypatch.setattr(kinds, "_LOG_KEYS", 3)


TestKeyed = Keyed.TestCase
TestKeyed.settings = _QUICK
TestLog = Log.TestCase
TestLog.settings = _QUICK
TestCell = Cell.TestCase
TestCell.settings = _QUICK


class Sealing:
    """Writes objects as pickles under their name."""

    def seal(self, name: str, value: Any) -> bytes:
        return pickle.dumps((name, value))

    def open(self, name: str, data: bytes) -> Any:
        owner, value = pickle.loads(data)
        assert owner == name
        return value


def stores() -> Stores:
    wanted = {
        "one": (
            StoreSpec("keyed", "keyed"),
            StoreSpec("log", "log", index=lambda store: [key for key, _ in store.items()]),
        ),
        "two": (StoreSpec("plain", "cell", initial=dict), StoreSpec("object", "cell", initial=set, codec="object")),
    }
    return Stores(wanted, Sealing())


def test_all_stores_of_a_task_come_back_together() -> None:
    """Each under its processor and name, objects through the codec, indexes derived anew."""
    before = stores()
    before.states["one"]["keyed"].put(("a", 1), (1.5, None))
    for i in range(20):
        before.states["one"]["log"].put(f"id{i}", (i, "value"))
    before.states["two"]["plain"].value["n"] = [1, {"x": 2}]
    before.states["two"]["object"].value.update({1, 2, 3})
    after = stores()
    after.load({key: data for key, data in reversed(list(before.freeze())) if data is not None})
    assert after.contents() == before.contents()
    assert after.states["one"]["log.index"] == [f"id{i}" for i in range(20)]


def test_entries_of_stores_nobody_wants_any_more_are_ignored() -> None:
    """A processor that is gone leaves its state behind without harm."""
    after = stores()
    after.load({("gone", "store", "key"): pack(1), ("one", "gone", 0): pack(2)})
    assert after.contents() == stores().contents()


def test_an_untouched_store_writes_nothing_at_a_second_checkpoint() -> None:
    """Only cells are written whole each time."""
    before = stores()
    before.states["one"]["keyed"].put("a", 1)
    before.states["one"]["log"].put("a", 1)
    assert len(list(before.freeze())) > 2
    assert {key[0] for key, _ in before.freeze()} == {"two"}


def test_what_came_and_went_between_two_checkpoints_is_not_written() -> None:
    """The usual life of a pending join."""
    log = LogStore()
    log.put("a", 1)
    log.pop("a")
    assert list(log.freeze()) == []


@pytest.mark.parametrize("pinned", [False, True])
def test_the_chunks_of_a_log_stay_within_twice_the_living(pinned: bool) -> None:
    """Fifty entries live at any time; one that never leaves must not keep the chunks behind it alive."""
    log, topic = LogStore(), {}
    log._rewrite_above = 0
    if pinned:
        log.put("for ever", 0)
    for n in range(1_000):
        log.put(n, n)
        log.pop(n - 50)
        if n % 10 == 0:
            for key, data in log.freeze():
                topic.pop(key, None)
                if data is not None:
                    topic[key] = unpack(data)
            assert sum(len(entries) for _, entries in topic.values()) <= 2 * len(log) + 10
    assert len(topic) < 100


def test_a_changed_log_is_written_anew() -> None:
    """Every value in its place, and nothing of before is left in the topic."""
    log, topic = LogStore(), {}
    for name in "abc":
        log.put(name, 1)
    for key, data in log.freeze():
        topic[key] = data
    log.pop("b")
    log.change(lambda value: value + 1)
    log.put("d", 7)
    for key, data in log.freeze():
        topic.pop(key, None)
        if data is not None:
            topic[key] = data
    restored = LogStore()
    for key in sorted(topic):
        restored.load(key, topic[key])
    assert list(restored.items()) == list(log.items()) == [("a", 2), ("c", 2), ("d", 7)]


def test_a_store_may_come_and_go() -> None:
    """One that has gone is deleted from the topic by the next freeze."""
    stores = Stores({"models": (StoreSpec("a", "cell", lambda: 1),)})
    stores.add("models", StoreSpec("b", "cell", lambda: 2))
    assert stores.states["models"]["b"].value == 2
    written = {key: data for key, data in stores.freeze() if data is not None}
    assert ("models", "b", 0) in written
    stores.drop("models", "b")
    assert dict(stores.freeze())["models", "b", 0] is None
    assert "b" not in stores.states["models"]


def test_stores_share_the_texts_of_their_keys_after_a_restore() -> None:
    """As live, where one event brings its key to all of them: what one look-up has fetched serves the next."""
    wanted = {"p": (StoreSpec("one", "keyed"), StoreSpec("other", "keyed"))}
    stores = Stores(wanted)
    for name in ("one", "other"):
        for key in ("JFK", 1, 1.5, ("JFK", 1)):
            stores.states["p"][name].put(key, 0)
    restored = Stores(wanted)
    restored.load({(*name, key): data for (*name, key), data in stores.freeze() if data is not None})
    one, other = (restored.states["p"][name].data for name in ("one", "other"))
    assert one == other == stores.states["p"]["one"].data
    assert next(key for key in one if key == "JFK") is next(key for key in other if key == "JFK")
