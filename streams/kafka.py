"""The one file that speaks to Kafka.

Small enough that a fake log can stand in for it: `Cluster` makes consumers, transactional producers and readers. Every
client error leaves here as one of our own: `Aborted` (recover from the journal), `Fenced` (end), `Unreachable`,
`TopicError`, `Lost`.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from confluent_kafka import (
    OFFSET_INVALID,
    Consumer,
    ConsumerGroupTopicPartitions,
    KafkaError,
    KafkaException,
    Message,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # exported, but not by the stubs' rules
    AdminClient,
    ConfigResource,
    NewTopic,
    ResourceType,
)

from headrace.streams.errors import Aborted, Fenced, Lost, Stalled, TopicError, Unreachable, UsageError
from headrace.streams.log import END, Record

__all__ = ["Cluster", "GroupConsumer", "Reader", "TransactionalProducer"]

log = logging.getLogger("headrace.kafka")

SLOW_S = 1.0
"""A request that takes longer may have been sent again."""

_FENCED = {
    KafkaError._FENCED,
    KafkaError.FENCED_INSTANCE_ID,
    KafkaError.INVALID_PRODUCER_EPOCH,
    KafkaError.PRODUCER_FENCED,
}
_LEADERLESS = {KafkaError.LEADER_NOT_AVAILABLE, KafkaError.NOT_LEADER_FOR_PARTITION}
_UNKNOWN = {KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION}
_UNKNOWN_S = 5.0
"""A broker that has just started knows none of its topics: only one that stays unknown for so long does not exist."""
_BROKEN = re.compile(r"REQTMOUT|FAIL .*in state UP(?!.*_DESTROY_BROKER)")
"""A line of the client's log that says that a connection in use broke, or that a request was given up."""
_LARGEST_BYTES = 100_000_000
"""What a producer sends at most, as brokers take no larger request. The topics' own limits are far below."""
_RECORD: Any = tuple.__new__
"""Makes a `Record` as its class does, in a third of the time."""
_COMMON = {
    "client.id": "headrace",
    "topic.metadata.refresh.interval.ms": 30_000,
    "socket.nagle.disable": True,
    "reconnect.backoff.ms": 50,
    "reconnect.backoff.max.ms": 1_000,
    "retry.backoff.ms": 2,
    "log_level": 3,
}


class Cluster:
    """A Kafka cluster, and the properties that every client of it is given."""

    def __init__(self, bootstrap: str, config: Mapping[str, str] | None = None) -> None:
        self.bootstrap = bootstrap
        self.config: dict[str, Any] = {**_COMMON, "bootstrap.servers": bootstrap, **(config or {})}
        self._admin: AdminClient | None = None

    def check(self, timeout_s: float = 10.0) -> None:
        """Raise `Unreachable` unless a broker answers, `UsageError` when the client refuses its configuration."""
        said: list[str] = []
        try:
            config: Any = {**self.config, "error_cb": lambda error: said.append(error.str())}
            client = AdminClient(config, logger=log)
        except KafkaException as error:
            raise UsageError(f"The Kafka client refuses its configuration: {error.args[0].str()}.") from error
        try:
            client.list_topics(timeout=timeout_s)
        except KafkaException as error:
            client.poll(0)
            why = f" ({said[0].partition(' (after ')[0]})" if said else ""
            raise Unreachable(
                f"No Kafka broker answers at {self.bootstrap}{why}: start one with `headrace broker start`, "
                "or name yours with --bootstrap or HEADRACE_BOOTSTRAP."
            ) from error
        self._admin = self._admin or client

    @property
    def admin(self) -> AdminClient:
        """The one admin client."""
        if self._admin is None:
            self._admin = AdminClient(self.config, logger=log)
        return self._admin

    # -- clients -------------------------------------------------------------------------------------------------

    def consumer(self, group: str, slot: str, **callbacks: Callable[..., None]) -> GroupConsumer:
        """A member of `group` whose static name is `slot`."""
        return GroupConsumer(self, group, slot, **callbacks)

    def producer(self, transactional_id: str, timeout_ms: int = 20_000) -> TransactionalProducer:
        """A producer that has fenced whoever used this id before."""
        return TransactionalProducer(self, transactional_id, timeout_ms)

    def reader(self) -> Reader:
        """A consumer without a group, for reading ranges of committed records."""
        return Reader(self)

    def plain_producer(self, **config: Any) -> Producer:
        """An idempotent producer for publishers."""
        settings = {
            "enable.idempotence": True,
            "partitioner": "murmur2_random",
            "linger.ms": 5,
            "queue.buffering.max.messages": 200_000,
            "compression.type": "lz4",
            "message.max.bytes": _LARGEST_BYTES,
        }
        return Producer({**self.config, **settings, **config}, logger=log)

    # -- topics and groups ---------------------------------------------------------------------------------------

    def describe(self, names: Iterable[str]) -> dict[str, tuple[int, dict[str, str]]]:
        """Partitions and settings of those topics that exist."""
        known = self.admin.list_topics(timeout=10).topics
        existing = [name for name in names if name in known and known[name].error is None]
        resources = [ConfigResource(ResourceType.TOPIC, name) for name in existing]
        out = {}
        if resources:
            for resource, future in self.admin.describe_configs(resources).items():
                try:
                    entries = future.result(timeout=30)
                except KafkaException as error:
                    if error.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
                        continue  # deleted a moment ago
                    raise _translated(error) from error
                values = {name: entry.value for name, entry in entries.items()}
                out[resource.name] = (len(known[resource.name].partitions), values)
        return out

    def create(self, topics: Iterable[tuple[str, int, Mapping[str, str]]]) -> None:
        """Create topics with their partitions and settings; those that exist are left alone."""
        new = [NewTopic(name, partitions, config=dict(config)) for name, partitions, config in topics]
        if not new:
            return
        for name, future in self.admin.create_topics(new, operation_timeout=30).items():
            try:
                future.result(timeout=60)
            except KafkaException as error:
                if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                    raise TopicError(f"Topic {name} could not be created: {error.args[0].str()}.") from error

    def delete(self, names: Iterable[str]) -> None:
        """Delete topics; those that do not exist are passed over."""
        wanted = list(names)
        if not wanted:
            return
        for name, future in self.admin.delete_topics(wanted, operation_timeout=30).items():
            try:
                future.result(timeout=60)
            except KafkaException as error:
                if error.args[0].code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
                    raise TopicError(f"Topic {name} could not be deleted: {error.args[0].str()}.") from error

    def topics(self, timeout_s: float = 10.0) -> set[str]:
        """Names of the topics that exist; `Unreachable` when no broker answers in time."""
        try:
            found = self.admin.list_topics(timeout=timeout_s).topics
        except KafkaException as error:
            raise Unreachable(f"No Kafka broker answers at {self.bootstrap} ({error.args[0].name()}).") from error
        return {name for name, topic in found.items() if topic.error is None}

    def members(self, group: str) -> list[dict[str, Any]]:
        """The members that the consumer group has now: slot, host, and partitions by topic."""
        try:
            found = self.admin.describe_consumer_groups([group])[group].result(timeout=15)
        except KafkaException:
            return []
        out = []
        for member in found.members:
            held: dict[str, list[int]] = {}
            for place in member.assignment.topic_partitions if member.assignment else ():
                held.setdefault(place.topic, []).append(place.partition)
            slot = member.group_instance_id or member.member_id
            out.append({"slot": slot, "host": member.host.lstrip("/"), "partitions": dict(sorted(held.items()))})
        return sorted(out, key=lambda member: str(member["slot"]))

    def group_members(self, group: str) -> int:
        """How many members the consumer group has now."""
        return len(self.members(group))

    def delete_group(self, group: str) -> None:
        """Forget a group's offsets."""
        try:
            self.admin.delete_consumer_groups([group])[group].result(timeout=15)
        except KafkaException as error:
            if error.args[0].code() not in (KafkaError.GROUP_ID_NOT_FOUND, KafkaError.COORDINATOR_NOT_AVAILABLE):
                raise

    def committed(self, group: str) -> dict[tuple[str, int], int]:
        """What a group has committed, by topic and partition."""
        try:
            request = [ConsumerGroupTopicPartitions(group)]
            found = self.admin.list_consumer_group_offsets(request, request_timeout=3)[group].result(timeout=15)
        except (KafkaException, TimeoutError):  # a cluster's first request of this kind finds no coordinator yet
            return {}
        return {(tp.topic, tp.partition): tp.offset for tp in found.topic_partitions if tp.offset >= 0}


class GroupConsumer:
    """A static member of a consumer group, reading committed records from offsets that we choose.

    `on_assign(partitions)` and `on_revoke(partitions)` are called from within `fetch`; nothing is read of a new
    assignment until `seek` says from where.
    """

    def __init__(
        self,
        cluster: Cluster,
        group: str,
        slot: str,
        *,
        on_assign: Callable[[list[tuple[str, int]]], None],
        on_revoke: Callable[[list[tuple[str, int]]], None],
    ) -> None:
        self._consumer = Consumer(
            {
                "session.timeout.ms": 10_000,
                "heartbeat.interval.ms": 1_000,
                "max.poll.interval.ms": 300_000,
                "fetch.wait.max.ms": 50,
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
            },
            logger=log,
        )
        self._on_assign, self._on_revoke = on_assign, on_revoke
        self._ready: list[Message] = []

    def subscribe(self, topics: Sequence[str]) -> None:
        """Join the group."""
        try:
            self._consumer.list_topics(timeout=10)
        except KafkaException as error:
            raise _translated(error) from error
        self._consumer.subscribe(list(topics), on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._revoked)

    def fetch(self, limit: int, timeout_s: float) -> list[Record]:
        """What has arrived: at least one record unless the timeout passes first, at most `limit`."""
        try:
            messages = self._consumer.consume(limit, timeout_s)
        except KafkaException as error:
            raise _translated(error) from error
        out: list[Record] = []
        append, make = out.append, _RECORD
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
        self._consumer.seek(TopicPartition(topic, partition, offset))

    def committed(
        self, partitions: Sequence[tuple[str, int]], timeout_s: float = 30.0
    ) -> dict[tuple[str, int], int | None]:
        """The group's committed offsets."""
        try:
            found = self._consumer.committed([TopicPartition(t, p) for t, p in partitions], timeout=timeout_s)
        except KafkaException as error:
            raise _translated(error) from error
        return {(tp.topic, tp.partition): None if tp.offset == OFFSET_INVALID else tp.offset for tp in found}

    def metadata(self) -> Any:
        """The group metadata that fences a transaction; fetched anew for every commit."""
        return self._consumer.consumer_group_metadata()

    def close(self) -> None:
        """Stop; a static member keeps its place until the session times out."""
        self._consumer.close()

    def _assigned(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        consumer.assign([])
        self._on_assign([(tp.topic, tp.partition) for tp in partitions])

    def _revoked(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._on_revoke([(tp.topic, tp.partition) for tp in partitions])

    def _exists(self, topic: str) -> bool:
        try:
            return _exists(self._consumer, topic)
        except KafkaException:
            return True  # nobody answers, which others report

    def _raise(self, error: KafkaError, message: Message) -> None:
        code = error.code()
        if code in _FENCED or code == KafkaError._FATAL:  # nothing else is fatal to a consumer; it never reads again
            raise Fenced(_TAKEN)
        if code in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):
            raise Lost(
                f"{message.topic()}/{message.partition()}: the next record to read is gone past retention "
                f"({error.str()}); `headrace reset` starts anew, and says what is lost."
            )
        if code in _UNKNOWN and not self._exists(str(message.topic())):
            raise TopicError(f"Topic {message.topic()} does not exist: create it with `headrace topics --apply`.")
        if error.fatal():
            raise Aborted(error.str())
        log.warning("consumer: %s", error.str())


class TransactionalProducer:
    """Transactions under a stable id. After any trouble: `drop` it, make a new one, recover.

    Aborting is not offered: an abort soon after a begin is fatal now and then, and a new producer with the same id
    aborts the old transaction all the same.

    `suspicious` says that a request of a transaction may have been sent twice (a connection broke meanwhile, or it was
    slow). The client has no KIP-890: a late copy would end the next transaction, or set offsets back in it, so that one
    needs a new producer.
    """

    def __init__(self, cluster: Cluster, transactional_id: str, timeout_ms: int) -> None:
        self._suspicious = False
        self._open = False
        self._producer = Producer(
            {
                "linger.ms": 50,  # a commit does not wait for it
                "batch.num.messages": 100_000,
                "batch.size": 1_000_000,
                "queue.buffering.max.messages": 1_000_000,
                "queue.buffering.max.kbytes": 1_048_576,
                "message.max.bytes": _LARGEST_BYTES,
                "compression.type": "lz4",
                "delivery.timeout.ms": timeout_ms,
                **cluster.config,
                "transactional.id": transactional_id,
                "transaction.timeout.ms": timeout_ms,
                "error_cb": self._on_error,
                # A connection that breaks in mid-request reaches no callback, but each time the log of this context.
                "debug": "broker",
                "log_level": 7,
            },
            logger=_Listener(self._on_log),
        )
        self._call(self._producer.init_transactions)
        self._suspicious = False

    @property
    def suspicious(self) -> bool:
        """Whether a late copy of a request may reach the next transaction; what the client noticed is served first."""
        self._producer.poll(0)
        return self._suspicious

    def begin(self) -> None:
        """Open a transaction."""
        self._producer.poll(0)  # what broke before is not about this transaction
        self._call(self._producer.begin_transaction)
        self._open = True

    def send(self, topic: str, partition: int, key: bytes | None, value: bytes | None, headers: Any = None) -> None:
        """Add a record to the transaction."""
        try:
            if headers:
                self._producer.produce(topic, value, key, partition, headers=headers)
            else:
                self._producer.produce(topic, value, key, partition)
        except BufferError:
            self._await_room()
            self.send(topic, partition, key, value, headers)
        except KafkaException as error:
            raise _translated(error) from error

    def _await_room(self) -> None:
        """The queue is full: wait until some of it is delivered, or Kafka has been away for too long."""
        deadline = time.monotonic() + 60
        full = len(self._producer)
        while len(self._producer) >= full:
            if time.monotonic() > deadline:
                raise Aborted("nothing of the transaction was delivered within 60 s")
            self._producer.poll(0.05)

    def offsets(self, offsets: Mapping[tuple[str, int], int], metadata: Any) -> None:
        """Add the consumed offsets to the transaction."""
        positions = [TopicPartition(topic, p, offset) for (topic, p), offset in offsets.items()]
        self._call(self._producer.send_offsets_to_transaction, positions, metadata, 5.0, within_s=20.0)

    def commit(self) -> None:
        """Commit; on return the transaction is in the log."""
        began = time.monotonic()
        self._call(self._producer.commit_transaction)
        if time.monotonic() - began > 0.05:
            self._producer.poll(0.1)  # the client's word that a connection broke comes a little after its new answer

    def flush(self, within_s: float = 20.0) -> None:
        """Return when every record of the transaction has reached the log; `Aborted` when one does not in time."""
        if self._producer.flush(within_s):
            raise Aborted(f"records of a transaction did not reach the log within {within_s:g} s")

    def poll(self) -> None:
        """Serve callbacks while idle; what happens from here on is about no transaction."""
        self._producer.poll(0)
        self._open = False

    def drop(self) -> None:
        """Forget this producer and whatever it has open; its successor's start aborts that."""
        self._producer.purge(in_queue=True, in_flight=True, blocking=False)

    def _call(self, function: Callable[..., Any], *args: Any, within_s: float = 60.0) -> None:
        began = time.monotonic()
        deadline = began + within_s
        while True:
            try:
                function(*args)
                self._suspicious |= time.monotonic() - began > SLOW_S
                return
            except KafkaException as error:
                if not error.args[0].retriable() or time.monotonic() > deadline:
                    raise _translated(error) from error

    def _on_error(self, error: KafkaError) -> None:
        self._suspicious |= self._open
        log.info("producer: %s", error.str())

    def _on_log(self, level: int, text: str) -> None:
        self._suspicious |= self._open and _BROKEN.match(text) is not None
        if level >= logging.ERROR:
            log.log(level, "%s", text)


class _Listener:
    """Takes a client's log where the client wants a logger."""

    def __init__(self, hear: Callable[[int, str], None]) -> None:
        self._hear = hear

    def log(self, level: int, pattern: str, *values: Any) -> None:
        """One line of the client's, served from its `poll`."""
        self._hear(level, pattern % values if values else pattern)


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
        self._consumer = Consumer({**config, "isolation.level": "read_committed"}, logger=log)
        self._uncommitted = Consumer({**config, "isolation.level": "read_uncommitted"}, logger=log)
        self._known: set[str] = set()

    def watermarks(self, topic: str, partition: int) -> tuple[int, int]:
        """The first offset still there, and the high watermark (open transactions included)."""
        return self._watermarks(self._uncommitted, topic, partition)

    def stable(self, topic: str, partition: int) -> int:
        """The last stable offset."""
        return self._watermarks(self._consumer, topic, partition)[1]

    def read(self, topic: str, partition: int, start: int | None = None, end: int | None = None) -> Iterator[Record]:
        """Committed records from `start` (or the first) to before `end` (or the high watermark as it is now).

        Raises `Lost` when `start` is gone, `Stalled` when the end is not reached within the deadline after the last
        record (a dead writer's transaction ends by its timeout, well within).
        """
        low, high = self.watermarks(topic, partition)
        start = low if start is None else start
        end = high if end is None else end
        if start < low:
            raise Lost(f"{topic}/{partition}: offset {start} is gone, the first one left is {low}.")
        if start >= end:
            return
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
                        raise Lost(f"{topic}/{partition}: {error.str()}")
                    continue
                if m.offset() >= end:
                    return
                yield Record(topic, partition, m.offset(), m.key(), m.value(), m.timestamp()[1], m.headers())
                if m.offset() == end - 1:
                    return
                deadline = time.monotonic() + self._stall_s
            if time.monotonic() > deadline:
                raise Stalled(
                    f"{topic}/{partition}: no record for {self._stall_s:.0f} s before offset {end}. A transaction is "
                    "open there: should the worker whose it was be gone for good, start its slot once more."
                )

    def follow(self, starts: Mapping[tuple[str, int], int]) -> None:
        """Read several partitions from these offsets on, by `poll`."""
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
        """Release both consumers."""
        self._consumer.close()
        self._uncommitted.close()

    def _watermarks(self, consumer: Consumer, topic: str, partition: int) -> tuple[int, int]:
        try:
            if topic not in self._known:
                for client in (self._consumer, self._uncommitted):
                    client.list_topics(topic, timeout=10)
                self._known.add(topic)
            low, high = _watermark_offsets(consumer, TopicPartition(topic, partition))
        except KafkaException as error:
            if error.args[0].code() in _UNKNOWN:
                raise TopicError(f"Topic {topic} has no partition {partition}: see `headrace topics`.") from error
            raise _translated(error) from error
        return int(low), int(high)


_TAKEN = "Another worker has taken this slot: give each worker a --slot of its own, or stop the other one."


def _watermark_offsets(consumer: Consumer, place: TopicPartition) -> tuple[int, int]:
    """Both ends; the leader of a partition that was made a moment ago may not know of it yet."""
    began = time.monotonic()
    while True:
        try:
            return consumer.get_watermark_offsets(place, timeout=15, cached=False)
        except KafkaException as error:
            code = error.args[0].code()
            patience_s = 15.0 if code in _LEADERLESS else _UNKNOWN_S if code in _UNKNOWN else 0.0
            if time.monotonic() - began >= patience_s:
                raise
        time.sleep(0.05)
        consumer.list_topics(place.topic, timeout=10)


def _exists(consumer: Consumer, topic: str) -> bool:
    """Whether the broker knows a topic, or comes to within a moment."""
    deadline = time.monotonic() + _UNKNOWN_S
    while True:
        found = consumer.list_topics(topic, timeout=10).topics.get(topic)
        if found is not None and found.error is None:
            return True
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)


def _translated(exception: KafkaException) -> Exception:
    error: KafkaError = exception.args[0]
    if error.code() in _FENCED:
        return Fenced(_TAKEN)
    if error.code() == KafkaError.MSG_SIZE_TOO_LARGE:  # and would be at every try
        return TopicError(
            f"A record is larger than its topic takes: raise the topic's max.message.bytes, then start again "
            f"({error.str()})."
        )
    return Aborted(f"{error.name()}: {error.str()}")
