"""Thresholds of the scan for a number of blocks between false alarms, from the table that simulation made.

`python -m benchmarks.calibrate` makes the table. Between its entries: linear in the number of bins and in the logarithm
of the blocks, as the tail of the largest statistic is close to exponential; beyond its ends the outer lines go on.
"""

from __future__ import annotations

import functools
import json
import math
from bisect import bisect_right
from pathlib import Path
from typing import Any

__all__ = ["threshold"]


@functools.lru_cache(maxsize=1024)
def threshold(statistic: str, grows: bool, bins: int, blocks: float) -> float:
    """What the largest statistic over all windows exceeds once in so many blocks, if nothing changes."""
    table = _table()
    columns = table["thresholds"][statistic]["grows" if grows else "fixed"]
    budgets = [math.log(budget) for budget in table["budgets"]]
    sizes = [int(size) for size in columns]
    values = [_line(budgets, columns[str(size)], math.log(blocks)) for size in sizes]
    return _line([float(size) for size in sizes], values, float(max(bins, sizes[0])))


def _line(at: list[float], values: list[float], x: float) -> float:
    i = min(max(bisect_right(at, x), 1), len(at) - 1)
    return values[i - 1] + (values[i] - values[i - 1]) * (x - at[i - 1]) / (at[i] - at[i - 1])


@functools.cache
def _table() -> dict[str, Any]:
    read: dict[str, Any] = json.loads(Path(__file__).with_name("thresholds.json").read_text())
    return read
