"""A worker as a process of its own, which says on stdout when what happened, and what it cost.

    ready      every assigned task stands where the log says; with what recovery found
    committed  the first transaction since then
    ended      figures: from `ready` to the last commit

Started by `place.Site.worker`. `--until-caught-up` of `headrace run` ends in the same way.
"""

from __future__ import annotations

import json
import logging
import resource
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

from benchmarks import declared
from headrace.streams.kafka import Cluster
from headrace.streams.models.keys import signing_key, trusted_keys
from headrace.streams.models.snapshots import Sealed
from headrace.streams.runtime import Worker
from headrace.streams.topics import names_of
from headrace.streams.topology import group_of
from headrace.streams.worker.collector import Calm
from headrace.streams.worker.observe import Observer
from headrace.streams.worker.tuning import Settings

__all__ = ["main"]


def say(what: str, **more: Any) -> None:
    """One line, with the time."""
    print(json.dumps({"what": what, "at": time.monotonic(), **more}), flush=True)


def cpu_s() -> float:
    """Seconds of processor time of this process, all threads."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def peak_rss_kb() -> int:
    """The most memory that this process had resident; `ru_maxrss` would begin with that of whoever started it."""
    return next(int(line.split()[1]) for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line)


def main_cpu_s() -> float:
    """Seconds of processor time of the thread that processes, asked from any thread."""
    return time.clock_gettime(time.pthread_getcpuclockid(threading.main_thread().ident or 0))


class Figures(Observer):
    """Counts what a run did, and when."""

    def __init__(self) -> None:
        self.ready_at: float | None = None
        self.last_commit: float | None = None
        self.ready_cpu_s = self.last_cpu_s = self.ready_main_s = self.last_main_s = 0.0
        self.transactions = self.inputs = self.outputs = 0
        self.tasks: dict[int, Any] = {}
        self.checkpoints: list[dict[str, Any]] = []
        self.recoveries: list[dict[str, Any]] = []

    def assigned(self, shards: list[int]) -> None:
        """All tasks are ready."""
        if shards:
            if self.ready_at is None:
                self.ready_at, self.ready_cpu_s, self.ready_main_s = time.monotonic(), cpu_s(), main_cpu_s()
            say("ready", shards=shards, recoveries=self.recoveries)

    def recovered(self, task: Any, found: Any) -> None:
        """How a task came to its state."""
        self.recoveries.append(
            {
                "seconds": found.seconds,
                "journalled": found.journalled,
                "replayed": found.replayed,
                "checkpoint": found.checkpoint_seq,
            }
        )

    def processed(self, task: Any, batch: Any, seconds: float) -> None:
        """A batch."""
        leading = task.group.leading  # the registry holds our own facts, too
        self.inputs += sum(rank >= leading for rank, _ in batch.batch)
        self.outputs += len(batch.outputs)

    def committed(self, tasks: Any, seconds: float, now_ms: int) -> None:
        """A transaction."""
        if not self.transactions:
            say("committed")
        self.transactions += 1
        self.tasks |= {task.shard: task for task, _ in tasks}
        self.last_commit, self.last_cpu_s, self.last_main_s = time.monotonic(), cpu_s(), main_cpu_s()

    def checkpointed(self, task: Any, entries: int, size: int, seconds: float) -> None:
        """A checkpoint."""
        self.checkpoints.append({"entries": entries, "bytes": size, "seconds": seconds})
        say("checkpointed", entries=entries, bytes=size, seconds=seconds)


def main(job: dict[str, Any]) -> None:
    """Work until caught up, or until SIGTERM."""
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    pipeline = declared.make(job["kind"], job["name"], **job["options"])
    figures = Figures()
    worker = Worker(
        pipeline,
        group_of(),
        Cluster(job["bootstrap"]),
        topics=names_of(pipeline),
        slot=job["slot"],
        settings=Settings(**job["settings"]),
        codec=Sealed(signing_key(), trusted_keys()),
        observer=figures,
        collector=Calm(),
    )
    signal.signal(signal.SIGTERM, lambda *_: worker.stop())
    say("started")
    worker.run(worker.caught_up if job["end"] else lambda: False)
    began = figures.ready_at or time.monotonic()
    say(
        "ended",
        began=began,
        last_commit=figures.last_commit,
        seconds=(figures.last_commit or began) - began,
        cpu_s=figures.last_cpu_s - figures.ready_cpu_s,
        main_cpu_s=figures.last_main_s - figures.ready_main_s,
        peak_rss_kb=peak_rss_kb(),
        transactions=figures.transactions,
        inputs=figures.inputs,
        outputs=figures.outputs,
        checkpoints=figures.checkpoints,
        recoveries=figures.recoveries,
        summaries={str(shard): task.chain.summary() for shard, task in figures.tasks.items()},
        sizes={str(shard): _sizes(task) for shard, task in figures.tasks.items()},
    )


def _sizes(task: Any) -> dict[str, int]:
    """Entries of each store that has many."""
    stores = task.chain.stores.states
    return {
        f"{processor}.{name}": len(store)
        for processor, named in stores.items()
        for name, store in named.items()
        if hasattr(store, "put")
    }


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
