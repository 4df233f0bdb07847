"""memory: a worker for an hour at an even rate, far below what it can do. Its resident memory has to stay where it is.

The state is complete after twelve minutes of event time, which pass in `warm_up_s`: all keys are there, windows lose
at one end what they gain at the other, ids and outcomes are forgotten as fast as new ones come. What grows from then
on, would grow for ever: the slope over the rest of the run is what counts.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

from rich.table import Table

from benchmarks.overload import drive
from benchmarks.place import Place, place

__all__ = ["run"]

SEED = 5
_TENTHS = 10


def run(
    report: Callable[[Any], None], seconds: float = 3_600.0, rate: int = 500, warm_up_s: float = 300.0
) -> dict[str, Any]:
    """`rate` events a second and as many labels; ValueError if a prediction is missing."""
    found: dict[str, Any] = {"seed": SEED, "seconds": seconds, "rate": rate, "warm_up_s": warm_up_s}
    with place() as here:
        found |= _resident(here, rate, seconds, warm_up_s)
    report(_table(found))
    return found


def _resident(here: Place, rate: int, seconds: float, warm_up_s: float) -> dict[str, Any]:
    site = here.site("synthetic", drift=True)
    count = int(rate * seconds)
    ran = drive(site, count, 2 * rate, SEED)
    site.drop()
    steady = [(at - ran.began, rss) for at, rss, _ in ran.samples if at - ran.began >= warm_up_s]
    return {
        "predicted": count,
        "transactions": ran.ended["transactions"],
        "checkpoints": len(ran.ended["checkpoints"]),
        "rss_mb": [round(rss, 1) for rss in _tenths([rss for _, rss in steady])],
        "slope_mb_per_hour": statistics.linear_regression(*zip(*steady, strict=True)).slope * 3_600,
        "cpu_us_per_event": ran.ended["cpu_s"] / count * 1e6,
    }


def _tenths(values: Sequence[float]) -> list[float]:
    """The median of each tenth."""
    cuts = [i * len(values) // _TENTHS for i in range(_TENTHS + 1)]
    return [statistics.median(values[a:b]) for a, b in pairwise(cuts) if b > a]


def _table(found: dict[str, Any]) -> Table:
    table = Table(title=f"memory: {found['rate']} events/s for {found['seconds']:g} s")
    table.add_column("")
    table.add_column("", justify="right")
    rows = {
        "events sent, and predicted once each, in order": f"{found['predicted']:,}",
        "transactions, checkpoints": f"{found['transactions']:,}, {found['checkpoints']:,}",
        f"RSS after {found['warm_up_s']:g} s, in tenths, MB": " ".join(f"{rss:.0f}" for rss in found["rss_mb"]),
        "slope, MB an hour": f"{found['slope_mb_per_hour']:.2f}",
    }
    for name, value in rows.items():
        table.add_row(name, value)
    return table
