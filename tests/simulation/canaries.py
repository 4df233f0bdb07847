"""Bugs planted on purpose, each in a few lines, to show that the checker catches them.

`python -m tests.simulation.canaries` looks for each with up to `LIMIT` seeds and prints the first seed that catches it.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from itertools import count
from typing import Any, NamedTuple
from unittest.mock import PropertyMock, patch

from headrace.processors import join, registry
from headrace.streams import leftovers, task
from headrace.streams.checkpoint import MARKER, Checkpoint
from headrace.streams.errors import Aborted
from headrace.streams.packing import pack
from headrace.streams.runtime import Worker
from headrace.streams.stages.back import Back
from headrace.streams.stages.retraining import Logged
from headrace.streams.state import Stores
from headrace.streams.task import Task
from headrace.streams.worker import assignment, checkpointing, slot
from headrace.streams.worker.assignment import Assignment
from headrace.streams.worker.checkpointing import Checkpointing
from tests.simulation.broker import Broker, Partition, Row
from tests.simulation.fakelog import FakeCluster, FakeConsumer, FakeProducer
from tests.simulation.faults import Plan
from tests.simulation.run import run
from tests.simulation.world import Unhurried, World

__all__ = ["CANARIES", "LIMIT", "Canary", "caught_by", "main"]

LIMIT = 400


class Canary(NamedTuple):
    """A planted bug: how to plant it, and where the search for a seed that catches it begins."""

    name: str
    plant: Callable[[ExitStack], type[World]]
    first: int = 0


def caught_by(canary: Canary, limit: int = LIMIT) -> tuple[int, str] | None:
    """The first seed that catches it, and what the checker says; None when no seed up to the limit does."""
    with _planted(canary) as world:
        for seed in range(canary.first, canary.first + limit):
            problem = run(seed, world).problem
            if problem is not None and problem.startswith(("AttributeError", "NameError", "TypeError")):
                raise AssertionError(f"not the checker caught {canary.name!r}, it does not run: {problem}")
            if problem is not None:
                return seed, problem
    return None


@contextmanager
def _planted(canary: Canary) -> Iterator[type[World]]:
    with ExitStack() as stack:
        yield canary.plant(stack)


def _replace(stack: ExitStack, owner: Any, name: str, make: Callable[[Any], Any]) -> None:
    """Replace a function by one made from it."""
    stack.enter_context(patch.object(owner, name, make(getattr(owner, name))))


# -- what goes into a transaction ----------------------------------------------------------------------------------


def _offset_off_by_one(stack: ExitStack) -> type[World]:
    def wrong(send: Any) -> Any:
        return lambda self, offsets, metadata: send(self, {tp: max(0, o - 1) for tp, o in offsets.items()}, metadata)

    _replace(stack, FakeProducer, "offsets", wrong)
    return World


def _no_offsets(stack: ExitStack) -> type[World]:
    stack.enter_context(patch.object(FakeProducer, "offsets", lambda self, offsets, metadata: None))
    return World


def _journal_before(stack: ExitStack) -> type[World]:
    def wrong(send: Any) -> Any:
        def plain(self: Any, topic: str, partition: int, key: Any, value: Any, headers: Any = None) -> None:
            if topic.endswith(".journal"):
                log = self._world.broker.partitions[topic, partition]
                log.append(None, key, value, self._world.clock.wall_ms())
                return
            send(self, topic, partition, key, value, headers)

        return plain

    _replace(stack, FakeProducer, "send", wrong)
    return World


def _journal_after(stack: ExitStack) -> type[World]:
    def commit(right: Any) -> Any:
        def late(self: Any) -> None:
            kept = [record for record in self._queue if record[0][0].endswith(".journal")]
            self._queue = [record for record in self._queue if record not in kept]
            right(self)
            for tp, key, value, _ in kept:
                self._process.seam("journal")
                self._world.broker.partitions[tp].append(None, key, value, self._world.clock.wall_ms())

        return late

    _replace(stack, FakeProducer, "commit", commit)
    return World


def _no_digest(stack: ExitStack) -> type[World]:
    def careless(replay: Any) -> Any:
        return lambda self, entry, inputs, compare=True: replay(self, entry, inputs, compare=False)

    _replace(stack, Task, "replay", careless)
    _replace(stack, task, "ranks_of", lambda right: lambda *given: sorted(right(*given)))
    return World


# -- fencing -------------------------------------------------------------------------------------------------------


def _random_id(stack: ExitStack) -> type[World]:
    numbers = count()

    def wrong(init: Any) -> Any:
        return lambda self, cluster, name, timeout_ms: init(self, cluster, f"{name}.{next(numbers)}", timeout_ms)

    _replace(stack, FakeProducer, "__init__", wrong)
    return World


def _side_not_fenced(stack: ExitStack) -> type[World]:
    def wrong(start: Any) -> Any:
        def lax(self: Broker, name: str, timeout_s: float) -> int:
            known = self.ids.get(name)
            return known.epoch if known is not None and ".state." in name else int(start(self, name, timeout_s))

        return lax

    _replace(stack, Broker, "start_id", wrong)
    return World


def _any_generation(stack: ExitStack) -> type[World]:
    class Lax(World):
        def check_generation(self, metadata: Any) -> None:
            pass

    return Lax


def _trusting(stack: ExitStack) -> type[World]:
    blind = PropertyMock(return_value=False)
    stack.enter_context(patch.object(FakeProducer, "suspicious", blind, create=True))

    class Late(World):
        """Requests are sent twice, and nothing else goes wrong."""

        def drawn(self) -> Plan:
            drawn, never = super().drawn(), float("inf")
            rates = {kind: 0.25 if kind == "late" else 0.0 for kind in drawn.rates}
            return replace(drawn, rates=rates, kill_every=never, freeze_every=never, restless=0.0)

    return Late


def _leftovers_ignored(stack: ExitStack) -> type[World]:
    for module in (leftovers, slot, assignment):
        stack.enter_context(patch.object(module, "open_places", lambda reader, places: []))
    return World


def _rest_aborted(stack: ExitStack) -> type[World]:
    stack.enter_context(patch.object(FakeCluster, "commit_rest", lambda self, name, places: []))
    return World


def _side_renewed(stack: ExitStack) -> type[World]:
    def wrong(begin: Any) -> Any:
        def renew(self: Checkpointing, lane: Any) -> None:
            lane.side = self._work.cluster.producer(f"{self._work.name}.state.{lane.task.shard}")
            begin(self, lane)

        return renew

    _replace(stack, Checkpointing, "begin", wrong)
    return World


# -- reading -------------------------------------------------------------------------------------------------------


def _read_uncommitted(stack: ExitStack) -> type[World]:
    class Dirty(World):
        def rows(self, log: Partition, start: int, limit: int | None = None, end: int | None = None) -> list[Row]:
            if end is not None:
                return super().rows(log, start, limit, end)
            rows = log.rows[log.index(start) :]
            return rows if limit is None else rows[:limit]

        def end(self, log: Partition) -> int:
            return log.high

    return Dirty


def _restore_stable(stack: ExitStack) -> type[World]:
    class Short(World):
        def restore_end(self, topic: str, number: int, high: int) -> int:
            return int(self.broker.partitions[topic, number].stable)

    return Short


def _resume_at_buffer_end(stack: ExitStack) -> type[World]:
    def wrong(seek: Any) -> Any:
        def further(self: FakeConsumer, offsets: Any) -> None:
            reached = self.__dict__.setdefault("reached", {})
            seek(self, {tp: max(offset, reached.get(tp, 0)) for tp, offset in offsets.items()})

        return further

    def noted(fetch: Any) -> Any:
        def noting(self: FakeConsumer, limit: int, timeout_s: float) -> Any:
            out = fetch(self, limit, timeout_s)
            for record in out:
                self.__dict__.setdefault("reached", {})[record.topic, record.partition] = record.offset + 1
            return out

        return noting

    _replace(stack, FakeConsumer, "seek", wrong)
    _replace(stack, FakeConsumer, "fetch", noted)
    return World


# -- recovery ------------------------------------------------------------------------------------------------------


def _no_rebuild(stack: ExitStack) -> type[World]:
    def go_on(self: Worker, reason: str) -> None:
        self._slot._renew()

    stack.enter_context(patch.object(Worker, "_rebuild", go_on))
    return World


def _kept_after_revoke(stack: ExitStack) -> type[World]:
    def wrong(recover: Any) -> Any:
        def keep(self: Assignment, shards: list[int]) -> Any:
            work, consumer, parked = self._work, self._work.consumer, dict(self._parked)
            asked = consumer.committed

            def mine(partitions: Any, timeout_s: float = 30.0) -> Any:
                found = asked(partitions, timeout_s)
                for shard, lane in parked.items():
                    for place, position in zip(work.inputs(shard), lane.task.positions, strict=True):
                        if place in found:
                            found[place] = position
                return found

            consumer.committed = mine
            end = self._journal_end
            with patch.object(self, "_journal_end", lambda s: parked[s].parked_at if s in parked else end(s)):
                yield from recover(self, shards)
            consumer.committed = asked
            self._parked |= {shard: lane for shard, lane in parked.items() if shard not in shards}

        return keep

    _replace(stack, Assignment, "_recover", wrong)
    return World


def _abandoned_recovery(stack: ExitStack) -> type[World]:
    def wrong(rebuild: Any) -> Any:
        def forget(self: Worker, reason: str) -> None:
            mine = self._assignment
            under_way = mine._recovering
            rebuild(self, reason)
            if under_way is not None:
                mine._assigned, mine._recovering = None, under_way

        return forget

    _replace(stack, Worker, "_rebuild", wrong)
    return World


def _not_joined_anew(stack: ExitStack) -> type[World]:
    """A worker that its group has put out only recovers; it is told once, and then reads nothing."""
    _replace(stack, Worker, "_rebuild", lambda right: lambda self, error: right(self, Aborted(str(error))))
    return World


def _joined_twice(stack: ExitStack) -> type[World]:
    """A worker that joins anew leaves the member that it was open."""

    def wrong(rebuild: Any) -> Any:
        def beside(self: Worker, error: Any) -> None:
            with patch.object(FakeConsumer, "close", lambda self: None):
                rebuild(self, error)

        return beside

    _replace(stack, Worker, "_rebuild", wrong)
    return World


def _ids_forgotten(stack: ExitStack) -> type[World]:
    def wrong(load: Any) -> Any:
        return lambda self, entries: load(self, {k: v for k, v in entries.items() if k[:2] != ("validate", "seen")})

    _replace(stack, Stores, "load", wrong)
    return World


def _deadlines_in_wrong_order(stack: ExitStack) -> type[World]:
    def wrong(right: Any) -> Any:
        def backwards(store: Any) -> Any:
            made = right(store)
            made._queue.reverse()
            return made

        return backwards

    _replace(stack, join, "_deadlines", wrong)
    return World


def _journal_from_now(stack: ExitStack) -> type[World]:
    """The journal is read from where it stood when the checkpoint was committed, not when it was frozen."""

    def wrong(write: Any) -> Any:
        def late(self: Checkpoint, limit: int | None) -> bool:
            world = self._producer._world  # type: ignore[attr-defined]
            topic = self._topic.replace(".state", ".journal")
            self._marker["journal_offset"] = world.broker.partitions[topic, self._shard].stable
            return bool(write(self, limit))

        return late

    _replace(stack, Checkpoint, "write", wrong)
    return World


# -- checkpoints ---------------------------------------------------------------------------------------------------


def _marker_first(stack: ExitStack) -> type[World]:
    def init(right: Any) -> Any:
        def first(self: Checkpoint, *args: Any, **options: Any) -> None:
            right(self, *args, **options)
            self._send(pack((self._group, MARKER)), pack(self._marker))
            self._producer.commit()
            self._producer.begin()

        return first

    def write(right: Any) -> Any:
        def parts(self: Checkpoint, limit: int | None) -> bool:
            done = right(self, limit)
            if not done:
                self._producer.commit()
                self._producer.begin()
            return bool(done)

        return parts

    _replace(stack, Checkpoint, "__init__", init)
    _replace(stack, Checkpoint, "write", write)
    return World


def _not_frozen(stack: ExitStack) -> type[World]:
    def lazily(self: Stores) -> Iterator[Any]:
        for (processor, name), store in self._stores.items():
            for key, data in store.freeze():
                yield (processor, name, key), data

    stack.enter_context(patch.object(Stores, "freeze", lazily))
    return World


def _checkpoint_on_close(stack: ExitStack) -> type[World]:
    def close(self: Worker) -> None:
        for lane in [*self.lanes.values(), *self._assignment._parked.values()]:
            lane.side.drop()
        self._slot.drop()
        self._work.consumer.close()
        self._work.reader.close()

    stack.enter_context(patch.object(Worker, "close", close))
    return World


def _early_checkpoint(stack: ExitStack) -> type[World]:
    """A checkpoint is frozen between processing and commit."""

    def wrong(commit: Any) -> Any:
        def early(self: Worker, done: Any, metadata: Any) -> None:
            for lane in self.lanes.values():
                if self._work.clock() - lane.checkpointed_at >= self.settings.checkpoint_s:
                    self._checkpointing.now(lane)
            commit(self, done, metadata)

        return early

    _replace(stack, Worker, "_commit", wrong)
    return World


def _endless_checkpoint(stack: ExitStack) -> type[World]:
    """Many small parts, however long they take: the transaction times out, again and again."""
    stack.enter_context(patch.object(checkpointing, "_LONGEST_S", float("inf")))
    return Unhurried


# -- who serves ----------------------------------------------------------------------------------------------------


def _registry_forgotten(stack: ExitStack) -> type[World]:
    def wrong(load: Any) -> Any:
        return lambda self, entries: load(self, {key: data for key, data in entries.items() if key[0] != "registry"})

    _replace(stack, Stores, "load", wrong)
    return World


def _two_champions(stack: ExitStack) -> type[World]:
    """A promotion does not end the time of the champion before."""

    def promoted(state: Any, fact: Any, model: str) -> None:
        state["champion"] = model
        state["models"][model]["status"] = "champion"

    stack.enter_context(patch.dict(registry._TAKES, promoted=promoted))
    return World


def _late_promotion(stack: ExitStack) -> type[World]:
    """A promotion takes effect with the next restart only."""

    def decided(self: Back, fact: Any) -> None:
        pass

    stack.enter_context(patch.object(Back, "_decided", decided))
    return World


def _draft_kept(stack: ExitStack) -> type[World]:
    """A draft that was handed over, and has learned since, is handed over again after a rebuild."""
    stack.enter_context(patch.object(Logged, "draft", lambda self, model: self._drafts.get((self._shard, model))))
    return World


CANARIES: tuple[Canary, ...] = (
    Canary("the committed offset is off by one", _offset_off_by_one),
    Canary("offsets are not in the transaction", _no_offsets),
    Canary("the journal is written before its transaction", _journal_before),
    Canary("the journal is written after its transaction", _journal_after),
    Canary("replay in the wrong interleaving, digests not compared", _no_digest),
    Canary("a random transactional id at each start", _random_id, 9),
    Canary("the checkpoint's producer is not fenced", _side_not_fenced, 399),
    Canary("a stale generation is let pass", _any_generation, 592),
    Canary("no new producer after a doubtful commit", _trusting, 20),
    Canary("what a broker forgot to end stays open", _leftovers_ignored, 9),
    Canary("what a broker left open of a committed transaction is aborted", _rest_aborted, 59),
    Canary("a new producer for every checkpoint, whoever owns the task by now", _side_renewed, 399),
    Canary("inputs are read uncommitted", _read_uncommitted),
    Canary("restore ends at the last stable offset", _restore_stable, 1060),
    Canary("reading goes on at the end of the buffer", _resume_at_buffer_end),
    Canary("no rebuild after an abort", _no_rebuild),
    Canary("a task is kept though another worker advanced it", _kept_after_revoke, 293),
    Canary("trouble during recovery leaves the worker without tasks", _abandoned_recovery),
    Canary("a worker that was put out does not join anew", _not_joined_anew, 32),
    Canary("a worker that joins anew stays who it was, too", _joined_twice, 32),
    Canary("the ids seen are not restored", _ids_forgotten),
    Canary("deadlines are restored in the wrong order", _deadlines_in_wrong_order),
    Canary("the journal is read from too late", _journal_from_now),
    Canary("the marker comes before its keys, in several transactions", _marker_first),
    Canary("the state changes while its checkpoint is written", _not_frozen),
    Canary("a worker that ends by an error checkpoints uncommitted state", _checkpoint_on_close, 31),
    Canary("a checkpoint is frozen before its batch is committed", _early_checkpoint),
    Canary("a checkpoint in many parts outlives its transaction", _endless_checkpoint),
    Canary("the registry is not restored", _registry_forgotten),
    Canary("a promotion leaves two champions", _two_champions, 23),
    Canary("a promotion takes effect after a restart only", _late_promotion, 27),
    Canary("a draft is adopted twice", _draft_kept, 291),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Look for each with up to `LIMIT` seeds, and say which seed caught it; exit 1 when one is not caught."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.canaries", description=__doc__)
    parser.add_argument("--json", metavar="FILE", help="write each name with the seed that caught it")
    options = parser.parse_args(arguments)
    found: dict[str, int | None] = {}
    for canary in CANARIES:
        caught = caught_by(canary)
        found[canary.name] = None if caught is None else caught[0]
        print(
            f"{canary.name} → {'NOT CAUGHT' if caught is None else f'seed {caught[0]}: {caught[1][:110]}'}", flush=True
        )
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(found, file, indent=2)
    return 1 if None in found.values() else 0


if __name__ == "__main__":
    sys.exit(main())
