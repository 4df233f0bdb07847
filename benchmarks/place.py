"""Where scenarios take place: a broker of their own, pipelines with their topics, and workers as processes.

Times are seconds of the machine's monotonic clock, which all its processes share.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import declared
from benchmarks.declared import Records
from headrace.deploy import broker
from headrace.streams.data import Outgoing
from headrace.streams.kafka import Cluster
from headrace.streams.topics import topic_name, topic_specs

__all__ = ["Place", "Process", "Site", "place", "wait_for"]

ROOT = Path(__file__).absolute().parent.parent
_PATIENCE_S = 600.0
_INPUTS = {"message.timestamp.type": "CreateTime", "retention.ms": "-1"}
"""So that peers which align inputs by Kafka's timestamps can be given event times, and nothing is too old to keep."""


@contextlib.contextmanager
def place() -> Iterator[Place]:
    """A broker with empty data, and a folder; both are gone afterwards, and so is every process that was started."""
    instance = f"bench-{os.getpid()}"
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as folder:
        status = broker.start(instance=instance, fresh=True, progress=False)
        here = Place(Cluster(str(status.bootstrap)), Path(folder), Path(str(status.data_dir)))
        try:
            yield here
        finally:
            for process in here.processes:
                process.kill()
            broker.stop(instance=instance)


@dataclass
class Place:
    """A cluster, a folder for what processes keep, the broker's data, and the processes that were started."""

    cluster: Cluster
    folder: Path
    data: Path
    processes: list[Process] = field(default_factory=list)

    def site(self, kind: str, **options: Any) -> Site:
        """A pipeline of this kind under a name of its own, with its topics."""
        name = f"{kind}-{uuid.uuid4().hex[:8]}"
        pipeline = declared.make(kind, name, **options)
        self.cluster.create(
            (s.name, s.partitions, {**s.config, **(_INPUTS if s.role in ("events", "labels") else {})})
            for s in topic_specs(pipeline)
        )
        return Site(self, kind, options, pipeline)

    def spawn(self, command: Sequence[str], environment: Mapping[str, str] | None = None) -> Process:
        """A process that speaks JSON lines."""
        process = Process(command, self.folder, environment or {})
        self.processes.append(process)
        return process


@dataclass
class Site:
    """A pipeline on a place."""

    place: Place
    kind: str
    options: dict[str, Any]
    pipeline: Any
    published: list[int] = field(default_factory=lambda: [0, 0])

    def topic(self, role: str) -> str:
        """The topic's name."""
        return topic_name(self.pipeline, role)

    def publish(
        self, records: Records, stamped: bool = False, partition_of: Callable[[Outgoing], int] | None = None
    ) -> None:
        """Publish events and labels; with `stamped`, Kafka's time of a record is its event time."""
        producer = self.place.cluster.plain_producer()
        for rank, (role, outgoing) in enumerate(zip(("events", "labels"), records, strict=True)):
            topic = self.topic(role)
            for record in outgoing:
                shard = partition_of(record) if partition_of else 0
                _produce(producer, topic, record, shard, record.time_ms if stamped else 0)
            self.published[rank] += len(outgoing)
        if producer.flush(120):
            raise RuntimeError("not all inputs could be published")

    def worker(self, *, slot: str = "0", end: bool = True, **settings: Any) -> Process:
        """A worker; it ends when it has caught up, or goes on until it is stopped if `end` is not set."""
        job = {
            "kind": self.kind,
            "name": self.pipeline.name,
            "options": self.options,
            "bootstrap": self.place.cluster.bootstrap,
            "slot": slot,
            "end": end,
            "settings": settings,
        }
        key = {"HEADRACE_SIGNING_KEY": str(self.place.folder / "signing.pem")}
        return self.place.spawn([sys.executable, "-m", "benchmarks.worker", json.dumps(job)], key)

    def sender(self, records: Mapping[str, Any], rate: float, **more: Any) -> Process:
        """A publisher in an open loop (`benchmarks.sender`), prepared: `rate` records a second once it is told to go.

        `records` are the options of those that it publishes.
        """
        job = {
            "kind": self.kind,
            "options": records,
            "bootstrap": self.place.cluster.bootstrap,
            "events": self.topic("events"),
            "labels": self.topic("labels"),
            "rate": rate,
            **more,
        }
        process = self.place.spawn([sys.executable, "-m", "benchmarks.sender", json.dumps(job)])
        process.await_("prepared")
        return process

    def read(self, role: str, shard: int = 0) -> list[Any]:
        """All committed records of an output."""
        reader = self.place.cluster.reader()
        try:
            return list(reader.read(self.topic(role), shard))
        finally:
            reader.close()

    def drop(self) -> None:
        """Delete the topics."""
        self.place.cluster.delete(spec.name for spec in topic_specs(self.pipeline))


class Process:
    """A process and what it says, a JSON object a line."""

    def __init__(self, command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> None:
        self.log = folder / f"{uuid.uuid4().hex[:8]}.log"
        surroundings = {**os.environ, "PYTHONHASHSEED": "0", "PYTHONPATH": str(ROOT), **environment}
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, cwd=ROOT, env=surroundings
            )
        self.pid = self._process.pid
        self.said: list[dict[str, Any]] = []
        self._lines: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return self._process.poll() is None

    def await_(self, what: str, timeout_s: float = _PATIENCE_S) -> dict[str, Any]:
        """What it says next of this kind; RuntimeError with the end of its log when it ends or takes too long."""
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                line = self._lines.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                raise RuntimeError(f"no {what!r} within {timeout_s:g} s:\n{self.tail()}") from None
            if line is None:
                raise RuntimeError(f"it ended before {what!r}:\n{self.tail()}")
            self.said.append(line)
            if line["what"] == what:
                return line

    def say(self, line: str) -> None:
        """A line on its stdin."""
        assert self._process.stdin is not None
        self._process.stdin.write(line.encode() + b"\n")
        self._process.stdin.flush()

    def stop(self) -> dict[str, Any]:
        """SIGTERM; its last words."""
        self._process.send_signal(signal.SIGTERM)
        return self.await_("ended", 120)

    def kill(self) -> float:
        """SIGKILL; when that was."""
        at = time.monotonic()
        if self.alive:
            self._process.kill()
        self._process.wait()
        self._listener.join()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        return at

    def tail(self, lines: int = 20) -> str:
        """The end of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:]) if self.log.exists() else ""

    def _listen(self) -> None:
        for line in self._process.stdout or ():
            with contextlib.suppress(json.JSONDecodeError):
                self._lines.put(json.loads(line))
        self._lines.put(None)


def wait_for(condition: Callable[[], bool], what: str, timeout_s: float = 120.0, poll_s: float = 0.01) -> None:
    """Return when the condition holds; RuntimeError when it does not in time."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(f"not within {timeout_s:g} s: {what}")
        time.sleep(poll_s)


def _produce(producer: Any, topic: str, record: Outgoing, shard: int, timestamp: int) -> None:
    while True:
        try:
            producer.produce(topic, record.value, record.key, shard, timestamp=timestamp)
            break
        except BufferError:
            producer.poll(0.05)
    producer.poll(0)
