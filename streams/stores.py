"""The kinds of store: memory first; what changed since the last checkpoint is remembered by key.

`freeze` fixes it at one moment and returns the entries to write, lazily, so that a large checkpoint can be spread over
many cycles while processing goes on: values are immutable, so keeping the old value of a key that changes meanwhile is
all that copy-on-write takes. Restoring is `load` for each entry, then `loaded`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import msgspec

from headrace.streams.packing import pack, unpack

__all__ = ["CellStore", "Entry", "KeyedStore", "LogStore", "ObjectCodec", "ObjectStore", "part_of"]

_MISSING: Any = object()
_CHUNK_BYTES = 400_000
_LOG_BYTES = 40_000
_LOG_KEYS = 4_000
_REWRITE_ABOVE = 10_000
_PLAIN = (list, dict)
_decoder = msgspec.msgpack.Decoder()


class ObjectCodec(Protocol):
    """How an object (a model, a detector) becomes bytes that can be trusted when they come back."""

    def seal(self, name: str, value: Any) -> bytes: ...
    def open(self, name: str, data: bytes) -> Any: ...


Entry = tuple[Any, bytes | None]


class KeyedStore:
    """A value per key. Values are immutable: change one by `put`. Its containers are emptied, never replaced."""

    __slots__ = ("_saved", "data", "dirty", "frozen", "get")

    def __init__(self) -> None:
        self.data: dict[Any, Any] = {}
        self.dirty: set[Any] = set()
        self.get: Callable[..., Any] = self.data.get
        self.frozen: set[Any] = set()
        self._saved: dict[Any, Any] = {}

    def __len__(self) -> int:
        return len(self.data)

    def put(self, key: Any, value: Any) -> None:
        """Replace the value of `key`."""
        if key in self.frozen:
            self.save(key)
        self.data[key] = value
        self.dirty.add(key)

    def save(self, key: Any) -> None:
        """Keep the value that a frozen key has, before it changes."""
        if key not in self._saved:
            self._saved[key] = self.data.get(key, _MISSING)

    def pop(self, key: Any, default: Any = None) -> Any:
        """Remove `key` and return its value."""
        if key not in self.data:
            return default
        if key in self.frozen:
            self.save(key)
        self.dirty.add(key)
        return self.data.pop(key)

    def items(self) -> Iterator[tuple[Any, Any]]:
        """All entries; the order is not part of the state."""
        return iter(self.data.items())

    def again(self) -> None:
        """The next freeze has everything."""
        self.dirty.update(self.data)

    def freeze(self) -> Iterator[Entry]:
        """The entries changed since the last freeze, as they are now, whatever is put while iterating."""
        self._saved.clear()
        self.frozen.clear()
        self.frozen |= self.dirty
        self.dirty.clear()
        return self._write()

    def _write(self) -> Iterator[Entry]:
        frozen, saved, data = self.frozen, self._saved, self.data
        while frozen:
            key = frozen.pop()
            value = saved.pop(key) if key in saved else data.get(key, _MISSING)
            yield _one_zero(key), None if value is _MISSING else pack(value)

    def load(self, key: Any, data: bytes) -> None:
        """Put back one entry of a checkpoint."""
        self.data[key] = unpack(data)

    def content(self) -> Any:
        """The whole content, for hashing."""
        return sorted(((pack(_one_zero(key)), value) for key, value in self.data.items()), key=lambda item: item[0])


def _one_zero(key: Any) -> Any:
    """The key, its zeros without a sign: 0.0 and -0.0 are one key of a dict, but would be two in the topic."""
    if key.__class__ is tuple:
        return tuple(map(_one_zero, key))
    return key + 0.0 if key.__class__ is float else key


class LogStore:
    """Entries in insertion order, written as a log of additions and removals whose dead beginning is cut off.

    A checkpoint appends one chunk (removed keys, added entries); an entry that came and went between two checkpoints
    is never written. The oldest chunks are deleted when none of their entries lives; when the chunks hold more than
    twice the living, everything is written anew.
    """

    __slots__ = (
        *("_added", "_chunks", "_next", "_removed", "_rewrite_above", "_written"),
        *("data", "get", "pop", "put"),
    )

    def __init__(self) -> None:
        self.data: dict[Any, Any] = {}
        self.get: Callable[..., Any] = self.data.get
        self._added: dict[Any, Any] = {}
        self._removed: list[Any] = []
        self.put, self.pop = self._changers()
        self._chunks: deque[tuple[int, deque[Any]]] = deque()
        self._next = 0
        self._written = 0
        self._rewrite_above = _REWRITE_ABOVE

    def __len__(self) -> int:
        return len(self.data)

    def _changers(self) -> tuple[Callable[[Any, Any], None], Callable[..., Any]]:
        """`put` appends an entry (a key that is there moves to the end), `pop` removes a key and returns its value.

        Both are functions over these very containers, which are emptied, never replaced.
        """
        data, added, removed = self.data, self._added, self._removed
        take, forget, note = data.pop, added.pop, removed.append

        def put(key: Any, value: Any) -> None:
            if key in data:
                pop(key)
            data[key] = added[key] = value

        def pop(key: Any, default: Any = None) -> Any:
            value = take(key, _MISSING)
            if value is _MISSING:
                return default
            if forget(key, _MISSING) is _MISSING:
                note(key)
            return value

        return put, pop

    def items(self) -> Iterator[tuple[Any, Any]]:
        """All entries, oldest first."""
        return iter(self.data.items())

    def change(self, change: Callable[[Any], Any]) -> None:
        """Replace every value, in its place; the next freeze writes them all."""
        for key, value in self.data.items():
            self.data[key] = change(value)
        self.again()

    def again(self) -> None:
        """The next freeze has everything."""
        self._rewrite_above = -1

    def freeze(self) -> Iterator[Entry]:
        """What to write so that the chunks fold to the present content."""
        if self._rewrite_above < 0 or (self._written > self._rewrite_above and self._written > 2 * len(self.data)):
            self._rewrite_above = _REWRITE_ABOVE if self._rewrite_above < 0 else self._rewrite_above
            dead = [number for number, _ in self._chunks]
            self._chunks.clear()
            self._written = 0
            removed, added = [], list(self.data.items())
        else:
            dead = self._dead_chunks()
            removed, added = list(self._removed), list(self._added.items())
        self._removed.clear()
        self._added.clear()
        return self._write(dead, removed, added)

    def _dead_chunks(self) -> list[int]:
        dead = []
        while self._chunks:
            number, keys = self._chunks[0]
            while keys and keys[0] not in self.data:
                keys.popleft()
                self._written -= 1
            if keys:
                break
            dead.append(number)
            self._chunks.popleft()
        return dead

    def _write(self, dead: list[int], removed: list[Any], added: list[tuple[Any, Any]]) -> Iterator[Entry]:
        for number in dead:
            yield number, None
        for start in range(0, len(removed), _LOG_KEYS):
            yield self._chunk(removed[start : start + _LOG_KEYS], [], deque())
        entries: list[Any] = []
        keys: deque[Any] = deque()
        size = 0
        for key, value in added:
            entry = pack((key, value))
            entries.append(msgspec.Raw(entry))
            keys.append(key)
            size += len(entry)
            if size > _LOG_BYTES:
                yield self._chunk([], entries, keys)
                entries, keys, size = [], deque(), 0
        if entries:
            yield self._chunk([], entries, keys)

    def _chunk(self, removed: list[Any], entries: list[Any], keys: deque[Any]) -> Entry:
        number, self._next = self._next, self._next + 1
        self._chunks.append((number, keys))
        self._written += len(keys)
        return number, pack((removed, entries))

    def load(self, key: Any, data: bytes) -> None:
        """Put back one chunk; chunks must come in the order of their numbers."""
        removed, entries = unpack(data)
        for dead in removed:
            self.data.pop(dead, None)
        for name, value in entries:
            self.data.pop(name, None)
            self.data[name] = value
        self._chunks.append((key, deque(name for name, _ in entries)))
        self._written += len(entries)
        self._next = key + 1

    def content(self) -> Any:
        """The whole content, for hashing: order counts."""
        return list(self.data.items())


class CellStore:
    """One mutable value, written whole at every checkpoint, in chunks where it is large."""

    __slots__ = ("_chunks", "_codec", "_name", "_parts", "value")

    def __init__(self, name: str, initial: Any, codec: ObjectCodec | None) -> None:
        self.value = initial
        self._name = name
        self._codec = codec
        self._chunks = 0
        self._parts: dict[int, tuple[int, bytes]] = {}

    def __len__(self) -> int:
        return 1

    @property
    def chunks(self) -> int:
        """Entries that the last checkpoint has of it."""
        return self._chunks

    def again(self) -> None:
        """Every freeze has everything."""

    def freeze(self) -> Iterator[Entry]:
        """The whole value as it is now (it is mutable, so it is encoded at once)."""
        data = pack(self.value) if self._codec is None else self._codec.seal(self._name, self.value)
        count = max(1, -(-len(data) // _CHUNK_BYTES))
        entries: list[Entry] = [
            (i, pack((count, data[i * _CHUNK_BYTES : (i + 1) * _CHUNK_BYTES]))) for i in range(count)
        ]
        entries += [(i, None) for i in range(count, self._chunks)]
        self._chunks = count
        return iter(entries)

    def load(self, key: Any, data: bytes) -> None:
        """Put back one chunk."""
        count, part = _decoder.decode(data)
        self._parts[key] = (count, part)

    def loaded(self) -> None:
        """Put the chunks together and read the value."""
        if not self._parts:
            return
        count = self._parts[0][0]
        data = b"".join(self._parts[i][1] for i in range(count))
        value = _decoder.decode(data) if self._codec is None else self._codec.open(self._name, data)
        if self._codec is None and type(self.value) in _PLAIN and type(value) is not type(self.value):
            raise ValueError(f"{self._name} is a {type(self.value).__name__}, not a {type(value).__name__}")
        self.value = value
        self._chunks = len(self._parts)
        self._parts = {}


class ObjectStore(CellStore):
    """A cell that holds an object.

    Whoever keeps part of what the object knows elsewhere, because that is faster, puts what brings it back into `sync`:
    it is called before anybody sees the object.
    """

    __slots__ = ("_object", "sync")

    @property
    def value(self) -> Any:
        """The object, with all that it knows."""
        self.sync()
        return self._object

    @value.setter
    def value(self, value: Any) -> None:
        self._object, self.sync = value, _in_sync


def _in_sync() -> None:
    """The object is all there is."""


def part_of(data: bytes) -> bytes:
    """The part of an object that one of its entries holds."""
    part: bytes = _decoder.decode(data)[1]
    return part
