"""The world: processes, publishers and the broker take turns as one random number generator says.

A call into the seam may stop its process there (as SIGSTOP would) and let the others run meanwhile, nested on the
stack; then it goes on, perhaps long after its session and its transactions have timed out, or it is killed.
"""

from __future__ import annotations

import contextlib
import pickle
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from random import Random
from typing import Any

from headrace.streams.checkpoint import fold
from headrace.streams.errors import Aborted, Fenced, Stalled
from headrace.streams.journal import read as read_entry
from headrace.streams.journal import spec_hash
from headrace.streams.pipeline import Pipeline
from headrace.streams.runtime import Worker
from headrace.streams.stages.chain import Chain
from headrace.streams.task import Version
from headrace.streams.topics import ROLES, topic_name, transactional_id
from headrace.streams.topology import Group, group_of
from headrace.streams.worker.committing import AtOnce
from headrace.streams.worker.observe import Observer
from tests.simulation.broker import Broker, Partition, PassesOver, Row, Txn
from tests.simulation.clock import Clock
from tests.simulation.fakelog import FakeCluster
from tests.simulation.faults import Killed, Plan, plan
from tests.simulation.groups import Coordinator, Metadata
from tests.simulation.inputs import commands, inputs
from tests.simulation.pipelines import pipeline

__all__ = ["CODEC", "CUT", "NoProgress", "Process", "Unhurried", "World"]

CUT = (("validate", "featurize"), ("predict", "join", "train", "evaluate"), ("drift",))
_DEEPEST = 3
_FORGOTTEN = 0.05
_EXPELLED = 0.5
_RETAINED = 0.05
SITES = ("begin", "offsets", "flush", "commit", "done", "init", "initialised", "committed", "stable", "seek", "fetch")


class NoProgress(AssertionError):
    """Without faults, the system does not come to an end."""


@cache
def _wires(declared: Pipeline) -> Chain:
    return Chain(declared, group_of())


class _Plain:
    """Models as pickles, without a signature: that is tested elsewhere, and costs time."""

    def seal(self, name: str, value: Any) -> bytes:
        return pickle.dumps(value, protocol=5)

    def open(self, name: str, data: bytes) -> Any:
        return pickle.loads(data)


CODEC = _Plain()


class Counting(Observer):
    """Counts transactions that did not happen."""

    def __init__(self, count: Counter[str]) -> None:
        self._count = count

    def aborted(self, reason: str) -> None:
        """A transaction that did not happen."""
        self._count["aborted"] += 1


class Later:
    """Commits as late as a worker lets it: only when it waits for the result."""

    def __init__(self) -> None:
        self._work: Callable[[], None] | None = None

    @property
    def busy(self) -> bool:
        """Whether there is something to commit."""
        return self._work is not None

    def submit(self, work: Callable[[], None]) -> None:
        """Keep it."""
        assert not self.busy
        self._work = work

    def settle(self) -> None:
        """Do it."""
        work, self._work = self._work, None
        if work is not None:
            work()


class Process:
    """One incarnation of a worker on a slot."""

    def __init__(self, world: World, group: Group, slot: str) -> None:
        self.world, self.group, self.slot = world, group, slot
        self.alive = True
        self.frozen = False
        self.busy = False
        self.opened = False
        self.worker: Worker | None = None

    def start(self) -> None:
        """Make the worker, and join."""
        w = self.world
        self.worker = w.make_worker(self)
        self._guarded(self.worker.open)
        self.opened = self.alive

    def step(self) -> None:
        """One cycle."""
        assert self.worker is not None
        self._guarded(self.worker.cycle)

    def checkpoint(self) -> bool:
        """What a worker does when it is told to stop; True when it went well."""
        assert self.worker is not None
        self._guarded(self.worker.finish)
        return self.alive

    def leave(self) -> None:
        """SIGTERM: checkpoint, close, exit."""
        assert self.worker is not None
        self._guarded(self.worker.finish)
        if self.alive:
            self._guarded(self.worker.close)
        self._exit("left")

    def kill(self, why: str) -> None:
        """Kill -9, now."""
        self.alive = False
        self.world.count["killed"] += 1
        raise Killed(why)

    def seam(self, site: str) -> None:
        """A call into the log begins or ends: the place where things happen to a process."""
        if not self.alive:
            raise Killed("dead")
        w = self.world
        w.calls += 1
        if w.faulty:
            if w.calls >= w.next_kill and w.here("kill", site):
                w.next_kill = w.calls + w.rng.expovariate(1 / w.plan.kill_every)
                self.kill(site)
            if w.calls >= w.next_freeze and w.here("freeze", site):
                w.next_freeze = w.calls + w.rng.expovariate(1 / w.plan.freeze_every)
                w.freeze(self)

    def _guarded(self, call: Callable[[], None]) -> None:
        self.busy = True
        try:
            call()
        except Killed:
            self.alive = False
        except (Aborted, Fenced, Stalled) as error:
            self.world.count[type(error).__name__] += 1
            self._close()
            self._exit(type(error).__name__)
        finally:
            self.busy = False

    def _close(self) -> None:
        """What `Worker.run` does on the way out, whatever happens meanwhile."""
        assert self.worker is not None
        if self.opened:
            with contextlib.suppress(Killed, Aborted, Fenced, Stalled):
                self.worker.close()

    def _exit(self, why: str) -> None:
        """What an ended process had in memory is gone, an error that it kept, too, with the frames it came through."""
        self.alive, self.worker = False, None


class World:
    """Everything that one seed decides."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.rng = Random(seed)
        self.plan = self.drawn()
        self.pipeline = pipeline(self.plan.variant)
        self.wires = _wires(self.pipeline)
        self.clock = Clock()
        self.broker = Broker(self.clock)
        self.coordinator = Coordinator(self.clock, self.pipeline.partitions)
        self.broker.check = self.check_generation
        self.broker.forgets = self.forgets
        self._forgetful = Random(seed) if seed % 5 == 4 and not self.plan.calm else None
        self.groups = [group_of(stages) for stages in CUT] if self.plan.cut else [group_of()]
        self.count: Counter[str] = Counter()
        self.calls = 0
        self.aim: dict[str, str | None] = {}
        self.faulty = True
        self.depth = 0
        self.steps = 0
        self.processes: list[Process] = []
        self._abandoned: list[Process] = []
        self.wanted: dict[tuple[str, str], float] = {}
        self.next_kill = self._next(self.plan.kill_every)
        self.next_freeze = self._next(self.plan.freeze_every)
        for role in ROLES:
            for number in range(self.pipeline.partitions):
                self.broker.partitions[self.topic(role), number] = Partition()
        self.unsent = inputs(self.rng, self.pipeline.partitions, self.plan.records)
        self._expelling = Random(seed) if seed % 5 == 2 and not self.plan.calm else None
        self.deploying = Random(seed) if seed % 7 == 2 and not self.plan.calm else None
        self._retaining = Random(seed) if seed % 11 in (2, 3, 7) and not self.plan.calm else None
        self._asking = Random(seed)
        self.unasked = commands(self._asking, self.pipeline.partitions) if seed % 4 == 3 else []
        if self.plan.published_first:
            self.publish(len(self.unsent))
            self.ask(len(self.unasked))
        for group in self.groups:
            for slot in range(self.plan.slots if self.rng.random() < 0.7 else 1):
                self.wanted[group.name, str(slot)] = 0.0

    def drawn(self) -> Plan:
        """What goes wrong, and how often."""
        return plan(self.rng)

    def topic(self, role: str) -> str:
        """What the topic of a role is called."""
        return topic_name(self.pipeline, role)

    # -- what the seam asks for; canaries override some of it ------------------------------------------------------

    def make_worker(self, process: Process) -> Worker:
        """The worker of a process; where versions are deployed, of any of them: that changes no output."""
        worker = Worker(
            self.pipeline,
            process.group,
            FakeCluster(self, process),
            topics=self.topic,
            slot=process.slot,
            settings=self.plan.settings,
            codec=CODEC,
            observer=Counting(self.count),
            clock=self.clock,
            wall_ms=self.clock.wall_ms,
            committer=Later() if self.seed % 2 else AtOnce(),
            aside=lambda work: work(),
            accept_change=self.deploying is not None,
        )
        if self.deploying is not None:
            _, spec, here = worker.version
            here = here | {"deployed": str(self.deploying.randrange(3))}
            worker.version = worker._work.version = Version(spec_hash(spec, here), spec, here)
        return worker

    def rows(self, log: Partition, start: int, limit: int | None = None, end: int | None = None) -> list[Row]:
        """Records that a read_committed consumer is given."""
        out = []
        for row in log.committed(start, end):
            out.append(row)
            if limit is not None and len(out) == limit:
                break
        return out

    def end(self, log: Partition) -> int:
        """Where a consumer is told that it has reached the end."""
        return log.stable

    def restore_end(self, topic: str, number: int, high: int) -> int:
        """How far a restore reads."""
        return high

    def check_generation(self, metadata: Metadata) -> None:
        """What the group coordinator says to a transaction's offsets."""
        self.coordinator.check(metadata)

    def ended(self) -> None:
        """A transaction was committed by its producer."""
        self.count["commits"] += 1

    def chunk(self) -> int:
        """How many records come at a time."""
        return self.rng.randint(1, self.plan.chunk)

    def here(self, kind: str, site: str) -> bool:
        """Whether a fault that is due happens at this site: half of them wait for a site drawn among the rare ones."""
        if kind not in self.aim:
            self.aim[kind] = self.rng.choice(SITES) if self.rng.random() < 0.6 else None
        if self.aim[kind] not in (None, site):
            return False
        del self.aim[kind]
        return True

    def chance(self, kind: str) -> bool:
        """Whether this goes wrong now."""
        rate = self.plan.rates[kind]
        if not self.faulty or not rate or self.rng.random() >= rate:
            return False
        self.count[kind] += 1
        return True

    def forgets(self) -> PassesOver | None:
        """Which partitions the broker passes over as it ends a transaction, if it does: all, or some."""
        chance = self._forgetful
        if not self.faulty or chance is None or chance.random() >= _FORGOTTEN:
            return None
        if chance.random() < 0.5:
            self.count["forgotten"] += 1
            return lambda tp: True
        self.count["forgotten_in_part"] += 1
        return lambda tp: chance.random() < 0.5

    def expels(self) -> bool:
        """Whether a client whose session is over puts itself out of its group for good."""
        chance = self._expelling
        if not self.faulty or chance is None or chance.random() >= _EXPELLED:
            return False
        self.count["expelled"] += 1
        return True

    def tells_first(self) -> bool:
        """Whether such a client tells that its partitions are lost before it fails."""
        return self._expelling is not None and self._expelling.random() < 0.5

    # -- time ----------------------------------------------------------------------------------------------------

    def advance(self, seconds: float) -> None:
        """Let time pass for all who run."""
        self.clock.now += seconds
        self.broker.tick()
        self.coordinator.tick()

    def freeze(self, process: Process) -> None:
        """The process stands still for a while; the others go on, a successor may take its slot."""
        seconds = self.rng.choice((1.0, 12.0, 25.0, 40.0, 70.0)) * self.rng.uniform(0.8, 1.2)
        self.count["frozen"] += 1
        process.frozen = True
        if seconds > 10 and self.rng.random() < 0.6:
            self.wanted[process.group.name, process.slot] = self.clock.now + self.rng.uniform(0.0, seconds)
            self.count["zombies"] += 1
            self._abandoned.append(process)
        self._meanwhile(self.clock.now + seconds, process)
        process.frozen = False
        if process in self._abandoned:
            self._abandoned.remove(process)
        if self.rng.random() < 0.2:
            process.kill("while frozen")

    def slow(self, process: Process, seconds: float) -> None:
        """A call takes long; its process sends heartbeats meanwhile."""
        self._meanwhile(self.clock.now + seconds, process)

    def wait(self, process: Process, done: Callable[[], bool], deadline: float) -> bool:
        """A call waits for something; False when the deadline passes first."""
        while not done():
            if self.clock.now >= deadline:
                return False
            self._pass(deadline)
            if not process.alive:
                raise Killed("while it waited")
        return True

    def _meanwhile(self, until: float, process: Process) -> None:
        while self.clock.now < until:
            self._pass(until)
            if not process.alive:
                raise Killed("meanwhile")

    def _pass(self, until: float) -> None:
        if self.depth >= _DEEPEST:
            due = self.broker.next_deadline()
            due = until if due is None else min(until, due)
            self.advance(max(0.05, due - self.clock.now))
            return
        self.depth += 1
        try:
            for _ in range(self.rng.randint(1, 4)):
                self.step()
        finally:
            self.depth -= 1
        self.advance(self.rng.uniform(0.1, 3.0))

    # -- turns ---------------------------------------------------------------------------------------------------

    def step(self) -> None:
        """One turn of somebody."""
        self.steps += 1
        rng = self.rng
        if self.unsent and rng.random() < 0.2:
            self.publish(self.chunk())
        if self.unasked and self._asking.random() < 0.1:
            self.ask(self._asking.randint(1, 3))
        self._supervise()
        ready = [p for p in self.processes if p.alive and not p.busy and not p.frozen]
        if ready:
            rng.choice(ready).step()
        if self.plan.compact and rng.random() < self.plan.compact:
            for number in range(self.pipeline.partitions):
                self.broker.partitions[self.topic("state"), number].compact()
        if self._retaining is not None and self._retaining.random() < _RETAINED and self._at_rest():
            for number in range(self.pipeline.partitions):
                self._retain(number)
        if self.faulty and rng.random() < self.plan.restless:
            self._restless(ready)
        self.advance(rng.choice((0.005, 0.05, 0.3)) if self.faulty else rng.choice((0.02, 0.3, 1.0)))

    def _at_rest(self) -> bool:
        """Whether nobody is between a checkpoint and the journal that follows it: retention takes days, not seconds."""
        return all(p.worker is not None and p.worker.ready and not p.busy for p in self.processes if p.alive)

    def _retain(self, number: int) -> None:
        """Retention takes some of the journal, up to the first record that a group's last checkpoint goes on with."""
        state, log = (self.broker.partitions[self.topic(role), number] for role in ("state", "journal"))
        saved = [(row.key, row.value) for row in state.committed()]
        needless = [log.stable]
        for group in self.groups:
            _, marker = fold(saved, group.name)
            if not marker:
                return
            own = (row for row in log.committed(log.low) if row.key == group.name.encode())
            needed = (row.offset for row in own if read_entry(row.value or b"").seq >= marker["seq"])
            nothing_since = log.high <= marker["journal_end"] + 1
            needless.append(next(needed, log.stable if nothing_since else marker["journal_end"]))
        if self._retaining is not None and min(needless) > log.low:
            log.low = self._retaining.randint(log.low + 1, min(needless))
            self.count["retained"] += 1

    def publish(self, count: int) -> None:
        """Publish the next inputs; sometimes in a transaction, sometimes after one that is aborted."""
        batch, self.unsent = self.unsent[:count], self.unsent[count:]
        txn = None
        if self.plan.transactional_inputs and self.rng.random() < 0.5:
            if self.rng.random() < 0.4:
                self._append(batch, Txn(self.clock.now), "aborted")
            txn = Txn(self.clock.now)
        self._append(batch, txn, "committed")

    def ask(self, count: int) -> None:
        """Append the next commands to the registry; people use no transactions."""
        batch, self.unasked = self.unasked[:count], self.unasked[count:]
        self._append(batch, None, "committed")
        self.count["commands"] += len(batch)

    def _append(self, batch: list[Any], txn: Txn | None, state: str) -> None:
        logs = []
        for sent in batch:
            log = self.broker.partitions[self.topic(sent.role), sent.partition]
            log.append(txn, sent.key, sent.value, self.clock.wall_ms())
            logs.append(log)
        if txn is not None:
            txn.state = state
            for log in logs:
                log.mark(txn)

    def _supervise(self) -> None:
        """Start what should run and does not, some time after it ended."""
        now = self.clock.now
        if not self.faulty:
            self._recall()
        for (name, slot), due in list(self.wanted.items()):
            running = any(
                p.alive and p.group.name == name and p.slot == slot and p not in self._abandoned for p in self.processes
            )
            if running:
                continue
            if due <= 0.0:
                self.wanted[name, slot] = now + self.rng.choice((0.01, 1.0, 15.0)) * self.rng.random()
            elif now >= due:
                self.wanted[name, slot] = 0.0
                group = next(group for group in self.groups if group.name == name)
                process = Process(self, group, slot)
                self.processes = [p for p in self.processes if p.alive] + [process]
                self.count["starts"] += 1
                process.start()

    def _recall(self) -> None:
        """Slots that left something open under their ids are wanted again: nobody else can end it."""
        for name, slot in self.unended():
            self.wanted.setdefault((name, slot), 0.0)

    def unended(self) -> list[tuple[str, str]]:
        """Groups and slots under whose ids something is open that the coordinator has forgotten."""
        found = []
        for group in self.groups:
            for slot in map(str, range(4)):
                known = self.broker.ids.get(transactional_id(self.pipeline, group, slot))
                if known is not None and (known.pending or any(known.left.values())):
                    found.append((group.name, slot))
        return found

    def _restless(self, ready: list[Process]) -> None:
        """Somebody joins, or leaves."""
        group = self.rng.choice(self.groups)
        if self.rng.random() < 0.5:
            self.wanted.setdefault((group.name, str(self.rng.randrange(4))), 0.0)
            self.count["joins"] += 1
            return
        leaving = [p for p in ready if p.alive and p.group is group]
        if leaving:
            process = self.rng.choice(leaving)
            if sum(name == group.name for name, _ in self.wanted) > 1:
                self.wanted.pop((group.name, process.slot), None)
            self.count["leaves"] += 1
            process.leave()

    def _next(self, every: float) -> float:
        return float("inf") if every == float("inf") else self.rng.expovariate(1 / every)


class Unhurried(World):
    """Nothing goes wrong, but every turn takes seconds: a checkpoint in parts of one entry lasts for minutes."""

    def drawn(self) -> Plan:
        """A plan without faults, for one worker."""
        drawn, never = super().drawn(), float("inf")
        settings = replace(drawn.settings, checkpoint_s=1.0, checkpoint_entries=1)
        rates = dict.fromkeys(drawn.rates, 0.0)
        alone = {"cut": False, "slots": 1, "kill_every": never, "freeze_every": never, "restless": 0.0, "rates": rates}
        variant = drawn.variant._replace(partitions=1)
        return replace(drawn, settings=settings, variant=variant, records=80, steps=150, **alone)

    def advance(self, seconds: float) -> None:
        """Let much more time pass."""
        super().advance(30 * seconds)
