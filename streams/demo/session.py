"""One run of the demo: broker, topics, publisher and worker as processes of their own; all of it ended afterwards."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from headrace.schemas.records import version_of
from headrace.streams.demo.plane import Plane
from headrace.streams.demo.watcher import Watcher, percentile
from headrace.streams.errors import Stalled, UsageError
from headrace.streams.kafka import Cluster
from headrace.streams.models import registry
from headrace.streams.models.keys import signing_key, trusted_keys
from headrace.streams.models.snapshots import Sealed
from headrace.streams.pipeline import Pipeline
from headrace.streams.recovery import restored
from headrace.streams.settings import Connection
from headrace.streams.summary import Summary, summary_of
from headrace.streams.topics import names_of, topic_name, topic_specs

__all__ = ["Session"]

_STALL_S = 120.0


class Session:
    """The demo's processes. Use as a context: whatever it started is ended on the way out, however that is."""

    def __init__(self, pipeline: Pipeline, reference: str, connection: Connection) -> None:
        self.pipeline, self.reference, self.connection = pipeline, reference, connection
        self.cluster = Cluster(connection.bootstrap, connection.config)
        self.published = 0
        self.total: int | None = None
        self.history: dict[str, int] = {}
        self.finished = False
        self._said: queue.Queue[dict[str, Any]] = queue.Queue()
        self._processes: list[subprocess.Popen[str]] = []
        self.plane: Plane | None = None
        self.keep_plane = False

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *exception: object) -> None:
        if self.plane is not None and not (self.keep_plane and exception[0] is None):
            self._processes.append(self.plane.process)
        for process in self._processes:
            if process.poll() is None:
                process.terminate()
        for process in self._processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(25)
            if process.poll() is None:
                process.kill()
                process.wait()

    def create_topics(self, contest: Pipeline, reference: str) -> None:
        """All topics, and those that the contest does not share with them.

        With records that are there already the demo would mix: it wants them empty.
        """
        specs = {spec.name: spec for pipeline in (contest, self.pipeline) for spec in topic_specs(pipeline)}
        with contextlib.closing(self.cluster.reader()) as reader:
            existing = self.cluster.describe(specs)
            places = [(name, partition) for name, (count, _) in existing.items() for partition in range(count)]
            used = [name for name, partition in places if reader.watermarks(name, partition)[1]]
        if used:
            raise UsageError(
                f"{used[0]} on this cluster has records already: empty it with "
                f"`headrace reset {self.reference} --yes --delete-inputs` and `headrace reset {reference} --yes`, "
                "or let the demo start a broker of its own."
            )
        self.cluster.create((s.name, s.partitions, s.config) for s in specs.values() if s.name not in existing)

    def start_plane(self, keep: bool) -> None:
        """The control plane, with its page; with `keep` it outlives a demo that went well."""
        self.keep_plane = keep
        self.plane = Plane(self.reference, self.cluster.bootstrap, self._environment())

    def start(self, limit: int | None, live: int, rate: float) -> None:
        """The publisher; the worker follows when the history is there, so that catching up is measured."""
        bootstrap = self.cluster.bootstrap
        publisher = [sys.executable, "-m", "headrace.streams.demo.publisher", self.reference, bootstrap]
        self._publisher = self._spawn([*publisher, str(limit or 0), str(live), str(rate)])
        threading.Thread(target=self._listen, daemon=True).start()
        self.watcher = self._watcher(self.pipeline)

    def history_done(self, show: Callable[[], None]) -> None:
        """Wait until the history is published, and a worker has caught up with it."""
        self._until(lambda: bool(self.history), show)
        worker = [sys.executable, "-m", "headrace", "--bootstrap", self.cluster.bootstrap, "run"]
        self._worker = self._spawn([*worker, self.reference, "--checkpoint", "5s", "--log-level", "warning"])
        self._until(self._caught_up, show)
        self.caught_up_per_s = self.watcher.per_s

    def live_done(self, show: Callable[[], None]) -> None:
        """Let the publisher go live, and wait until all is published and processed."""
        with contextlib.closing(self.cluster.reader()) as reader:
            self.watcher.live_from_offset = reader.watermarks(topic_name(self.pipeline, "events"), 0)[1]
        assert self._publisher.stdin is not None
        self._publisher.stdin.write("live\n")
        self._publisher.stdin.flush()
        self._until(lambda: self.finished and self._caught_up(), show)

    def stop_worker(self) -> None:
        """SIGTERM: the worker checkpoints and exits 0."""
        self._worker.send_signal(signal.SIGTERM)
        code = self._worker.wait(60)
        if code:
            raise Stalled(f"the worker ended with exit code {code}; its log is above")
        self.watcher.close()

    def summary(self) -> Summary:
        """What the state topic says after the last checkpoint."""
        task = restored(
            self.pipeline,
            self.cluster,
            names_of(self.pipeline),
            Sealed(signing_key(), trusted_keys(), self.pipeline.classes),
        )
        return summary_of(task.chain)

    def contest(self, pipeline: Pipeline, reference: str, show: Callable[[], None]) -> list[dict[str, Any]]:
        """Let another pipeline read the same flights, and say whom its gate promoted, and on which evidence.

        The `watcher` is that of its predictions from then on.
        """
        command = [sys.executable, "-m", "headrace", "--bootstrap", self.cluster.bootstrap, "run", reference]
        worker = self._spawn([*command, "--until-caught-up", "--log-level", "warning"])
        with contextlib.closing(self._watcher(pipeline)) as self.watcher:
            self._until(lambda: worker.poll() == 0, show)
        with contextlib.closing(self.cluster.reader()) as reader:
            facts = [fact for shard in registry.shards(pipeline, reader) for fact in shard.facts]
        champions = {0: pipeline.champion} | {fact.version: str(fact.champion) for fact in facts}
        return [
            {
                "model": fact.model,
                "version": version_of(str(fact.model), fact.shard, fact.n),
                "from": champions[fact.version - 1],
                "why": fact.why,
                "evidence": fact.evidence,
            }
            for fact in facts
            if fact.kind == "promoted"
        ]

    def figures(self) -> dict[str, Any]:
        """Throughput while catching up, and latency while live."""
        latencies = self.watcher.latencies_ms
        return {
            "events_per_s": None if self.caught_up_per_s is None else round(self.caught_up_per_s, 1),
            "latency_ms": {"p50": percentile(latencies, 0.5), "p99": percentile(latencies, 0.99)},
        }

    # -- private -------------------------------------------------------------------------------------------------

    def _spawn(self, command: list[str]) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=self._environment(),
            start_new_session=True,
        )
        self._processes.append(process)
        return process

    def _watcher(self, pipeline: Pipeline) -> Watcher:
        return Watcher(self.cluster, topic_name(pipeline, "events"), topic_name(pipeline, "predictions"))

    def _environment(self) -> dict[str, str]:
        return self.connection.environment(os.environ) | {"PYTHONHASHSEED": "0"}

    def _listen(self) -> None:
        for line in self._publisher.stdout or ():
            with contextlib.suppress(json.JSONDecodeError):
                self._said.put(json.loads(line))

    def _heard(self) -> Iterator[dict[str, Any]]:
        while True:
            try:
                yield self._said.get_nowait()
            except queue.Empty:
                return

    def _caught_up(self) -> bool:
        committed = self.cluster.committed(self.pipeline.name)
        inputs = [topic_name(self.pipeline, role) for role in ("events", "labels")]
        with contextlib.closing(self.cluster.reader()) as reader:
            return all(committed.get((topic, 0), 0) >= reader.stable(topic, 0) for topic in inputs)

    def _until(self, done: Callable[[], bool], show: Callable[[], None]) -> None:
        progressed, seen, checked = time.monotonic(), (-1, -1), 0.0
        while True:
            for said in self._heard():
                self.total = said.get("total", self.total)
                self.published = said.get("done", self.published)
                self.finished = said.get("finished", self.finished)
                if "history" in said:
                    self.history = said
            show()
            now = time.monotonic()
            if (self.published, self.watcher.predictions) != seen:
                seen, progressed = (self.published, self.watcher.predictions), now
            elif now - checked > 0.3:
                checked = now
                if done():
                    return
            for process in self._processes:
                if process.poll() not in (None, 0):
                    raise Stalled("a process of the demo ended with an error; its log is above")
            if self.plane is not None and self.plane.process.poll() is not None:
                raise Stalled(f"the control plane ended; its log is {self.plane.log}")
            if now - progressed > _STALL_S:
                raise Stalled(f"no progress for {_STALL_S:.0f} s")
            time.sleep(0.05)
