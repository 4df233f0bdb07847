"""A pipeline that really runs: broker, worker and control plane as processes, as the command line starts them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from headrace.deploy import broker
from headrace.streams.kafka import Cluster

__all__ = ["ROOT", "Running", "running"]

ROOT = Path(__file__).resolve().parents[2]
_STARTED = re.compile(r"(http://\S+/)#token=(\S+)")


class Running:
    """A broker of its own, and the processes at it; `folder` has their logs and their data."""

    def __init__(self, reference: str, instance: str, folder: Path) -> None:
        self.reference, self.instance, self.folder = reference, instance, folder
        self.url = self.token = ""
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.bootstrap = str(broker.start(instance=instance, data_dir=folder / "kafka", progress=False).bootstrap)
        self.cluster = Cluster(self.bootstrap)

    def call(self, *arguments: str) -> None:
        """Run one command of the command line to its end."""
        done = subprocess.run(self._line(*arguments), env=self._env(), cwd=ROOT, capture_output=True, timeout=300)
        assert done.returncode == 0, done.stderr.decode()[-3_000:]

    def start(self, name: str, *arguments: str) -> None:
        """Start a command that runs on; its output goes to a file of its name."""
        with (self.folder / f"{name}.log").open("wb") as log:
            self.processes[name] = subprocess.Popen(
                self._line(*arguments), env=self._env(), cwd=ROOT, stdout=log, stderr=subprocess.STDOUT
            )

    def control(self) -> None:
        """Start the control plane, and learn its address and token."""
        self.start("control", "control", self.reference, "--port", "0")
        deadline = time.monotonic() + 180
        while (found := _STARTED.search(self.log("control"))) is None:
            assert self.processes["control"].poll() is None, self.log("control")
            assert time.monotonic() < deadline, self.log("control")
            time.sleep(0.05)
        self.url, self.token = found.groups()

    def kafka_away(self) -> None:
        """Stop the broker; its data stay."""
        broker.stop(instance=self.instance)

    def kafka_back(self) -> None:
        """Start the broker again, where it was."""
        port = int(self.bootstrap.rpartition(":")[2])
        broker.start(instance=self.instance, data_dir=self.folder / "kafka", port=port, progress=False)

    def log(self, name: str) -> str:
        """What a process has said."""
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def produce(self, topic: str, value: bytes, key: bytes | None = None, headers: Any = None) -> None:
        """Append one record."""
        producer = self.cluster.plain_producer()
        producer.produce(topic, value, key, 0, headers=headers)
        assert producer.flush(20) == 0

    def stop(self) -> None:
        """End everything."""
        for process in self.processes.values():
            process.terminate()
        for process in self.processes.values():
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(5)
        self.cluster._admin = None  # a client with a request under way does not end once its broker is gone
        broker.stop(instance=self.instance)

    def _line(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "headrace", *arguments]

    def _env(self) -> dict[str, str]:
        own = {"HEADRACE_BOOTSTRAP": self.bootstrap, "HEADRACE_DATA_DIR": str(self.folder), "PYTHONHASHSEED": "0"}
        return {**os.environ, **own}


@contextmanager
def running(reference: str, instance: str, folder: Path) -> Iterator[Running]:
    """A pipeline's broker, for as long as one is within."""
    found = Running(reference, instance, folder)
    try:
        yield found
    finally:
        found.stop()
