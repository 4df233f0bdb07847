"""latency: from the moment an event was due to be published to when its prediction can be read, in an open loop.

Events are due at fixed moments whatever the system does, so that a stall counts for all that it delays. Beside it, in
turn and in the same run, a bare transactional copy with the same clients: what Kafka's transactions cost by themselves.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
import uuid
from array import array
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from rich.table import Table

from benchmarks.place import Place, Site, place
from benchmarks.sender import schedule

__all__ = ["Offset", "percentile", "run"]

SEED = 1
SHARES = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999}


class Offset(msgspec.Struct):
    """Which event a prediction is for."""

    offset: int


def run(
    report: Callable[[Any], None],
    rates: Sequence[int] = (1_000, 5_000),
    seconds: float = 60.0,
    rounds: int = 5,
    warm_up_s: float = 3.0,
    settings: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Lane and copy in turn, `rounds` times each for `seconds`, at each rate of events a second (as many labels)."""
    found: dict[str, Any] = {"seed": SEED, "seconds": seconds, "rounds": rounds}
    with place() as here:
        _measured(here, "copy", rates[0], warm_up_s, warm_up_s, settings or {})  # a new broker is slow at first
        for rate in rates:
            runs: dict[str, list[dict[str, float]]] = {"lane": [], "copy": []}
            for number in range(rounds):
                for way in ("lane", "copy") if number % 2 else ("copy", "lane"):
                    runs[way].append(_measured(here, way, rate, seconds, warm_up_s, settings or {}))
            found[f"at_{rate}"] = _summary(runs)
    first = found[f"at_{rates[0]}"]
    found["p99_over_copy"] = first["p99_over_copy"]
    report(_table(found, rates))
    return found


def percentile(ordered: Sequence[float], share: float) -> float:
    """The value that this share of an ordered sequence lies below."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def _measured(
    here: Place, way: str, rate: int, seconds: float, warm_up_s: float, settings: dict[str, Any]
) -> dict[str, float]:
    site = here.site("synthetic")
    options = {"count_": int(rate * (seconds + warm_up_s)), "keys": 1_000, "seed": SEED}
    places = [i for i, (_, rank, _) in enumerate(schedule("synthetic", options)) if rank == 1]
    if way == "lane":
        worker, output = site.worker(end=False, **settings), site.topic("predictions")
    else:
        worker, output = _copy(here, site, settings)
    worker.await_("ready")
    sender = site.sender(options, 2 * rate)
    reader = here.cluster.reader()
    reader.follow({(output, 0): 0})
    sender.say("go")
    began = sender.await_("began")["first_due"]
    arrived = _arrivals(reader, len(places), way == "lane")
    late = sender.await_("finished")["worst_late_ms"]
    ended = worker.stop()
    reader.close()
    skip = int(rate * warm_up_s)
    waits = sorted(
        (at - began - due / (2 * rate)) * 1000 for at, due in zip(arrived[skip:], places[skip:], strict=True)
    )
    site.drop()
    return {
        **{name: percentile(waits, share) for name, share in SHARES.items()},
        "max": waits[-1],
        "events": len(waits),
        "inputs_per_transaction": 2 * len(places) / max(1, ended["transactions"]),
        "cpu_us_per_event": ended["cpu_s"] / len(places) * 1e6,
        "sender_late_ms": late,
    }


def _copy(here: Place, site: Site, settings: dict[str, Any]) -> tuple[Any, str]:
    output = f"copy-{uuid.uuid4().hex[:8]}"
    here.cluster.create([(output, 1, {})])
    job = {
        "bootstrap": here.cluster.bootstrap,
        "events": site.topic("events"),
        "labels": site.topic("labels"),
        "output": output,
        "settings": settings,
    }
    return here.spawn([sys.executable, "-m", "benchmarks.copy", json.dumps(job)]), output


def _arrivals(reader: Any, count: int, decode: bool) -> array[float]:
    """When each of `count` events' outputs was read, by the event's place; all of them come, each once, in order."""
    offset_of = msgspec.json.Decoder(Offset).decode
    arrived = array("d")
    deadline = time.monotonic() + 120
    while len(arrived) < count:
        for record in reader.poll(1_000, 0.005):
            if decode and offset_of(record.value).offset != len(arrived):
                raise ValueError(f"the prediction after event {len(arrived) - 1} is not that of the next")
            arrived.append(time.monotonic())
            deadline = time.monotonic() + 120
        if time.monotonic() > deadline:
            raise RuntimeError(f"only {len(arrived)} of {count} came")
    return arrived


def _summary(runs: dict[str, list[dict[str, float]]]) -> dict[str, Any]:
    out: dict[str, Any] = {
        way: {figure: statistics.median(one[figure] for one in each) for figure in each[0]}
        for way, each in runs.items()
    }
    pairs = zip(runs["lane"], runs["copy"], strict=True)
    ratios = [lane["p99"] / copy["p99"] for lane, copy in pairs]
    return out | {
        "p99_over_copy": statistics.median(ratios),
        "p99_over_copy_each": ratios,
        "p99_each": {way: [one["p99"] for one in each] for way, each in runs.items()},
    }


def _table(found: dict[str, Any], rates: Sequence[int]) -> Table:
    title = f"latency: due to readable, ms; {found['rounds']} rounds of {found['seconds']:g} s each"
    table = Table(title=title)
    for column in ("events/s", "", *SHARES, "max", "inputs/txn", "CPU us/event", "p99 [min-max]", "p99 over copy"):
        table.add_column(column, justify="left" if not column else "right")
    for rate in rates:
        for way in ("lane", "copy"):
            row, each = found[f"at_{rate}"][way], found[f"at_{rate}"]["p99_each"][way]
            table.add_row(
                f"{rate:,}",
                way,
                *(f"{row[name]:.1f}" for name in (*SHARES, "max")),
                f"{row['inputs_per_transaction']:.0f}",
                f"{row['cpu_us_per_event']:.0f}",
                f"[{min(each):.0f}-{max(each):.0f}]",
                f"{found[f'at_{rate}']['p99_over_copy']:.2f}" if way == "lane" else "",
            )
    return table
