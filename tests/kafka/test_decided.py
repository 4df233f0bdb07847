"""What a coordinator decided is done in partitions that it passed over, and only what it decided."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.client import AIOKafkaClient, ConnectionGroup, CoordinationType
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.protocol.transaction import TxnOffsetCommitRequest
from aiokafka.record.default_records import DefaultRecordBatchBuilder

from headrace.deploy import broker
from headrace.streams.errors import Aborted
from headrace.streams.kafka import Cluster
from headrace.streams.kafka.decided import _Again, _decision
from headrace.streams.leftovers import complete, follow, open_places
from tests.faults.harness import until

UNVERIFIED = {"transaction.partition.verification.enable": "false"}
"""Takes records of a transaction that its coordinator knows nothing of: an open one, while the coordinator is done."""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    instance = f"decided-{uuid.uuid4().hex[:8]}"
    data: Path = tmp_path_factory.mktemp("decided")
    started = broker.start(instance=instance, data_dir=data, config=UNVERIFIED, progress=False)
    cluster = Cluster(str(started.bootstrap))
    cluster.create([("a", 1, {}), ("b", 2, {})])
    try:
        yield cluster
    finally:
        cluster._admin = None
        broker.stop(instance=instance)


@pytest.fixture
def name() -> str:
    return f"id-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def reader(cluster: Cluster) -> Iterator[Any]:
    reader = cluster.reader()
    yield reader
    reader.close()


def transaction(cluster: Cluster, name: str, value: bytes) -> Any:
    """A producer with a record in a/0."""
    producer = cluster.producer(name)
    producer.begin()
    producer.send("a", 0, b"k", value)
    producer.flush()
    return producer


def committed(cluster: Cluster, name: str, value: bytes, reader: Any) -> Any:
    """The same, committed, and its marker written, which may be after the answer."""
    producer = transaction(cluster, name, value)
    producer.commit()
    until(lambda: not open_places(reader, [("a", 0)]), "the marker of a commit")
    return producer


def left_open(cluster: Cluster, name: str, value: bytes) -> None:
    """A record in b/1, under the id and epoch of a transaction that is over for its coordinator."""

    async def write() -> None:
        client = AIOKafkaClient(bootstrap_servers=cluster.bootstrap)
        await client.bootstrap()
        try:
            decision = await _decision(client, name)
            assert decision is not None
            batch = DefaultRecordBatchBuilder(2, 0, 1, decision.producer_id, decision.epoch, 0, 10_000)
            batch.append(0, int(time.time() * 1000), b"k", value, [])
            await client.set_topics({"b"})
            answer = await client.send(
                client.get_random_node(), ProduceRequest(name, -1, 10_000, [("b", [(1, bytes(batch.build()))])])
            )
            assert answer.topics[0][1][0][1] == 0
        finally:
            await client.close()

    asyncio.run(write())


def values(reader: Any, topic: str, partition: int) -> list[bytes]:
    """What read_committed gives."""
    return [record.value for record in reader.read(topic, partition, 0, reader.stable(topic, partition))]


def test_the_rest_of_a_committed_transaction_is_committed(cluster: Cluster, name: str, reader: Any) -> None:
    """Where the marker is missing it is written, once, and the successor under the id finds nothing open."""
    producer = committed(cluster, name, b"1", reader)
    left_open(cluster, name, b"rest of 1")
    assert open_places(reader, [("a", 0), ("b", 0), ("b", 1)]) == [("b", 1)]
    assert cluster.commit_rest(name, [("a", 0), ("b", 0), ("b", 1)]) == [("b", 1)]
    assert values(reader, "b", 1)[-1] == b"rest of 1"
    assert cluster.commit_rest(name, [("b", 1)]) == []
    assert follow(cluster, reader, name, [("b", 1)])[1] == []
    assert values(reader, "b", 1)[-1] == b"rest of 1"
    producer.drop()


def test_whoever_follows_completes_first(cluster: Cluster, name: str, reader: Any) -> None:
    """A start under the id alone would make the coordinator forget what it had decided."""
    committed(cluster, name, b"2", reader)
    left_open(cluster, name, b"rest of 2")
    successor, found = follow(cluster, reader, name, [("a", 0), ("b", 1)])
    assert found == []
    assert values(reader, "b", 1)[-1] == b"rest of 2"
    successor.drop()


def test_an_open_transaction_is_left_alone(cluster: Cluster, name: str, reader: Any) -> None:
    """Nothing is decided yet; the start of a successor aborts it."""
    producer = transaction(cluster, name, b"never")
    assert cluster.commit_rest(name, [("a", 0)]) == []
    assert open_places(reader, [("a", 0)]) == [("a", 0)]
    successor, found = follow(cluster, reader, name, [("a", 0)])
    assert found == []
    assert b"never" not in values(reader, "a", 0)
    successor.drop()
    producer.drop()


def test_the_rest_of_the_one_before_is_committed(cluster: Cluster, name: str, reader: Any) -> None:
    """A transaction is under way elsewhere, and under the same epoch: the one before it was committed."""
    producer = committed(cluster, name, b"7", reader)
    left_open(cluster, name, b"rest of 7")
    producer.begin()
    producer.send("a", 0, b"k", b"under way")
    producer.flush()
    assert cluster.commit_rest(name, [("a", 0), ("b", 1)]) == [("b", 1)]
    assert open_places(reader, [("a", 0), ("b", 1)]) == [("a", 0)]
    assert values(reader, "b", 1)[-1] == b"rest of 7"
    producer.drop()
    follow(cluster, reader, name, [("a", 0)])[0].drop()
    assert b"under way" not in values(reader, "a", 0)


def test_what_was_not_committed_is_aborted(cluster: Cluster, name: str, reader: Any) -> None:
    """After a successor's start nothing says that it was committed, so that it is not."""
    transaction(cluster, name, b"3")
    cluster.producer(name).drop()
    left_open(cluster, name, b"rest of 3")
    assert cluster.commit_rest(name, [("b", 1)]) == []
    successor, found = follow(cluster, reader, name, [("b", 1)])
    assert found == [("b", 1)]
    assert open_places(reader, [("b", 1)]) == []
    assert b"rest of 3" not in values(reader, "b", 1)
    successor.drop()


def test_somebody_elses_transaction_is_left_alone(cluster: Cluster, name: str, reader: Any) -> None:
    """Another id has the partition open: it stays so, and is committed by whose it is."""
    committed(cluster, name, b"4", reader)
    other = transaction(cluster, f"{name}-other", b"other")
    complete(cluster, reader, name, [("a", 0)])
    assert open_places(reader, [("a", 0)]) == [("a", 0)]
    other.commit()  # answered before its marker is written, which a read to the high watermark waits for
    assert [record.value for record in reader.read("a", 0)][-1] == b"other"
    other.drop()


def test_an_id_that_nobody_used_has_nothing_to_commit(cluster: Cluster, name: str) -> None:
    assert cluster.commit_rest(name, [("a", 0), ("b", 1)]) == []


def test_where_the_offsets_of_a_group_are(cluster: Cluster, name: str, reader: Any) -> None:
    """Where a transaction is open that has offsets of this group."""
    group = f"flights.lane.{name}"
    joined: list[Any] = []
    consumer = cluster.consumer(group, "0", gather_s=0.02, on_assign=joined.extend, on_revoke=lambda _: None)
    consumer.subscribe(["a"])
    deadline = time.monotonic() + 180
    while not joined and time.monotonic() < deadline:  # before that its generation is -1, which the group fences
        consumer.fetch(1, 0.1)
    found = cluster.offsets_of(group)
    topic = "__consumer_offsets"
    count = len(cluster.admin.list_topics(topic, timeout=60).topics[topic].partitions)
    producer = transaction(cluster, name, b"5")
    producer.offsets({("a", 0): 1}, consumer.metadata())
    assert open_places(reader, [(topic, number) for number in range(count)]) == found
    producer.drop()
    consumer.close()


def test_offsets_that_were_left_pending_are_committed(cluster: Cluster, name: str, reader: Any) -> None:
    """They become the group's, as if their marker had been written at once."""
    group = f"pending.{name}"
    consumer = cluster.consumer(group, "0", gather_s=0.02, on_assign=lambda _: None, on_revoke=lambda _: None)
    consumer.subscribe(["a"])
    committed(cluster, name, b"6", reader)

    async def leave() -> None:
        client = AIOKafkaClient(bootstrap_servers=cluster.bootstrap)
        await client.bootstrap()
        try:
            decision = await _decision(client, name)
            assert decision is not None
            node = await client.coordinator_lookup(CoordinationType.GROUP, group)
            offsets = [("a", [(0, 7, "")])]
            request = TxnOffsetCommitRequest(name, group, decision.producer_id, decision.epoch, offsets)
            answer = await client.send(node, request, group=ConnectionGroup.COORDINATION)
            assert answer.errors[0][1][0][1] == 0
        finally:
            await client.close()

    asyncio.run(leave())
    with pytest.raises(Aborted):
        consumer.committed([("a", 0)], timeout_s=1.0)
    complete(cluster, reader, name, cluster.offsets_of(group))
    assert consumer.committed([("a", 0)]) == {("a", 0): 7}
    consumer.close()


def test_nobody_answers(name: str) -> None:
    """Without an answer nothing may be aborted either: whoever asks has to come again."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("headrace.streams.kafka.decided.WITHIN_S", 1.0)
        with pytest.raises(Aborted, match="what became of it"):
            Cluster("127.0.0.1:1").commit_rest(name, [("a", 0)])


def test_a_broker_that_knows_of_none_yet_is_asked_again(name: str) -> None:
    """One that has just come back lists no broker; the client asks none then, and calls that a mistake of ours."""
    client = AIOKafkaClient.__new__(AIOKafkaClient)
    client.cluster = SimpleNamespace(brokers=set)
    with pytest.raises(_Again):
        asyncio.run(_decision(client, name))
