"""The control plane's parts together on a real broker: deaths, outages, policies, and who sees them."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import os
import signal
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
from aiohttp import web

from headrace.deploy import broker
from headrace.schemas.records import Command, Fact
from headrace.streams.control.health import listen
from headrace.streams.control.outside import target
from headrace.streams.control.policies import retraining
from headrace.streams.control.service import Options, Service
from headrace.streams.errors import Unreachable
from headrace.streams.kafka import Cluster
from headrace.streams.pipeline import Pipeline
from headrace.streams.settings import Connection
from headrace.streams.topics import control_group, topic_name, topic_specs
from tests.alerting import alert
from tests.kafka.test_control import FAST, eventually
from tests.small import small
from tests.unit.test_outside import receiver

PATIENT = {"retry_s": (0.1,), "pauses_s": (0.2,), "watch_s": 0.05, "look_s": 0.2, "idle_s": 0.5, "stop_s": 30.0}


class Bench:
    """A pipeline's topics, and a service with a webhook that counts."""

    def __init__(self, cluster: Cluster, **changed: Any) -> None:
        self.cluster = cluster
        self.pipeline: Pipeline = small(name=f"bench-{uuid.uuid4().hex[:8]}", **changed)
        cluster.create((spec.name, spec.partitions, spec.config) for spec in topic_specs(self.pipeline))
        self.got: list[dict[str, Any]] = []
        self.status = 200

    def topic(self, role: str) -> str:
        """A topic's name."""
        return topic_name(self.pipeline, role)

    def write(self, role: str, *values: Any, key: bytes = b"k") -> None:
        """Append records in a transaction, as workers do."""
        producer = self.cluster.producer(f"bench-{self.pipeline.name}")
        producer.begin()
        for value in values:
            raw = value if isinstance(value, bytes) else msgspec.json.encode(value)
            producer._producer.produce(self.topic(role), raw, key, 0)
        producer.commit()

    def append(self, role: str, value: Any) -> None:
        """Append one record by an ordinary producer, which a broker that has just come back disturbs less."""
        producer = self.cluster.plain_producer()
        producer.produce(self.topic(role), msgspec.json.encode(value), b"k", 0)
        assert producer.flush(30) == 0

    def end(self, role: str) -> int:
        """The last stable offset of a topic."""
        with contextlib.closing(self.cluster.reader()) as reader:
            return int(reader.stable(self.topic(role), 0))

    def read(self, role: str) -> list[bytes]:
        """All committed values of a topic."""
        with contextlib.closing(self.cluster.reader()) as reader:
            found = list(reader.read(self.topic(role), 0, 0, reader.stable(self.topic(role), 0)))
        return [each.value or b"" for each in found]

    def told(self) -> list[str]:
        """What the webhook was told, in order."""
        return [f"{body['alert']['alert_id']}/{body['alert']['status']}" for body in self.got]

    async def _take(self, request: web.Request) -> web.Response:
        if self.status == 200:
            self.got.append(await request.json())
        return web.Response(status=self.status)

    @contextlib.asynccontextmanager
    async def serving(self, **options: Any) -> AsyncIterator[Service]:
        """A service that runs, with the webhook as its route."""
        async with receiver(self._take) as base:
            hook = target(base, "--webhook 1", allow_private=True)
            given = {"webhooks": (hook,), "allow_private": True, "timing": FAST} | PATIENT | options
            connection = Connection(self.cluster.bootstrap, {})
            service = Service(self.pipeline, connection, Options(**given), end=_never)
            service.start()
            try:
                yield service
            finally:
                await service.stop()


def _never(why: str, code: int) -> None:
    raise AssertionError(why)


@pytest.fixture
def bench(cluster: Cluster) -> Iterator[Bench]:
    """A pipeline of its own, removed afterwards."""
    made = Bench(cluster)
    yield made
    cluster.delete([spec.name for spec in topic_specs(made.pipeline)])


def test_alerts_reach_the_webhook_in_order(bench: Bench):
    """Those of before its start, and those that come; nothing of an aborted transaction; and none twice."""
    bench.write("alerts", alert("a"), alert("b"))

    async def test() -> None:
        async with bench.serving() as service:
            await eventually(lambda: len(bench.got) == 2, "the first two")
            bench.write("alerts", alert("a", "resolved"), b"no alert", alert("c"))
            await eventually(lambda: len(bench.got) == 4, "the other two")
            await eventually(lambda: service.health.ready()["ok"], "it is ready")
            assert service.routes.unreadable == 1
            end = bench.end("alerts") - 1
            group = control_group(bench.pipeline)
            await eventually(
                lambda: bench.cluster.committed(group).get((bench.topic("alerts"), 0)) == end, "all is committed"
            )
        async with bench.serving():
            bench.write("alerts", alert("d"))
            await eventually(lambda: len(bench.got) == 5, "the last one")

    asyncio.run(test())
    assert bench.told() == ["a/opened", "b/opened", "a/resolved", "c/opened", "d/opened"]


def test_a_dead_agent_is_noticed_restarted_and_visible(bench: Bench):
    """One whose record fails for good: /healthz says so, the app is made anew, and the record is not lost."""
    healed = False

    async def test() -> None:
        nonlocal healed
        async with bench.serving() as service:
            take, agent = service.routes.take, service.agents[0]

            async def fails(record: Any) -> Any:
                if not healed:
                    raise ValueError("not today")
                return await take(record)

            agent._handle, agent._pauses_s, agent._attempts = fails, (0.01,), 2
            await eventually(lambda: agent.state == "idle", "it runs")
            app = web.Application()
            service.health.add_to(app)
            runner, base = await listen(app, "127.0.0.1", 0)
            async with aiohttp.ClientSession() as session:
                bench.write("alerts", alert("a"))
                said: list[str] = []

                async def seen_dead() -> None:
                    while not said:
                        async with session.get(f"{base}/healthz") as answer:
                            report = await answer.json()
                            if answer.status == 503 and report["agents"]["alerts"]["state"] == "dead":
                                said.append(report["reason"])
                        await asyncio.sleep(0.01)

                await asyncio.wait_for(seen_dead(), 180)
                assert "agent alerts is dead: RuntimeError" in said[0]
                assert "not today" in said[0]
                healed = True
                await eventually(lambda: bench.told() == ["a/opened"], "it is delivered after all")
                async with session.get(f"{base}/healthz") as answer:
                    assert (answer.status, (await answer.json())["agents"]["alerts"]["restarts"] >= 1) == (200, True)
                async with session.get(f"{base}/metrics") as answer:
                    assert 'headrace_control_agent_up{agent="alerts"' in await answer.text()
            await runner.cleanup()

    asyncio.run(test())


def test_an_agent_that_is_cancelled_is_started_again(bench: Bench):
    """Whatever ends its task: what comes then is delivered, without a loss."""

    async def test() -> None:
        async with bench.serving() as service:
            agent, take = service.agents[0], service.routes.take
            struck = False

            async def strikes(record: Any) -> Any:
                nonlocal struck
                if not struck:
                    struck = True
                    raise asyncio.CancelledError
                return await take(record)

            agent._handle = strikes
            bench.write("alerts", alert("a"), alert("b"))
            await eventually(lambda: len(bench.got) == 2, "both are delivered")
            assert agent.restarts == 1

    asyncio.run(test())
    assert bench.told() == ["a/opened", "b/opened"]


def test_a_route_that_was_down_gets_everything(bench: Bench):
    """It refuses for a while: nothing is committed, nothing lost, and after a restart in between none is missing."""
    bench.status = 503

    async def test() -> None:
        bench.write("alerts", *(alert(f"a{n}") for n in range(5)))
        async with bench.serving() as service:
            await eventually(lambda: service.routes.lines[0].retried > 2, "it is tried")
            assert service.health.report()["routes"][service.routes.lines[0].name]["state"] == "down"
            assert service.health.report()["ok"]
        assert bench.cluster.committed(control_group(bench.pipeline)) == {}
        async with bench.serving() as service:
            await eventually(lambda: service.routes.lines[0].retried > 2, "it is tried again")
            bench.status = 200
            await eventually(lambda: len(bench.got) == 5, "it gets all")

    asyncio.run(test())
    assert bench.told() == [f"a{n}/opened" for n in range(5)]


def test_a_flood_of_alerts_is_delivered(bench: Bench):
    """Three thousand at once, through a webhook and with the page's loop still turning."""
    bench.write("alerts", *(alert(f"a{n}") for n in range(1_000)))
    slowest = 0.0

    async def test() -> None:
        nonlocal slowest
        async with bench.serving():
            while len(bench.got) < 1_000:
                began = time.monotonic()
                await asyncio.sleep(0.01)
                slowest = max(slowest, time.monotonic() - began)

    asyncio.run(asyncio.wait_for(test(), 180))
    assert bench.told() == [f"a{n}/opened" for n in range(1_000)]
    assert slowest < 5


# -- policies --------------------------------------------------------------------------------------------------------


def fact(version: int, kind: str, model: str, status: str | None = None, **more: Any) -> Fact:
    """A fact of a registry with a champion and a challenger."""
    evidence = more.pop("evidence", {"hash": "h"})
    return Fact(version, kind, model, status, "old", 0, 0, None, {}, "test", "", evidence, **more)


REGISTRY = (
    fact(1, "registered", "old", "champion"),
    fact(2, "registered", "new", "challenger"),
    fact(3, "proposed", "new", "challenger"),
)


def sent(bench: Bench) -> list[Command]:
    """The commands on the registry topic."""
    found = [json.loads(value) for value in bench.read("registry")]
    return [msgspec.convert(value, Command) for value in found if value["record"] == "command"]


def test_a_proposal_is_approved_once_however_often_it_is_seen(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    """Killed between sending and acknowledging, it is sent again: the very same command, which workers know."""
    bench.write("registry", *REGISTRY)

    async def never_mind(source: Any) -> None:
        """As if it were killed at once."""

    async def test() -> None:
        for round_ in (1, 2):
            async with bench.serving(approve=True) as service:
                monkeypatch.setattr(service.agents[1], "_acknowledge", never_mind)
                await eventually(lambda: len(sent(bench)) == round_, "it is sent")  # noqa: B023

    asyncio.run(test())
    first, second = sent(bench)
    assert first == second
    assert (first.kind, first.model, first.saw, first.by) == ("approve", "new", 3, "control")


def test_an_approval_that_came_too_late_is_decided_anew(bench: Bench):
    """Refused because the registry has changed: another command, on the registry as it is now."""
    bench.write("registry", *REGISTRY)

    async def test() -> None:
        async with bench.serving(approve=True):
            await eventually(lambda: sent(bench), "it is sent")
            [first] = sent(bench)
            bench.write(
                "registry",
                fact(4, "registered", "third", "challenger"),
                fact(5, "refused", "new", None, command=first.id, saw=3, evidence={"asked": "approve"}),
            )
            await eventually(lambda: len(sent(bench)) == 2, "another one is sent")
            second = sent(bench)[1]
            assert (second.saw, second.model) == (4, "new")
            assert second.id != first.id
            bench.write(
                "registry", fact(6, "promoted", "new", "champion", command=second.id, evidence={"before": "old"})
            )
            await asyncio.sleep(0.5)  # long enough for another one, were there any
            assert len(sent(bench)) == 2

    asyncio.run(test())


def test_an_aborted_proposal_is_not_approved(bench: Bench):
    """It never happened."""
    bench.write("registry", *REGISTRY[:2])
    producer = bench.cluster.producer("aborting")
    producer.begin()
    producer._producer.produce(bench.topic("registry"), msgspec.json.encode(REGISTRY[2]), b"new", 0)
    producer.flush()
    producer.drop()
    bench.cluster.producer("aborting")

    async def test() -> None:
        async with bench.serving(approve=True) as service:
            agent = service.agents[1]
            await eventually(lambda: agent.handled == 2, "the others are read")
            bench.write("registry", fact(3, "shadow", "new", "challenger"))
            await eventually(lambda: agent.handled == 3, "the next one is read")

    asyncio.run(test())
    assert sent(bench) == []


def test_a_schedule_has_a_model_retrained_once(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    """At its time, under a name made of it; whoever does it again sends the same command."""
    bench.write(
        "registry",
        fact(1, "registered", "logreg", "champion"),
        fact(2, "retraining", "logreg-20230101-0000", "retraining",
             evidence={"base": "logreg", "hash": "h", "from_n": 0, "from_ms": None}),
    )  # fmt: skip
    declared = (retraining("logreg=0 * * * *", bench.pipeline),)

    async def test() -> None:
        for round_ in (1, 2):
            async with bench.serving(retrain=declared) as service:
                assert service.schedules is not None
                await eventually(lambda: len(sent(bench)) == 2 * round_, "the missed time is made up for")  # noqa: B023

    before = int(time.time()) // 3600
    asyncio.run(test())
    if int(time.time()) // 3600 != before:
        pytest.skip("the hour has just struck")
    first, second = sent(bench)[:2], sent(bench)[2:]
    assert first == second
    assert [(c.kind, c.model) for c in first] == [("retire", "logreg-20230101-0000"), ("retrain", "logreg")]
    assert first[1].name == declared[0].name(3600 * before)


# -- Kafka away ------------------------------------------------------------------------------------------------------


def test_without_kafka_it_waits_and_says_so():
    """No broker at its start: nothing ends, it is healthy but not ready, and what people ask for is one sentence."""

    async def test() -> None:
        service = Service(small(), Connection("127.0.0.1:1", {}), Options(**PATIENT), end=_never)  # type: ignore[arg-type]
        service.start()
        try:
            await eventually(lambda: "No Kafka broker answers" in (service.kafka or ""), "it says so")
            assert (service.health.report()["ok"], service.health.ready()["ok"]) == (True, False)
            await eventually(lambda: service.parts.health()["agents"]["restarts"], "the agents are tried")
            with pytest.raises(Unreachable, match="No Kafka broker answers"):
                await service.actions.decide("promote", "logreg", by="me")
        finally:
            await service.stop()

    asyncio.run(test())


def test_kafka_may_be_away_for_a_while(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    """It is killed, missed and started again: what comes then is delivered, nothing twice, and it stops in the end."""
    instance = f"away-{uuid.uuid4().hex[:6]}"
    where = broker.start(instance=instance, progress=False, data_dir=tmp_path / "kafka")
    assert where.bootstrap is not None
    assert where.pid is not None
    port = int(where.bootstrap.rpartition(":")[2])
    cluster = Cluster(where.bootstrap)
    try:
        bench = Bench(cluster)
        bench.append("alerts", alert("a"))
        cluster._admin = None

        async def test() -> None:
            async with bench.serving() as service:
                await eventually(lambda: bench.told() == ["a/opened"], "it begins")
                os.kill(where.pid, signal.SIGKILL)
                await eventually(lambda: service.kafka is not None, "it is missed")
                start = functools.partial(broker.start, instance=instance, progress=False, port=port)
                await asyncio.to_thread(start, data_dir=tmp_path / "kafka")
                await asyncio.to_thread(bench.append, "alerts", alert("b"))
                await eventually(lambda: len(bench.got) == 2, "it goes on")
                await eventually(lambda: service.health.ready()["ok"], "it is ready again")

        asyncio.run(test())
        assert bench.told() == ["a/opened", "b/opened"]
        assert "left behind" not in caplog.text
    finally:
        broker.stop(instance=instance)
