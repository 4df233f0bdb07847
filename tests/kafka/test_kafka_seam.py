"""The one file that speaks to Kafka, against a real broker: what the runtime relies on at the seam."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable

import pytest

from headrace.streams.errors import Aborted, Expelled, Fenced, Lost, TopicError
from headrace.streams.kafka import Cluster, GroupConsumer, TransactionalProducer
from headrace.streams.log import END, Record
from tests.faults.harness import until


@pytest.fixture
def topic(cluster: Cluster) -> str:
    """A new topic with one partition."""
    name = f"seam-{uuid.uuid4().hex[:8]}"
    cluster.create([(name, 1, {})])
    return name


def member(cluster: Cluster, topic: str, slot: str = "0") -> GroupConsumer:
    """A consumer that was assigned the topic, and reads nothing yet."""
    assigned: list[object] = []
    consumer = cluster.consumer(
        f"{topic}-group", slot, gather_s=0.02, on_assign=assigned.append, on_revoke=lambda _: None
    )
    consumer.subscribe([topic])
    until(lambda: consumer.fetch(1, 0.05) or assigned, "an assignment")
    assert assigned == [[(topic, 0)]]
    return consumer


def fetched(consumer: GroupConsumer, enough: Callable[[list[Record]], bool]) -> list[Record]:
    """What the consumer receives until it is enough."""
    got: list[Record] = []
    until(lambda: enough(got) or got.extend(consumer.fetch(100, 0.05)), "records")
    return got


def test_a_predecessor_in_the_slot_is_fenced(cluster: Cluster, topic: str) -> None:
    """A second producer with the same id aborts what the first has open, and the first can commit no more."""
    first = cluster.producer(topic)
    first.begin()
    first.send(topic, 0, None, b"lost")
    second = cluster.producer(topic)
    second.begin()
    second.send(topic, 0, None, b"kept")
    second.commit()
    with pytest.raises(Fenced, match="slot"):
        first.commit()
    reader = cluster.reader()
    assert [record.value for record in reader.read(topic, 0)] == [b"kept"]
    for client in (first, second):
        client.drop()
    reader.close()


def test_a_predecessor_is_told_by_whatever_it_does_next(cluster: Cluster, topic: str) -> None:
    """A request of before was refused, of which only the client's own thread knows; nothing else may be made of it."""
    group = member(cluster, topic)
    asked: dict[str, Callable[[TransactionalProducer], object]] = {
        "send": lambda first: first.send(topic, 0, None, b"lost"),
        "flush": lambda first: first.flush(),
        "offsets": lambda first: first.offsets({(topic, 0): 0}, group.metadata()),
        "commit": lambda first: first.commit(),
        "suspicious": lambda first: first.suspicious,
        "poll": lambda first: first.poll(),
        "begin": lambda first: first.begin(),
        "prove": lambda first: first.prove((topic, 0), f"{topic}-group"),
    }
    for name, ask in asked.items():
        first = cluster.producer(f"{topic}-{name}")
        first.begin()
        first.send(topic, 0, None, b"lost")
        first.flush()
        second = cluster.producer(f"{topic}-{name}")
        first.send(topic, 0, None, b"lost")
        until(lambda client=first._producer: len(client) > 1, "it has something to tell")  # type: ignore[misc]
        with pytest.raises(Fenced, match="slot"):
            ask(first)
        first.drop()
        second.drop()
    group.close()


def test_a_producer_proves_that_nobody_has_followed_it(cluster: Cluster, topic: str) -> None:
    """Between transactions, in one, and in one that failed; once somebody has, each of them is told."""
    member(cluster, topic).close()  # a group with a member, of which the proof speaks without being one
    group = f"{topic}-group"

    def in_no_transaction(producer: TransactionalProducer) -> None:
        """It has committed."""
        producer.begin()
        producer.send(topic, 0, None, b"kept")
        producer.commit()

    def in_one(producer: TransactionalProducer) -> None:
        """A record and an offset are on their way."""
        producer.begin()
        producer.send(topic, 0, None, b"lost")
        producer.flush()

    def in_one_that_failed(producer: TransactionalProducer) -> None:
        """The group does not take its offsets, as another has its place."""
        old = member(cluster, topic)
        metadata = old.metadata()
        other = member(cluster, topic)
        producer.begin()
        with pytest.raises(Expelled):
            producer.offsets({(topic, 0): 0}, metadata)
        old.close()
        other.close()

    for i, state in enumerate((in_no_transaction, in_one, in_one_that_failed)):
        name = f"{topic}-{i}"
        producer = cluster.producer(name)
        state(producer)
        producer.prove((topic, 0), group)
        producer.drop()
        first = cluster.producer(name)
        state(first)
        second = cluster.producer(name)
        with pytest.raises(Fenced, match="slot"):
            first.prove((topic, 0), group)
        second.begin()
        second.send(topic, 0, None, b"kept")
        second.commit()
        first.drop()
        second.drop()
    reader = cluster.reader()
    assert {record.value for record in reader.read(topic, 0)} == {b"kept"}
    reader.close()
    assert cluster.committed(group) == {}


def test_a_consumer_is_told_that_another_has_its_place(cluster: Cluster, topic: str) -> None:
    """When another consumer joins under its name, the first raises, once; after that it reads nothing for ever."""
    first = member(cluster, topic)
    second = cluster.consumer(f"{topic}-group", "0", gather_s=0.02, on_assign=lambda _: None, on_revoke=lambda _: None)
    second.subscribe([topic])

    def fenced() -> bool:
        second.fetch(1, 0.05)
        try:
            first.fetch(1, 0.05)
        except Expelled:
            return True
        return False

    until(fenced, "the first consumer is told")
    assert first.fetch(1, 0.05) == []
    with pytest.raises(Aborted):
        first.resume(topic, 0, 0)
    first.close()
    second.close()


def test_reading_covers_committed_records_up_to_the_end(cluster: Cluster, topic: str) -> None:
    """Ranges are half open, control records are no records, and what lies before the first offset is lost."""
    producer = cluster.producer(topic)
    for i in range(3):
        producer.begin()
        producer.send(topic, 0, b"k", b"%d" % i, [("h", b"v")])
        producer.commit()
    reader = cluster.reader()
    records = list(reader.read(topic, 0))
    assert [(r.offset, r.key, r.value, r.headers) for r in records] == [
        (2 * i, b"k", b"%d" % i, [("h", b"v")]) for i in range(3)
    ]
    assert [r.offset for r in reader.read(topic, 0, 1, 4)] == [2]
    assert reader.watermarks(topic, 0) == (0, 6)
    assert reader.stable(topic, 0) == 6
    with pytest.raises(Lost, match="offset -3 is gone"):
        list(reader.read(topic, 0, -3))
    with pytest.raises(TopicError, match="no partition 7"):
        reader.watermarks(topic, 7)
    producer.drop()
    reader.close()


def test_a_topic_is_unknown_only_when_it_stays_so(cluster: Cluster) -> None:
    """A broker that has just started knows none of its topics: what it comes to know in a moment was there."""
    name = f"seam-{uuid.uuid4().hex[:8]}"
    reader = cluster.reader()
    later = threading.Timer(0.5, cluster.create, ([(name, 1, {})],))
    later.start()
    assert reader.watermarks(name, 0) == (0, 0)
    later.join()
    reader.close()


def test_an_open_transaction_is_beyond_the_stable_offset(cluster: Cluster, topic: str) -> None:
    """The high watermark counts what is open; the last stable offset, and a member of a group, do not."""
    producer = cluster.producer(topic)
    producer.begin()
    producer.send(topic, 0, None, b"open")
    producer._producer.flush(10)
    reader = cluster.reader()
    until(lambda: reader.watermarks(topic, 0) == (0, 1), "the record")
    assert reader.stable(topic, 0) == 0
    consumer = member(cluster, topic)
    consumer.seek({(topic, 0): 0})
    assert [(r.value is END, r.offset) for r in fetched(consumer, bool)] == [(True, 0)]
    producer.commit()
    assert [r.value for r in fetched(consumer, bool)][:1] == [b"open"]
    consumer.close()
    producer.drop()
    reader.close()


def test_offsets_are_committed_with_their_transaction(cluster: Cluster, topic: str) -> None:
    """A group's offsets move with the commit; those of a transaction that never ended are given up by its successor."""
    consumer = member(cluster, topic)
    assert consumer.committed([(topic, 0)]) == {(topic, 0): None}
    producer = cluster.producer(f"{topic}-a")
    producer.begin()
    producer.offsets({(topic, 0): 5}, consumer.metadata())
    producer.commit()
    assert consumer.committed([(topic, 0)]) == {(topic, 0): 5}
    producer.begin()
    producer.offsets({(topic, 0): 9}, consumer.metadata())
    successor = cluster.producer(f"{topic}-a")
    assert consumer.committed([(topic, 0)]) == {(topic, 0): 5}
    for client in (producer, successor):
        client.drop()
    consumer.close()


def test_a_paused_partition_goes_on_where_it_is_told(cluster: Cluster, topic: str) -> None:
    """Nothing comes of a paused partition; resumed at an offset it continues there, and tells its end again."""
    producer = cluster.plain_producer()
    for i in range(10):
        producer.produce(topic, b"%d" % i, None, 0)
    assert producer.flush(10) == 0
    consumer = member(cluster, topic)
    consumer.seek({(topic, 0): 4})
    got = fetched(consumer, lambda got: bool(got) and got[-1].value is END)
    assert [r.offset for r in got] == [*range(4, 10), 10]
    consumer.pause(topic, 0)
    assert consumer.fetch(100, 0.2) == []
    consumer.resume(topic, 0, 7)
    got = fetched(consumer, lambda got: bool(got) and got[-1].value is END)
    assert [r.offset for r in got] == [7, 8, 9, 10]
    consumer.close()


def test_asking_for_offsets_of_a_broker_that_is_gone_answers_nothing():
    """Nobody listens there: no exception, and no end of the process."""
    assert Cluster("127.0.0.1:1").committed("anybody") == {}
