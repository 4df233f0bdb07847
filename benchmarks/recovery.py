"""recovery: from a kill to the first new prediction, against the size of the state and what there is to replay.

Beside it, what it would cost to write every update of the state to a changelog in the same transactions: the same chain
over the same records, its stores' updates published as well; and how long such a changelog takes to read back.
"""

from __future__ import annotations

import statistics
import time
import uuid
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from rich.table import Table

from benchmarks import declared
from benchmarks.place import Place, place, wait_for
from headrace.streams.packing import pack, unpack
from headrace.streams.stores import KeyedStore, LogStore
from headrace.streams.task import Task
from headrace.streams.topology import group_of

__all__ = ["run"]

SEED = 3
_PATIENT = {"checkpoint_s": 1e9}
_NEW = 100
_BATCH = 8_000


def run(
    report: Callable[[Any], None],
    keys: Sequence[int] = (1_000, 100_000, 1_000_000),
    replayed: int = 20_000,
    rounds: int = 3,
    changelog_events: int = 50_000,
) -> dict[str, Any]:
    """Kill after `replayed` events since the last checkpoint, at each number of keys; then the changelog."""
    found: dict[str, Any] = {"seed": SEED, "rounds": rounds, "replayed_events": replayed, "keys": {}}
    with place() as here:
        for count in keys:
            runs = [_killed(here, count, replayed) for _ in range(rounds)]
            found["keys"][str(count)] = {name: statistics.median(one[name] for one in runs) for name in runs[0]}
        report(_table(found["keys"], replayed))
        found["changelog"] = _changelogs(here, changelog_events, rounds)
        report(_changelog_table(found["changelog"]))
    return found


def _killed(here: Place, keys: int, replayed: int) -> dict[str, float]:
    site = here.site("synthetic", tiles=32)
    total = keys + replayed + _NEW
    events, labels = declared.synthetic_records(total, keys, SEED, touch=True, step_ms=1)
    site.publish((events[:keys], labels[:keys]))
    written = site.worker(**_PATIENT).await_("ended")["checkpoints"][-1]
    worker = site.worker(end=False, **_PATIENT)
    worker.await_("ready")
    site.publish((events[keys:-_NEW], labels[keys:-_NEW]))
    reader = here.cluster.reader()
    reader.follow({(site.topic("predictions"), 0): 0})
    seen = 0

    def predicted(count: int) -> bool:
        nonlocal seen
        seen += len(reader.poll(10_000, 0.01))
        return seen >= count

    wait_for(lambda: predicted(keys + replayed), "all predictions", 600, 0.0)
    killed = worker.kill()
    site.publish((events[-_NEW:], labels[-_NEW:]))
    spawned = time.monotonic()
    successor = site.worker(end=False, **_PATIENT)
    wait_for(lambda: predicted(keys + replayed + 1), "the first new prediction", 600, 0.0)
    first = time.monotonic()
    started = successor.await_("started")["at"]
    recovered = successor.await_("ready")
    successor.kill()
    reader.close()
    site.drop()
    found = recovered["recoveries"][0]
    return {
        "state_mb": written["bytes"] / 1e6,
        "kill_to_prediction_s": first - spawned,
        "process_start_s": started - spawned,
        "recovery_s": found["seconds"],
        "rejoin_and_first_commit_s": first - started - found["seconds"],
        "replayed_records": found["replayed"],
        "kill_to_spawn_s": spawned - killed,
    }


# -- every update to a changelog -----------------------------------------------------------------------------------


def _changelogs(here: Place, events: int, rounds: int) -> dict[str, Any]:
    runs: dict[str, list[dict[str, float]]] = {"journal": [], "changelog": []}
    for number in range(rounds):
        for way in ("journal", "changelog") if number % 2 else ("changelog", "journal"):
            runs[way].append(_chain(here, events, changelog=way == "changelog"))
    out: dict[str, Any] = {
        way: {name: statistics.median(one[name] for one in each) for name in each[0]} for way, each in runs.items()
    }
    ratios = [j["events_per_s"] / c["events_per_s"] for j, c in zip(runs["journal"], runs["changelog"], strict=True)]
    return out | {"events": events, "throughput_ratio": statistics.median(ratios)}


def _chain(here: Place, events: int, changelog: bool) -> dict[str, float]:
    """The chain, its outputs and its journal in transactions; with its stores' updates too, if they are wanted."""
    pipeline = declared.make("synthetic", f"log-{uuid.uuid4().hex[:8]}")
    name = f"{pipeline.name}.out"
    here.cluster.create([(name, 1, {}), (f"{name}.log", 1, {})])
    readings, outcomes = declared.synthetic_records(events, 1_000, SEED)
    task = Task(pipeline, group_of(), 0, topics=lambda role: f"{pipeline.name}.{role}")
    updates: list[tuple[bytes, bytes | None]] = []
    if changelog:
        _listen(task, updates)
    task.merge.end(0)
    producer = here.cluster.producer(name)
    now_ms = time.time_ns() // 1_000_000
    size = written = 0
    began = time.monotonic()
    for start in range(0, events, _BATCH // 2):
        for offset in range(start, min(start + _BATCH // 2, events)):
            for rank, part in enumerate((outcomes, readings), task.group.leading):
                task.feed(rank, offset, part[offset].key, part[offset].value, now_ms)
        while (done := task.run(_BATCH)) is not None:
            producer.begin()
            for output in done.outputs:
                producer.send(name, 0, output[1], output[2])
            for key, value in updates:
                producer.send(f"{name}.log", 0, key, value)
                size += len(key) + len(value or b"")
            written += len(updates)
            updates.clear()
            producer.commit()
    seconds = time.monotonic() - began
    found = {"events_per_s": events / seconds, "updates_per_event": written / events, "bytes_per_event": size / events}
    found["read_back_s"] = _read_back(here, f"{name}.log") if changelog else 0.0
    producer.drop()
    here.cluster.delete([name, f"{name}.log"])
    return found


def _listen(task: Task, updates: list[tuple[bytes, bytes | None]]) -> None:
    """After every record, what it changed in the stores goes into `updates`: a changelog's entries."""
    stores = [
        ((processor, name), store)
        for processor, named in task.chain.stores.states.items()
        for name, store in named.items()
        if isinstance(store, KeyedStore | LogStore)
    ]

    def logged(handler: Any, item: Any) -> None:
        handler(item)
        for name, store in stores:
            for key, value in store.freeze():
                updates.append((pack((*name, key)), value))

    task.start()
    task.chain._handlers = tuple(partial(logged, handler) for handler in task.chain._handlers)


def _read_back(here: Place, topic: str) -> float:
    """Read the changelog and fold it to values, as a recovery would have to."""
    reader = here.cluster.reader()
    began = time.monotonic()
    state = {record.key: record.value for record in reader.read(topic, 0)}
    for key, value in state.items():
        unpack(key)
        if value is not None:
            unpack(value)
    seconds = time.monotonic() - began
    reader.close()
    return seconds


def _table(rows: dict[str, dict[str, float]], replayed: int) -> Table:
    table = Table(title=f"recovery: kill -9 to the first new prediction, {replayed:,} events since the checkpoint")
    times = ("kill to prediction s", "process start s", "recovery s", "join and first commit s")
    for column in ("keys", "state MB", *times, "records replayed"):
        table.add_column(column, justify="right")
    for keys, row in rows.items():
        table.add_row(
            f"{int(keys):,}",
            f"{row['state_mb']:.1f}",
            f"{row['kill_to_prediction_s']:.2f}",
            f"{row['process_start_s']:.2f}",
            f"{row['recovery_s']:.2f}",
            f"{row['rejoin_and_first_commit_s']:.2f}",
            f"{row['replayed_records']:,.0f}",
        )
    return table


def _changelog_table(found: dict[str, Any]) -> Table:
    table = Table(
        title=f"recovery: the chain alone, {found['events']:,} events; a journal, a changelog of every update"
    )
    for column in ("", "events/s", "updates/event", "changelog bytes/event", "reading it back s"):
        table.add_column(column, justify="left" if not column else "right")
    for way in ("journal", "changelog"):
        row = found[way]
        table.add_row(
            way,
            f"{row['events_per_s']:,.0f}",
            f"{row['updates_per_event']:.1f}",
            f"{row['bytes_per_event']:.0f}",
            f"{row['read_back_s']:.2f}" if way == "changelog" else "",
        )
    return table
