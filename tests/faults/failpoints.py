"""Die at every named site, on a real broker, and come out with the bytes of the backtest all the same.

    python -m tests.faults.failpoints [--times 4] [--seed 1] [--json FILE] [SITE ...]

Several deaths share a world (a pipeline under a name of its own with all inputs published first): a worker dies at a
site, the next one recovers and dies at another, and when the inputs are nearly used up the last one runs to the end
and everything published is compared. A site that is not reached is an error.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from headrace.deploy import broker
from headrace.streams.failpoints import SITES
from headrace.streams.kafka import Cluster
from headrace.streams.topology import group_of
from tests.faults.harness import FLIGHTS, WorkerProcess, World, flight_records, until

__all__ = ["INPUTS", "Deaths", "main"]

INPUTS = 1_500
_BATCH = 30
_KAFKA = {"session.timeout.ms": "6000"}
_OFTEN = {"checkpoint_s": 0.0, "checkpoint_entries": 2_000}
"""A checkpoint right after the other, in parts of 200 live: in smaller ones a world has no four of them."""
_NEVER = {"checkpoint_s": 10_000.0}
_ASIDE = ("checkpoint", "savepoint", "version")
_PATIENCE_S = 90.0  # a broker whose disk is busy may take half of it to open a producer


class Deaths:
    """Kills workers at sites, opening new worlds as the inputs of the old ones are used up.

    `counts` says how often a worker died at each site, `seconds` how long each death took with the restart, `different`
    what was found to differ.
    """

    def __init__(self, cluster: Cluster, folder: Path, seed: int) -> None:
        self.counts: Counter[str] = Counter()
        self.seconds: list[float] = []
        self.recovery_s: list[float] = []
        self.different: list[str] = []
        self.worlds = 0
        self._cluster, self._folder = cluster, folder
        self._chance = random.Random(seed)
        self._world: World | None = None

    def run(self, plan: Iterable[tuple[str, int]]) -> None:
        """Die at each (site, pass) of the plan, epochs' sites first in each world, then compare."""
        plan = list(plan)
        epochs = [death for death in plan if death[0].startswith("epoch.")]
        others = [death for death in plan if not death[0].startswith("epoch.")]
        while epochs or others:
            world = self._open()
            here = sorted(dict(epochs), key=SITES.index)
            for site in here:
                epochs.remove(next(death for death in epochs if death[0] == site))
                self._die(world, site, 1)
            while others and self._roomy(world):
                self._die(world, *others.pop(0))
            self._close(world)

    def _open(self) -> World:
        folder = self._folder / f"world-{self.worlds}"
        folder.mkdir()
        self.worlds += 1
        name = f"failpoints-{uuid.uuid4().hex[:8]}"
        world = World.make(self._cluster, FLIGHTS, name, folder, kafka=dict(_KAFKA))
        world.publish(*flight_records(INPUTS))
        return world

    def _close(self, world: World) -> None:
        """Run to the end and compare; what differs is kept."""
        world.settings = {"batch": _BATCH * 4}
        world.spawn()
        world.finish()
        try:
            world.compare()
            result, summaries = world.audit()
            assert result.different == 0, result.first
            assert all(all(summary.laws.values()) for summary in summaries.values())
        except AssertionError as error:
            self.different.append(f"{world.pipeline.name} in {world.folder}: {error}")
        self.recovery_s += [
            note["at"] - process.spawned_at for process in world.workers for note in process.notes("committed")[:1]
        ]
        world.remove()

    @staticmethod
    def _roomy(world: World) -> bool:
        """Whether enough inputs are left for another death."""
        left = world.left(group_of())
        return left < 0 or left > 20 * _BATCH

    # -- one death -----------------------------------------------------------------------------------------------

    def _die(self, world: World, site: str, nth: int) -> None:
        began = time.monotonic()
        stage = site.split(".")[0]
        if site.startswith("recover.repl"):  # needs a journal beyond the checkpoint
            self._live(world, f"commit.done:{nth + 1}", _NEVER)
        elif stage in _ASIDE:
            world.settings = {"batch": _BATCH, **_OFTEN, "savepoint_s": 0.0}
        ways = {"revoke": self._revoked, "rebuild": self._aborted, "finish": self._finished}
        way = self._expelled if site == "reopen.proven" else ways.get(stage, self._plain)
        if stage not in _ASIDE:
            self._choose(world)
        process = way(world, f"{site}:{nth}")
        assert process.exit_code == -signal.SIGKILL, (
            f"{site}:{nth}: the worker ended with {process.exit_code}; log:\n{process.tail()}"
        )
        self.counts[site] += 1
        self.seconds.append(time.monotonic() - began)
        print(f"death {self.counts.total()}: {site}:{nth}", flush=True)

    def _choose(self, world: World) -> None:
        settings = self._chance.choice([_OFTEN, _NEVER, {"checkpoint_s": 0.05, "checkpoint_entries": 5_000}])
        beside = self._chance.choice([1, 10 * _BATCH])
        world.settings = {"batch": _BATCH, "beside": beside, **settings}

    def _live(self, world: World, failpoint: str, settings: dict[str, Any]) -> None:
        """A life that ends at a site which is sure to be reached; it counts as a death of its own."""
        world.settings = {"batch": _BATCH, **settings}
        self._plain(world, failpoint)
        self.counts[failpoint.partition(":")[0]] += 1

    @staticmethod
    def _plain(world: World, failpoint: str) -> WorkerProcess:
        process = world.spawn(failpoint=failpoint)
        process.join(_PATIENCE_S)
        return process

    @staticmethod
    def _finished(world: World, failpoint: str) -> WorkerProcess:
        """Killed while it ends on SIGTERM."""
        process = world.spawn(failpoint=failpoint.partition(":")[0])
        process.await_note("committed")
        process.terminate()
        process.join(_PATIENCE_S)
        return process

    @staticmethod
    def _revoked(world: World, failpoint: str) -> WorkerProcess:
        """A second worker joins, so that the first one's partition is revoked; the second one is killed too."""
        process = world.spawn(failpoint=failpoint.partition(":")[0])
        until(lambda: process.notes("committed") or not process.alive, "the first commit")
        if process.alive:  # else the second worker of an earlier death has just left
            other = world.spawn(slot=f"1-{len(world.workers)}")  # a member that is known already would change nothing
            process.join(_PATIENCE_S)
            other.kill()
        return process

    @staticmethod
    def _expelled(world: World, failpoint: str) -> WorkerProcess:
        """Its group takes another member for it."""
        process = world.spawn(failpoint=failpoint.partition(":")[0])
        process.await_note("committed")
        world.expel()
        process.join(_PATIENCE_S)
        return process

    @staticmethod
    def _aborted(world: World, failpoint: str) -> WorkerProcess:
        """A commit is given up, as after a timeout, and its transaction stays open."""
        process = world.spawn(failpoint=failpoint.partition(":")[0], gives_up=True)
        process.join(_PATIENCE_S)
        return process


def plan(sites: Sequence[str], times: int, chance: random.Random) -> list[tuple[str, int]]:
    """Each site `times` times, at passes from 1 to 4, in a random order."""
    many = {"cycle", "commit", "checkpoint", "recover.replaying"}
    out = []
    for site in sites:
        several = site in many or site.split(".")[0] in many
        out += [(site, 1 + i % 4 if several else 1) for i in range(times)]
    chance.shuffle(out)
    return out


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Die at all the sites asked for; returns and prints the counts."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.failpoints", description=__doc__)
    parser.add_argument("sites", nargs="*", metavar="SITE", help=f"of: {', '.join(SITES)}")
    parser.add_argument("--times", type=int, default=4)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    instance = f"failpoints-{uuid.uuid4().hex[:8]}"
    cluster = Cluster(str(broker.start(instance=instance, fresh=True).bootstrap))
    folder = Path(tempfile.mkdtemp(prefix="headrace-failpoints-"))
    deaths = Deaths(cluster, folder, options.seed)
    began = time.monotonic()
    try:
        deaths.run(plan(options.sites or SITES, options.times, random.Random(options.seed)))
    finally:
        cluster._admin = None  # a client with a request under way does not end once its broker is gone
        broker.stop(instance=instance)
    outcome = {
        "failpoints": len(deaths.counts),
        "kills": sum(deaths.counts.values()),
        "by_site": dict(sorted(deaths.counts.items())),
        "worlds": deaths.worlds,
        "seconds": round(time.monotonic() - began, 1),
        "seconds_per_kill": round(sum(deaths.seconds) / max(1, len(deaths.seconds)), 2),
        "recovery_s": [round(seconds, 3) for seconds in deaths.recovery_s],
        "differences": len(deaths.different),
        "different": deaths.different,
    }
    print(json.dumps({name: value for name, value in outcome.items() if name != "recovery_s"}, indent=2))
    if options.json:
        options.json.write_text(json.dumps(outcome, indent=2))
    return outcome


if __name__ == "__main__":
    raise SystemExit(1 if main()["differences"] else 0)
