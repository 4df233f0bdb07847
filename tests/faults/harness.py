"""Processes that can be killed, and what is needed to judge what they left behind.

world = World.make(cluster, "headrace.examples.flights:flights", "test-1", folder)
world.publish(events, labels)
worker = world.spawn()
worker.kill()
...
world.finish([worker])
assert world.published("predictions") == world.expected()["predictions"]
assert world.audit().different == 0
"""

from __future__ import annotations

import contextlib
import functools
import json
import multiprocessing
import os
import random
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from headrace.streams import data, memory
from headrace.streams.kafka import Cluster
from headrace.streams.models.keys import signing_key, trusted_keys
from headrace.streams.models.snapshots import Sealed
from headrace.streams.pipeline import Pipeline
from headrace.streams.replay.audit import Audit, audit
from headrace.streams.summary import Summary, summary_of
from headrace.streams.task import Task
from headrace.streams.topics import group_name, topic_name, topic_specs, transactional_id
from headrace.streams.topology import Group, group_of
from tests.faults import worker
from tests.faults.worker import Job

__all__ = ["FLIGHTS", "LANE", "THREE", "WorkerProcess", "World", "flight_records", "kill_moments", "seed", "until"]

FLIGHTS = "headrace.examples.flights:flights"
LANE: tuple[tuple[str, ...] | None, ...] = (None,)
THREE: tuple[tuple[str, ...] | None, ...] = (
    ("validate", "featurize"),
    ("predict", "join", "train", "evaluate"),
    ("drift",),
)
COMPARED = ("predictions", "shadow", "examples", "features", "evaluations", "registry", "alerts", "dead-letter")
Published = list[tuple[bytes | None, bytes | None, list[tuple[str, bytes]]]]


def seed() -> int:
    """A seed for the moments of kills: `HEADRACE_SEED`, else a new one, printed so that a failure can be run again."""
    chosen = int(os.environ.get("HEADRACE_SEED") or random.SystemRandom().randrange(1_000_000))
    print(f"HEADRACE_SEED={chosen}")
    return chosen


def until(condition: Callable[[], Any], what: str, timeout_s: float = 60.0, poll_s: float = 0.005) -> Any:
    """What `condition` returns once it is true; AssertionError when it is not in time."""
    deadline = time.monotonic() + timeout_s
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout_s:g} s: {what}")
        time.sleep(poll_s)
    return found


@functools.cache
def _nursery() -> Any:
    """Forks workers from a server that has imported all they need. Hash seed 0 is inherited from here."""
    if os.environ.get("PYTHONHASHSEED") != "0":
        raise RuntimeError("Set PYTHONHASHSEED=0: workers run under it (make does).")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.faults.preloaded"])
    return context


@functools.cache
def flight_records(count: int) -> tuple[list[data.Outgoing], list[data.Outgoing]]:
    """Events and labels of the first flights of 2013."""
    pipeline = worker.declared(FLIGHTS, "flights")
    return data.records(pipeline, data.load(None, pipeline, count))


class WorkerProcess:
    """One worker in a process of its own."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.spawned_at = time.monotonic()
        self._read_from = Path(job.notes).stat().st_size if Path(job.notes).exists() else 0
        self._process = _nursery().Process(target=worker.run, args=(job,), daemon=True)
        self._process.start()
        self.paused = False

    @property
    def pid(self) -> int:
        """The process id."""
        return int(self._process.pid)

    @property
    def alive(self) -> bool:
        """Whether the process is there (it may be stopped)."""
        return bool(self._process.is_alive())

    @property
    def exit_code(self) -> int | None:
        """None while it lives; minus the signal's number when it was killed."""
        return None if self._process.exitcode is None else int(self._process.exitcode)

    def notes(self, what: str | None = None) -> list[dict[str, Any]]:
        """What this process wrote down so far."""
        if not Path(self.job.notes).exists():
            return []
        with open(self.job.notes, "rb") as file:
            file.seek(self._read_from)
            lines = [json.loads(line) for line in file if line.endswith(b"\n")]
        return [line for line in lines if line["pid"] == self.pid and what in (None, line["what"])]

    def kill(self) -> None:
        """kill -9, and wait until it is gone."""
        self._send(signal.SIGKILL)
        self.join()

    def pause(self) -> None:
        """SIGSTOP."""
        self.paused = True
        self._send(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        self._send(signal.SIGCONT)
        self.paused = False

    def _send(self, number: int) -> None:
        """A signal, unless the process has just ended by itself."""
        if self.alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def stop(self, timeout_s: float = 30.0) -> None:
        """SIGTERM; AssertionError unless it ends with 0 in time."""
        self.terminate()
        self.join(timeout_s)
        assert self.exit_code == 0, f"worker ended with {self.exit_code}; see the end of its log:\n{self.tail()}"

    def terminate(self) -> None:
        """SIGTERM, once it would hear it."""
        until(lambda: self.notes("listening") or not self.alive, "the worker listens for signals", 30)
        self._send(signal.SIGTERM)

    def join(self, timeout_s: float = 30.0) -> None:
        """Wait for its end; AssertionError when it does not come in time."""
        self._process.join(timeout_s)
        if self.alive:
            tail = self.stack()
            os.kill(self.pid, signal.SIGKILL)
            raise AssertionError(f"worker did not end within {timeout_s:g} s; the end of its log:\n{tail}")

    def await_note(self, what: str, timeout_s: float = 60.0) -> dict[str, Any]:
        """The first note of this kind; AssertionError when the process dies or takes too long."""

        def there() -> Any:
            found = self.notes(what)
            if not found and not self.alive:
                raise AssertionError(f"worker died ({self.exit_code}) before {what!r}; log:\n{self.tail()}")
            return found

        return dict(until(there, f"note {what!r}", timeout_s, 0.002)[0])

    def stack(self) -> str:
        """The end of its log, with what its threads are doing right now."""
        if self.alive and not self.paused:
            size = Path(self.job.log).stat().st_size
            os.kill(self.pid, signal.SIGUSR1)
            deadline = time.monotonic() + 2
            while Path(self.job.log).stat().st_size == size and time.monotonic() < deadline:
                time.sleep(0.01)
        return self.tail(60)

    def tail(self, lines: int = 30) -> str:
        """The end of its log."""
        path = Path(self.job.log)
        return "\n".join(path.read_text(errors="replace").splitlines()[-lines:]) if path.exists() else ""


@dataclass
class World:
    """A pipeline under a name of its own on a cluster, with what was published for it and the workers that ran."""

    cluster: Cluster
    reference: str
    pipeline: Pipeline
    folder: Path
    inputs: list[list[data.Outgoing]] = field(default_factory=lambda: [[], []])
    workers: list[WorkerProcess] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)
    kafka: dict[str, str] = field(default_factory=dict)
    bootstrap: str = ""

    @classmethod
    def make(cls, cluster: Cluster, reference: str, name: str, folder: Path, **more: Any) -> World:
        """Create the topics."""
        pipeline = worker.declared(reference, name)
        cluster.create((s.name, s.partitions, s.config) for s in topic_specs(pipeline))
        return cls(cluster, reference, pipeline, folder, bootstrap=cluster.bootstrap, **more)

    def remove(self) -> None:
        """End what still runs and delete the topics."""
        for process in self.workers:
            process.kill()
        self.cluster.delete(spec.name for spec in topic_specs(self.pipeline))

    @property
    def codec(self) -> Sealed:
        """With the key of the world's workers."""
        key = self.folder / "signing.pem"
        return Sealed(signing_key(key), trusted_keys(key))

    def topic(self, role: str) -> str:
        """The topic's name."""
        return topic_name(self.pipeline, role)

    # -- inputs --------------------------------------------------------------------------------------------------

    def publish(self, events: Sequence[data.Outgoing], labels: Sequence[data.Outgoing]) -> None:
        """Publish all of these, and remember them as the inputs of `expected` (one partition)."""
        producer = self.cluster.plain_producer()
        for role, records in (("labels", labels), ("events", events)):
            topic = self.topic(role)
            for record in records:
                producer.produce(topic, record.value, record.key, 0)
                producer.poll(0)
        assert producer.flush(60) == 0, "not all inputs could be published"
        self.inputs[0] += labels
        self.inputs[1] += events

    def expected(self, stages: Iterable[str] | None = None) -> dict[str, Published]:
        """What the memory runtime makes of the same inputs, by role."""
        made = self.backtest()
        return {role: [(k, v, h or []) for _, k, v, h in made.outputs.get(role, [])] for role in COMPARED}

    def backtest(self) -> memory.Backtest:
        """The memory runtime over the inputs that were published."""
        return memory.run(
            self.pipeline,
            [[(r.key, r.value) for r in records] for records in self.inputs],
            now_ms=time.time_ns() // 1_000_000,
        )

    # -- processes -----------------------------------------------------------------------------------------------

    def spawn(
        self,
        stages: tuple[str, ...] | None = None,
        *,
        slot: str = "0",
        failpoint: str | None = None,
        gives_up: bool = False,
        accept: str | None = None,
    ) -> WorkerProcess:
        """Start a worker process; with `accept`, of that declaration, as a change that is accepted."""
        called = f"{group_of(stages).name}.{slot}"
        process = WorkerProcess(
            Job(
                pipeline=accept or self.reference,
                name=self.pipeline.name,
                bootstrap=self.bootstrap,
                notes=str(self.folder / f"{called}.notes"),
                log=str(self.folder / f"{called}.log"),
                stages=stages,
                slot=slot,
                settings=self.settings,
                kafka=self.kafka,
                failpoint=failpoint,
                gives_up=gives_up,
                accept_change=accept is not None,
                key=str(self.folder / "signing.pem"),
            )
        )
        self.workers.append(process)
        return process

    def expel(self, slot: str = "0") -> None:
        """Have the group put a lane's worker out: another member joins under its name, and is gone at once."""
        group = group_of()
        name = transactional_id(self.pipeline, group, slot)
        assigned: list[Any] = []
        ghost = self.cluster.consumer(
            group_name(self.pipeline, group), name, gather_s=0.02, on_assign=assigned.append, on_revoke=lambda _: None
        )
        ghost.subscribe([self.topic(role) for role in group.inputs])
        until(lambda: ghost.fetch(1, 0.05) or assigned, "the other member is in the group")
        ghost.close()

    def group(self, stages: tuple[str, ...] | None = None) -> Group:
        """A group of stages; None means the lane."""
        return group_of(stages)

    def decoder(self, role: str) -> Callable[[bytes | None], Any]:
        """How features or examples are read."""
        chain = Task(self.pipeline, group_of(), 0, topics=self.topic).chain
        return {"features": chain.features_wire, "examples": chain.examples_wire}[role].decode  # type: ignore[no-any-return]

    # -- outcome -------------------------------------------------------------------------------------------------

    def left(self, group: Group, reader: Any = None) -> int:
        """How many committed records of its inputs a group of stages has not taken yet; -1: it never committed."""
        partitions = [(self.topic(role), shard) for role in group.inputs for shard in range(self.pipeline.partitions)]
        committed = self.cluster.committed(group_name(self.pipeline, group))
        if not committed:
            return -1
        own = reader or self.cluster.reader()
        try:
            return sum(1 for topic, p in partitions for _ in own.read(topic, p, committed.get((topic, p))))
        finally:
            if reader is None:
                own.close()

    def await_end(self, groups: Iterable[tuple[str, ...] | None] = LANE, timeout_s: float = 120.0) -> None:
        """Return when each of the groups, upstream first, has taken everything; fails when a worker dies meanwhile."""
        reader = self.cluster.reader()
        try:
            for stages in groups:
                group = group_of(stages)

                def done(group: Group = group) -> bool:
                    self._check_living()
                    return self.left(group, reader) == 0

                try:
                    until(done, f"{group.name} takes all its inputs", timeout_s, 0.02)
                except AssertionError as error:
                    raise AssertionError(f"{error}\n{self._tails()}") from error
        finally:
            reader.close()

    def finish(self, groups: Iterable[tuple[str, ...] | None] = LANE, timeout_s: float = 120.0) -> None:
        """Let everything run to its end, then stop the workers."""
        self.await_end(groups, timeout_s)
        living = [process for process in self.workers if process.alive]
        for process in living:
            process.terminate()
        for process in living:
            process.stop()

    def _check_living(self) -> None:
        for process in self.workers:
            if process.exit_code not in (None, 0, -signal.SIGKILL):
                raise AssertionError(f"worker ended with {process.exit_code}; log:\n{process.tail()}")

    def _tails(self) -> str:
        return "\n".join(process.stack() for process in self.workers if process.alive)

    def published(self, role: str, shard: int = 0) -> Published:
        """Committed records of an output, in their order; of the registry the facts, not the commands."""
        reader = self.cluster.reader()
        try:
            records = [(r.key, r.value, list(r.headers or [])) for r in reader.read(self.topic(role), shard)]
            return [r for r in records if role != "registry" or (r[1] or b"").startswith(b'{"record":"fact"')]
        finally:
            reader.close()

    def compare(self, roles: Iterable[str] = COMPARED) -> dict[str, int]:
        """Records per role, after asserting that each output is byte for byte that of the memory runtime."""
        expected = self.expected()
        counts = {}
        for role in roles:
            found = self.published(role)
            wrong = next(
                (i for i, pair in enumerate(zip(found, expected[role], strict=False)) if pair[0] != pair[1]), None
            )
            assert wrong is None, f"{role}: record {wrong} differs:\n{found[wrong]}\n{expected[role][wrong]}"
            assert len(found) == len(expected[role]), f"{role}: {len(found)} records instead of {len(expected[role])}"
            counts[role] = len(found)
        return counts

    def audit(self) -> tuple[Audit, dict[str, Summary]]:
        """The audit, and the summary of each task, by group and partition."""
        summaries: dict[str, Summary] = {}
        result = audit(
            self.pipeline,
            self.cluster.reader,
            self.topic,
            codec=self.codec,
            observe=lambda task: summaries.__setitem__(f"{task.group.name}/{task.shard}", summary_of(task.chain)),
        )
        return result, summaries


def kill_moments(chance: random.Random, within_s: float = 0.1) -> Iterator[Callable[[WorkerProcess], None]]:
    """Waits for the moment of a kill: mostly soon after the first commit of a life, else soon after its start."""
    while True:
        if chance.random() < 0.75:
            pause = chance.uniform(0, within_s)

            def wait(process: WorkerProcess, pause: float = pause) -> None:
                process.await_note("committed")
                time.sleep(pause)
        else:
            pause = chance.uniform(0, 1.0)

            def wait(process: WorkerProcess, pause: float = pause) -> None:
                time.sleep(pause)

        yield wait
