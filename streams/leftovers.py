"""Transactions that are over for the coordinator, while partitions still wait for their markers.

A broker that comes up ends the transactions that timed out meanwhile, and those whose commit it had begun. Partitions
whose leader it does not know yet it passes over, for deleted ones (Kafka 4.3, `TransactionMarkerChannelManager`; since
KAFKA-5202). Nobody writes their markers after that: read_committed stops there for ever, and the next marker of the
same producer would be taken for theirs. Other partitions may have had theirs before the broker died.

So whoever is to follow under an id ends what is left, before anything else can:

1. Where the coordinator says that the last transaction was committed, the rest of it is committed, too
   (`Cluster.commit_rest`). The next start under the id makes the coordinator forget that, so this comes first.
2. The start itself aborts what was never decided.
3. What is still open under the id was aborted: an abort marker in each partition where a transaction is open. That may
   also be somebody else's who is just writing. Then an aborted record is added to the partition, and no reader of
   committed records sees it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any

__all__ = ["Place", "beside", "complete", "end_leftovers", "follow", "open_places"]

_KEY = b"headrace.leftover"  # a compacted topic takes no record without a key
_TIMEOUT_MS = 60_000  # of transactions beside the cycle's, which take longer than those

Place = tuple[str, int]


def follow(cluster: Any, reader: Any, name: str, places: Iterable[Place]) -> tuple[Any, list[Place]]:
    """A producer under this id, after whoever had it: nothing is left open of them in these partitions.

    Also returns where a transaction was found open that had not been committed.
    """
    places = list(places)
    complete(cluster, reader, name, places)
    producer = cluster.producer(name, timeout_ms=_TIMEOUT_MS)
    found = open_places(reader, places)
    if found:
        end_leftovers(producer, found)
        producer.drop()
        producer = cluster.producer(name, timeout_ms=_TIMEOUT_MS)
    return producer, found


@contextlib.contextmanager
def beside(cluster: Any, name: str, places: Iterable[Place]) -> Iterator[tuple[Any, Any]]:
    """A reader, and a producer as `follow` makes it, for what is written beside the cycle; both are released."""
    with contextlib.closing(cluster.reader()) as reader:
        producer, _ = follow(cluster, reader, name, places)
        try:
            yield reader, producer
        finally:
            producer.drop()


def complete(cluster: Any, reader: Any, name: str, places: Iterable[Place]) -> None:
    """Commit the rest of the id's last transaction, if it was committed; nobody may have followed under the id yet."""
    found = open_places(reader, places)
    if found:
        cluster.commit_rest(name, found)


def open_places(reader: Any, places: Iterable[Place]) -> list[Place]:
    """Those of the partitions in which a transaction is open now."""
    return [place for place, (stable, high) in reader.ends(list(places)).items() if high > stable]


def end_leftovers(producer: Any, places: Iterable[Place]) -> None:
    """Make these partitions part of a transaction that is never committed: its abort ends what was left there.

    The abort comes when the next producer starts under the same id; this one is to be dropped.
    """
    producer.begin()
    for topic, partition in places:
        producer.send(topic, partition, _KEY, b"")
    producer.flush()
