"""Savepoints: whole states now and then, so that audit reaches as far back as the inputs do.

A savepoint is a copy of a checkpoint: what the state topic folds to, written to `P.savepoints` in one transaction with
its marker last. Copying does not touch the live state, so it costs the worker nothing but the reading. The state topic
is compacted no sooner than `min.compaction.lag.ms` after a value was replaced; a copy that took longer is discarded.

The marker also says where each output topic stood, so that what was published since can be compared record by record,
and how many entries there are: retention may take the first of them before it takes the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from headrace.streams import failpoints
from headrace.streams.checkpoint import MARKER, fold, key_of, marker_of
from headrace.streams.errors import Stalled
from headrace.streams.packing import pack
from headrace.streams.reading import backwards

__all__ = ["Savepoint", "copy", "savepoints"]

_LONGEST_COPY_S = 60.0
_ENTRIES = 4_000
"""Offsets read at once, from the end."""


class Savepoint(NamedTuple):
    """A whole state, and the marker that says where in the journal and the topics it stands."""

    marker: dict[str, Any]
    entries: dict[tuple[str, str, Any], bytes]


def copy(
    group: str,
    shard: int,
    topics: Callable[[str], str],
    reader: Any,
    producer: Any,
    clock: Callable[[], float],
    end: int | None = None,
) -> int | None:
    """Copy the last checkpoint to the savepoints topic; returns its journal number, or None if there is none.

    `end` is where the state topic stood when that was made: another one may have followed.
    """
    began = clock()
    records = ((record.key, record.value) for record in reader.read(topics("state"), shard, None, end))
    entries, marker = fold(records, group)
    if marker is None or "outputs" not in marker:
        return None
    topic, seq = topics("savepoints"), marker["seq"]
    if seq == _newest(group, shard, topic, reader):  # one that died had made it, before it could say so
        return int(seq)
    producer.begin()
    failpoints.hit("savepoint.begun")
    for key, value in entries.items():
        producer.send(topic, shard, pack((group, seq, *key)), value)
    producer.send(topic, shard, pack((group, seq, MARKER)), pack(marker | {"entries": len(entries)}))
    if clock() - began > _LONGEST_COPY_S:
        raise Stalled(f"copying the checkpoint took longer than {_LONGEST_COPY_S:.0f} s: it may mix two of them")
    failpoints.hit("savepoint.marked")
    producer.commit()
    failpoints.hit("savepoint.done")
    return int(seq)


def _newest(group: str, shard: int, topic: str, reader: Any) -> int | None:
    """The journal number of a group's last savepoint."""
    for record in backwards(reader, topic, shard, _ENTRIES):
        parts = key_of(record.key, numbered=True)
        if parts is not None and parts[0] == group and len(parts) == 3:
            return int(parts[1])
    return None


def savepoints(group: str, shard: int, topics: Callable[[str], str], reader: Any) -> Iterator[Savepoint]:
    """All complete savepoints of a group, oldest first."""
    building: dict[int, dict[tuple[str, str, Any], bytes]] = {}
    for record in reader.read(topics("savepoints"), shard):
        parts = key_of(record.key, numbered=True)
        if parts is None or parts[0] != group or record.value is None:
            continue
        entries = building.setdefault(parts[1], {})
        if len(parts) == 5:
            entries[parts[2], parts[3], parts[4]] = record.value
            continue
        marker = marker_of(record.value)
        if marker is not None and "outputs" in marker and marker.get("entries", len(entries)) == len(entries):
            yield Savepoint(marker, entries)
        building.clear()
