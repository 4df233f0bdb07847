"""What every client needs: the client's errors as ours, whether a topic is there, and where a partition ends."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from confluent_kafka import OFFSET_END, Consumer, KafkaError, KafkaException, TopicPartition

from headrace.streams.errors import Aborted, Expelled, Fenced, TopicError
from headrace.streams.logs import WAITING

__all__ = [
    "AWAY",
    "AWAY_S",
    "EXPELLED",
    "LARGEST_BYTES",
    "LEADERLESS",
    "RECORD",
    "UNKNOWN",
    "UNKNOWN_S",
    "exists",
    "latest",
    "patiently",
    "translated",
    "watermark_offsets",
]

log = logging.getLogger(WAITING)

T = TypeVar("T")

FENCED = {
    KafkaError._FENCED,
    KafkaError.INVALID_PRODUCER_EPOCH,
    KafkaError.PRODUCER_FENCED,
}
LEADERLESS = {
    KafkaError.FENCED_LEADER_EPOCH,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.UNKNOWN_LEADER_EPOCH,
}
"""A partition is about to have another leader, or the client does not know it yet."""
AWAY = {KafkaError._ALL_BROKERS_DOWN, KafkaError._DESTROY_BROKER, KafkaError._TIMED_OUT, KafkaError._TRANSPORT}
AWAY_S = 60.0
"""For so long a worker waits for its broker before it gives up."""
UNKNOWN = {KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION}
UNKNOWN_S = 5.0
"""A broker that has just started knows none of its topics: only one that stays unknown for so long does not exist."""
LARGEST_BYTES = 100_000_000
"""What a producer sends at most, as brokers take no larger request. The topics' own limits are far below."""
RECORD: Any = tuple.__new__
"""Makes a `Record` as its class does, in a third of the time."""
TAKEN = (
    "Another worker has taken this slot: give each worker a --slot of its own, or stop the other one; "
    "if there is none, this one stood still for longer than a transaction may last, and it is safe to start it again."
)
EXPELLED = "the consumer group has put this worker out"


def watermark_offsets(
    consumer: Callable[[], Consumer], place: TopicPartition, renew: Callable[[], None]
) -> tuple[int, int]:
    """Both ends; the leader of a partition that was made a moment ago may not know of it yet."""

    def ask() -> tuple[int, int]:
        return consumer().get_watermark_offsets(place, timeout=15, cached=False)

    return patiently(ask, lambda: consumer().list_topics(place.topic, timeout=10), renew=renew)


def latest(
    consumer: Callable[[], Consumer], places: Sequence[tuple[str, int]], renew: Callable[[], None]
) -> dict[tuple[str, int], int]:
    """The end of each partition as this consumer's isolation level sees it, one request a leader (`ListOffsets`)."""

    def ask() -> dict[tuple[str, int], int]:
        found = consumer().offsets_for_times([TopicPartition(t, p, OFFSET_END) for t, p in places], timeout=15)
        for place in found:
            if place.error is not None:
                raise KafkaException(place.error)
        return {(place.topic, place.partition): place.offset for place in found}

    return patiently(ask, lambda: consumer().list_topics(timeout=10), AWAY_S, renew) if places else {}


def patiently(
    ask: Callable[[], T],
    refresh: Callable[[], Any] = lambda: None,
    away_s: float = 0.0,
    renew: Callable[[], None] = lambda: None,
) -> T:
    """The answer, asked for again while a broker that has just started does not know its partitions, or is away.

    How long depends on the kind of error, and begins anew with another kind: first it is away, then it starts. While
    nobody answers the client knows no topic: only brokers that do can say that it is unknown. `renew` makes another
    client of one to which nobody answers: told of no broker once, by one that had just come back, it asks none again
    (librdkafka issue 5301).
    """
    kinds = (LEADERLESS, 15.0), (UNKNOWN, max(UNKNOWN_S, away_s / 2)), (AWAY, away_s)
    kind: set[int] | None = None
    since = 0.0
    while True:
        try:
            return ask()
        except KafkaException as error:
            said = error
        if said.args[0].code() in UNKNOWN | LEADERLESS:
            said = _away(refresh) or said
        now, seconds = next((each for each in kinds if said.args[0].code() in each[0]), (None, 0.0))
        if now is not kind:
            kind, since = now, time.monotonic()
            if now is AWAY and seconds:
                log.warning("no Kafka broker answers (%s): waiting for one", said.args[0].str())
        if now is AWAY:
            renew()
        if now is None or time.monotonic() - since >= seconds:
            raise said
        time.sleep(0.05)


def _away(ask: Callable[[], Any]) -> KafkaException | None:
    """What the client says where no broker answers this, else None."""
    try:
        ask()
    except KafkaException as error:
        return error if error.args[0].code() in AWAY else None
    return None


def exists(consumer: Consumer, topic: str) -> bool:
    """Whether the broker knows a topic, or comes to within a moment."""
    deadline = time.monotonic() + UNKNOWN_S
    while True:
        found = consumer.list_topics(topic, timeout=10).topics.get(topic)
        if found is not None and found.error is None:
            return True
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)


def translated(exception: KafkaException) -> Exception:
    """The client's error as one of ours, in a sentence for people."""
    error: KafkaError = exception.args[0]
    if error.code() in FENCED:
        return Fenced(TAKEN)
    if error.code() == KafkaError.FENCED_INSTANCE_ID:
        return Expelled(EXPELLED)
    if error.code() == KafkaError.MSG_SIZE_TOO_LARGE:  # and would be at every try
        return TopicError(
            f"A record is larger than its topic takes: raise the topic's max.message.bytes, then start again "
            f"({error.str()})."
        )
    if error.code() in AWAY:
        return Aborted(
            f"No Kafka broker answers any more ({error.str()}): see that one does, and start again what has ended."
        )
    return Aborted(f"{error.name()}: {error.str()}")
