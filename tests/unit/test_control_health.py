"""What the control plane says of itself, and how it ends what it cannot mend. Without Kafka."""

from __future__ import annotations

import asyncio
import contextlib
import re
import threading
import time
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from headrace.streams.control import app
from headrace.streams.control.health import listen
from headrace.streams.control.outside import target
from headrace.streams.control.page.guard import LOOPBACK, Guard
from headrace.streams.control.page.server import build
from headrace.streams.control.policies import retraining
from headrace.streams.control.service import Options, Service
from headrace.streams.control.serving import serve
from headrace.streams.errors import Unreachable, UsageError
from headrace.streams.kafka.aio import clients
from headrace.streams.series import METRICS
from headrace.streams.settings import Connection
from tests.small import small

ENDED: list[tuple[str, int]] = []


def service(**options: Any) -> Service:
    """A service that is not started; nobody answers where its Kafka should be."""
    ENDED.clear()
    connection = Connection("127.0.0.1:1", {})
    return Service(small(), connection, Options(**options), end=lambda why, code: ENDED.append((why, code)))


def everything() -> dict[str, Any]:
    """Options that make every part there is."""
    return {
        "webhooks": (target("https://hooks.example.org/secret", "--webhook 1"),),
        "alertmanagers": (target("https://am.example.org/secret", "--alertmanager 1"),),
        "approve": True,
        "retrain": (retraining("logreg=0 3 * * 1", small()),),
    }


async def asked(made: Service, *paths: str) -> list[tuple[int, str]]:
    """What its own server answers."""
    app = web.Application()
    made.health.add_to(app)
    runner, base = await listen(app, "127.0.0.1", 0)
    out = []
    async with aiohttp.ClientSession(base) as session:
        for path in paths:
            async with session.get(path) as answer:
                out.append((answer.status, await answer.text()))
    await runner.cleanup()
    return out


def test_every_metric_of_the_control_plane_is_exported_and_no_other():
    """The list in `METRICS`, which the documentation is held to, is what a scrape shows."""

    async def test() -> str:
        made = service(**everything())
        for line in made.routes.lines:
            line.last_s = 1.0
        [(status, text)] = await asked(made, "/metrics")
        assert status == 200
        return text

    exported = set(re.findall(r"^# TYPE (headrace_\w+) ", asyncio.run(test()), re.MULTILINE))
    assert exported == {name for name in METRICS if name.startswith("headrace_control_")}


def test_it_needs_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Where it runs nothing may be writable; Faust made folders for tables, and failed for good where it could not."""
    monkeypatch.chdir(tmp_path)

    async def test() -> None:
        await app.build("group", clients(Connection("127.0.0.1:1", {})), []).on_first_start()

    asyncio.run(test())
    assert list(tmp_path.iterdir()) == []


def test_health_names_every_part_and_no_secret():
    """Agents, routes by their hosts, and why it is not ready."""

    async def test() -> list[tuple[int, str]]:
        return await asked(service(**everything()), "/healthz", "/readyz", "/metrics")

    (healthy, report), (ready, why), (_, metrics) = asyncio.run(test())
    assert (healthy, ready) == (200, 503)
    assert "webhook-1 hooks.example.org:443" in report
    assert "it has not answered yet" in why
    assert "secret" not in report + why + metrics


def test_an_outage_of_kafka_is_told_once_and_so_is_its_end(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    """Its log had the lines of its clients only."""
    answers = [True, True, False, False, True]

    class Asked:
        """A cluster that answers, or not."""

        def __init__(self, bootstrap: str, config: Any) -> None:
            pass

        def topics(self, timeout_s: float) -> set[str]:
            """What it has."""
            if not answers.pop():
                raise Unreachable("No Kafka broker answers at b:1 (_TRANSPORT).")
            return set()

    made = service(look_s=0.001)
    monkeypatch.setattr("headrace.streams.control.service.Cluster", Asked)
    with pytest.raises(IndexError):
        asyncio.run(made._ping())
    assert caplog.messages == [
        "No Kafka broker answers at b:1 (_TRANSPORT). Everything here waits for one.",
        "Kafka answers again.",
    ]


def test_a_dead_agent_makes_it_unhealthy():
    """503, with the reason, until it is started anew."""

    async def test() -> tuple[Any, Any]:
        made = service()
        made.agents[0]._die("KeyError: 'x'")
        dead = await asked(made, "/healthz")
        made.agents[0].retire()
        made.agents[0].reset()
        return dead[0], (await asked(made, "/healthz"))[0]

    (status, text), (later, again) = asyncio.run(test())
    assert (status, later) == (503, 200)
    assert "agent alerts is dead: KeyError: 'x'" in text
    assert '"restarts": 1' in again


def test_an_agent_that_is_stuck_makes_it_unhealthy():
    """Its handler swallows every cancellation: only the clock tells."""

    async def test() -> tuple[int, str]:
        made = service()
        agent = made.agents[0]
        agent._enter("working")
        agent._since -= agent.longest_s + 1
        return (await asked(made, "/healthz"))[0]

    status, text = asyncio.run(test())
    assert status == 503
    assert "has had one record in hand for" in text


def test_a_loop_that_stands_still_ends_the_process():
    """Seen from a thread, as the loop itself cannot."""

    async def test() -> None:
        made = service(stall_s=0.2)
        made._ticked = time.monotonic() - 1
        thread = threading.Thread(target=made._watch_loop)
        thread.start()
        while not ENDED:
            await asyncio.sleep(0.01)
        made._stopped.set()
        await asyncio.to_thread(thread.join)

    asyncio.run(asyncio.wait_for(test(), 120))
    assert ENDED[0] == ("The control plane's loop has stood still for 0.2 s; it ends.", 70)


def test_a_stop_that_takes_too_long_ends_the_process():
    """Whatever it is that swallows its cancellation."""

    async def test() -> None:
        made = service(stop_s=0.1)
        released = asyncio.Event()

        async def stubborn() -> None:
            while not released.is_set():
                try:
                    await released.wait()
                except asyncio.CancelledError:
                    continue
            await asyncio.sleep(3600)

        made.parts.keep("stubborn", stubborn)
        await asyncio.sleep(0)
        stopping = asyncio.ensure_future(made.stop())
        while not ENDED:
            await asyncio.sleep(0.01)
        released.set()
        await stopping

    asyncio.run(asyncio.wait_for(test(), 120))
    assert ENDED == [("The control plane did not stop within 0.1 s.", 1)]


class _Stuck:
    """An app that never comes back from a stop, nor from a cancellation."""

    def __init__(self) -> None:
        self.released = asyncio.Event()

    async def stop(self) -> None:
        while not self.released.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await self.released.wait()


@pytest.mark.parametrize("for_good", [True, False])
def test_faust_that_does_not_stop(for_good: bool):
    """It is left behind when everything stops, and ends the process when a new one would have to run beside it."""

    async def test() -> None:
        made, stuck = service(stop_s=0.1), _Stuck()
        if for_good:
            made._stopped.set()
        started = asyncio.get_running_loop().create_future()
        started.set_result(None)
        await made._stop_app(stuck, started)
        stuck.released.set()

    asyncio.run(asyncio.wait_for(test(), 120))
    ended = [("Faust did not stop; the control plane ends, to be started again.", 70)]
    assert ended * (not for_good) == ENDED


def test_a_consumer_that_does_not_close_is_left(monkeypatch: pytest.MonkeyPatch):
    """aiokafka waits for ever for connections of before an outage."""

    async def never(_: object) -> None:
        await asyncio.get_running_loop().create_future()

    monkeypatch.setattr(app.driver.AIOKafkaConsumerThread, "on_thread_stop", never)
    monkeypatch.setattr(app, "_CLOSE_S", 0.05)
    thread = object.__new__(app._Thread)
    asyncio.run(asyncio.wait_for(thread.on_thread_stop(), 120))


def test_a_damaged_body_is_refused_without_a_traceback(caplog: pytest.LogCaptureFixture):
    """Whoever reaches the port could have filled the log with bytes that only say that they are compressed."""

    async def test() -> int:
        made = service()
        runner, base = await listen(build(made.board, made.actions, Guard("x" * 16), None), "127.0.0.1", 0)
        async with (
            aiohttp.ClientSession(base) as session,
            session.post("/api/session", data=b"{}", headers={"Content-Encoding": "gzip"}) as answer,
        ):
            status = answer.status
        await runner.cleanup()
        return status

    assert asyncio.run(test()) == 403
    assert not [line for line in caplog.records if line.exc_info]


@pytest.mark.parametrize("option", ["--port", "--metrics-port"])
def test_a_port_that_is_taken_is_one_sentence(option: str):
    """With the next step: the option that chose it chooses another, of a port as of a host that is none of ours."""

    async def test() -> None:
        runner, base = await listen(web.Application(), "127.0.0.1", 0)
        taken, free = ("127.0.0.1", int(base.rpartition(":")[2])), ("127.0.0.1", 0)
        elsewhere = ("192.0.2.1", 0)  # RFC 5737: nobody's
        page, metrics = (taken, None) if option == "--port" else (free, taken)
        said: list[str] = []
        try:
            with pytest.raises(UsageError, match=rf"^127\.0\.0\.1:\d+ .*another {option}, or 0"):
                await serve(service(), page, metrics, "a-token-of-the-test", LOOPBACK, said.append)
            page, metrics = (elsewhere, None) if option == "--port" else (free, elsewhere)
            with pytest.raises(
                UsageError, match=rf"^192\.0\.2\.1:0 .*: give {option[:-4]}host an address of this machine\.$"
            ):
                await serve(service(), page, metrics, "a-token-of-the-test", LOOPBACK, said.append)
        finally:
            await runner.cleanup()
        assert not said

    asyncio.run(test())
