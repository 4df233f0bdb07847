"""overload: twice what a worker can do, for a minute. Nothing is lost, memory stays bounded, and the lag goes again."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from rich.table import Table

from benchmarks import declared
from benchmarks.latency import Offset
from benchmarks.place import Place, Process, Site, place

__all__ = ["drive", "run"]

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
    ran = drive(site, count, 2 * rate, SEED, linger_ms=20)
    samples, sent_s = ran.samples, ran.sent["seconds"]
    site.drop()
    return {
        "events": count,
        "sent_events_per_s": count / sent_s,
        "predicted": count,
        "lag_gone_after_s": samples[-1].at - ran.began - sent_s,
        "lag_most_events": max(
            min(count, int((at - ran.began) * count / sent_s)) - seen for at, _, seen in samples if at > ran.began
        ),
        "rss_start_mb": samples[0].rss_mb,
        "rss_peak_mb": max(each.rss_mb for each in samples),
        "rss_mb": [round(samples[i * (len(samples) - 1) // 10].rss_mb) for i in range(11)],
        "cpu_us_per_event": ran.ended["cpu_s"] / count * 1e6,
    }


class Sample(NamedTuple):
    """A moment, the worker's resident memory, and how many predictions had been read."""

    at: float
    rss_mb: float
    seen: int


class Driven(NamedTuple):
    """What an open loop found: the last sample is when all were predicted; `sent` and `ended` are last words."""

    began: float
    samples: list[Sample]
    sent: dict[str, Any]
    ended: dict[str, Any]


def drive(site: Site, count: int, rate: float, seed: int, **more: Any) -> Driven:
    """A worker, while `count` synthetic events and their labels come at `rate` records a second, until all are read."""
    sender = site.sender({"count_": count, "keys": 1_000, "seed": seed}, rate, **more)
    worker = site.worker(end=False)
    worker.await_("ready")
    reader = site.place.cluster.reader()
    reader.follow({(site.topic("predictions"), 0): 0})
    sender.say("go")
    began = sender.await_("began")["first_due"]
    samples = _watched(reader, count, worker)
    reader.close()
    return Driven(began, samples, sender.await_("finished"), worker.stop())


def _watched(reader: Any, count: int, worker: Process) -> list[Sample]:
    offset_of = msgspec.json.Decoder(Offset).decode
    samples: list[Sample] = []
    seen, progressed = 0, time.monotonic()
    while seen < count:
        now = time.monotonic()
        if not samples or now - samples[-1].at > _SAMPLE_S:
            samples.append(Sample(now, _rss_mb(worker.pid), seen))
        for record in reader.poll(10_000, 0.05):
            if offset_of(record.value).offset != seen:
                raise ValueError(
                    f"a prediction was lost or doubled: after event {seen - 1} comes another than the next"
                )
            seen, progressed = seen + 1, now
        if now - progressed > 120:
            raise RuntimeError(f"{seen} of {count} predictions came:\n{worker.tail()}")
    return [*samples, Sample(time.monotonic(), _rss_mb(worker.pid), seen)]


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
