"""The gate's statistics by simulation: false promotions of equal models, and how soon a better one is found.

Each shape is a thousand streams of losses of a champion and a challenger. The paired test of `processors/compare.py` is
watched after every single event (the gate itself looks only now and then, so it does no worse), with its rules for
batches and new starts, vectorised over the streams; `tests/benchmarks/test_gate.py` holds it to the gate's own figures.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from headrace import Gate
from headrace.processors.evidence import BATCHES, FEWEST_BATCHES, RATES, TERMS

__all__ = ["ASSUMED", "DIFFERENT", "OUTSIDE", "Watched", "promoted", "run"]

Array = Any
Shape = Callable[[np.random.Generator, int], Callable[[int, int], tuple[Array, Array]]]
"""Of a source of chance and a number of streams: what gives the losses, champion's and challenger's, of the next."""

_TERMS = np.array(TERMS) * np.array([1, -1, 1, -1])
_REACH = 4 * (0.5 - RATES[0] / 3)


class Watched:
    """The comparison of a challenger with a champion in many streams at once.

    Parameters
    ----------
    gate
        Of its rules `alpha`, `minimum`, `every` and `renew`; one challenger, so that half of alpha is its share.
    streams
        How many.
    """

    def __init__(self, gate: Gate, streams: int) -> None:
        self.gate = gate
        self.n, self.start = np.zeros(streams, int), np.ones(streams, int)
        self.sums = np.zeros((streams, 4))
        self.batches = np.zeros((streams, BATCHES))
        self.count, self.length = np.zeros(streams, int), np.full(streams, gate.batch)
        self.open_n, self.open_total = np.zeros(streams, int), np.zeros(streams)
        self.spread = np.full(streams, np.inf)

    def watch(self, theirs: Array, mine: Array, looked: Array | bool = True) -> Array:
        """Take `gate.batch` events; whether the test, looked at after each of them, passes at each (streams, events).

        Only streams that are `looked` at can pass: others have, and nobody asks again.
        """
        d = theirs - mine
        steps = d[:, :, None] ** np.arange(1, 5)
        steps[:, 0] += self.sums
        sums = np.cumsum(steps, axis=1)
        ns = self.n[:, None] + np.arange(1, d.shape[1] + 1)
        asked = (ns >= self.gate.minimum) & np.reshape(looked, (-1, 1))
        rows, columns = np.nonzero(asked & self._possible(sums))
        passed = np.zeros(d.shape, bool)
        logs = _log_e(sums[rows, columns], self.spread[rows])
        passed[rows, columns] = logs >= self.threshold[rows]
        self.sums, self.n = sums[:, -1], ns[:, -1]
        self._close()
        return passed

    @property
    def threshold(self) -> Array:
        """What the logarithm of the e-process has to reach."""
        return np.log(self.start * (self.start + 1) / (self.gate.alpha / 2))

    def log_e(self) -> Array:
        """The logarithm of the e-process now."""
        return _log_e(self.sums, self.spread)

    def renew(self) -> None:
        """Start those anew that are not ahead after so many events; to be called where nothing has passed."""
        again = (self.n >= self.gate.renew) & (self.sums[:, 0] <= 0)
        self.start[again] += 1
        self.length[again], self.spread[again] = self.gate.batch, np.inf
        for array in (self.n, self.sums, self.count, self.open_n, self.open_total):
            array[again] = 0

    def _possible(self, sums: Array) -> Array:
        """Where the process can have reached its threshold: of |d| <= 1 two bounds, cheaper than the process itself."""
        one, two, threshold = sums[:, :, 0], sums[:, :, 1], self.threshold[:, None]
        known = np.isfinite(self.spread)[:, None]
        return known & (one >= threshold) & (one * one >= _REACH * threshold * two)

    def _close(self) -> None:
        """Close batches, merge neighbours, and estimate the spread, as `batched` and `spread` do for one stream."""
        full = np.nonzero(self.n - self.open_n >= self.length)[0]
        self.batches[full, self.count[full]] = self.sums[full, 0] - self.open_total[full]
        self.count[full] += 1
        self.open_n[full], self.open_total[full] = self.n[full], self.sums[full, 0]
        merge = np.nonzero(self.count == BATCHES)[0]
        self.batches[merge, : BATCHES // 2] = self.batches[merge, ::2] + self.batches[merge, 1::2]
        self.count[merge], self.length[merge] = BATCHES // 2, self.length[merge] * 2
        there = np.arange(BATCHES) < self.count[:, None]
        counted = np.maximum(self.count, 2)
        mean = (self.batches * there).sum(axis=1) / counted
        between = (((self.batches - mean[:, None]) ** 2) * there).sum(axis=1) / (counted - 1) / self.length
        within = self.sums[:, 1] / self.n - (self.sums[:, 0] / self.n) ** 2
        wide = np.maximum(1.0, np.divide(between, within, out=np.ones_like(within), where=within > 0))
        self.spread = np.where(self.count < FEWEST_BATCHES, np.inf, wide)


def _log_e(sums: Array, wide: Array) -> Array:
    """`evidence.log_e` of many sums, along the first axis; minus infinity where the spread is not known."""
    known = np.isfinite(wide)
    widened = np.column_stack([sums[:, 0], sums[:, 1] * np.where(known, wide, 1.0), sums[:, 2:]])
    logs = widened @ _TERMS.T
    largest = logs.max(axis=1, initial=-np.inf)
    return np.where(known, largest + np.log(np.exp(logs - largest[:, None]).mean(axis=1)), -np.inf)


def promoted(shape: Shape, gate: Gate, streams: int, events: int, seed: int) -> tuple[Array, float]:
    """After how many events each stream's challenger passes (0: never), and the mean difference in loss."""
    chance = np.random.default_rng(seed)
    losses, watched = shape(chance, streams), Watched(gate, streams)
    when = np.zeros(streams, int)
    differences = []
    for start in range(0, events, gate.every):
        theirs, mine = losses(start, gate.every)
        differences.append(float((theirs - mine).mean()))
        parts = [slice(at, at + gate.batch) for at in range(0, gate.every, gate.batch)]
        passed = np.hstack([watched.watch(theirs[:, part], mine[:, part], when == 0) for part in parts])
        new = passed.any(axis=1) & (when == 0)
        when[new] = start + passed[new].argmax(axis=1) + 1
        if when.all():
            break
        watched.renew()
    return when, float(np.mean(differences))


# -- shapes ------------------------------------------------------------------------------------------------------------


def forecasts(first: float, second: float, shared: float = 0.0, drift: float = 0.0) -> Shape:
    """Brier losses of two classifiers, which see the truth's log odds with noise of these sizes.

    `shared` of the noise's variance is common to both; with `drift` the world becomes harder and easier again.
    """

    def shape(chance: np.random.Generator, streams: int) -> Callable[[int, int], tuple[Array, Array]]:
        def losses(start: int, count: int) -> tuple[Array, Array]:
            size = (streams, count)
            odds = chance.normal(0, 1.5, size)
            if drift:
                odds *= 1 + drift * np.sin(np.arange(start, start + count) / 1_500)
            y = chance.random(size) < _logistic(odds)
            common = chance.normal(0, 1, size) * shared**0.5
            theirs, mine = (
                (_logistic(odds + noise * (common + chance.normal(0, 1, size) * (1 - shared) ** 0.5)) - y) ** 2
                for noise in (first, second)
            )
            return theirs, mine

        return losses

    return shape


def rare(chance: np.random.Generator, streams: int) -> Callable[[int, int], tuple[Array, Array]]:
    """0/1 losses of two models that disagree on one event in fifty."""

    def losses(start: int, count: int) -> tuple[Array, Array]:
        drawn = chance.random((streams, count))
        return (drawn < 0.01).astype(float), ((drawn >= 0.01) & (drawn < 0.02)).astype(float)

    return losses


def skewed(chance: np.random.Generator, streams: int) -> Callable[[int, int], tuple[Array, Array]]:
    """The challenger is a little better 95 times of 100, and much worse 5 times, so that they are equal."""

    def losses(start: int, count: int) -> tuple[Array, Array]:
        much = chance.random((streams, count)) < 0.05
        return np.where(much, 0.0, 0.05), np.where(much, 0.95, 0.0)

    return losses


def turns(chance: np.random.Generator, streams: int) -> Callable[[int, int], tuple[Array, Array]]:
    """The challenger is worse for 500 events, then as much better for 500, again and again: never better so far."""

    def losses(start: int, count: int) -> tuple[Array, Array]:
        lead = np.where(np.arange(start, start + count) // 500 % 2, 0.02, -0.02)
        d = np.clip(chance.normal(0, 0.1, (streams, count)) + lead, -1, 1)
        return 0.5 + d / 2, 0.5 - d / 2

    return losses


def lasting(memory: float) -> Shape:
    """Differences that last: first-order autoregression with this coefficient, of mean 0."""

    def shape(chance: np.random.Generator, streams: int) -> Callable[[int, int], tuple[Array, Array]]:
        scale = 0.15 * (1 - memory**2) ** 0.5
        last = chance.normal(0, 0.15, streams)

        def losses(start: int, count: int) -> tuple[Array, Array]:
            nonlocal last
            d = np.empty((streams, count))
            for i in range(count):
                last = memory * last + chance.normal(0, scale, streams)
                d[:, i] = last
            d = np.clip(d, -1, 1)
            return 0.5 + d / 2, 0.5 - d / 2

        return losses

    return shape


def _logistic(odds: Array) -> Array:
    return 1 / (1 + np.exp(-odds))


ASSUMED: dict[str, Shape] = {
    "equal": forecasts(0.5, 0.5),
    "equal, nine tenths of the noise shared": forecasts(0.5, 0.5, shared=0.9),
    "equal, the world gets harder and easier": forecasts(0.5, 0.5, drift=0.8),
    "disagree once in fifty": rare,
    "often a little better, seldom much worse": skewed,
    "in turns worse and better": turns,
}
"""Where Ville's inequality holds as it stands."""

OUTSIDE: dict[str, Shape] = {
    "differences last (0.5)": lasting(0.5),
    "differences last (0.9)": lasting(0.9),
    "differences last (0.99)": lasting(0.99),
}
"""Equal in the long run, but for stretches one of them really is better: only the batches speak against that."""

DIFFERENT: dict[str, Shape] = {
    "noise 0.5 against 0.45": forecasts(0.5, 0.45),
    "noise 0.5 against 0.4": forecasts(0.5, 0.4),
    "noise 0.5 against 0.3": forecasts(0.5, 0.3),
    "noise 0.5 against 0.4, nine tenths shared": forecasts(0.5, 0.4, shared=0.9),
    "noise 1.0 against 0.5": forecasts(1.0, 0.5),
}


def run(
    say: Callable[[str], None] = print,
    streams: int = 1_000,
    events: int = 20_000,
    alpha: float = 0.05,
    minimum: int = 500,
    seed: int = 1,
) -> dict[str, Any]:
    """Every shape; the share of false promotions, and the median events to a right one."""
    gate = Gate(alpha=alpha, minimum=minimum)
    found: dict[str, Any] = {
        "streams": streams,
        "events": events,
        "alpha": alpha,
        "minimum": minimum,
        "seed": seed,
        "looks": "after every event",
        "no_difference": {},
        "lasting_differences": {},
        "difference": {},
    }
    for part, shapes in (("no_difference", ASSUMED), ("lasting_differences", OUTSIDE), ("difference", DIFFERENT)):
        for rank, (name, shape) in enumerate(shapes.items()):
            began = time.monotonic()
            when, lead = promoted(shape, gate, streams, events, seed * 1_000 + rank)
            share = float((when > 0).mean())
            row: dict[str, Any] = {"promoted": int((when > 0).sum()), "share": share, "mean_difference": lead}
            if part == "difference":
                sorted_ = np.sort(np.where(when > 0, when, events + 1))
                median = int(sorted_[(streams - 1) // 2])
                row["median_events"] = median if median <= events else None
            found[part][name] = row | {"took_s": round(time.monotonic() - began, 1)}
            median_said = f", median {row.get('median_events')} events" if part == "difference" else ""
            say(f"{part}: {name}: {row['promoted']} of {streams} promoted, lead {lead:+.5f}{median_said}")
    found["false_promotions_at_most_alpha"] = all(row["share"] <= alpha for row in found["no_difference"].values())
    return found
