"""Ranges of a topic that somebody looks at from outside: all of it, or its last records."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from headrace.streams.log import Record

__all__ = ["backwards", "every", "last"]

_GAP = 200  # offsets that transaction markers and aborted records may take among the last ones


def last(reader: Any, topic: str, partition: int, count: int, end: int | None = None) -> list[Record]:
    """The last `count` committed records of a partition (before `end`), oldest first; fewer when there are fewer."""
    low, _ = reader.watermarks(topic, partition)
    end = reader.stable(topic, partition) if end is None else end
    reach = count + _GAP
    while True:
        start = max(low, end - reach)
        found = list(reader.read(topic, partition, start, end)) if start < end else []
        if len(found) >= count or start == low:
            return found[-count:] if count else []
        reach *= 4


def every(reader: Any, topic: str, partitions: int) -> Iterator[Record]:
    """All committed records of a topic, one partition after the other, each up to its present end."""
    for partition in range(partitions):
        end = reader.stable(topic, partition)
        low, _ = reader.watermarks(topic, partition)
        if low < end:
            yield from reader.read(topic, partition, low, end)


def backwards(reader: Any, topic: str, partition: int, most: int) -> Iterator[Record]:
    """All committed records of a partition, newest first, read in growing steps of up to `most` offsets."""
    low, _ = reader.watermarks(topic, partition)
    end = reader.stable(topic, partition)
    reach = min(_GAP, most)
    while low < end:
        start = max(low, end - reach)
        yield from reversed(list(reader.read(topic, partition, start, end)))
        end, reach = start, min(4 * reach, most)
