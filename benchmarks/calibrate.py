"""Thresholds of the two-sample scan, by simulation: writes processors/thresholds.json. Seeded; about five minutes.

    python -m benchmarks.calibrate

Without a change a scan over B blocks crosses its threshold at about one random moment in ARL blocks, so that
P(largest of B blocks <= h) = exp(-B / ARL) (Siegmund & Venkatraman 1995, Annals of Statistics 23; Aldous 1989). h is
therefore that quantile of many largest ones. Even and skewed bins are simulated, small and larger blocks, references
that grow and that are fixed, small ones and large ones of these (all windows share a small one's errors, so that fewer
of them are far from it by themselves); the largest threshold of each is kept.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from headrace.processors.ring import SPANS
from headrace.processors.scan import EVERY_MIN, WARM_UP
from headrace.processors.twosample import STATISTICS, levelled

__all__ = ["BINS", "BUDGETS", "main", "simulate", "thresholds"]

BINS = (2, 3, 5, 8, 11, 16)
BUDGETS = (100, 300, 1_000, 3_000, 10_000, 30_000)
"""Blocks between false alarms."""

TABLE = Path(__file__).parent.parent / "processors" / "thresholds.json"
_LARGE = 20_000  # values of a fixed reference, whose own errors are small beside those of any window
_STREAMS = 200
_BLOCKS = 1_500


def simulate(
    p: Any,
    *,
    grows: bool,
    seed: int,
    every: int = EVERY_MIN,
    fitted: bool = False,
    more: int = 0,
    streams: int = _STREAMS,
) -> dict[str, Any]:
    """The largest statistic over all windows, by statistic: blocks by streams, of stable streams with these shares.

    `fitted`: the bins are quantiles of the reference's beginning, so that its counts are exact. `more` are values that
    a fixed reference has after its beginning.
    """
    rng, bins, blocks = np.random.default_rng(seed), len(p), _BLOCKS
    reach = SPANS[-1] + 1
    ring = np.zeros((reach, streams, bins))
    fixed = rng.multinomial(WARM_UP, p, size=streams).astype(float)
    if fitted:
        fixed, p = np.tile(WARM_UP * np.array(p), (streams, 1)), rng.dirichlet(WARM_UP * np.array(p), size=streams)
    if more:
        fixed = fixed + rng.multinomial(more, p, size=streams)
    total, lengths = np.zeros((streams, bins)), np.array(SPANS, dtype=float)
    found = {name: np.empty((blocks, streams)) for name in STATISTICS}
    for block in range(1, blocks + 1):
        total = total + rng.multinomial(every, p, size=streams)
        ring[block % reach] = total
        spans = [span for span in SPANS if span <= block]
        windows = total - ring[[(block - span) % reach for span in spans]]
        reference = (total - windows if grows else 0) + fixed
        for name, statistic in STATISTICS.items():
            scores = statistic(windows, np.broadcast_to(reference, windows.shape))
            found[name][block - 1] = levelled(name, scores, lengths[: len(spans)]).max(0)
    return found


def thresholds(largest: Any, budgets: tuple[int, ...] = BUDGETS) -> list[float]:
    """The threshold for each budget; beyond what was simulated by a line in log(budget)."""
    blocks, streams = largest.shape
    out = []
    for budget in budgets:
        length = min(blocks, max(1, budget // 2))
        parts = largest[: blocks // length * length].reshape(-1, length, streams).max(1).ravel()
        chance = math.exp(-length / budget)
        if (1 - chance) * len(parts) >= 10:
            out.append(float(np.quantile(parts, chance)))
        else:
            slope = (out[-1] - out[-3]) / math.log(budgets[len(out) - 1] / budgets[len(out) - 3])
            out.append(out[-1] + slope * math.log(budget / budgets[len(out) - 1]))
    return out


def main() -> None:
    """Simulate every kind of reference and number of bins; write the table."""
    table: dict[str, dict[str, dict[str, list[float]]]] = {name: {"grows": {}, "fixed": {}} for name in STATISTICS}
    for bins in BINS:
        shapes = [(1 - rate, rate) for rate in (0.5, 0.2, 0.05)] if bins == 2 else [_even(bins), _skewed(bins)]
        for kind in ("grows", "fixed"):
            grows = kind == "grows"
            runs = []
            for more in (0,) if grows else (0, _LARGE):
                runs += [simulate(p, grows=grows, seed=1000 * bins + i, more=more) for i, p in enumerate(shapes)]
                for n in (16, 64) if bins > 2 else ():
                    runs.append(simulate(shapes[0], grows=grows, seed=7 * bins + n, every=n, fitted=True, more=more))
            for name in STATISTICS:
                each = [thresholds(run[name]) for run in runs]
                table[name][kind][str(bins)] = [round(max(column), 4) for column in zip(*each, strict=True)]
            print(bins, kind, {name: table[name][kind][str(bins)] for name in STATISTICS}, flush=True)
    TABLE.write_text(json.dumps({"budgets": BUDGETS, "thresholds": table}, indent=1) + "\n")


def _even(bins: int) -> list[float]:
    return [1 / bins] * bins


def _skewed(bins: int) -> list[float]:
    shares = [0.7**i for i in range(bins)]
    return [share / sum(shares) for share in shares]


if __name__ == "__main__":
    main()
