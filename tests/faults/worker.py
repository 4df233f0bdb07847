"""One worker as a process of its own, told what to do by a `Job`; it writes down what happens to it, line by line.

Started by `harness.WorkerProcess` from a fork server that has imported everything, so that a kill costs milliseconds;
or by hand: `python -m tests.faults.worker '{"pipeline": "headrace.examples.flights:flights", ...}'`.
"""

from __future__ import annotations

import copy
import dataclasses
import faulthandler
import importlib
import itertools
import json
import logging
import os
import signal
import sys
import time
from dataclasses import dataclass, field
from typing import Any

from headrace.streams import failpoints
from headrace.streams.errors import Aborted, HeadraceError
from headrace.streams.kafka import Cluster, TransactionalProducer
from headrace.streams.models.keys import signing_key, trusted_keys
from headrace.streams.models.snapshots import Sealed
from headrace.streams.models.versions import Publisher
from headrace.streams.pipeline import Pipeline, Versions
from headrace.streams.runtime import Worker
from headrace.streams.topics import topic_name
from headrace.streams.topology import group_of
from headrace.streams.worker.collector import Calm
from headrace.streams.worker.observe import Observer
from headrace.streams.worker.tuning import Settings
from headrace.streams.worker.watchdog import Watchdog, stop_on_signals

__all__ = ["Job", "Notes", "declared", "run"]


@dataclass(frozen=True)
class Job:
    """What a worker process has to do.

    Parameters
    ----------
    pipeline, name
        ``module:attribute``, and what the pipeline is to be called (its topics and groups).
    stages
        None means the whole lane.
    settings, kafka
        Of `tuning.Settings`, and properties for every client.
    failpoint
        As in the variable `HEADRACE_FAILPOINT`.
    gives_up
        Whether the worker gives up its second commit, without a word to the broker.
    accept_change
        As `--accept-change`.
    notes, log
        Files that what happens, and what is logged, is appended to.
    """

    pipeline: str
    name: str
    bootstrap: str
    notes: str
    log: str
    stages: tuple[str, ...] | None = None
    slot: str = "0"
    settings: dict[str, Any] = field(default_factory=dict)
    kafka: dict[str, str] = field(default_factory=dict)
    failpoint: str | None = None
    gives_up: bool = False
    accept_change: bool = False
    key: str | None = None


def declared(reference: str, name: str) -> Pipeline:
    """The pipeline that ``module:attribute`` names, under another name."""
    module, _, attribute = reference.partition(":")
    pipeline = copy.copy(getattr(importlib.import_module(module), attribute))
    pipeline.name = name
    if pipeline.versions == Versions():
        pipeline.versions = Versions(every=50)  # so that short lives publish some
    return pipeline  # type: ignore[no-any-return]


class Notes(Observer):
    """Writes a line for everything rare, and for the first commit after each of them."""

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self._committed = False

    def note(self, what: str, **more: Any) -> None:
        """Append one line, in one write."""
        line = {"at": time.monotonic(), "pid": os.getpid(), "what": what, **more}
        os.write(self._file, json.dumps(line).encode() + b"\n")

    def assigned(self, shards: list[int]) -> None:
        """Which partitions the worker holds now."""
        self._committed = False
        self.note("assigned", shards=shards)

    def recovered(self, task: Any, found: Any) -> None:
        """How a task came to its state."""
        found = dataclasses.asdict(found)
        self.note("recovered", group=task.group.name, shard=task.shard, **found)

    def committed(self, tasks: Any, seconds: float, now_ms: int) -> None:
        """The first commit since the assignment."""
        if not self._committed:
            self._committed = True
            self.note("committed", seq=[processed.entry.seq for _, processed in tasks])

    def checkpointed(self, task: Any, entries: int, size: int, seconds: float) -> None:
        """A checkpoint."""
        self.note("checkpointed", shard=task.shard, entries=entries)

    def aborted(self, reason: str) -> None:
        """A transaction that did not happen."""
        self._committed = False
        self.note("aborted", reason=reason)


def _give_up(nth: int) -> None:
    commit, calls = TransactionalProducer.commit, itertools.count(1)

    def commit_or_not(self: TransactionalProducer) -> None:
        if next(calls) == nth:
            raise Aborted("given up")
        commit(self)

    TransactionalProducer.commit = commit_or_not  # type: ignore[method-assign]


def run(job: Job) -> None:
    """Work until SIGTERM; exits 0 then, else with the code of what went wrong."""
    log = os.open(job.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)
    faulthandler.register(signal.SIGUSR1)
    notes = Notes(job.notes)
    notes.note("started", slot=job.slot)
    level = logging.DEBUG if "debug" in job.kafka else logging.INFO
    logging.basicConfig(level=level, format=f"%(asctime)s {os.getpid()} %(message)s", force=True)
    if job.key is not None:
        os.environ["HEADRACE_SIGNING_KEY"] = job.key
    failpoints.arm(job.failpoint)
    if job.gives_up:
        _give_up(2)
    pipeline = declared(job.pipeline, job.name)
    cluster, codec = Cluster(job.bootstrap, job.kafka), Sealed(signing_key(), trusted_keys())

    def topics(role: str) -> str:
        return topic_name(pipeline, role)

    worker = Worker(
        pipeline,
        group_of(job.stages),
        cluster,
        topics=topics,
        slot=job.slot,
        settings=Settings(**job.settings),
        codec=codec,
        observer=notes,
        accept_change=job.accept_change,
        versions=Publisher(pipeline, cluster, topics, codec),
        collector=Calm(),
    )
    stop_on_signals(worker, 30.0)
    notes.note("listening")
    Watchdog(worker, worker.settings.stall_s).start()
    try:
        worker.run()
    except HeadraceError as error:
        notes.note("ended", error=type(error).__name__, reason=str(error))
        logging.exception("ended by %s", type(error).__name__)
        sys.exit(error.exit_code)
    except BaseException as error:
        notes.note("crashed", error=type(error).__name__, reason=str(error))
        raise
    notes.note("stopped")


if __name__ == "__main__":
    run(Job(**json.loads(sys.argv[1])))
