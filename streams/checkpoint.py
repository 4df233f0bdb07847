"""Checkpoints: the changed part of a task's state, written in one transaction of its own, spread over cycles.

1. Freeze right after a commit: what changed, and the marker (journal number, positions), are fixed.
2. Open the transaction; write some entries each cycle, while processing goes on.
3. Write the marker last; commit.

If the process dies at any point before the commit, the transaction is aborted: the topic still folds to the previous
checkpoint, and compaction cannot touch what an open or aborted transaction would have replaced. Several committed
transactions would not do: a crash before the marker would leave half of each generation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Annotated, Any, NamedTuple, Protocol

import msgspec
from msgspec import Meta

from headrace.streams import failpoints
from headrace.streams.errors import UNREADABLE
from headrace.streams.packing import pack, unpack
from headrace.streams.stores import part_of
from headrace.streams.task import Task, Version

__all__ = ["MARKER", "Checkpoint", "LastSavepoint", "fold", "key_of", "marker_of"]

MARKER = "marker"
_ENTRY_BYTES = 200
"""What counts as one entry of a part."""


class LastSavepoint(NamedTuple):
    """When the last savepoint was made: the journal's epoch, and milliseconds of wall clock.

    Checkpoints carry it, so that a restart makes no savepoint before the next one is due.
    """

    epoch: int
    at_ms: int


_Place = Annotated[int, Meta(ge=0)]


class _Marker(msgspec.Struct):
    """What a marker says, at least."""

    seq: _Place
    epoch: _Place
    positions: tuple[_Place, ...]
    journal_offset: _Place
    spec_hash: str
    spec: dict[str, Any]
    environment: dict[str, Any]
    journal_end: int = -1
    savepoint: tuple[int, int] | None = None
    outputs: dict[str, _Place] = {}
    entries: _Place = 0


class _Producer(Protocol):
    def begin(self) -> None: ...
    def send(self, topic: str, partition: int, key: bytes | None, value: bytes | None) -> None: ...
    def commit(self) -> None: ...


class Checkpoint:
    """One checkpoint under way.

    With `models`, `sealed` has their snapshots by name once it is written, as they were frozen.
    """

    def __init__(
        self,
        task: Task,
        version: Version,
        journal_offset: int,
        topic: str,
        producer: _Producer,
        outputs: dict[str, int] | None = None,
        *,
        savepoint: LastSavepoint | None = None,
        models: bool = False,
        journal_end: int = -1,
    ) -> None:
        self._group, self._shard = task.group.name, task.shard
        self._topic, self._producer = topic, producer
        self._entries: Iterator[tuple[Any, bytes | None]] = task.chain.stores.freeze()
        self._marker = task.marker() | {
            "journal_offset": journal_offset,
            "journal_end": journal_end,
            "spec_hash": version.hash,
            "spec": version.spec,
            "environment": version.environment,
            "savepoint": savepoint,
        }
        if outputs is not None:
            self._marker["outputs"] = outputs
        self.written = 0
        self.bytes = 0
        self.sealed: dict[str, bytes] = {}
        self._models = models
        failpoints.hit("checkpoint.frozen")
        self._producer.begin()
        failpoints.hit("checkpoint.begun")

    def write(self, limit: int | None) -> bool:
        """Write up to `limit` entries (None: all); True when the marker is written and the transaction committed.

        A large entry, such as a part of a log, counts as several.
        """
        count, began, full = 0, self.bytes, False
        for key, value in self._entries:
            self._send(pack((self._group, *key)), value)
            if self._models and key[0] == "models" and value is not None:
                self.sealed[key[1]] = self.sealed.get(key[1], b"") + part_of(value)
            count += 1
            full = limit is not None and max(count, (self.bytes - began) // _ENTRY_BYTES) >= limit
            if full:
                break
        self.written += count
        failpoints.hit("checkpoint.entries")
        if full:
            return False
        self._send(pack((self._group, MARKER)), pack(self._marker))
        failpoints.hit("checkpoint.marked")
        self._producer.commit()
        failpoints.hit("checkpoint.done")
        return True

    def _send(self, key: bytes, value: bytes | None) -> None:
        self.bytes += len(key) + len(value or b"")
        self._producer.send(self._topic, self._shard, key, value)


def fold(
    records: Iterable[tuple[bytes | None, bytes | None]], group: str, wants: Callable[[str], bool] = lambda _: True
) -> tuple[dict[tuple[str, str, Any], bytes], dict[str, Any] | None]:
    """The state and the marker that committed records of the state topic fold to, for one group.

    A marker that says nothing is empty; keys that are none of ours are passed over.

    What follows its last marker belongs to a checkpoint that was not whole yet when the topic's end was asked for.
    """
    entries: dict[bytes, bytes] = {}
    for key, value in _whole(records, pack((group, MARKER))):
        if value is None:
            entries.pop(key, None)
        else:
            entries[key] = value
    state: dict[tuple[str, str, Any], bytes] = {}
    marker = None
    for key, value in entries.items():
        parts = key_of(key)
        if parts is None or parts[0] != group:
            continue
        if len(parts) == 2:
            marker = marker_of(value) or {}
        elif wants(parts[1]):
            state[parts[1], parts[2], parts[3]] = value
    return state, marker


def key_of(key: bytes | None, *, numbered: bool = False) -> tuple[Any, ...] | None:
    """The parts of an entry's key: group, in savepoints the number, and processor, store, key, or MARKER.

    None of what is no such key: anybody may have written it.
    """
    try:
        whole = unpack(key or b"")
        hash(whole)
    except (TypeError, *UNREADABLE):
        return None
    owner = 2 if numbered else 1
    if type(whole) is not tuple or len(whole) <= owner or type(whole[0]) is not str:
        return None
    if numbered and type(whole[1]) is not int:
        return None
    name = whole[owner:]
    ours = name == (MARKER,) or (len(name) == 3 and type(name[0]) is type(name[1]) is str)
    return whole if ours else None


def marker_of(value: bytes | None) -> dict[str, Any] | None:
    """What a marker says; None where it says nothing that could be used."""
    try:
        marker: dict[str, Any] = unpack(value or b"")
        msgspec.convert(marker, _Marker)
    except (TypeError, *UNREADABLE):
        return None
    return marker


def _whole(records: Iterable[tuple[bytes | None, bytes | None]], marker: bytes) -> Iterator[tuple[bytes, bytes | None]]:
    """Records with a key, up to the last marker."""
    since: list[tuple[bytes, bytes | None]] = []
    for key, value in records:
        if key is None:
            continue
        since.append((key, value))
        if key == marker:
            yield from since
            since.clear()
