"""scale: one thing varied at a time over synthetic records: keys, tiles of a window, models, workers, payload.

Every row is inputs published first, then one run to their end, repeated in alternating order; medians. For keys, a
first run brings every key into the state; the second recovers from its checkpoint, and is the one that is timed.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

from rich.table import Table

from benchmarks import declared
from benchmarks.place import Place, place
from headrace.streams.data import Outgoing

__all__ = ["run"]

SEED = 2
VARIED: dict[str, tuple[int, ...]] = {
    "keys": (1_000, 100_000, 1_000_000),
    "tiles": (1, 4, 12, 32),
    "models": (1, 2, 4, 8),
    "payload": (100, 1_000, 10_000),
    "workers": (1, 2),
}
_USUAL_KEYS = 1_000
_NO_CHECKPOINT = {"checkpoint_s": 1e9}


def run(
    report: Callable[[Any], None],
    events: int = 100_000,
    rounds: int = 3,
    varied: dict[str, tuple[int, ...]] | None = None,
) -> dict[str, Any]:
    """Vary each in turn over `events` events (fewer where payloads are large)."""
    found: dict[str, Any] = {"seed": SEED, "events": events, "rounds": rounds}
    with place() as here:
        _once(here, "tiles", 1, min(events, 5_000))
        for what, values in (varied or VARIED).items():
            runs: dict[int, list[dict[str, float]]] = {value: [] for value in values}
            for number in range(rounds):
                for value in values if number % 2 == 0 else reversed(values):
                    runs[value].append(_once(here, what, value, events))
            found[what] = {
                str(value): {figure: statistics.median(one[figure] for one in each) for figure in each[0]}
                for value, each in runs.items()
            }
            report(_table(what, found[what]))
    if "keys" in found and len(found["keys"]) > 1:
        rates = [row["events_per_s"] for row in found["keys"].values()]
        found["keys_ratio"] = rates[-1] / rates[0]
    return found


def _once(here: Place, what: str, value: int, events: int) -> dict[str, float]:
    """Events a second from the first input to the last commit, and the worker's processor time."""
    if what == "keys":
        return _keys(here, value, events)
    options = {what: value} if what in ("tiles", "models") else {}
    count = max(1, min(events, events * 1_000 // value)) if what == "payload" else events
    workers = value if what == "workers" else 1
    site = here.site("synthetic", **options, **({"partitions": 2} if what == "workers" else {}))
    # Windows of many tiles have to fill: the stream covers the longest of them four times.
    step_ms = max(10, 4 * max(VARIED["tiles"]) * 60_000 // count) if what == "tiles" else 10
    payload = value if what == "payload" else 100
    records = declared.synthetic_records(count, _USUAL_KEYS, SEED, payload, step_ms=step_ms)
    site.publish(records, partition_of=_half if what == "workers" else None)
    started = [site.worker(slot=str(slot), **_NO_CHECKPOINT) for slot in range(workers)]
    ended = [worker.await_("ended") for worker in started]
    site.drop()
    return _figures(count, ended)


def _keys(here: Place, keys: int, events: int) -> dict[str, float]:
    """State with every key in every window, its checkpoint, a recovery from it, and the throughput after that."""
    site = here.site("synthetic", tiles=32)
    readings, outcomes = declared.synthetic_records(keys + events, keys, SEED, touch=True, step_ms=1)
    site.publish((readings[:keys], outcomes[:keys]))
    written = site.worker(**_NO_CHECKPOINT).await_("ended")["checkpoints"][-1]
    site.publish((readings[keys:], outcomes[keys:]))
    ended = site.worker(**_NO_CHECKPOINT).await_("ended")
    site.drop()
    return {
        **_figures(events, [ended]),
        "checkpoint_entries": written["entries"],
        "checkpoint_mb": written["bytes"] / 1e6,
        "checkpoint_s": written["seconds"],
        "bytes_per_key": written["bytes"] / keys,
        "recovery_s": ended["recoveries"][0]["seconds"],
    }


def _figures(count: int, ended: list[dict[str, Any]]) -> dict[str, float]:
    began = min(one["began"] for one in ended)
    finished = max(one["last_commit"] or one["began"] for one in ended)
    return {
        "events": count,
        "events_per_s": count / (finished - began),
        "cpu_us_per_event": sum(one["cpu_s"] for one in ended) / count * 1e6,
        "peak_rss_mb": max(one["peak_rss_kb"] for one in ended) / 1024,
    }


def _half(record: Outgoing) -> int:
    return (record.key or b"0")[-1] % 2


def _table(what: str, rows: dict[str, dict[str, float]]) -> Table:
    table = Table(title=f"scale: {what}")
    formats = {"checkpoint_mb": ".1f", "checkpoint_s": ".2f", "bytes_per_key": ".0f", "recovery_s": ".2f"}
    more = tuple(formats) if what == "keys" else ()
    for column in (what, "events", "events/s", "of the first", "CPU us/event", "peak RSS MB", *more):
        table.add_column(column, justify="right")
    first = next(iter(rows.values()))["events_per_s"]
    for value, row in rows.items():
        table.add_row(
            f"{int(value):,}",
            f"{row['events']:,.0f}",
            f"{row['events_per_s']:,.0f}",
            f"{row['events_per_s'] / first:.2f}",
            f"{row['cpu_us_per_event']:.1f}",
            f"{row['peak_rss_mb']:.0f}",
            *(format(row[name], formats[name]) for name in more),
        )
    return table
