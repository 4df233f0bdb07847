"""Transactions that are over for the coordinator, while partitions still wait for their markers.

A broker that comes up ends the transactions that timed out meanwhile, and those whose commit it had begun. Partitions
whose leader it does not know yet it passes over, for deleted ones (Kafka 4.3, `TransactionMarkerChannelManager`; since
KAFKA-5202). Nobody writes their markers after that: read_committed stops there for ever, and the next marker of the
same producer, which may be a commit, would be taken for theirs. So a producer that follows another one ends what is
left under its id before it commits anything: an abort marker in each partition where a transaction is open.

That transaction may also be somebody else's who is just writing. Then an aborted record is added to the partition, and
no reader of committed records sees it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

__all__ = ["end_leftovers", "follow", "open_places"]

_KEY = b"headrace.leftover"  # a compacted topic takes no record without a key

Place = tuple[str, int]


def follow(
    cluster: Any, reader: Any, name: str, places: Iterable[Place], timeout_ms: int = 60_000
) -> tuple[Any, list[Place]]:
    """A producer under this id, after whoever had it: nothing is left open of them in these partitions.

    Also returns where a transaction was found open.
    """
    producer = cluster.producer(name, timeout_ms=timeout_ms)
    found = open_places(reader, places)
    if found:
        end_leftovers(producer, found)
        producer.drop()
        producer = cluster.producer(name, timeout_ms=timeout_ms)
    return producer, found


def open_places(reader: Any, places: Iterable[Place]) -> list[Place]:
    """Those of the partitions in which a transaction is open now."""
    return [(topic, p) for topic, p in places if reader.watermarks(topic, p)[1] > reader.stable(topic, p)]


def end_leftovers(producer: Any, places: Iterable[Place]) -> None:
    """Make these partitions part of a transaction that is never committed: its abort ends what was left there.

    The abort comes when the next producer starts under the same id; this one is to be dropped.
    """
    producer.begin()
    for topic, partition in places:
        producer.send(topic, partition, _KEY, b"")
    producer.flush()
