"""The cluster: what makes clients, and asks and changes what is there."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # exported, but not by the stubs' rules
    AdminClient,
    ConfigResource,
    NewTopic,
    ResourceType,
)

from headrace.streams.errors import Aborted, TopicError, Unreachable, UsageError
from headrace.streams.kafka.client import AWAY, AWAY_S, LARGEST_BYTES, patiently, translated
from headrace.streams.kafka.consumer import GroupConsumer
from headrace.streams.kafka.producer import TransactionalProducer
from headrace.streams.kafka.reader import Reader
from headrace.streams.settings import Connection

__all__ = ["Cluster"]

log = logging.getLogger("headrace.kafka")

COMMON = {
    "client.id": "headrace",
    "topic.metadata.refresh.interval.ms": 30_000,
    "socket.nagle.disable": True,
    "reconnect.backoff.ms": 50,
    "reconnect.backoff.max.ms": 1_000,
    "retry.backoff.ms": 2,
    "retry.backoff.max.ms": 10,  # the client doubles it: what the broker refuses for 65 ms would wait for 126
    "log_level": 3,
}


OFFSETS = "__consumer_offsets"
_NOBODY = re.compile(r"Connect to .* failed|Failed to resolve")
"""What the client says of an address where nobody listens."""


class Cluster:
    """A Kafka cluster, and the properties that every client of it is given."""

    def __init__(self, bootstrap: str, config: Mapping[str, str] | None = None) -> None:
        self.bootstrap = bootstrap
        self.config: dict[str, Any] = {**COMMON, "bootstrap.servers": bootstrap, **(config or {})}
        self._admin: AdminClient | None = None

    def check(self, timeout_s: float = 10.0) -> None:
        """Raise `Unreachable` unless a broker answers, `UsageError` when the client refuses its configuration."""
        heard: list[KafkaError] = []
        try:
            config: Any = {**self.config, "error_cb": heard.append}
            client = AdminClient(config, logger=log)
        except KafkaException as error:
            raise UsageError(f"The Kafka client refuses its configuration: {error.args[0].str()}.") from error
        try:
            client.list_topics(timeout=timeout_s)
        except KafkaException as error:
            client.poll(0)
            said = [each.str() for each in heard if each.code() != KafkaError._ALL_BROKERS_DOWN]
            why = f" ({said[0].partition(' (after ')[0]})" if said else ""
            step = "start one with `headrace broker start`, or name yours"
            if not any(map(_NOBODY.search, said)):  # somebody listens, or a firewall is silent
                step = "see that Kafka works there, and that `security.protocol` is as it expects, or name another"
            raise Unreachable(
                f"No Kafka broker answers at {self.bootstrap}{why}: {step} with --bootstrap or HEADRACE_BOOTSTRAP."
            ) from error
        self._admin = self._admin or client

    @property
    def admin(self) -> AdminClient:
        """The one admin client."""
        if self._admin is None:
            self._admin = AdminClient(self.config, logger=log)
        return self._admin

    def _renew(self) -> None:
        self._admin = None

    # -- clients -------------------------------------------------------------------------------------------------

    def consumer(self, group: str, slot: str, *, gather_s: float, **callbacks: Callable[..., None]) -> GroupConsumer:
        """A member of `group` whose static name is `slot`; brokers gather what it reads for so long."""
        return GroupConsumer(self, group, slot, gather_s=gather_s, **callbacks)

    def producer(self, transactional_id: str, timeout_ms: int = 20_000) -> TransactionalProducer:
        """A producer that has fenced whoever used this id before."""
        return TransactionalProducer(self, transactional_id, timeout_ms)

    def reader(self) -> Reader:
        """A consumer without a group, for reading ranges of committed records."""
        return Reader(self)

    def plain_producer(self, **config: Any) -> Producer:
        """An idempotent producer for publishers."""
        settings = {
            "linger.ms": 5,
            "queue.buffering.max.messages": 200_000,
            "compression.type": "lz4",
            "message.max.bytes": LARGEST_BYTES,
            **self.config,
            "enable.idempotence": True,
            "partitioner": "murmur2_random",
        }
        return Producer({**settings, **config}, logger=log)

    # -- transactions ----------------------------------------------------------------------------------------------

    def commit_rest(self, transactional_id: str, places: Sequence[tuple[str, int]]) -> list[tuple[str, int]]:
        """Commit what the id's last transaction has open in these partitions, if it was decided to be committed.

        To be called before anybody follows under the id (`decided.py`). Raises `Aborted` when nobody answers; a cluster
        that refuses the question is told of in the log, and nothing is committed.
        """
        from headrace.streams.kafka.aio import clients
        from headrace.streams.kafka.decided import Refused, commit_rest  # rarely needed, and takes a while to import

        own = {name: str(value) for name, value in self.config.items() if name != "bootstrap.servers"}
        try:
            found = commit_rest(clients(Connection(self.bootstrap, own)).aiokafka(), transactional_id, places)
        except TimeoutError as error:
            raise Aborted(f"the coordinator of {transactional_id} does not say what became of it") from error
        except (Refused, UsageError) as error:
            log.warning(
                "what is left of %s's last transaction is aborted, whatever it was: %s", transactional_id, error
            )
            return []
        if found:
            log.warning("committed what a broker had left open of %s in %s", transactional_id, _listed(found))
        return found

    def offsets_of(self, group: str) -> list[tuple[str, int]]:
        """Where a group's offsets are; nowhere before the cluster's first group."""
        try:
            found = patiently(lambda: self.admin.list_topics(OFFSETS, timeout=10), away_s=AWAY_S, renew=self._renew)
        except KafkaException as error:
            raise translated(error) from error
        known = found.topics[OFFSETS].partitions
        return [(OFFSETS, _hash(group) % len(known))] if known else []

    # -- topics and groups ---------------------------------------------------------------------------------------

    def describe(self, names: Iterable[str]) -> dict[str, tuple[int, dict[str, str]]]:
        """Partitions and settings of those topics that exist."""
        try:
            known = self.admin.list_topics(timeout=10).topics
        except KafkaException as error:
            raise translated(error) from error
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
                    raise translated(error) from error
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
            self._renew()
            raise Unreachable(f"No Kafka broker answers at {self.bootstrap} ({error.args[0].name()}).") from error
        return {name for name, topic in found.items() if topic.error is None}

    def members(self, wanted: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
        """The members that these groups have now: slot, host, partitions by topic; `Unreachable` without an answer."""
        answers = self.admin.describe_consumer_groups(list(wanted), request_timeout=5)  # all asked at once
        out = {}
        for group in wanted:
            try:
                out[group] = _members(answers[group].result(timeout=8))
            except TimeoutError as error:  # the client's own future: the broker went away meanwhile
                raise Unreachable(f"No Kafka broker answers at {self.bootstrap} (asked for group {group}).") from error
            except KafkaException as error:
                if error.args[0].code() in AWAY:
                    self._renew()  # one that lost a coordinator may not find it again
                    raise Unreachable(f"Nobody answers at {self.bootstrap} for group {group} yet.") from error
                out[group] = []
        return out

    def delete_group(self, group: str) -> None:
        """Forget a group's offsets."""
        try:
            self.admin.delete_consumer_groups([group])[group].result(timeout=15)
        except KafkaException as error:
            if error.args[0].code() not in (KafkaError.GROUP_ID_NOT_FOUND, KafkaError.COORDINATOR_NOT_AVAILABLE):
                raise translated(error) from error

    def committed(self, group: str) -> dict[tuple[str, int], int]:
        """What a group has committed, by topic and partition; nothing while its coordinator does not answer.

        Asked by a consumer that never joins: the admin client's own question (`list_consumer_group_offsets`) ends the
        process with a segmentation fault when the broker goes away meanwhile.
        """
        # Uncommitted: else it waits for offsets that a transaction under way has still to commit.
        quiet = {"group.id": group, "enable.auto.commit": False, "isolation.level": "read_uncommitted"}
        consumer = Consumer({**self.config, **quiet}, logger=log)
        try:
            known = consumer.list_topics(timeout=3).topics.values()
            places = [TopicPartition(topic.topic, number) for topic in known for number in topic.partitions]
            found = consumer.committed(places, timeout=5) if places else []
        except KafkaException:  # a cluster's first request of this kind finds no coordinator yet
            return {}
        finally:
            consumer.close()
        return {(tp.topic, tp.partition): tp.offset for tp in found if tp.error is None and tp.offset >= 0}


def _members(found: Any) -> list[dict[str, Any]]:
    out = []
    for member in found.members:
        held: dict[str, list[int]] = {}
        for place in member.assignment.topic_partitions if member.assignment else ():
            held.setdefault(place.topic, []).append(place.partition)
        slot = member.group_instance_id or member.member_id
        out.append({"slot": slot, "host": member.host.lstrip("/"), "partitions": dict(sorted(held.items()))})
    return sorted(out, key=lambda member: str(member["slot"]))


def _hash(text: str) -> int:
    """Kafka's `Utils.abs` of Java's `String.hashCode`, which chooses the partition of a group's offsets."""
    data = text.encode("utf-16-be")
    number = 0
    for i in range(0, len(data), 2):
        number = (31 * number + int.from_bytes(data[i : i + 2], "big")) & 0xFFFFFFFF
    return number if number < 1 << 31 else 0 if number == 1 << 31 else (1 << 32) - number


def _listed(places: Sequence[tuple[str, int]]) -> str:
    return ", ".join(f"{topic}/{number}" for topic, number in places)
