"""What every client needs: the client's errors as ours, whether a topic is there, and where a partition ends."""

from __future__ import annotations

import time
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from headrace.streams.errors import Aborted, Fenced, TopicError

__all__ = [
    "FENCED",
    "LARGEST_BYTES",
    "LEADERLESS",
    "RECORD",
    "TAKEN",
    "UNKNOWN",
    "UNKNOWN_S",
    "exists",
    "translated",
    "watermark_offsets",
]

FENCED = {
    KafkaError._FENCED,
    KafkaError.FENCED_INSTANCE_ID,
    KafkaError.INVALID_PRODUCER_EPOCH,
    KafkaError.PRODUCER_FENCED,
}
LEADERLESS = {KafkaError.LEADER_NOT_AVAILABLE, KafkaError.NOT_LEADER_FOR_PARTITION}
UNKNOWN = {KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION}
UNKNOWN_S = 5.0
"""A broker that has just started knows none of its topics: only one that stays unknown for so long does not exist."""
LARGEST_BYTES = 100_000_000
"""What a producer sends at most, as brokers take no larger request. The topics' own limits are far below."""
RECORD: Any = tuple.__new__
"""Makes a `Record` as its class does, in a third of the time."""
TAKEN = "Another worker has taken this slot: give each worker a --slot of its own, or stop the other one."


def watermark_offsets(consumer: Consumer, place: TopicPartition) -> tuple[int, int]:
    """Both ends; the leader of a partition that was made a moment ago may not know of it yet."""
    began = time.monotonic()
    while True:
        try:
            return consumer.get_watermark_offsets(place, timeout=15, cached=False)
        except KafkaException as error:
            code = error.args[0].code()
            patience_s = 15.0 if code in LEADERLESS else UNKNOWN_S if code in UNKNOWN else 0.0
            if time.monotonic() - began >= patience_s:
                raise
        time.sleep(0.05)
        consumer.list_topics(place.topic, timeout=10)


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
    error: KafkaError = exception.args[0]
    if error.code() in FENCED:
        return Fenced(TAKEN)
    if error.code() == KafkaError.MSG_SIZE_TOO_LARGE:  # and would be at every try
        return TopicError(
            f"A record is larger than its topic takes: raise the topic's max.message.bytes, then start again "
            f"({error.str()})."
        )
    return Aborted(f"{error.name()}: {error.str()}")
