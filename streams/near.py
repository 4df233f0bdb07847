"""Near: where a replay may begin that is to make certain events again, and nothing of what came long before."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection
from typing import Any, NamedTuple

import msgspec

from headrace.streams.errors import UNREADABLE
from headrace.streams.pipeline import Pipeline

__all__ = ["Near", "find"]

_EVERY = 10_000


class Near(NamedTuple):
    """What is to be made again in a partition: these events, the offset of the first, and that of its prediction."""

    event_ids: frozenset[Any]
    event: int
    prediction: int


class _Predicted(msgspec.Struct):
    """What a prediction says of its event."""

    event_id: str | int
    partition: int
    offset: int


def find(
    pipeline: Pipeline,
    event_ids: Collection[Any],
    new_reader: Callable[[], Any],
    topics: Callable[[str], str],
    looked: Callable[[], None] = lambda: None,
) -> dict[int, Near] | None:
    """Partition → what is to be made again there; None unless each of the events has a published prediction.

    `looked` is called after every ten thousand predictions.
    """
    decode, missing = msgspec.json.Decoder(_Predicted).decode, set(event_ids)
    found: dict[int, list[tuple[int, int]]] = {}
    with contextlib.closing(new_reader()) as reader:
        for shard in range(pipeline.partitions):
            for number, record in enumerate(reader.read(topics("predictions"), shard)):
                if not missing:
                    break
                if number % _EVERY == 0:
                    looked()
                try:
                    told = decode(record.value or b"")
                except UNREADABLE:  # somebody else's
                    continue
                if told.event_id in missing and told.partition == shard:
                    missing.discard(told.event_id)
                    found.setdefault(shard, []).append((told.offset, record.offset))
    if missing:
        return None
    ids = frozenset(event_ids)
    return {
        shard: Near(ids, min(event for event, _ in places), min(prediction for _, prediction in places))
        for shard, places in found.items()
    }
