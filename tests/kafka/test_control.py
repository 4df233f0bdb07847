"""The control plane on a real broker: what aborts, dies, hangs or goes away, and what must not come of it."""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from headrace.streams.control import app as faust_app
from headrace.streams.control.agents import Agent, Incoming
from headrace.streams.kafka import Cluster
from headrace.streams.kafka.aio import clients
from headrace.streams.settings import Connection

FAST = {"broker_commit_interval": 0.2, "broker_session_timeout": 6.0, "consumer_metadata_max_age_ms": 500}


class Writer:
    """Writes transactions to a topic; one that is left open is aborted when the next writer takes its name."""

    def __init__(self, cluster: Cluster, topic: str) -> None:
        self.cluster, self.topic = cluster, topic
        self._producer = cluster.producer(f"writer-{topic}")

    def write(self, *values: bytes | None, key: bytes = b"k") -> Callable[[], None]:
        """The records of a transaction, in the log but not committed; returns how to commit it."""
        self._producer.begin()
        for value in values:
            self._producer._producer.produce(self.topic, value, key, 0)
        self._producer.flush()
        return self._producer.commit

    def commit(self, *values: bytes | None) -> None:
        """A whole transaction."""
        self.write(*values)()

    def abort(self, *values: bytes | None) -> None:
        """One that is aborted."""
        self.write(*values)
        self._producer.drop()
        self._producer = self.cluster.producer(f"writer-{self.topic}")


@pytest.fixture
def topic(cluster: Cluster) -> Iterator[str]:
    """A topic with one partition."""
    name = f"control-{uuid.uuid4().hex[:8]}"
    cluster.create([(name, 1, {})])
    yield name
    cluster.delete([name])


@contextlib.asynccontextmanager
async def running(cluster: Cluster, group: str, *agents: Agent, **timing: Any):
    """A Faust app of ours with these agents."""
    connection = Connection(cluster.bootstrap, {})
    app = faust_app.build(group, clients(connection), agents, {**FAST, **timing})
    await app.start()
    try:
        yield app
    finally:
        for agent in agents:
            agent.retire()
        await asyncio.wait_for(app.stop(), 10)


async def eventually(condition: Callable[[], Any], what: str, timeout_s: float = 180.0) -> Any:
    """What the condition says once it is true."""
    deadline = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < deadline, what
        await asyncio.sleep(0.02)
    return found


def collecting(topic: str) -> tuple[Agent, list[bytes | None]]:
    """An agent that writes down what it gets."""
    got: list[bytes | None] = []

    async def take(record: Incoming) -> None:
        got.append(record.value)

    return Agent("collects", topic, take), got


def test_a_transactional_topic_does_not_stall_the_offset(cluster: Cluster, topic: str):
    """After forty transactions, aborted ones among them, the committed offset is that of the last record plus one.

    Faust's own bookkeeping stops at the first marker: a restart would repeat nearly everything.
    """
    writer = Writer(cluster, topic)
    writer.commit(b"0")
    writer.abort(b"aborted")  # a gap right after offset 0, which Faust never gets over
    for n in range(1, 40):
        (writer.commit if n % 13 else writer.abort)(b"%d" % n)
    writer.commit(b"last")
    agent, got = collecting(topic)
    with contextlib.closing(cluster.reader()) as reader:
        end = reader.stable(topic, 0)

    async def test() -> None:
        async with running(cluster, topic, agent):
            await eventually(lambda: got and got[-1] == b"last", "all are read")
            await eventually(lambda: cluster.committed(topic).get((topic, 0)) == end - 1, "all are committed")
        again, anew = collecting(topic)
        async with running(cluster, topic, again):
            writer.commit(b"next")
            await eventually(lambda: anew, "the next one is read")
        assert anew == [b"next"]

    asyncio.run(test())
    assert got == [b"0", *(b"%d" % n for n in range(1, 40) if n % 13), b"last"]


def test_a_record_that_cannot_be_read_does_not_stall_the_offset(cluster: Cluster, topic: str):
    """Null, empty and broken values reach the agent as they are, and are acknowledged as any."""
    values = [b"a", None, b"\xff\xfe", b"", b'{"__faust": {"ns": "x"}}', b"z"]
    Writer(cluster, topic).commit(*values)
    agent, got = collecting(topic)

    async def test() -> None:
        async with running(cluster, topic, agent):
            await eventually(lambda: cluster.committed(topic).get((topic, 0)) == len(values), "all are committed")

    asyncio.run(test())
    assert got == values


def test_an_aborted_record_reaches_nobody(cluster: Cluster, topic: str):
    """Before and after a restart; an open transaction's record comes when it is committed, not before."""
    writer = Writer(cluster, topic)
    writer.abort(b"never")
    writer.commit(b"yes")
    commit = writer.write(b"open")
    first, got = collecting(topic)
    second, later = collecting(topic)

    async def test() -> None:
        async with running(cluster, topic, first):
            await eventually(lambda: got, "the committed one is read")
            await asyncio.sleep(0.5)  # long enough for the open one, were it read
            await eventually(lambda: cluster.committed(topic).get((topic, 0)), "it is committed")
        assert got == [b"yes"]
        async with running(cluster, topic, second):
            commit()
            await eventually(lambda: later, "the one that was open is read")

    asyncio.run(test())
    assert later == [b"open"]


def test_what_was_not_done_is_not_acknowledged(cluster: Cluster, topic: str):
    """A handler that fails for good: nothing from that record on is committed, and a later app gets it again.

    Faust acknowledges an event whose agent raises, and that of one which is cancelled.
    """
    Writer(cluster, topic).commit(b"0", b"1", b"bad", b"3")
    seen: list[bytes | None] = []

    async def take(record: Incoming) -> None:
        seen.append(record.value)
        if record.value == b"bad":
            raise ValueError("cannot")

    agent = Agent("fails", topic, take, attempts=3, pauses_s=(0.01,))

    async def test() -> None:
        async with running(cluster, topic, agent):
            await eventually(lambda: not agent.alive, "it gives up")
            await eventually(lambda: cluster.committed(topic).get((topic, 0)) == 2, "what was done is committed")
            await asyncio.sleep(1.0)  # longer than Faust's own restart of an agent
        assert "failed 3 times: ValueError: cannot" in agent.why
        assert seen == [b"0", b"1", b"bad", b"bad", b"bad"]
        healed, got = collecting(topic)
        async with running(cluster, topic, healed):
            await eventually(lambda: len(got) == 2, "the rest is read")
        assert got == [b"bad", b"3"]

    asyncio.run(test())
    assert cluster.committed(topic)[topic, 0] >= 2


def test_a_stop_in_the_middle_acknowledges_nothing(cluster: Cluster, topic: str):
    """A record in hand at a clean stop is read again; the stop does not wait for it."""
    Writer(cluster, topic).commit(b"0", b"1")
    begun = asyncio.Event()

    async def take(record: Incoming) -> None:
        if record.value == b"1":
            begun.set()
            await asyncio.sleep(3600)

    agent = Agent("hangs", topic, take, deadline_s=3600)

    async def test() -> None:
        async with running(cluster, topic, agent):
            await begun.wait()
        later, got = collecting(topic)
        async with running(cluster, topic, later):
            await eventually(lambda: got, "it is read again")
        assert got == [b"1"] or got == [b"0", b"1"]

    asyncio.run(test())


def test_records_done_out_of_order_are_acknowledged_in_order(cluster: Cluster, topic: str):
    """While the first is under way nothing is committed, though all behind it are done."""
    Writer(cluster, topic).commit(*(b"%d" % n for n in range(5)))
    held: dict[bytes | None, asyncio.Future[None]] = {}

    async def take(record: Incoming) -> asyncio.Future[None]:
        held[record.value] = asyncio.get_running_loop().create_future()
        return held[record.value]

    agent = Agent("holds", topic, take)

    async def test() -> None:
        async with running(cluster, topic, agent):
            await eventually(lambda: len(held) == 5, "all are under way")
            for n in range(1, 5):
                held[b"%d" % n].set_result(None)
            await asyncio.sleep(0.6)
            assert (cluster.committed(topic).get((topic, 0)), agent.under_way) == (None, 5)
            held[b"0"].set_result(None)
            await eventually(lambda: cluster.committed(topic).get((topic, 0)) == 5, "all are committed")

    asyncio.run(test())
