"""Reads of committed records, outside of any group."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from confluent_kafka import (
    Consumer,
    KafkaError,
    KafkaException,
    TopicPartition,
)

from headrace.streams.errors import Lost, Stalled, TopicError
from headrace.streams.kafka.client import (
    UNKNOWN,
    latest,
    patiently,
    translated,
    watermark_offsets,
)
from headrace.streams.log import Record

if TYPE_CHECKING:
    from headrace.streams.kafka.cluster import Cluster

__all__ = ["Reader"]

log = logging.getLogger("headrace.kafka")


class Reader:
    """Reads ranges of committed records, to the end that the log has at the time, past writers' open transactions."""

    def __init__(self, cluster: Cluster, stall_s: float = 90.0) -> None:
        config = {
            "fetch.wait.max.ms": 20,
            "fetch.queue.backoff.ms": 5,
            **cluster.config,
            "group.id": "headrace-reader",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "error",
        }
        self._stall_s = stall_s
        self._config = config
        self._consumers: dict[str, Consumer] = {}
        self._consumer = self._reading("committed")
        self._known: set[tuple[str, str]] = set()

    def watermarks(self, topic: str, partition: int) -> tuple[int, int]:
        """The first offset still there, and the high watermark (open transactions included)."""
        return self._watermarks("uncommitted", topic, partition)

    def stable(self, topic: str, partition: int) -> int:
        """The last stable offset."""
        return self._watermarks("committed", topic, partition)[1]

    def ends(self, places: Sequence[tuple[str, int]]) -> dict[tuple[str, int], tuple[int, int]]:
        """The last stable offset and the high watermark of each, in two requests; the latter is asked for first."""
        with _asking("A topic of the pipeline is missing"):
            high = self._latest("uncommitted", places)
            return {place: (stable, high[place]) for place, stable in self._latest("committed", places).items()}

    def highs(self, places: Sequence[tuple[str, int]]) -> dict[tuple[str, int], int]:
        """The high watermark of each, in one request."""
        with _asking("A topic of the pipeline is missing"):
            return self._latest("uncommitted", places)

    def read(self, topic: str, partition: int, start: int | None = None, end: int | None = None) -> Iterator[Record]:
        """Committed records from `start` (or the first) to before `end` (or the high watermark as it is now).

        Raises `Lost` when `start` is gone, `Stalled` when the end is not reached within the deadline after the last
        record (a dead writer's transaction ends by its timeout, well within).
        """
        if start is None or end is None:
            low, high = self.watermarks(topic, partition)
            start = low if start is None else start
            end = high if end is None else end
            if start < low:
                raise Lost(f"{topic}/{partition}: offset {start} is gone, the first one left is {low}.")
        if start >= end:
            return
        self._take_newest()
        self._consumer.assign([TopicPartition(topic, partition, start)])
        deadline = time.monotonic() + self._stall_s
        m: Any
        while True:
            for m in self._consumer.consume(5_000, 0.1):
                error = m.error()
                if error is not None:
                    if error.code() == KafkaError._PARTITION_EOF and m.offset() >= end:
                        return
                    if error.code() in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):
                        raise Lost(f"{topic}/{partition}: offset {start} is gone ({error.str()}).")
                    continue
                if m.offset() >= end:
                    return
                yield Record(topic, partition, m.offset(), m.key(), m.value(), m.timestamp()[1], m.headers())
                if m.offset() == end - 1:
                    return
                deadline = time.monotonic() + self._stall_s
            if time.monotonic() > deadline:
                raise self._stalled(topic, partition, end)

    def follow(self, starts: Mapping[tuple[str, int], int]) -> None:
        """Read several partitions from these offsets on, by `poll`."""
        self._take_newest()
        self._consumer.assign([TopicPartition(topic, p, offset) for (topic, p), offset in starts.items()])

    def poll(self, limit: int, timeout_s: float) -> list[Record]:
        """The next committed records of what is followed, if any came in time."""
        messages: list[Any] = self._consumer.consume(limit, timeout_s)
        return [
            Record(m.topic(), m.partition(), m.offset(), m.key(), m.value(), m.timestamp()[1], m.headers())
            for m in messages
            if m.error() is None
        ]

    def close(self) -> None:
        """Release its consumers."""
        for consumer in {self._consumer, *self._consumers.values()}:
            consumer.close()

    def _stalled(self, topic: str, partition: int, end: int) -> Stalled:
        """Why nothing came for so long."""
        try:
            self._consumer.list_topics(topic, timeout=5)
        except KafkaException as error:
            return Stalled(str(translated(error)))
        return Stalled(
            f"{topic}/{partition}: no record for {self._stall_s:.0f} s before offset {end}. A transaction is "
            "open there: should the worker whose it was be gone for good, start its slot once more."
        )

    def _reading(self, isolation: str) -> Consumer:
        """The consumer that sees what is committed, or all; made when it is first needed."""
        if isolation not in self._consumers:
            config = {**self._config, "isolation.level": f"read_{isolation}"}
            self._consumers[isolation] = Consumer(config, logger=log)
        return self._consumers[isolation]

    def _take_newest(self) -> None:
        """Read with the client that is asked."""
        newest = self._reading("committed")
        if newest is not self._consumer:
            self._consumer.close()
            self._consumer = newest

    def _renew(self, isolation: str) -> None:
        """Ask another client from now on; what is being read is read on."""
        gone = self._consumers.pop(isolation)
        self._known = {known for known in self._known if known[0] != isolation}
        if gone is not self._consumer:
            gone.close()

    def _latest(self, isolation: str, places: Sequence[tuple[str, int]]) -> dict[tuple[str, int], int]:
        return latest(partial(self._reading, isolation), places, partial(self._renew, isolation))

    def _watermarks(self, isolation: str, topic: str, partition: int) -> tuple[int, int]:
        consumer, renew = partial(self._reading, isolation), partial(self._renew, isolation)
        with _asking(f"Topic {topic} has no partition {partition}"):
            if (isolation, topic) not in self._known:
                patiently(lambda: consumer().list_topics(topic, timeout=10), renew=renew)
                self._known.add((isolation, topic))
            return watermark_offsets(consumer, TopicPartition(topic, partition), renew)


@contextlib.contextmanager
def _asking(missing: str) -> Iterator[None]:
    """The client's errors as ours; `missing` is what an unknown topic means here."""
    try:
        yield
    except KafkaException as error:
        if error.args[0].code() in UNKNOWN:
            raise TopicError(f"{missing}: see `headrace topics`.") from error
        raise translated(error) from error
