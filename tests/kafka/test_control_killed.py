"""The control plane as a process: killed in the middle, and missed by nobody who predicts."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from typing import Any

import aiohttp
import msgspec
import pytest
from aiohttp import web

from tests.alerting import alert
from tests.faults.harness import until
from tests.kafka.test_cli import COUNT, Shell, published, shell, wait_for  # noqa: F401 - fixtures
from tests.kafka.test_control import Writer, eventually
from tests.unit.test_outside import receiver


class Plane:
    """`headrace control` in a process of its own."""

    def __init__(self, shell: Shell, *options: str) -> None:  # noqa: F811
        words = [sys.executable, "-m", "headrace", "control", shell.pipeline, "--port", "0", *options]
        self.process = subprocess.Popen(
            words,
            env={**shell.environ, "HEADRACE_DATA_DIR": os.path.dirname(shell.environ["HEADRACE_SIGNING_KEY"])},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        shell.running.append(self.process)

    def address(self) -> tuple[str, str]:
        """Its page's address and token, once it has said them."""
        assert self.process.stdout is not None
        found = re.search(r"(http://\S+)/#token=(\S+)", self.process.stdout.readline())
        assert found is not None
        return found[1], found[2]

    def kill(self) -> None:
        """kill -9."""
        self.process.kill()
        self.process.wait()


@pytest.fixture
def topics(shell: Shell) -> Shell:  # noqa: F811
    """A pipeline's topics, without a record."""
    shell("topics", "P", "--apply")
    return shell


def test_killed_between_delivery_and_acknowledgement_it_delivers_again(topics: Shell):
    """By kill -9 at the moment of the delivery: the next process delivers the same record under the same key."""
    one = topics
    writer = Writer(one.cluster, f"{one.name}.alerts")
    writer.commit(*(msgspec.json.encode(alert(name)) for name in "ab"))
    keys: list[str] = []
    planes: list[Plane] = []

    async def take(request: web.Request) -> web.Response:
        keys.append(request.headers["Idempotency-Key"])
        if len(keys) == 1:
            os.kill(planes[0].process.pid, signal.SIGKILL)
        return web.Response()

    async def test() -> None:
        async with receiver(take) as base:
            options = ("--webhook", f"{base}/hook", "--allow-private")
            planes.append(Plane(one, *options))
            await eventually(lambda: keys, "it delivers")
            await asyncio.to_thread(planes[0].process.wait)
            planes.append(Plane(one, *options))
            await eventually(lambda: len(keys) == 3, "the next one delivers")
            group = f"{one.name}.control"
            await eventually(
                lambda: one.cluster.committed(group).get((f"{one.name}.alerts", 0)) == 2, "and commits", 20
            )
        planes[1].process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(planes[1].process.wait, 15) == 0

    asyncio.run(test())
    assert keys[0] == keys[1] != keys[2]


def test_the_data_plane_runs_on_without_it(published: Shell):  # noqa: F811
    """Killed while a worker runs: every flight is predicted, and the laws hold."""
    one = published
    plane = Plane(one)
    plane.address()
    worker = one.start("run", "P", "--until-caught-up")
    plane.kill()
    assert worker.wait(90) == 0
    lines = one("tail", "P", "predictions", "--from-beginning", "-n", str(COUNT), "--json").splitlines()
    assert len(lines) == COUNT
    assert one.json("audit", "P")["different"] == 0


def test_a_worker_needs_no_topic_of_the_control_plane(published: Shell):  # noqa: F811
    """Without `P.control`, as in a cluster from before it, workers run; the control plane says what to do."""
    one = published
    one.cluster.delete([f"{one.name}.control"])
    until(lambda: not one.cluster.describe([f"{one.name}.control"]), "its deletion")
    one("run", "P", "--until-caught-up")
    said = one("control", "P", "--port", "0", code=2)
    assert f"Missing topics: {one.name}.control; create them with `headrace topics {one.pipeline} --apply`" in said


def test_the_page_is_served_and_changes_need_the_token(topics: Shell):
    """A model is promoted and an alert acknowledged over HTTP, by what the process printed at its start."""
    one = topics
    Writer(one.cluster, f"{one.name}.alerts").commit(msgspec.json.encode(alert("seen")))
    one("publish", "P", "--limit", "300")
    one("run", "P", "--until-caught-up")
    plane = Plane(one, "--metrics-port", "0")
    base, token = plane.address()

    async def test() -> None:
        async with aiohttp.ClientSession(base) as session:
            headers = {"Origin": base, "Authorization": f"Bearer {token}"}

            async def post(path: str, body: dict[str, Any], **more: str) -> tuple[int, dict[str, Any]]:
                async with session.post(path, json=body, headers=headers | more) as answer:
                    return answer.status, await answer.json()

            async def board() -> dict[str, Any]:
                async with session.get("/api/board") as answer:
                    found: dict[str, Any] = await answer.json()
                    return found

            deadline = time.monotonic() + 180
            while "bare" not in json.dumps((await board()).get("models")):
                assert time.monotonic() < deadline
                await asyncio.sleep(0.1)
            wanted = {"kind": "promote", "model": "bare", "by": "ana", "why": "a test", "saw": 2, "shard": 0}
            assert (await post("/api/decide", wanted, Authorization="Bearer " + "x" * 40))[0] == 401
            worker = one.start("run", "P")
            await asyncio.to_thread(wait_for, worker, "recovered")  # a decision waits for 15 s
            status, answer = await post("/api/decide", wanted)
            assert (status, answer["shards"][0]["fact"]["kind"]) == (200, "promoted"), answer
            status, answer = await post("/api/decide", wanted | {"model": "logreg"})  # a stale one
            assert (status, answer["shards"][0]["fact"]["kind"]) == (409, "refused"), answer
            worker.send_signal(signal.SIGTERM)
            seen = {"alert_id": "seen", "by": "ana", "note": "looked at it"}
            assert (await post("/api/acknowledge", seen))[0] == 200
            [line] = one("tail", "P", "predictions", "--from-beginning", "-n", "1", "--json").splitlines()
            event_id = json.loads(line)["value"]["event_id"]
            status, answer = await post("/api/explain", {"event_id": event_id})
            assert (status, answer["event_id"], answer["different"]) == (200, event_id, 0)
            async with session.get("/api/events") as stream:  # to watch is what makes an overview
                deadline = time.monotonic() + 180
                while (await board())["glance"] is None:
                    assert time.monotonic() < deadline
                    await asyncio.sleep(0.2)
                assert stream.status == 200
            assert (await board())["glance"]["pipeline"] == one.name
            async with session.get("/healthz") as health:
                assert (health.status, (await health.json())["agents"]["alerts"]["handled"] >= 1) == (200, True)

    asyncio.run(test())
    with contextlib.closing(one.cluster.reader()) as reader:
        end = reader.stable(f"{one.name}.control", 0)
        [record] = reader.read(f"{one.name}.control", 0, 0, end)
    assert (record.key, json.loads(record.value)["by"]) == (b"seen", "ana")
