"""Real Prometheus and Alertmanager beside a real broker: what they are told, and what they tell."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from headrace.streams.control.outside import target
from headrace.streams.kafka import Cluster
from headrace.streams.topics import topic_specs
from tests.alerting import alert
from tests.kafka.test_cli import Shell, published, shell  # noqa: F401 - fixtures
from tests.kafka.test_control import eventually
from tests.kafka.test_control_service import Bench
from tests.unit.test_outside import receiver

CONFIG = """
route:
  receiver: hook
  group_by: [alert_id]
  group_wait: 0s
  group_interval: 1s
  repeat_interval: 1h
receivers:
  - name: hook
    webhook_configs:
      - url: {hook}
        send_resolved: true
"""
SCRAPES = """
global: {{scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}}
rule_files: ["{rules}/*.rules.yml"]
scrape_configs:
  - job_name: headrace
    static_configs:
      - {{targets: ["{worker}"], labels: {{part: worker}}}}
      - {{targets: ["{control}"], labels: {{part: control}}}}
"""


def program(*names: str, package: str) -> str:
    """The path of a Debian program; the test is skipped where it is not installed."""
    found = next((path for name in names if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip(f"{names[0]} is not installed: the Debian package {package} has it.")
    return found


def free_port() -> int:
    """A port that nobody has now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def asked(url: str) -> Any:
    """The JSON at an address, or None while nobody answers there."""
    try:
        with urllib.request.urlopen(url, timeout=60) as answer:
            return json.loads(answer.read())
    except (OSError, urllib.error.HTTPError, ValueError):
        return None


class Manager:
    """A real Alertmanager that keeps its data between starts, and tells a webhook, which counts."""

    def __init__(self, folder: Path) -> None:
        self.binary = program("prometheus-alertmanager", "alertmanager", package="prometheus-alertmanager")
        self.folder, self.port = folder, free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.notified: list[str] = []
        self._process: subprocess.Popen[bytes] | None = None

    async def _count(self, request: web.Request) -> web.Response:
        for told in (await request.json())["alerts"]:
            self.notified.append(f"{told['labels']['alert_id']}/{told['status']}")
        return web.Response()

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        """Its webhook is there; whatever runs at the end is ended."""
        async with receiver(self._count) as base:
            (self.folder / "am.yml").write_text(CONFIG.format(hook=f"{base}/told"))
            try:
                yield
            finally:
                self.stop()

    def start(self) -> None:
        """Start it, on the data that it had."""
        self._process = subprocess.Popen(
            [
                self.binary,
                f"--config.file={self.folder / 'am.yml'}",
                f"--storage.path={self.folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{self.port}",
                "--cluster.listen-address=",
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def stop(self) -> None:
        """SIGTERM, so that it writes down whom it has notified."""
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            self._process.wait(10)
            self._process = None

    def active(self) -> list[str]:
        """The ids of the alerts that it holds for active."""
        found = asked(f"{self.url}/api/v2/alerts?active=true")
        return sorted(entry["labels"]["alert_id"] for entry in found or [])


@pytest.fixture
def bench(cluster: Cluster) -> Iterator[Bench]:
    """A pipeline of its own, removed afterwards."""
    made = Bench(cluster)
    yield made
    cluster.delete([spec.name for spec in topic_specs(made.pipeline)])


def options(manager: Manager) -> dict[str, Any]:
    """A service's, with this Alertmanager alone."""
    to = target(manager.url, "--alertmanager 1", allow_private=True)
    return {"webhooks": (), "alertmanagers": (to,), "repeat_s": 0.5}


def test_an_alert_arrives_in_alertmanager_and_resolves(bench: Bench, tmp_path: Path):
    """It is active under its labels while it is open, repeated and not forgotten; people are told of both, once."""
    manager = Manager(tmp_path)

    async def test() -> None:
        async with manager.listening():
            manager.start()
            async with bench.serving(**options(manager)):
                bench.write("alerts", alert("one"), alert("two"))
                await eventually(lambda: manager.active() == ["one", "two"], "both are active")
                entry = next(e for e in asked(f"{manager.url}/api/v2/alerts") if e["labels"]["alert_id"] == "one")
                assert entry["labels"]["alertname"] == "HeadraceErrorDrift"
                assert entry["labels"]["pipeline"] == bench.pipeline.name
                assert entry["annotations"]["summary"] == "error: one opened"
                bench.write("alerts", alert("one", "updated", 2), alert("two", "resolved", 2))
                await eventually(lambda: manager.active() == ["one"], "one is resolved")
                await eventually(lambda: len(manager.notified) >= 3, "people are told")
                await asyncio.sleep(1.5)  # three repetitions, and a group interval

    asyncio.run(test())
    assert Counter(manager.notified) == {"one/firing": 1, "two/firing": 1, "two/resolved": 1}


def test_alertmanager_may_be_down_for_a_while(bench: Bench, tmp_path: Path):
    """Delivered afterwards, and nobody is told twice of what was told before."""
    manager = Manager(tmp_path)

    async def test() -> None:
        async with manager.listening():
            manager.start()
            async with bench.serving(**options(manager)) as service:
                bench.write("alerts", alert("before"))
                await eventually(lambda: manager.notified == ["before/firing"], "the first is told")
                manager.stop()
                bench.write("alerts", alert("meanwhile"))
                line, agent = service.routes.lines[0], service.agents[0]
                await eventually(lambda: line.why and agent.handled == 2, "it cannot be delivered")
                manager.start()
                await eventually(lambda: "meanwhile/firing" in manager.notified, "it is told afterwards")
                await eventually(lambda: manager.active() == ["before", "meanwhile"], "both are active")
            # A restart of the control plane tells nobody anything either.
            async with bench.serving(**options(manager)):
                bench.write("alerts", alert("last"))
                await eventually(lambda: "last/firing" in manager.notified, "the last is told")
                await asyncio.sleep(1.5)  # three repetitions, and a group interval

    asyncio.run(test())
    assert Counter(manager.notified) == {"before/firing": 1, "meanwhile/firing": 1, "last/firing": 1}


def test_prometheus_scrapes_worker_and_control_plane(published: Shell, tmp_path: Path):  # noqa: F811
    """Both targets are up, a metric of each is there under the pipeline's name, and our rules work on them."""
    binary = program("prometheus", package="prometheus")
    ports = [free_port() for _ in range(3)]
    one = published
    one.start("run", "P", "--metrics-port", str(ports[0]))
    one.start("control", "P", "--port", "0", "--metrics-port", str(ports[1]))
    config = tmp_path / "prometheus.yml"
    rules = Path(__file__).resolve().parents[2] / "deploy" / "prometheus"
    config.write_text(SCRAPES.format(worker=f"127.0.0.1:{ports[0]}", control=f"127.0.0.1:{ports[1]}", rules=rules))
    where = f"http://127.0.0.1:{ports[2]}"
    arguments = [
        f"--config.file={config}",
        f"--storage.tsdb.path={tmp_path / 'tsdb'}",
        f"--web.listen-address=127.0.0.1:{ports[2]}",
    ]
    process = subprocess.Popen([binary, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def values(query: str) -> dict[str, float]:
        found = asked(f"{where}/api/v1/query?query={query}")
        rows = [] if found is None else found["data"]["result"]
        return {row["metric"]["part"]: float(row["value"][1]) for row in rows}

    try:
        wanted = {
            "up": {"worker": 1.0, "control": 1.0},
            "headrace_ready": {"worker": 1.0},
            f"headrace_control_kafka_up%7Bpipeline=%22{one.name}%22%7D": {"control": 1.0},
        }
        deadline = time.monotonic() + 180
        while (found := {query: values(query) for query in wanted}) != wanted:
            assert time.monotonic() < deadline, found
            time.sleep(0.2)
        laws = f"{where}/api/v1/query?query=pipeline:headrace_conservation_law:min"
        while not (holds := (asked(laws) or {"data": {"result": []}})["data"]["result"]):
            assert time.monotonic() < deadline, "no rule has recorded the laws"
            time.sleep(0.2)
        assert {(row["metric"]["law"], row["value"][1]) for row in holds} == {("events", "1"), ("predictions", "1")}
        groups = asked(f"{where}/api/v1/rules")["data"]["groups"]
        assert [rule["name"] for group in groups for rule in group["rules"] if rule["health"] == "err"] == []
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(10)
