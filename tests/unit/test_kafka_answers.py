"""What the one file that speaks to Kafka makes of answers that a real broker gives only in a bad moment."""

from __future__ import annotations

from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from headrace.streams.errors import Aborted
from headrace.streams.kafka import Cluster


class _Asked:
    """A consumer whose partition has these ends, or raises them, one answer after the other."""

    def __init__(self, *answers: Any) -> None:
        self._answers = list(answers)

    def list_topics(self, *_: Any, **__: Any) -> None:
        """Fresh metadata."""

    def get_watermark_offsets(self, place: TopicPartition, **_: Any) -> tuple[int, int]:
        answer = self._answers.pop(0)
        if isinstance(answer, int):
            raise KafkaException(KafkaError(answer))
        return answer

    def close(self) -> None:
        """Nothing to release."""


def watermarks(*answers: Any) -> tuple[int, int]:
    """The ends of a partition that a broker which answers so has."""
    reader = Cluster("127.0.0.1:1").reader()
    reader.close()
    reader._consumers["uncommitted"] = _Asked(*answers)  # type: ignore[assignment]
    return reader.watermarks("t", 0)


def test_a_leader_that_does_not_know_of_its_partition_yet_is_asked_again():
    """Right after a topic was created; `status` and `tail` had failed."""
    assert watermarks(KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.LEADER_NOT_AVAILABLE, (3, 7)) == (3, 7)


def test_another_error_is_not_waited_for():
    """It is one of ours at once."""
    with pytest.raises(Aborted, match="TOPIC_AUTHORIZATION_FAILED"):
        watermarks(KafkaError.TOPIC_AUTHORIZATION_FAILED, (3, 7))


def test_a_topic_that_was_deleted_a_moment_ago_does_not_exist():
    """It is among the topics still, but has no settings any more; `reset` had failed halfway."""
    there, gone = Future[dict[str, Any]](), Future[dict[str, Any]]()
    there.set_result({"cleanup.policy": SimpleNamespace(value="delete")})
    gone.set_exception(KafkaException(KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART)))
    answers = {"there": there, "gone": gone}
    cluster = Cluster("127.0.0.1:1")
    cluster._admin = SimpleNamespace(  # type: ignore[assignment]
        list_topics=lambda **_: SimpleNamespace(
            topics={name: SimpleNamespace(error=None, partitions={0: None}) for name in answers}
        ),
        describe_configs=lambda resources: {resource: answers[resource.name] for resource in resources},
    )
    assert cluster.describe(["there", "gone", "never"]) == {"there": (1, {"cleanup.policy": "delete"})}


def test_a_rebalance_that_waits_is_answered_before_a_consumer_closes(monkeypatch: pytest.MonkeyPatch):
    """Within its close the client may wait for ever for an answer; nobody is told of partitions any more."""
    told: list[Any] = []
    client = _Rebalanced()
    monkeypatch.setattr("headrace.streams.kafka.consumer.Consumer", lambda *_, **__: client)
    consumer = Cluster("127.0.0.1:1").consumer("g", "0", on_assign=told.append, on_revoke=told.append)
    consumer.subscribe(["t"])
    consumer.close()
    assert (client.did, told) == (["assigned []", "closed"], [])


class _Rebalanced:
    """A consumer with an assignment that nobody has answered yet."""

    def __init__(self) -> None:
        self.did: list[str] = []
        self._on_assign: Any = None

    def list_topics(self, **_: Any) -> None:
        """Fresh metadata."""

    def subscribe(self, _: list[str], *, on_assign: Any, **__: Any) -> None:
        self._on_assign = on_assign

    def consume(self, _: int, timeout: float) -> list[Any]:
        assert timeout == 0
        self._on_assign(self, [TopicPartition("t", 0)])
        return []

    def assign(self, partitions: list[TopicPartition]) -> None:
        self.did.append(f"assigned {partitions}")

    def close(self) -> None:
        self.did.append("closed")
