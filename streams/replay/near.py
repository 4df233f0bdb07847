"""Near: savepoints from which a replay makes certain events again, and little of what came long before.

Predictions and savepoints are read from their ends backwards, as it is mostly young events that are asked for.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterable, Iterator
from itertools import zip_longest
from typing import Any, NamedTuple

import msgspec

from headrace.streams.checkpoint import key_of, marker_of
from headrace.streams.errors import UNREADABLE
from headrace.streams.log import Record
from headrace.streams.pipeline import Pipeline
from headrace.streams.reading import backwards
from headrace.streams.savepoints import Savepoint
from headrace.streams.task import Version
from headrace.streams.topology import Group, groups

__all__ = ["find"]

_PREDICTIONS, _ENTRIES = 50_000, 4_000
"""Offsets read at once."""
_STAGES = {"validate", "predict"}


class _Predicted(msgspec.Struct):
    """What a prediction says of its event."""

    event_id: str | int
    partition: int
    offset: int


class _Place(NamedTuple):
    """Offsets in a partition: of the first of the events, and of its prediction."""

    event: int
    prediction: int


def find(
    pipeline: Pipeline,
    event_ids: Collection[Any],
    new_reader: Callable[[], Any],
    topics: Callable[[str], str],
    looked: Callable[[], None] = lambda: None,
) -> dict[int, dict[Group, Savepoint]] | None:
    """Partition → the groups that made these events' predictions, each with its newest savepoint before them.

    None unless each event has a published prediction and each group such a savepoint. `looked` is called now and then.
    """
    found = {}
    with contextlib.closing(new_reader()) as reader:
        places = _predictions(reader, topics("predictions"), pipeline.partitions, event_ids, looked)
        for shard, place in places.items():
            records = _told(backwards(reader, topics("savepoints"), shard, _ENTRIES), looked)
            begins = _savepoints(records, place, Version.of(pipeline).hash)
            if begins is None:
                return None
            found[shard] = begins
    return found or None


def _predictions(
    reader: Any, topic: str, partitions: int, event_ids: Collection[Any], looked: Callable[[], None]
) -> dict[int, _Place]:
    """Where the events and their newest predictions lie, by partition; nothing unless each event has one."""
    decode, missing = msgspec.json.Decoder(_Predicted).decode, set(event_ids)
    found: dict[int, _Place] = {}
    by_turns = zip_longest(*(backwards(reader, topic, shard, _PREDICTIONS) for shard in range(partitions)))
    for record in _told((record for turn in by_turns for record in turn if record is not None), looked):
        if not missing:
            break
        try:
            told = decode(record.value or b"")
        except UNREADABLE:  # somebody else's
            continue
        if told.event_id in missing and told.partition == record.partition:
            missing.discard(told.event_id)
            place = _Place(told.offset, record.offset)
            found[told.partition] = _Place(*map(min, place, found.get(told.partition, place)))
    return {} if missing else found


def _savepoints(records: Iterable[Record], place: _Place, spec_hash: str) -> dict[Group, Savepoint] | None:
    """The newest whole savepoint before this place of each group, of records that come newest first.

    They are enough once somebody validates and somebody predicts.
    """
    named = {group.name: group for group in groups() if group.front or group.back}
    found: dict[Group, Savepoint] = {}
    building: dict[str, tuple[int, Savepoint]] = {}
    for record in records:
        parts = key_of(record.key, numbered=True)
        group = None if parts is None else named.get(parts[0])
        if parts is None or group is None or group in found or record.value is None:
            continue
        if len(parts) == 3:
            marker = marker_of(record.value)
            if marker is not None and marker["spec_hash"] == spec_hash and _precedes(group, marker, place):
                building[group.name] = parts[1], Savepoint(marker, {})
            continue
        seq, savepoint = building.get(group.name, (None, None))
        if savepoint is None or seq != parts[1]:
            continue
        savepoint.entries[parts[2], parts[3], parts[4]] = record.value
        if len(savepoint.entries) == savepoint.marker["entries"]:
            found[group] = savepoint
            if {stage for group in found for stage in group.stages} >= _STAGES:
                return found
    return None


def _precedes(group: Group, marker: dict[str, Any], place: _Place) -> bool:
    """Whether the event had not been read then, nor its prediction been made."""
    if not marker.get("entries") or "outputs" not in marker or len(marker["positions"]) != len(group.inputs):
        return False
    read = dict(zip(group.inputs, marker["positions"], strict=True))
    made: dict[str, int] = marker["outputs"]
    return read.get("events", 0) <= place.event and made.get("predictions", 0) <= place.prediction


def _told(records: Iterable[Record], looked: Callable[[], None]) -> Iterator[Record]:
    """The same, saying now and then that it goes on."""
    for number, record in enumerate(records):
        if number % 1_000 == 0:
            looked()
        yield record
