"""State: all stores of a task, frozen and written at checkpoints only, and restored together.

What a checkpoint holds is (processor, store, key) → bytes; None deletes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from headrace.processors.base import StoreSpec
from headrace.streams.stores import CellStore, Entry, KeyedStore, LogStore, ObjectCodec, ObjectStore

__all__ = ["Stores"]

_KINDS: dict[str, Callable[[], Any]] = {"keyed": KeyedStore, "log": LogStore}


class Stores:
    """All stores of one task: made from what its processors ask for, frozen and restored together.

    `states[processor]` is what that processor is handed: its stores under their names, and what is derived from a
    restored store under its name + ``.index``.
    """

    def __init__(self, wanted: dict[str, tuple[StoreSpec, ...]], codec: ObjectCodec | None = None) -> None:
        self.states: dict[str, dict[str, Any]] = {}
        self._specs: dict[tuple[str, str], StoreSpec] = {}
        self._stores: dict[tuple[str, str], Any] = {}
        self._outdated: set[tuple[str, str, Any]] = set()
        self._codec = codec
        for processor, specs in wanted.items():
            self.states[processor] = {}
            for spec in specs:
                self.add(processor, spec)
        self.loaded()

    def add(self, processor: str, spec: StoreSpec) -> None:
        """One store more."""
        store = _made(f"{processor}.{spec.name}", spec, self._codec)
        self._specs[processor, spec.name], self._stores[processor, spec.name] = spec, store
        self.states[processor][spec.name] = store

    def drop(self, processor: str, name: str) -> None:
        """One cell less; the next freeze deletes what checkpoints hold of it."""
        store = self._stores.pop((processor, name))
        del self._specs[processor, name], self.states[processor][name]
        self._outdated.update((processor, name, i) for i in range(store.chunks))

    def freeze(self) -> Iterator[Entry]:
        """Everything that changed since the last freeze, as ((processor, store, key), bytes or None)."""
        frozen = [(name, store.freeze()) for name, store in self._stores.items()]
        entries = (((processor, store, key), data) for (processor, store), found in frozen for key, data in found)
        outdated, self._outdated = self._outdated, set()
        return _over(outdated, entries) if outdated else entries

    def outdated(self, keys: Iterable[tuple[str, str, Any]]) -> None:
        """A checkpoint holds these entries, and none of them is ours: the next freeze replaces or deletes them all."""
        self._outdated.update(keys)

    def again(self) -> None:
        """What checkpoints wrote is gone: the next freeze has everything."""
        for store in self._stores.values():
            store.again()

    def load(self, entries: dict[tuple[str, str, Any], bytes]) -> None:
        """Fill empty stores from the entries of a checkpoint; those of stores that are no more are to be deleted."""
        found: defaultdict[tuple[str, str], list[tuple[Any, bytes]]] = defaultdict(list)
        for (processor, name, key), data in entries.items():
            if (processor, name) in self._stores:
                found[processor, name].append((key, data))
            else:
                self._outdated.add((processor, name, key))
        texts: dict[str, str] = {}
        for place, store in self._stores.items():
            mine = found[place]
            if isinstance(store, KeyedStore):
                for key, data in mine:
                    # One text for a key of many stores, as live: whoever has looked it up in one has it at hand.
                    store.load(texts.setdefault(key, key) if key.__class__ is str else key, data)
            else:
                self._outdated.update((*place, key) for key, _ in mine if type(key) is not int)
                for key, data in sorted(entry for entry in mine if type(entry[0]) is int):
                    store.load(key, data)
        self.loaded()

    def loaded(self) -> None:
        """Finish a restore: join chunks, derive indexes."""
        for store in self._stores.values():
            if hasattr(store, "loaded"):
                store.loaded()
        self.derive()

    def derive(self) -> None:
        """Derive the indexes anew, after stores were filled; whoever holds one has to be bound again."""
        for (processor, name), store in self._stores.items():
            index = self._specs[processor, name].index
            if index is not None:
                self.states[processor][f"{name}.index"] = index(store)

    def contents(self) -> dict[str, Any]:
        """Everything as plain values and objects, for hashing and inspection."""
        return {
            f"{processor}.{name}": store.value if isinstance(store, CellStore) else store.content()
            for (processor, name), store in self._stores.items()
        }


def _made(name: str, spec: StoreSpec, codec: ObjectCodec | None) -> Any:
    """A store as it is asked for, before anything is in it."""
    if spec.kind != "cell":
        return _KINDS[spec.kind]()
    initial = spec.initial() if spec.initial else None
    return ObjectStore(name, initial, codec) if spec.codec == "object" else CellStore(name, initial, None)


def _over(outdated: set[tuple[str, str, Any]], entries: Iterator[Entry]) -> Iterator[Entry]:
    """The entries, and those that are outdated and not among them as deleted."""
    for key, data in entries:
        outdated.discard(key)
        yield key, data
    for key in outdated:
        yield key, None
