"""What the one file that speaks to Kafka makes of answers that a real broker gives only in a bad moment."""

from __future__ import annotations

import socket
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from headrace.streams.errors import Aborted, Expelled, Stalled, TopicError, Unreachable
from headrace.streams.kafka import Cluster, Reader
from headrace.streams.logs import WAITING


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


def test_whoever_listens_and_does_not_answer_as_kafka_does_is_no_reason_to_start_a_broker():
    """A broker that hangs, another program, a port of TLS: the advice was to start one."""
    with socket.create_server(("127.0.0.1", 0)) as mute:
        port = mute.getsockname()[1]
        with pytest.raises(Unreachable, match=rf"at 127.0.0.1:{port}: see that Kafka works there, and that `security"):
            Cluster(f"127.0.0.1:{port}").check(1.0)
    with pytest.raises(Unreachable, match=r"at 127.0.0.1:1 \(.*Connection refused\): start one with `headrace broker"):
        Cluster("127.0.0.1:1").check(1.0)


@pytest.mark.parametrize("code", [KafkaError._TRANSPORT, KafkaError._DESTROY_BROKER, KafkaError._ALL_BROKERS_DOWN])
def test_a_broker_that_went_away_is_told_in_a_sentence_with_the_next_step(code: int):
    """`run`, and what asks for topics, ended with the client's own words, or as if it were a defect of ours."""
    sentence = r"^No Kafka broker answers any more \(.*\): see that one does, and start again what has ended\.$"
    with pytest.raises(Aborted, match=sentence):
        watermarks(code)
    cluster = Cluster("127.0.0.1:1")
    cluster._admin = SimpleNamespace(list_topics=lambda **_: _raise(code))  # type: ignore[assignment]
    with pytest.raises(Aborted, match="No Kafka broker answers any more"):
        cluster.describe(["t"])


def test_a_follower_waits_for_a_broker_that_is_away(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture):
    """`tail -f` ended at the first restart of a broker."""
    monkeypatch.setattr("headrace.streams.kafka.client.time.sleep", lambda _: None)
    place = TopicPartition("t", 0, 7)
    answers = [KafkaError._TRANSPORT, KafkaError._DESTROY_BROKER, [place], [place]]
    reader = Cluster("127.0.0.1:1").reader()
    reader.close()
    asked = SimpleNamespace(list_topics=lambda **_: None, offsets_for_times=lambda *_, **__: _next(answers))
    asked.close = lambda: None
    monkeypatch.setattr("headrace.streams.kafka.reader.Consumer", lambda *_, **__: asked)
    reader._consumers.clear()
    assert reader.ends([("t", 0)]) == {("t", 0): (7, 7)}
    told = [record.getMessage() for record in caplog.records if record.name == WAITING]
    assert [text.partition(" (")[0] for text in told] == ["no Kafka broker answers"]


def test_nobody_says_that_a_topic_is_unknown_while_every_broker_is_away(monkeypatch: pytest.MonkeyPatch):
    """The client forgets its topics then: `tail -f` ended with "A topic of the pipeline is missing", and exit 2."""
    now = [0.0]
    monkeypatch.setattr("headrace.streams.kafka.client.time.monotonic", lambda: now[0])
    monkeypatch.setattr("headrace.streams.kafka.client.time.sleep", lambda s: now.append(now.pop() + s))

    def asked(*_: Any, **__: Any) -> Any:
        _raise(KafkaError._UNKNOWN_PARTITION)

    def known(*_: Any, **__: Any) -> Any:
        now.append(now.pop() + 10)
        _raise(KafkaError._TRANSPORT)

    reader = Cluster("127.0.0.1:1").reader()
    reader.close()
    client = SimpleNamespace(list_topics=known, offsets_for_times=asked, get_watermark_offsets=asked, close=print)
    monkeypatch.setattr("headrace.streams.kafka.reader.Consumer", lambda *_, **__: client)
    reader._consumers.clear()
    with pytest.raises(Aborted, match="No Kafka broker answers any more"):
        reader.ends([("t", 0)])
    assert now[0] >= 60
    reader._known.add(("uncommitted", "t"))
    with pytest.raises(Aborted, match="No Kafka broker answers any more"):
        reader.watermarks("t", 0)


def test_a_client_that_no_broker_answers_is_followed_by_another(monkeypatch: pytest.MonkeyPatch):
    """One that was told of no broker, by one just back, asks none again: workers waited in vain, and ended."""
    made: list[_Lost | _Found] = []

    def make(*_: Any, **__: Any) -> Any:
        made.append(_Lost() if len(made) < 2 else _Found())
        return made[-1]

    monkeypatch.setattr("headrace.streams.kafka.reader.Consumer", make)
    reader = Cluster("127.0.0.1:1").reader()
    assert reader.ends([("t", 0)]) == {("t", 0): (7, 7)}
    reader.follow({("t", 0): 3})
    assert [client.did for client in made] == [["closed"], ["closed"], [], ["assigned"]]
    reader.close()
    assert all(client.did.count("closed") == 1 for client in made)


class _Lost:
    """A client that knows no broker any more."""

    def __init__(self) -> None:
        self.did: list[str] = []

    def offsets_for_times(self, *_: Any, **__: Any) -> Any:
        _raise(KafkaError._UNKNOWN_PARTITION)

    def list_topics(self, *_: Any, **__: Any) -> Any:
        _raise(KafkaError._TRANSPORT)

    def assign(self, *_: Any) -> None:
        self.did.append("assigned")

    def close(self) -> None:
        self.did.append("closed")


class _Found(_Lost):
    """A client that has a broker."""

    def offsets_for_times(self, *_: Any, **__: Any) -> Any:
        return [TopicPartition("t", 0, 7)]


@pytest.mark.parametrize(
    ("away", "said"), [(True, "No Kafka broker answers any more"), (False, "A transaction is open")]
)
def test_a_read_that_goes_no_further_tells_a_broker_that_is_away_from_an_open_transaction(
    away: bool, said: str, monkeypatch: pytest.MonkeyPatch
):
    """`audit` advised to start a slot once more, when all that was missing was the broker."""
    known = lambda *_, **__: _raise(KafkaError._TRANSPORT) if away else None  # noqa: E731
    client = SimpleNamespace(assign=lambda _: None, consume=lambda *_: [], list_topics=known)
    monkeypatch.setattr("headrace.streams.kafka.reader.Consumer", lambda *_, **__: client)
    with pytest.raises(Stalled, match=said):
        next(Reader(Cluster("127.0.0.1:1"), stall_s=0.0).read("t", 0, 0, 5))


def test_a_member_whom_no_broker_answers_is_followed_by_another(monkeypatch: pytest.MonkeyPatch):
    """It had forgotten all brokers while they were away, and read nothing more, for ever, without an error."""
    told: list[dict[str, Any]] = []
    answers: list[int] = []

    def client(config: dict[str, Any], **_: Any) -> Any:
        told.append(config)
        known = lambda **_: _raise(answers.pop()) if answers else None  # noqa: E731
        return SimpleNamespace(consume=lambda *_: [], list_topics=known)

    monkeypatch.setattr("headrace.streams.kafka.consumer.Consumer", client)
    nothing = lambda _: None  # noqa: E731
    member = Cluster("127.0.0.1:1").consumer("g", "0", gather_s=0.01, on_assign=nothing, on_revoke=nothing)
    tell = told[0]["error_cb"]
    answers[:] = [KafkaError._TRANSPORT]
    tell(KafkaError(KafkaError._TRANSPORT))
    assert member.fetch(1, 0.0) == [], "one of several"
    tell(KafkaError(KafkaError._ALL_BROKERS_DOWN))
    with pytest.raises(Expelled, match="no broker answers"):
        member.fetch(1, 0.0)
    tell(KafkaError(KafkaError._ALL_BROKERS_DOWN))
    assert member.fetch(1, 0.0) == [], "it answers again"


@pytest.mark.parametrize("code", [KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_PARTITION])
@pytest.mark.parametrize("there", [True, False])
def test_a_member_ends_where_its_topic_is_gone(monkeypatch: pytest.MonkeyPatch, code: int, there: bool):
    """And not where a broker that has just started does not know it yet."""
    topics = {"t": SimpleNamespace(error=None)} if there else {}
    at = {"topic": lambda: "t", "partition": lambda: 0, "offset": lambda: -1}
    message = SimpleNamespace(error=lambda: KafkaError(code), **at)
    client = SimpleNamespace(consume=lambda *_: [message], list_topics=lambda *_, **__: SimpleNamespace(topics=topics))
    monkeypatch.setattr("headrace.streams.kafka.consumer.Consumer", lambda *_, **__: client)
    monkeypatch.setattr("headrace.streams.kafka.client.UNKNOWN_S", -1.0)
    member = Cluster("127.0.0.1:1").consumer("g", "0", gather_s=0.01, on_assign=print, on_revoke=print)
    if there:
        assert member.fetch(1, 0.0) == []
    else:
        with pytest.raises(TopicError, match="Topic t does not exist"):
            member.fetch(1, 0.0)


def _raise(code: int) -> Any:
    raise KafkaException(KafkaError(code))


def _next(answers: list[Any]) -> Any:
    answer = answers.pop(0)
    return _raise(answer) if isinstance(answer, int) else answer


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
    consumer = Cluster("127.0.0.1:1").consumer("g", "0", gather_s=0.02, on_assign=told.append, on_revoke=told.append)
    consumer.subscribe(["t"])
    consumer.close()
    assert (client.did, told) == (["assigned []", "closed"], [])


@pytest.mark.parametrize(
    ("timeout_s", "limit", "waits"),
    [
        (0.5, 9, [(1, 0.5), (8, 0.4)]),
        (0.1, 9, [(1, 0.205), (8, 0.001)]),
        (0.0, 9, [(1, 0.0), (8, 0.0)]),
        (0.5, 1, [(1, 0.5)]),
    ],
    ids=["the rest of the time", "an answer is on its way", "what is there", "one"],
)
def test_a_fetch_waits_for_an_answer_and_then_for_no_more_than_its_time(
    monkeypatch: pytest.MonkeyPatch, timeout_s: float, limit: int, waits: list[tuple[int, float]]
):
    """Brokers gather for 0.2 s here; each question to the client takes 0.1."""
    asked: list[tuple[int, float]] = []
    now = iter([0.0, 0.1, 0.2])
    message = SimpleNamespace(
        error=lambda: None, topic=lambda: "t", partition=lambda: 0, offset=lambda: 5,
        key=lambda: None, value=lambda: b"v", timestamp=lambda: (2, 7),
    )  # fmt: skip

    def consume(count: int, wait_s: float) -> list[Any]:
        asked.append((count, round(wait_s, 6)))
        return [message]

    made: list[dict[str, Any]] = []
    client = SimpleNamespace(consume=consume)
    monkeypatch.setattr("headrace.streams.kafka.consumer.Consumer", lambda config, **_: made.append(config) or client)
    monkeypatch.setattr("headrace.streams.kafka.consumer.time.monotonic", lambda: next(now))
    consumer = Cluster("127.0.0.1:1").consumer("g", "0", gather_s=0.2, on_assign=print, on_revoke=print)
    assert [record.offset for record in consumer.fetch(limit, timeout_s)] == [5] * len(waits)
    assert asked == waits
    assert made[0]["fetch.wait.max.ms"] == 200


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
