"""Parameters of River's detectors by their budget of false alarms: writes processors/calibrated.json. Seeded.

    python -m benchmarks.calibrate_detectors

A detector runs over stable streams of each kind of signal, at one value of its parameter after the other, from where it
is loud to where it is all but silent. Its false alarms by the parameter are a line in logarithms, nearly; where that
line meets a budget is the parameter for it. Of all streams of a kind of signal (base rates, shapes) the most cautious
value is kept. Budgets that are longer than what was simulated are on the last part of the line; those that are shorter
than a detector at its loudest get that (ADWIN's delta is below 1, at which it is rather quiet).

What no value of the parameter keeps quiet is left out. ADWIN and PageHinkley take values to be between 0 and 1: of
numbers with heavy tails single ones are a change to them (in 3,000,000 values of a t distribution with 3 degrees of
freedom ADWIN raises 14 alarms even at delta=1.5e-18), and their sensitivity goes by the unit. DDM raises 6 in 200,000
errors of rate 0.02 at thresholds of 5 and of 20 alike, where the first 30 values happen to have no error.

KSWIN tests at every event, which is slow; what it tests does not depend on how numbers are distributed, and its
statistic has 31 values. So that is simulated for many streams at once, and counted as KSWIN would alarm: after an alarm
it is silent until its window of 100 is full again.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from river import drift
from scipy import stats

__all__ = ["BUDGETS", "SIGNALS", "main", "solve"]

BUDGETS = (1_000, 3_000, 10_000, 30_000, 100_000, 300_000, 1_000_000)
TABLE = Path(__file__).parent.parent / "processors" / "calibrated.json"
SEED = 1
_LENGTH = 30_000
_FEWEST = 10
"""Alarms below which a rate is not told."""
_NEAR = 5
"""Rates that the line of a budget goes through."""
_KSWIN_STREAMS, _KSWIN_EVENTS, _KSWIN_WINDOW, _KSWIN_NEWEST = 250, 12_000, 100, 30

Draw = Callable[[Any, int], Any]
SIGNALS: dict[str, dict[str, Draw]] = {
    "bits": {
        f"rate {p}": lambda rng, n, p=p: (rng.random(n) < p).astype(float)
        for p in (0.01, 0.03, 0.1, 0.3, 0.5, 0.7, 0.9, 0.97)
    },
    "probabilities": {
        f"beta {a} {b}": lambda rng, n, a=a, b=b: rng.beta(a, b, n) for a, b in ((1, 1), (0.3, 0.3), (2, 8), (20, 20))
    },
}
"""Stable signals by kind, and how to draw so many values of them."""

_DETECTORS: dict[str, tuple[Callable[[float], Any], tuple[float, float], int, tuple[str, ...]]] = {
    "ADWIN": (lambda v: drift.ADWIN(delta=math.exp(v)), (-0.05, -0.5), 60, ("bits", "probabilities")),
    "PageHinkley": (lambda v: drift.PageHinkley(threshold=v), (6.0, 8.0), 20, ("bits", "probabilities")),
    "FHDDM": (lambda v: drift.binary.FHDDM(confidence_level=math.exp(v)), (-2.0, -1.5), 40, ("bits",)),
    "HDDMA": (lambda v: drift.binary.HDDMA(drift_confidence=math.exp(v)), (-2.0, -1.5), 16, ("bits",)),
    "HDDMW": (lambda v: drift.binary.HDDMW(drift_confidence=math.exp(v)), (-4.0, -2.0), 16, ("bits",)),
}
"""Name → how to make it of a number, where to begin with it and in which steps, on how many streams, of what."""


def main() -> None:
    """Find the parameters of every detector for every kind of signal; write the table."""
    table: dict[str, dict[str, list[float]]] = {}
    for name, (make, walk, streams, signals) in _DETECTORS.items():
        table[name] = {}
        found: list[list[float]] = []
        for signal in signals:  # probabilities may be as sure as bits, which are first
            rates = [_rates(name, make, walk, streams, draw) for draw in SIGNALS[signal].values()]
            found += [solve(each) for each in rates if len(each) > 1]  # with fewer it is all but silent
            quiet = min if walk[1] < 0 else max
            cautious = [quiet(column) for column in zip(*found, strict=True)]
            spoken = cautious if name == "PageHinkley" else [math.exp(v) for v in cautious]
            table[name][signal] = [float(f"{v:.4g}") for v in spoken]
            print(name, signal, table[name][signal], flush=True)
    numbers = [float(f"{math.exp(v):.4g}") for v in solve(_kswin_rates())]
    table["KSWIN"] = {"numbers": numbers, "probabilities": numbers}
    print("KSWIN", numbers)
    TABLE.write_text(json.dumps({"budgets": BUDGETS, "parameters": table}, indent=1) + "\n")


def solve(rates: list[tuple[float, int, int]]) -> list[float]:
    """The parameter for each budget, of (parameter, alarms, events): by a line through the rates next to the budget."""
    at = np.array([each[0] for each in rates])
    log = np.array([math.log(events / alarms) for _, alarms, events in rates])
    sure = np.sqrt(np.array([each[1] for each in rates], dtype=float))
    found = []
    for budget in BUDGETS:
        near = np.argsort(np.abs(log - math.log(budget)), kind="stable")[:_NEAR]
        slope, start = np.polyfit(at[near], log[near], 1, w=sure[near])
        met = float((math.log(budget) - start) / slope)
        found.append(min(met, at[0]) if at[1] < at[0] else max(met, at[0]))
    return found


def _rates(
    name: str, make: Callable[[float], Any], walk: tuple[float, float], count: int, draw: Draw
) -> list[tuple[float, int, int]]:
    """The alarms by the parameter on one kind of stream: from loud to quiet."""
    rng = np.random.default_rng(SEED)
    streams = [draw(rng, _LENGTH) for _ in range(count)]
    values = [(1.0 - stream if name == "FHDDM" else stream).tolist() for stream in streams]
    rates: list[tuple[float, int, int]] = []
    at, step = walk
    while True:
        alarms = sum(_alarms(make(at), stream) for stream in values)
        if alarms < _FEWEST:
            break
        rates.append((at, alarms, _LENGTH * count))
        at += step
    print(" ", name, [(round(v, 2), alarms) for v, alarms, _ in rates], file=sys.stderr, flush=True)
    return rates


def _alarms(detector: Any, values: list[float]) -> int:
    found = 0
    for value in values:
        detector.update(value)
        if detector.drift_detected:
            found += 1
    return found


def _kswin_rates() -> list[tuple[float, int, int]]:
    """KSWIN's alarms by the logarithm of its p-value."""
    rng = np.random.default_rng(SEED)
    width, newest = _KSWIN_WINDOW, _KSWIN_NEWEST
    values = rng.random((_KSWIN_STREAMS, _KSWIN_EVENTS + width))
    signs = np.repeat([1, -1], newest)
    largest = np.empty((_KSWIN_EVENTS, _KSWIN_STREAMS), dtype=np.int8)
    for event in range(_KSWIN_EVENTS):
        window = values[:, event : event + width]
        older = rng.permuted(window[:, : width - newest], axis=1)[:, :newest]
        order = np.argsort(np.concatenate([older, window[:, width - newest :]], axis=1), axis=1)
        largest[event] = np.abs(np.cumsum(signs[order], axis=1)).max(1)
    rates = []
    for apart in range(newest // 3, newest):
        alarms = sum(_apart(np.flatnonzero(column >= apart), width) for column in largest.T)
        if alarms < _FEWEST:
            break
        log_p = math.log(stats.ks_2samp(np.arange(newest), np.arange(newest) + apart, method="exact").pvalue)
        rates.append((log_p, alarms, largest.size))
    print("  KSWIN", [(round(v, 2), alarms) for v, alarms, _ in rates], file=sys.stderr, flush=True)
    return rates


def _apart(places: Any, least: int) -> int:
    """How many of these places are alarms, if after one there is none for so many events."""
    count, quiet_until = 0, -1
    for place in places:
        if place >= quiet_until:
            count, quiet_until = count + 1, int(place) + least
    return count


if __name__ == "__main__":
    main()
