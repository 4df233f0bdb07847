"""The invariants, after a run has come to rest."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Iterator
from functools import partial
from typing import Any

import msgspec

from headrace.processors.registry import fold, fresh
from headrace.schemas.records import Command, Fact, Input
from headrace.streams.checkpoint import key_of
from headrace.streams.identity.hashing import state_hash
from headrace.streams.journal import Entry, Epoch
from headrace.streams.journal import read as read_entry
from headrace.streams.recovery import recover
from headrace.streams.stages.chain import Output
from headrace.streams.stages.retraining import logged
from headrace.streams.summary import summary_of
from headrace.streams.task import Intake, Task, Version
from headrace.streams.topology import Group
from tests.simulation.broker import Row
from tests.simulation.fakelog import FakeCluster

__all__ = ["Broken", "check", "settled", "state_of"]


class Broken(AssertionError):
    """An invariant does not hold."""


def settled(world: Any) -> bool:
    """Whether all inputs are processed and committed, nothing is open, and each task has exactly one owner."""
    if world.unsent or world.unasked or world.broker.late or world.unended():
        return False
    if any(process.alive and process.worker and process.worker._committer.busy for process in world.processes):
        return False
    for group in world.groups:
        for shard in range(world.pipeline.partitions):
            owners = _owners(world, group, shard)
            if len(owners) != 1 or not _finished(world, group, shard, owners[0].task):
                return False
    return True


def state_of(world: Any) -> str:
    """Where everybody stands, for the message about a run that does not end."""
    parts = [f"unsent {len(world.unsent)}, late {len(world.broker.late)}"]
    for process in world.processes:
        worker = process.worker
        if process.alive and worker is not None:
            lanes = {shard: lane.task.positions for shard, lane in worker.lanes.items()}
            parts.append(f"{worker.id}: ready {worker.ready}, lanes {lanes}")
    for group in world.groups:
        for shard in range(world.pipeline.partitions):
            ends = [_last(world, role, shard) for role in group.inputs]
            parts.append(f"{group.name}/{shard}: owners {len(_owners(world, group, shard))}, inputs end at {ends}")
    return "; ".join(parts)


def check(world: Any) -> None:
    """Raise `Broken` unless every invariant holds."""
    lost = {kind: world.count[kind] for kind in ("aborted", "Aborted", "Fenced", "Stalled") if world.count[kind]}
    if world.plan.calm and lost:
        raise Broken(f"transactions were lost, though nothing went wrong: {lost}")
    for shard in range(world.pipeline.partitions):
        for group in world.groups:
            entries = _journal(world, group, shard)
            replayed = Task(
                world.pipeline, group, shard, topics=world.topic, tolerant=True, history=_history(world, shard)
            )
            made = _replay(world, replayed, entries)
            _compare("replay of the journal", world, group, shard, made)
            _begun(world, group, shard, entries)
            if world.plan.published_first and not world.plan.cut and not _adopted(world, shard):
                _compare("run without faults", world, group, shard, _pure(world, group, shard))
            _states(world, group, shard, replayed)
        _once(world, shard)
        _laws(world, shard)
        _decided(world, shard)


# -- what was published ------------------------------------------------------------------------------------------


def _rows(world: Any, role: str, shard: int) -> list[Row]:
    log = world.broker.partitions[world.topic(role), shard]
    if log.open:
        raise Broken(f"{role}/{shard} has an open transaction at the end")
    return list(log.committed())


def _last(world: Any, role: str, shard: int) -> int:
    log = world.broker.partitions[world.topic(role), shard]
    for row in reversed(log.rows[: log.index(log.stable)]):
        if row.committed:
            return int(row.offset)
    return -1


def _published(world: Any, group: Group, shard: int, role: str) -> list[tuple[Any, Any, Any]]:
    rows = _rows(world, role, shard)
    if role == "dead-letter":
        stages = {stage.encode() for stage in group.stages}
        rows = [row for row in rows if dict(row.headers)["stage"] in stages]
    if role == "evaluations":
        rows = [row for row in rows if (group.watches if b'"window":"proxy' in (row.value or b"") else group.back)]
    if role == "registry":
        rows = [row for row in rows if (row.value or b"").startswith(b'{"record":"fact"')]
    return [(row.key, row.value, row.headers or None) for row in rows]


def _journal(world: Any, group: Group, shard: int) -> list[Entry | Epoch]:
    rows = _rows(world, "journal", shard)
    entries = [read_entry(row.value or b"") for row in rows if row.key == group.name.encode()]
    ends: list[int] | None = None
    for seq, entry in enumerate(entries):
        if entry.seq != seq:
            raise Broken(f"journal of {group.name}/{shard}: record {seq} has number {entry.seq}")
        if isinstance(entry, Entry):
            if ends is not None and entry.starts != ends:
                raise Broken(f"journal of {group.name}/{shard}: record {seq} begins at {entry.starts}, not {ends}")
            ends = entry.ends
    return entries


def _compare(what: str, world: Any, group: Group, shard: int, made: dict[str, list[Any]]) -> None:
    for role in group.outputs:
        found, wanted = _published(world, group, shard, role), made.get(role, [])
        if found == wanted:
            continue
        at = next(
            (i for i, (a, b) in enumerate(zip(found, wanted, strict=False)) if a != b), min(len(found), len(wanted))
        )
        raise Broken(
            f"{what}: {role}/{shard} has {len(found)} records, {len(wanted)} were made; first difference at {at}: "
            f"{found[at : at + 1]} instead of {wanted[at : at + 1]}"
        )


# -- the same, in memory -----------------------------------------------------------------------------------------


def _inputs(world: Any, task: Task, rank: int, start: int) -> Iterator[Input]:
    intake = Intake(task.chain, rank, tolerant=True)
    for row in world.broker.partitions[world.topic(task.group.inputs[rank]), task.shard].committed(start):
        yield intake.read(task.shard, row.offset, row.key, row.value, row.timestamp_ms)


def _begun(world: Any, group: Group, shard: int, entries: list[Entry | Epoch]) -> None:
    """Each epoch but the first begins with a savepoint, before anything is read."""
    rows = world.broker.partitions[world.topic("savepoints"), shard].committed()  # the last one may be open still
    keys = [key_of(row.key, numbered=True) for row in rows]
    saved = {key[1] for key in keys if key is not None and key[0] == group.name and len(key) == 3}
    for epoch, after in itertools.pairwise(entries):
        if isinstance(epoch, Epoch) and epoch.epoch and isinstance(after, Entry):
            world.count["epochs" if after.seq in saved else "epochs without a savepoint"] += 1


def _history(world: Any, shard: int) -> Any:
    """How a task that is made again reads the training log."""
    from tests.simulation.world import Process

    back = next(group for group in world.groups if group.back)
    return partial(logged, FakeCluster(world, Process(world, back, "history")).reader, world.topic, shard)


def _by_role(outputs: list[Output], made: dict[str, list[Any]]) -> None:
    for role, key, value, headers in outputs:
        made.setdefault(role, []).append((key, value, headers or None))


def _replay(world: Any, task: Task, entries: list[Entry | Epoch]) -> dict[str, list[Any]]:
    made: dict[str, list[Any]] = {}
    inputs: list[Iterator[Input]] = []
    serving: tuple[str, ...] = ()
    for entry in entries:
        if isinstance(entry, Epoch):
            task.seq, task.epoch = entry.seq + 1, entry.epoch
            continue
        if not inputs:
            if entry.starts != [0] * len(entry.starts):
                raise Broken(f"the journal of {task.group.name}/{task.shard} begins at {entry.starts}")
            inputs = [_inputs(world, task, rank, 0) for rank in range(len(entry.starts))]
        outputs = task.replay(entry, inputs).outputs
        _by_role(outputs, made)
        serving = _served(world, task, outputs, serving)
    left = [next(items, None) for items in inputs]
    if any(item is not None for item in left):
        raise Broken(f"{task.group.name}/{task.shard}: inputs that no journal record names: {left}")
    return made


def _pure(world: Any, group: Group, shard: int) -> dict[str, list[Any]]:
    """All inputs at hand, merged by time: what a backtest does."""
    task = Task(world.pipeline, group, shard, topics=world.topic, tolerant=True, history=_history(world, shard))
    for rank, role in enumerate(group.inputs):
        for row in world.broker.partitions[world.topic(role), shard].committed():
            task.feed(rank, row.offset, row.key, row.value, row.timestamp_ms)
        task.merge.end(rank)
    made: dict[str, list[Any]] = {}
    while (processed := task.run(1_000)) is not None:
        _by_role(processed.outputs, made)
    return made


def _states(world: Any, group: Group, shard: int, replayed: Task) -> None:
    """The survivor, a fresh recovery and the replay agree in every store."""
    from tests.simulation.world import CODEC, Process

    survivor = _owners(world, group, shard)[0].task
    cluster = FakeCluster(world, Process(world, group, "check"))
    history = _history(world, shard)
    task = Task(world.pipeline, group, shard, topics=world.topic, codec=CODEC, tolerant=True, history=history)
    offsets = world.broker.offsets.get(f"{world.pipeline.name}", {}) if not world.plan.cut else {}
    if world.plan.cut:
        offsets = world.broker.offsets.get(f"{world.pipeline.name}.{group.name}", {})
    mine = {topic: offset for (topic, number), offset in offsets.items() if number == shard}
    version = Version.of(world.pipeline)
    given = {"accept_change": world.deploying is not None, "new_reader": cluster.reader}
    for _ in recover(task, cluster.reader(), version, world.topic, mine, **given):
        pass
    if [mine.get(world.topic(role)) for role in group.inputs] != survivor.positions:
        raise Broken(f"{group.name}/{shard}: committed {mine}, the survivor is at {survivor.positions}")
    if not task.seq == survivor.seq == replayed.seq:
        raise Broken(f"{group.name}/{shard}: numbers {task.seq}, {survivor.seq}, {replayed.seq}")
    contents = [t.chain.stores.contents() for t in (replayed, survivor, task)]
    hashes = [state_hash(content) for content in contents]
    if len(set(hashes)) != 1:
        odd = "the survivor" if hashes[0] != hashes[1] else "a fresh recovery"
        other = contents[1] if hashes[0] != hashes[1] else contents[2]
        where = [n for n in contents[0] if state_hash(contents[0][n]) != state_hash(other.get(n))]
        raise Broken(f"{group.name}/{shard}: the state of {odd} differs from the replay's in {where}")


# -- an independent count ----------------------------------------------------------------------------------------


def _once(world: Any, shard: int) -> None:
    """Each event is a feature, a dead letter or a duplicate: once; each feature's answer, each example: once."""
    features, predictions, examples = (_offsets(world, role, shard) for role in ("features", "predictions", "examples"))
    letters = Counter()
    for row in _rows(world, "dead-letter", shard):
        head = {name: value.decode() for name, value in row.headers}
        letters[head["topic"], head["stage"], int(head["offset"])] += 1
    if letters and max(letters.values()) > 1 + ("train" in {stage for _, stage, _ in letters}):
        raise Broken(f"a record is a dead letter twice: {letters.most_common(1)}")
    topic = world.topic("events")
    known: dict[str, list[int]] = {}
    rows = _rows(world, "events", shard)
    for row in rows:
        refused = letters[topic, "validate", row.offset] + letters[topic, "featurize", row.offset]
        took = features[row.offset] + refused
        if took > 1:
            raise Broken(f"event {row.offset} took effect {took} times")
        if took == 0:
            event_id = json.loads(row.value or b"")["id"]
            known.setdefault(event_id, []).append(row.offset)
    accepted = {json.loads(row.value or b"")["id"] for row in rows if features[row.offset] or _id(row, letters, topic)}
    lost = [offsets for event_id, offsets in known.items() if event_id not in accepted]
    if lost:
        raise Broken(f"events at {lost} left no trace, and are no duplicates")
    _answers(world, rows, features, predictions, examples, letters)


def _id(row: Row, letters: Counter[Any], topic: str) -> bool:
    """Whether an event was refused only after its id had been remembered."""
    return bool(letters[topic, "featurize", row.offset])


def _answers(world: Any, rows: list[Row], features: Any, predictions: Any, examples: Any, letters: Any) -> None:
    topic, live_from = world.topic("events"), world.pipeline.live_from_ms
    for row in rows:
        offset = row.offset
        if not features[offset]:
            wanted = 0
        else:
            history = live_from is not None and json.loads(row.value or b"")["t"] < live_from
            wanted = 0 if history or letters[topic, "predict", offset] else 1
        if predictions[offset] != wanted:
            raise Broken(f"event {offset} has {predictions[offset]} predictions, not {wanted}")
        if examples[offset] > features[offset]:
            raise Broken(f"event {offset} was learned from {examples[offset]} times")
    order = list(features)
    if order != sorted(order) or list(predictions) != sorted(predictions):
        raise Broken("features or predictions are not in the order of their events")


def _offsets(world: Any, role: str, shard: int) -> Counter[int]:
    """How often each event offset occurs in an output, in order of first occurrence."""
    from headrace.streams.stages.chain import Chain

    rows = _rows(world, role, shard)
    if role == "predictions":
        return Counter(json.loads(row.value or b"")["offset"] for row in rows)
    chain: Chain = world.wires
    wire = chain.features_wire if role == "features" else chain.examples_wire
    return Counter(wire.decode(row.value)["offset"] for row in rows)


def _laws(world: Any, shard: int) -> None:
    """The conservation laws, and the survivors' counters beside the topics themselves."""
    count = {
        role: len(_rows(world, role, shard)) for role in ("events", "labels", "features", "predictions", "examples")
    }
    front = next(g for g in world.groups if g.front)
    back = next(g for g in world.groups if g.back)
    seen, answered = (summary_of(_owners(world, g, shard)[0].task.chain) for g in (front, back))
    dead = sum(seen.dead_letters.values()) - seen.dead_letters.get("predict_error", 0)
    if not seen.events == count["events"] == seen.features + dead + seen.duplicates:
        raise Broken(
            f"events: {seen.events} counted, {count['events']} there, {seen.features}+{dead}+{seen.duplicates}"
        )
    if answered.predictions != answered.labelled + answered.expired + answered.pending:
        raise Broken(f"predictions: {answered.predictions} = {answered.labelled}+{answered.expired}+{answered.pending}")
    if count["features"] != seen.features or count["predictions"] != answered.predictions - answered.history:
        raise Broken(f"the topics hold {count}, the counters say {seen.features}, {answered.predictions}")
    learned = answered.labelled + (answered.expired if world.pipeline.on_expiry is not None else 0)
    if count["examples"] != learned:
        raise Broken(f"{count['examples']} examples, {learned} counted")


# -- who serves -------------------------------------------------------------------------------------------------


def _served(world: Any, task: Task, outputs: list[Output], serving: tuple[str, ...]) -> tuple[str, ...]:
    """Each prediction is by the champion of the facts before it, or by the canary; returns who serves now."""
    for role, _, value, _ in outputs:
        if role == "registry":
            fact = json.loads(value or b"")
            world.count["retrained"] += fact["kind"] == "caught_up"
            canary = [name for name in serving[1:] if name != fact["model"] or fact["kind"] in ("refused", "proposed")]
            if fact["kind"] == "canary":
                canary = [fact["model"]]
            serving = (fact["champion"], *[name for name in canary if name != fact["champion"]])
        elif role == "predictions":
            model = json.loads(value or b"")["model"]
            if model.partition("/")[0] not in serving:
                raise Broken(f"{task.group.name}/{task.shard}: {model} served, where {serving} should")
            world.count["by others"] += not model.startswith("logreg/")
    return serving


def _adopted(world: Any, shard: int) -> bool:
    """Whether a worker has asked for an adoption: it did so when it had caught up, which no log determines."""
    return any(b'"kind":"adopt"' in (row.value or b"") for row in _rows(world, "registry", shard))


def _decided(world: Any, shard: int) -> None:
    """Facts are numbered without gaps and add up to the survivor's registry; each command has one answer."""
    registry, answered = fresh(), Counter[str]()
    asked: set[str] = set()
    for row in _rows(world, "registry", shard):
        try:
            told = msgspec.json.decode(row.value or b"", type=Command | Fact)
        except msgspec.MsgspecError:
            continue
        if isinstance(told, Command):
            asked.add(told.id)
            continue
        fold(registry, told)
        answered[told.command or ""] += 1
    answered.pop("", None)
    if answered != Counter(asked):
        raise Broken(f"registry/{shard}: commands {sorted(asked)} were answered {dict(answered)}")
    back = next(g for g in world.groups if g.back)
    held = _owners(world, back, shard)[0].task.chain.decisions.registry
    unsaid = ("epoch", "declared", "began")
    if {**registry, **{name: held[name] for name in unsaid}} != held:
        raise Broken(f"registry/{shard}: the facts add up to {registry}, the survivor has {held}")
    champions = [name for name, entry in registry["models"].items() if entry["status"] == "champion"]
    if registry["models"] and champions != [registry["champion"]]:
        raise Broken(f"registry/{shard}: the champions are {champions}, {registry['champion']} serves")


# -- who owns what -----------------------------------------------------------------------------------------------


def _owners(world: Any, group: Group, shard: int) -> list[Any]:
    return [
        process.worker.lanes[shard]
        for process in world.processes
        if process.alive and process.group is group and process.worker.ready and shard in process.worker.lanes
    ]


def _finished(world: Any, group: Group, shard: int, task: Task) -> bool:
    if len(task.merge):
        return False
    for rank, role in enumerate(group.inputs):
        log = world.broker.partitions[world.topic(role), shard]
        if log.open or task.positions[rank] <= _last(world, role, shard):
            return False
    return True
