"""A member of a consumer group, under a stable name."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from confluent_kafka import (
    OFFSET_INVALID,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)

from headrace.streams.errors import Aborted, Expelled, Lost, TopicError
from headrace.streams.kafka.client import (
    EXPELLED,
    RECORD,
    UNKNOWN,
    exists,
    translated,
)
from headrace.streams.log import END, Record

if TYPE_CHECKING:
    from headrace.streams.kafka.cluster import Cluster

__all__ = ["GroupConsumer"]

log = logging.getLogger("headrace.kafka")

_ANSWER_S = 0.005
"""An answer is on its way for so long at most."""
_TOGETHER_S = 0.001
"""So far apart the client hands out what came in one answer."""
_EVERYTHING = 1_000_000
"""The most records that the client hands over at once: all that it has fetched, and every callback among them."""


class GroupConsumer:
    """A static member of a consumer group, reading committed records from offsets that we choose.

    `on_assign(partitions)`, `on_revoke(partitions)` and `on_lost(partitions)` are called from within `fetch`: what is
    lost, and not revoked, others may have had before we heard of it. Nothing is read of a new assignment until `seek`
    says from where.

    A broker answers a fetch after `gather_s`, or when it has 100 kB. Answered at every record, as is the client's
    default, a thousand of them a second cost twice the processor time, here and there.
    """

    def __init__(
        self,
        cluster: Cluster,
        group: str,
        slot: str,
        *,
        gather_s: float,
        on_assign: Callable[[list[tuple[str, int]]], None],
        on_revoke: Callable[[list[tuple[str, int]]], None],
        on_lost: Callable[[list[tuple[str, int]]], None] | None = None,
    ) -> None:
        self._consumer = Consumer(
            {
                "session.timeout.ms": 10_000,
                "heartbeat.interval.ms": 1_000,
                "max.poll.interval.ms": 300_000,
                "fetch.wait.max.ms": max(1, round(1000 * gather_s)),
                "fetch.min.bytes": 100_000,
                "fetch.queue.backoff.ms": 5,
                "queued.min.messages": 20_000,
                "queued.max.messages.kbytes": 32_768,
                **cluster.config,
                "group.id": group,
                "group.instance.id": slot,
                "isolation.level": "read_committed",
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "auto.offset.reset": "error",
                "partition.assignment.strategy": "range",
                "error_cb": self._failed,
            },
            logger=log,
        )
        self._away = False
        self._on_assign, self._on_revoke, self._on_lost = on_assign, on_revoke, on_lost or on_revoke
        self._answered_s = gather_s + _ANSWER_S

    def subscribe(self, topics: Sequence[str]) -> None:
        """Join the group."""
        try:
            self._consumer.list_topics(timeout=10)
        except KafkaException as error:
            raise translated(error) from error
        self._consumer.subscribe(list(topics), on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._lost)

    def fetch(self, limit: int, timeout_s: float) -> list[Record]:
        """What arrives within the timeout, at most `limit` records; nothing is waited for without one.

        Where nothing has come by then the next answer of a broker is waited for, and no longer than for that.
        """
        deadline = time.monotonic() + timeout_s
        try:
            messages = self._consumer.consume(1, max(timeout_s, self._answered_s) if timeout_s else 0.0)
            if messages and limit > 1:
                left_s = max(_TOGETHER_S, deadline - time.monotonic()) if timeout_s else 0.0
                messages += self._consumer.consume(limit - 1, left_s)
        except KafkaException as error:
            raise translated(error) from error
        if self._away:
            self._ask()
        out: list[Record] = []
        append, make = out.append, RECORD
        message: Any
        for message in messages:
            problem = message.error()
            topic, partition, offset = message.topic(), message.partition(), message.offset()
            if problem is None:
                at_ms = message.timestamp()[1]
                append(make(Record, (topic, partition, offset, message.key(), message.value(), at_ms, None)))
            elif problem.code() == KafkaError._PARTITION_EOF:
                append(Record(topic, partition, offset, None, END, 0))
            else:
                self._raise(problem, message)
        return out

    def seek(self, offsets: Mapping[tuple[str, int], int]) -> None:
        """Read these partitions from these offsets on, and no others."""
        self._consumer.assign([TopicPartition(topic, p, offset) for (topic, p), offset in offsets.items()])

    def pause(self, topic: str, partition: int) -> None:
        """Receive nothing more of a partition; what was fetched ahead is dropped."""
        self._consumer.pause([TopicPartition(topic, partition)])

    def resume(self, topic: str, partition: int, offset: int) -> None:
        """Receive a partition again from `offset` on."""
        self._consumer.resume([TopicPartition(topic, partition)])
        try:
            self._consumer.seek(TopicPartition(topic, partition, offset))
        except KafkaException as error:  # put out of its group a moment ago, of which the next fetch tells
            raise translated(error) from error

    def committed(
        self, partitions: Sequence[tuple[str, int]], timeout_s: float = 30.0
    ) -> dict[tuple[str, int], int | None]:
        """The group's committed offsets."""
        try:
            found = self._consumer.committed([TopicPartition(t, p) for t, p in partitions], timeout=timeout_s)
        except KafkaException as error:
            raise translated(error) from error
        return {(tp.topic, tp.partition): None if tp.offset == OFFSET_INVALID else tp.offset for tp in found}

    def metadata(self) -> Any:
        """The group metadata that fences a transaction; fetched anew for every commit."""
        return self._consumer.consumer_group_metadata()

    def close(self) -> None:
        """Stop; a static member keeps its place until the session times out.

        A rebalance that waits for our answer is answered first: the client's own close may wait for it for ever, with
        every thread of the process (librdkafka issue 4884; four in a hundred that had just subscribed).
        """
        self._on_assign = self._on_revoke = self._on_lost = lambda _: None
        with contextlib.suppress(KafkaException):
            self._consumer.consume(_EVERYTHING, 0.0)
        self._consumer.close()

    def _assigned(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        consumer.assign([])
        self._on_assign([(tp.topic, tp.partition) for tp in partitions])

    def _revoked(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._on_revoke([(tp.topic, tp.partition) for tp in partitions])

    def _lost(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._on_lost([(tp.topic, tp.partition) for tp in partitions])

    def _failed(self, error: KafkaError) -> None:
        if error.code() == KafkaError._ALL_BROKERS_DOWN:
            log.info("consumer: %s", error.str())
            self._away = True

    def _ask(self) -> None:
        """Raise `Expelled` where every broker was away and none answers: the client may have forgotten them all.

        One that had just come back may list no broker, and a client asks none again (librdkafka issue 5301).
        """
        self._away = False
        try:
            self._consumer.list_topics(timeout=10)
        except KafkaException as error:
            raise Expelled(f"no broker answers this worker's consumer ({error.args[0].str()})") from error

    def _exists(self, topic: str) -> bool:
        try:
            return exists(self._consumer, topic)
        except KafkaException:
            return True  # nobody answers, which others report

    def _raise(self, error: KafkaError, message: Message) -> None:
        code = error.code()
        if code in (KafkaError.FENCED_INSTANCE_ID, KafkaError._FATAL):  # nothing else is fatal to a consumer
            raise Expelled(EXPELLED)
        if code in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):
            raise Lost(
                f"{message.topic()}/{message.partition()}: the next record to read is gone past retention "
                f"({error.str()}); `headrace reset` starts anew, and says what is lost.",
                advised=True,
            )
        if code in UNKNOWN and not self._exists(str(message.topic())):
            raise TopicError(f"Topic {message.topic()} does not exist: create it with `headrace topics --apply`.")
        if error.fatal():
            raise Aborted(error.str())
        log.warning("consumer: %s", error.str())
