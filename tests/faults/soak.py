"""Everything at once, for long: six lanes on several workers while workers, broker and network fail again and again.

    python -m tests.faults.soak --events 100000 --minutes 12 --seed 1 --json soak.json
    python -m tests.faults.soak --events 3000 --minutes 1 --kills 5 --broker-kills 1 --zombies 1 --storms 1 --held 2

A publisher in a process of its own sends at an even rate, past the proxy; the workers talk through it. The faults come
in a random order at an even pace. Then they stop, everything runs to its end, and it is judged: the audit, an
independent count of every id, the conservation laws, the order of each key, the registry of every lane.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import multiprocessing
import os
import random
import signal
import statistics
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from headrace.deploy import broker
from headrace.processors.registry import fold, fresh
from headrace.schemas.records import Command, Fact
from headrace.streams.kafka import Cluster
from tests.faults import proxy as proxies
from tests.faults.harness import WorkerProcess, World, until
from tests.faults.soak_pipeline import LANES, Record, Traffic, soak, traffic

__all__ = ["Soak", "Targets", "main", "run"]

_decide = msgspec.json.Decoder(Command | Fact).decode
REFERENCE = "tests.faults.soak_pipeline:soak"
SLOTS = ("0", "1", "2")
_SETTINGS = {"batch": 500, "checkpoint_s": 1.0, "checkpoint_entries": 2_000, "savepoint_s": 3.0, "stall_s": 45.0}
_SESSION_S = 6.0
_KAFKA = {"session.timeout.ms": "6000", "socket.timeout.ms": "10000"} | json.loads(os.environ.get("SOAK_KAFKA", "{}"))


@dataclass(frozen=True)
class Targets:
    """How many of each fault there are to be; by default those that the whole project is held to."""

    kills: int = 50
    broker_kills: int = 6
    broker_pauses: int = 4
    zombies: int = 6
    storms: int = 8
    proxy_faults: int = 14
    held: int = 30


@dataclass
class Soak:
    """A soak under way: the broker behind its proxy, the workers by slot, and what was done to them."""

    world: World
    proxy: proxies.Proxy
    chance: random.Random
    start_broker: Callable[[], broker.Status]
    counts: Counter[str] = field(default_factory=Counter)
    workers: dict[str, WorkerProcess] = field(default_factory=dict)
    unplanned: list[str] = field(default_factory=list)
    log: list[str] = field(default_factory=list)
    outages: list[tuple[float, float]] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)

    def note(self, text: str) -> None:
        """Keep, and print, a line with its time."""
        line = f"{time.monotonic() - self.began:7.1f} {text}"
        self.log.append(line)
        print(line, flush=True)

    def supervise(self) -> None:
        """Start what is not there: a worker that ended is replaced, and what it said is kept."""
        for slot in SLOTS:
            process = self.workers.get(slot)
            if process is not None and process.alive:
                continue
            if process is not None and process.exit_code != -signal.SIGKILL:
                self._unplanned(process)
            self.workers[slot] = self.world.spawn(slot=slot)

    def _unplanned(self, process: WorkerProcess) -> None:
        notes = process.notes("ended") + process.notes("crashed")
        why = f"{notes[-1]['error']}: {notes[-1]['reason']}" if notes else process.tail(40)
        self.unplanned.append(f"slot {process.job.slot} ended with {process.exit_code}: {why}")
        self.note(self.unplanned[-1][-1500:])
        self.counts["unplanned_ends"] += 1

    def rest(self, seconds: float) -> None:
        """Let time pass, with the workers looked after."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.supervise()
            time.sleep(min(0.05, max(0.0, deadline - time.monotonic())))

    # -- faults --------------------------------------------------------------------------------------------------

    def kill_worker(self) -> None:
        """kill -9, mostly of a worker that works, now and then of one that is just starting."""
        self.supervise()
        process = self.workers[self.chance.choice(SLOTS)]
        if self.chance.random() < 0.7:
            deadline = time.monotonic() + 5
            while not process.notes("committed") and process.alive and time.monotonic() < deadline:
                time.sleep(0.01)
            time.sleep(self.chance.uniform(0, 0.3))
        else:
            time.sleep(self.chance.uniform(0, 1.0))
        if process.alive:
            self.counts["kills"] += 1
            process.kill()

    def kill_broker(self) -> None:
        """kill -9 of the broker, and a start on the same data."""
        self.counts["broker_kills"] += 1
        with self._outage():
            os.kill(int(self.start_broker().pid or 0), signal.SIGKILL)
            time.sleep(self.chance.uniform(0, 2.0))
            self.start_broker()

    def pause_broker(self) -> None:
        """Stop the broker for a while, and let it go on."""
        self.counts["pauses"] += 1
        pid = int(self.start_broker().pid or 0)
        with self._outage():
            os.kill(pid, signal.SIGSTOP)
            try:
                self.rest(self.chance.uniform(2, 9))
            finally:
                os.kill(pid, signal.SIGCONT)

    @contextlib.contextmanager
    def _outage(self) -> Iterator[None]:
        """Nobody reaches the broker meanwhile."""
        began = time.monotonic()
        yield
        self.outages.append((began, time.monotonic()))

    def zombie(self) -> None:
        """Stop a worker past its session, with a successor in its slot or without, and let it go on."""
        self.supervise()
        slot = self.chance.choice(SLOTS)
        process = self.workers[slot]
        succeeded = self.chance.random() < 0.6
        process.pause()
        self.counts["pauses"] += 1
        if succeeded:
            time.sleep(self.chance.uniform(0, 1))
            self.workers[slot] = self.world.spawn(slot=slot)
        self.rest(_SESSION_S + self.chance.uniform(1, 3))
        process.resume()
        if not succeeded:
            return
        try:
            process.join(30)
        except AssertionError:
            self.unplanned.append(f"zombie {process.pid} of slot {slot} was not fenced; {process.stack()}")
            return
        self.counts["zombies_fenced"] += 1

    def storm(self) -> None:
        """Several workers more come and go."""
        self.counts["storms"] += 1
        guests = []
        for i in range(self.chance.randrange(2, 5)):
            guests.append(self.world.spawn(slot=f"guest-{self.counts['storms']}-{i}"))
            self.rest(self.chance.uniform(0.2, 1.5))
        for guest in guests:
            if self.chance.random() < 0.5:
                guest.terminate()
            elif guest.alive:
                self.counts["kills"] += 1
                guest.kill()
            self.rest(self.chance.uniform(0.1, 0.5))
        for guest in guests:
            try:
                guest.join(30)
            except AssertionError as error:
                self.unplanned.append(f"guest: {error}")
            if guest.exit_code not in (0, -signal.SIGKILL):
                self._unplanned(guest)

    def spoil_network(self) -> None:
        """One of the proxy's faults."""
        self.counts["proxy_faults"] += 1
        kind = ("delay", "cut_request", "cut_answer", "reset", "black_hole")[self.counts["proxy_faults"] % 5]
        if kind == "delay":
            self.proxy.delay(self.chance.uniform(0.02, 0.3), 3.0)
        elif kind == "black_hole":
            seconds, now = self.chance.uniform(1, 8), time.monotonic()
            self.proxy.black_hole(seconds)
            self.outages.append((now, now + seconds))
        elif kind == "reset":
            self.proxy.reset()
        else:
            self.proxy.cut(answer=kind == "cut_answer")

    def hold(self) -> None:
        """Hold an EndTxn back so long that it is repeated, then let the late original through."""
        self.proxy.hold_end_txn()
        deadline = time.monotonic() + 20
        while self.proxy.holding and time.monotonic() < deadline:
            self.rest(0.05)


def publish(bootstrap: str, topics: dict[str, str], records: list[Record], seconds: float) -> None:
    """Send the records at an even rate; exits 1 unless all of them arrived."""
    quiet = {"error_cb": lambda error: None, "logger": logging.getLogger("publisher")}  # the broker comes and goes
    logging.getLogger("publisher").addHandler(logging.NullHandler())
    producer = Cluster(bootstrap).plain_producer(**{"message.timeout.ms": 0, "log_level": 0}, **quiet)
    began = time.monotonic()
    for i, record in enumerate(records):
        ahead = began + seconds * i / len(records) - time.monotonic()
        if ahead > 0.005:
            time.sleep(ahead)
        while True:
            try:
                producer.produce(topics[record.role], record.value, record.key, record.lane)
                break
            except BufferError:
                producer.poll(0.1)
        producer.poll(0)
    if producer.flush(120):
        raise SystemExit(1)


def run(events: int, minutes: float, seed: int, targets: Targets, folder: Path) -> dict[str, Any]:
    """A soak from beginning to end; see the module's docstring. `differences` counts all that was found wrong."""
    instance = f"soak-{uuid.uuid4().hex[:8]}"
    with proxies.behind_proxy(instance, folder / "broker") as (start_broker, proxy):
        cluster = Cluster(str(start_broker().bootstrap))
        name = f"soak-{uuid.uuid4().hex[:8]}"
        world = World.make(cluster, REFERENCE, name, folder, settings=_SETTINGS, kafka=_KAFKA)
        world.bootstrap = proxy.bootstrap
        try:
            return _run(Soak(world, proxy, random.Random(seed), start_broker), traffic(events, seed), minutes, targets)
        finally:
            for process in world.workers:
                process.kill()
            cluster._admin = None  # a client with a request under way does not end once its broker is gone


def _run(run: Soak, sent: Traffic, minutes: float, targets: Targets) -> dict[str, Any]:
    topics = {role: run.world.topic(role) for role in ("events", "labels", "registry")}
    seconds = minutes * 60
    publisher = multiprocessing.get_context("spawn").Process(
        target=publish, args=(run.world.cluster.bootstrap, topics, sent.records, seconds), daemon=True
    )
    run.supervise()
    publisher.start()
    plan = [
        *[run.kill_worker] * targets.kills,
        *[run.kill_broker] * targets.broker_kills,
        *[run.pause_broker] * targets.broker_pauses,
        *[run.zombie] * targets.zombies,
        *[run.storm] * targets.storms,
        *[run.spoil_network] * targets.proxy_faults,
        *[run.hold] * targets.held,
    ]
    run.chance.shuffle(plan)
    until(lambda: any(process.notes("committed") for process in run.workers.values()), "the first commit")
    for i, fault in enumerate(plan):
        run.note(f"{i + 1} of {len(plan)}: {fault.__name__}")
        fault()
        run.rest(max(0.0, min(run.began + seconds * (i + 1) / len(plan) - time.monotonic(), 5.0)))
    faulted_s = time.monotonic() - run.began
    while publisher.is_alive():
        run.rest(0.2)
    if publisher.exitcode:
        raise AssertionError("the publisher could not send everything")
    run.note("the faults are over")
    deadline = time.monotonic() + 240
    group = run.world.group()
    while run.world.left(group):
        run.rest(0.2)
        if time.monotonic() > deadline:
            run.note(json.dumps(run.proxy.faults))
            stacks = "\n".join(process.stack() for process in run.workers.values())
            raise AssertionError(f"the workers do not come to the end; data and logs: {run.world.folder}\n{stacks}")
    for process in run.workers.values():
        process.terminate()
    for process in run.workers.values():
        process.join(60)
        if process.exit_code:
            run._unplanned(process)
    run.note("judging")
    wrong = judge(run.world, sent)
    return _outcome(run, sent, wrong, faulted_s)


def judge(world: World, sent: Traffic) -> list[str]:
    """What is wrong with what was published, by four independent looks at it."""
    result, summaries = world.audit()
    wrong = [f"audit: {place}" for place in result.first]
    if result.different and not wrong:
        wrong.append(f"audit: {result.different} differences")
    for name, summary in summaries.items():
        wrong += [f"{name}: {law} does not hold" for law, holds in summary.laws.items() if not holds]
    total = Counter[str]()
    for summary in summaries.values():
        total["duplicates"] += summary.duplicates
        total["broken"] += sum(summary.dead_letters.values())
        total["events"] += summary.events
    expected = {"duplicates": sent.duplicates, "broken": sent.broken}
    expected["events"] = sum(map(len, sent.ids)) + sent.duplicates + sent.broken
    wrong += [f"{name}: {total[name]} instead of {n}" for name, n in expected.items() if total[name] != n]
    learned: Counter[str] = Counter()
    for lane in range(LANES):
        predictions = [json.loads(value or b"{}") for _, value, _ in world.published("predictions", lane)]
        wrong += _once("predictions", lane, Counter(p["event_id"] for p in predictions), set(sent.ids[lane]))
        offsets = [p["offset"] for p in predictions]
        if offsets != sorted(offsets) or any(p["partition"] != lane for p in predictions):
            wrong.append(f"predictions/{lane}: not in the order of their events")
        decode = world.decoder("examples")
        examples = [decode(value) for _, value, _ in world.published("examples", lane)]
        learned.update(example["event_id"] for example in examples)
        if [example["n"] for example in examples] != list(range(1, len(examples) + 1)):
            wrong.append(f"examples/{lane}: not numbered one by one")
        wrong += _decided(world, lane, sent.commands)
    return wrong + _once("examples", None, learned, sent.labelled)


def _facts(world: World, lane: int) -> list[Fact]:
    """What a lane's registry says, without what was asked of it."""
    records = [value or b"" for _, value, _ in world.published("registry", lane)]
    return [fact for fact in map(_decide, records) if isinstance(fact, Fact)]


def _decided(world: World, lane: int, commands: list[str]) -> list[str]:
    """What is wrong with a lane's registry: numbers, champions, and the answers to commands."""
    facts, registry, asked = _facts(world, lane), fresh(), set(commands)
    wrong = _once("registry", lane, Counter(str(f.command) for f in facts if f.command in asked), asked)
    for fact in facts:
        try:
            fold(registry, fact)
        except ValueError as error:
            return [*wrong, f"registry/{lane}: {error}"]
        champions = [name for name, entry in registry["models"].items() if entry["status"] == "champion"]
        if champions != [fact.champion] and fact.kind != "registered":
            wrong.append(f"registry/{lane}: champions {champions} at version {fact.version}")
    return wrong


def _once(role: str, lane: int | None, found: Counter[str], wanted: set[str]) -> list[str]:
    where = role if lane is None else f"{role}/{lane}"
    lost, extra = wanted - set(found), set(found) - wanted
    twice = [name for name, count in found.items() if count > 1]
    names = {"lost": lost, "that nobody sent": extra, "more than once": twice}
    return [f"{where}: {len(ids)} ids {what}, such as {sorted(ids)[:3]}" for what, ids in names.items() if ids]


def _outcome(run: Soak, sent: Traffic, wrong: list[str], faulted_s: float) -> dict[str, Any]:
    notes = [(process, process.notes()) for process in run.world.workers]
    lives = [
        (process.spawned_at, note["at"])
        for process, lines in notes
        for note in [line for line in lines if line["what"] == "committed"][:1]
    ]
    recoveries = sorted(committed - _possible(started, committed, run.outages) for started, committed in lives)
    rebuilds = sorted(line["seconds"] for _, lines in notes for line in lines if line["what"] == "recovered")
    return {
        "events": sum(map(len, sent.ids)),
        "records": len(sent.records),
        "minutes": round(faulted_s / 60, 1),
        "kills": run.counts["kills"],
        "broker_kills": run.counts["broker_kills"],
        "pauses": run.counts["pauses"],
        "zombies_fenced": run.counts["zombies_fenced"],
        "storms": run.counts["storms"],
        "proxy_faults": run.counts["proxy_faults"],
        "proxy": dict(run.proxy.faults),
        "held_endtxn": run.proxy.faults["held_endtxn"],
        "late_endtxn": run.proxy.faults["late_endtxn"],
        "decisions": dict(Counter(fact.kind for lane in range(LANES) for fact in _facts(run.world, lane))),
        "rebalances": sum(line["what"] == "assigned" and not line["shards"] for _, lines in notes for line in lines),
        "aborted": sum(line["what"] == "aborted" for _, lines in notes for line in lines),
        "recovery_s": [round(seconds, 3) for seconds in recoveries],
        "first_commit_s": sorted(round(committed - started, 3) for started, committed in lives),
        "rebuild_s": {"n": len(rebuilds), "p50": round(statistics.median(rebuilds), 3), "max": round(rebuilds[-1], 3)},
        "unplanned": dict(Counter(text.partition(": ")[2][:160] for text in run.unplanned)),
        "differences": len(wrong),
        "different": wrong,
    }


def _possible(started: float, committed: float, outages: list[tuple[float, float]]) -> float:
    """From when on this worker could recover: it had been started, and its broker was there for good."""
    return max([started, *(end for begin, end in outages if begin < committed and started < end < committed)])


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Run a soak as the command line asks; returns and prints the counts."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.soak", description=__doc__)
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--minutes", type=float, default=12.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path)
    for name, value in Targets.__dataclass_fields__.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=value.default)
    options = parser.parse_args(arguments)
    targets = Targets(**{name: getattr(options, name) for name in Targets.__dataclass_fields__})
    folder = Path(tempfile.mkdtemp(prefix="headrace-soak-"))
    print(f"soak of {soak.name}, seed {options.seed}, in {folder}", flush=True)
    outcome = run(options.events, options.minutes, options.seed, targets, folder)
    long = ("recovery_s", "first_commit_s")
    print(json.dumps({name: value for name, value in outcome.items() if name not in long}, indent=2))
    if options.json:
        options.json.write_text(json.dumps(outcome, indent=2))
    return outcome


if __name__ == "__main__":
    raise SystemExit(1 if main()["differences"] else 0)
