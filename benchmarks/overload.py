"""overload: twice what a worker can do, for a minute. Nothing is lost, memory stays bounded, and the lag goes again."""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from rich.table import Table

from benchmarks import declared
from benchmarks.latency import _Offset
from benchmarks.place import Place, place

__all__ = ["run", "watch"]

SEED = 4
_SAMPLE_S = 0.25


def run(
    report: Callable[[Any], None], seconds: float = 60.0, factor: float = 2.0, probe: int = 50_000, probes: int = 3
) -> dict[str, Any]:
    """`factor` times the rate at which a worker catches up, for `seconds`; ValueError if a prediction is missing."""
    found: dict[str, Any] = {"seed": SEED, "seconds": seconds, "factor": factor}
    with place() as here:
        can = statistics.median(_capacity(here, probe) for _ in range(probes))
        found |= {"can_events_per_s": can, **_overloaded(here, can * factor, seconds)}
    report(_table(found))
    return found


def _capacity(here: Place, events: int) -> float:
    site = here.site("synthetic")
    site.publish(declared.synthetic_records(events, 1_000, SEED))
    ended = site.worker().await_("ended")
    site.drop()
    return float(events / ended["seconds"])


def _overloaded(here: Place, rate: float, seconds: float) -> dict[str, Any]:
    site = here.site("synthetic")
    count = int(rate * seconds)
    job = {
        "kind": "synthetic",
        "options": {"count_": count, "keys": 1_000, "seed": SEED},
        "bootstrap": here.cluster.bootstrap,
        "events": site.topic("events"),
        "labels": site.topic("labels"),
        "rate": 2 * rate,
        "linger_ms": 20,
    }
    sender = here.spawn([sys.executable, "-m", "benchmarks.sender", json.dumps(job)])
    sender.await_("prepared")
    worker = site.worker(end=False)
    worker.await_("ready")
    reader = here.cluster.reader()
    reader.follow({(site.topic("predictions"), 0): 0})
    sender.say("go")
    began = sender.await_("began")["first_due"]
    samples, last, sent = watch(reader, count, worker, sender)
    ended = worker.stop()
    reader.close()
    site.drop()
    return {
        "events": count,
        "sent_events_per_s": count / sent["seconds"],
        "predicted": count,
        "lag_gone_after_s": last - began - sent["seconds"],
        "lag_most_events": max(
            min(count, int((at - began) * count / sent["seconds"])) - seen for at, _, seen in samples if at > began
        ),
        "rss_start_mb": samples[0][1],
        "rss_peak_mb": max(rss for _, rss, _ in samples),
        "rss_mb": [round(samples[i * (len(samples) - 1) // 10][1]) for i in range(11)],
        "cpu_us_per_event": ended["cpu_s"] / count * 1e6,
    }


def watch(
    reader: Any, count: int, worker: Any, sender: Any
) -> tuple[list[tuple[float, float, int]], float, dict[str, Any]]:
    """Samples of (time, RSS, predictions), when the last prediction was there, and what the sender says at its end."""
    offset_of = msgspec.json.Decoder(_Offset).decode
    samples: list[tuple[float, float, int]] = []
    seen, progressed = 0, time.monotonic()
    while seen < count:
        now = time.monotonic()
        if not samples or now - samples[-1][0] > _SAMPLE_S:
            samples.append((now, _rss_mb(worker.pid), seen))
        for record in reader.poll(10_000, 0.05):
            if offset_of(record.value).offset != seen:
                raise ValueError(
                    f"a prediction was lost or doubled: after event {seen - 1} comes another than the next"
                )
            seen, progressed = seen + 1, now
        if now - progressed > 120:
            raise RuntimeError(f"{seen} of {count} predictions came:\n{worker.tail()}")
    last = time.monotonic()
    samples.append((last, _rss_mb(worker.pid), seen))
    return samples, last, sender.await_("finished")


def _rss_mb(pid: int) -> float:
    """Resident memory of a process."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return 0.0


def _table(found: dict[str, Any]) -> Table:
    table = Table(title=f"overload: {found['factor']:g} times what it can do, for {found['seconds']:g} s")
    table.add_column("")
    table.add_column("", justify="right")
    rows = {
        "catches up at, events/s": f"{found['can_events_per_s']:,.0f}",
        "sent, events/s": f"{found['sent_events_per_s']:,.0f}",
        "events sent, and predicted once each, in order": f"{found['predicted']:,}",
        "most lag, events": f"{found['lag_most_events']:,}",
        "lag gone after the end, s": f"{found['lag_gone_after_s']:.1f}",
        "RSS over the run, in tenths, MB": " ".join(map(str, found["rss_mb"])),
    }
    for name, value in rows.items():
        table.add_row(name, value)
    return table
