"""Scan: is the newest stretch of a signal, of whatever length, distributed as its reference was?

Values are counted in bins, block after block. After each block windows of 1 to 64 blocks are compared with the
reference, and the largest statistic with a threshold that is calibrated to a number of events between false alarms.
Scanning all lengths is what makes both a sudden large and a slow small change be found about as soon as a detector
tuned to it would (Lai 1995, J. Royal Statistical Society B 57; Siegmund & Venkatraman 1995, Annals of Statistics 23).

What is kept is bounded: a sample of 200 values until the bins are fitted, then counts for 65 blocks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from headrace.processors import bins, hours, ring
from headrace.processors.findings import Finding, Row, told
from headrace.processors.references import Reference, previous
from headrace.processors.ring import REACH, SPANS
from headrace.processors.thresholds import threshold
from headrace.processors.twosample import STATISTICS, Counts, distance, levelled

__all__ = ["EVERY_MIN", "WARM_UP", "Scan"]

EVERY_MIN = 16
WARM_UP = 200
"""Values to which the bins are fitted, and the least that a reference has."""

_LENGTHS = np.array(SPANS, dtype=np.float64)
_EXAMPLES = 3
_NAMES = {"js": "Jensen-Shannon divergence", "psi": "population stability index", "ks": "Kolmogorov-Smirnov distance"}
_LEAST = 50  # values that are never in a window
_FLUKES = 1.6  # a reference that begins with a false alarm makes a second one more likely: measured, on bits


class Scan:
    """Compares the newest values with a reference.

    Parameters
    ----------
    statistic
        "js", "psi" or "ks" (see `twosample`); "ks" is for numbers.
    every
        Values in a block, at least 16: how often is tested, and the shortest window.
    false_alarms_every
        Expected number of values between false alarms while nothing changes and values are independent.
    reference
        `previous`, `fixed` or `same_hour` (see `references`).
    size
        Bins that are fitted.
    only_up
        Whether only changes by which numbers become larger on the whole are looked for; found sooner, as the
        false alarms are spent on them alone.

    The state is an object of plain values and numpy arrays.
    """

    def __init__(
        self,
        statistic: str = "js",
        *,
        false_alarms_every: int,
        every: int = 32,
        reference: Reference | None = None,
        size: int = 10,
        only_up: bool = False,
    ) -> None:
        if statistic not in STATISTICS:
            raise ValueError(f"statistic must be one of {', '.join(STATISTICS)}; got {statistic!r}")
        if type(every) is not int or every < EVERY_MIN:
            raise ValueError(f"every must be a whole number, at least {EVERY_MIN}; got {every!r}")
        if type(false_alarms_every) is not int or false_alarms_every < 100 * every:
            raise ValueError(
                f"false_alarms_every must be a whole number, at least 100 times every ({100 * every}); "
                f"got {false_alarms_every!r}"
            )
        if type(size) is not int or not 2 <= size <= 15:
            raise ValueError(f"size must be a whole number from 2 to 15; got {size!r}")
        self.statistic = statistic
        self.every = every
        self.false_alarms_every = false_alarms_every
        self.reference = reference or previous()
        self.size = size
        self.only_up = only_up

    def __repr__(self) -> str:
        return (
            f"Scan({self.statistic!r}, every={self.every}, false_alarms_every={self.false_alarms_every}, "
            f"reference={self.reference}{', only_up=True' if self.only_up else ''})"
        )

    def fresh(self) -> dict[str, Any]:
        """The state before the first value."""
        return {"bins": None, "sample": [], "slots": {}, "slot": None, "now": None}

    def run(self, rows: Sequence[Row], state: dict[str, Any]) -> list[tuple[int, Finding]]:
        """Take in values, in order; answers what was found, each with the place of the row that showed it."""
        found: list[tuple[int, Finding]] = []
        at, end = 0, len(rows)
        while at < end:
            if state["bins"] is None:
                at = self._sample(rows, at, state)
                continue
            if self.reference.kind == "same_hour":
                stop = hours.begin(rows, at, state, self.reference.n)
            elif state["learning"]:
                at = self._learn(rows, at, state)
                continue
            else:
                stop = end
            take = min(stop - at, self.every - state["fill"])
            self._count(rows[at : at + take], state)
            at += take
            if state["fill"] >= self.every:
                finding = self._close(rows[at - 1], state)
                if finding is not None:
                    found.append((at - 1, finding))
                    self._restart(finding, state)
        return found

    # -- counting ------------------------------------------------------------------------------------------------

    def _sample(self, rows: Sequence[Row], at: int, state: dict[str, Any]) -> int:
        """Collect the values that the bins are fitted to; answers the place after the last of them."""
        sample = state["sample"]
        for i in range(at, len(rows)):
            if self.reference.start_ms is not None and rows[i][1] < self.reference.start_ms:
                continue
            sample.append(tuple(rows[i]))
            if len(sample) >= WARM_UP:
                self._fit(rows[i], state)
                return i + 1
        return len(rows)

    def _fit(self, row: Row, state: dict[str, Any]) -> None:
        sample, state["sample"] = state["sample"], []
        binned = bins.fit([each[0] for each in sample], self.size)
        count = bins.size(binned)
        first = [0] * count
        place, numeric = bins.reader(binned), binned[0] == "numbers"
        base = self._base()
        for each in sample[:base]:
            first[place(each[0])] += 1
        state["bins"] = binned
        state["sum"] = 0.0
        for value, *_ in sample[:base] if numeric else ():  # not sum(): it compensates from Python 3.12 on
            state["sum"] += _number(value)
        state["first"] = np.array(first, dtype=np.float64)
        state["learning"] = self.reference.kind == "fixed" and not self._learned(WARM_UP, row[1])
        ring.clear(state, count, self.reference)
        state["mark"] = state["next"] = None
        if self.reference.kind == "same_hour":
            hours.clear(state, count)
        for start in range(base, WARM_UP, self.every) if self.reference.grows else ():
            self._count(sample[start : start + self.every], state)
            if state["fill"] >= self.every:
                ring.push(state)

    def _base(self) -> int:
        """How much of the sample is reference for good; the rest is blocks, so that a change within it can be seen."""
        return WARM_UP if not self.reference.grows else WARM_UP - (WARM_UP - _LEAST) // self.every * self.every

    def _learned(self, n: int, time_ms: int) -> bool:
        reference = self.reference
        return n >= reference.n if reference.end_ms is None else time_ms >= reference.end_ms

    def _learn(self, rows: Sequence[Row], at: int, state: dict[str, Any]) -> int:
        """Add to a fixed reference until it is whole."""
        first, place = state["first"], bins.reader(state["bins"])
        n = int(first.sum())
        for i in range(at, len(rows)):
            if self._learned(n, rows[i][1]):
                state["learning"] = False
                return i
            value = rows[i][0]
            first[place(value)] += 1
            if state["bins"][0] == "numbers":
                state["sum"] += _number(value)
            n += 1
        return len(rows)

    def _count(self, rows: Sequence[Row], state: dict[str, Any]) -> None:
        block, ids, place = state["block"], state["ids"], bins.reader(state["bins"])
        if state["from"] < 0:
            state["from"] = rows[0][3]
        for value, _, _, _, event_id in rows:
            i = place(value)
            block[i] += 1
            ids[i] = event_id
        if state["bins"][0] == "numbers":
            added = state["added"]
            for value, *_ in rows:
                added += _number(value)
            state["added"] = added
        state["fill"] += len(rows)

    # -- testing -------------------------------------------------------------------------------------------------

    def _close(self, row: Row, state: dict[str, Any]) -> Finding | None:
        """Put a full block into the windows, and test them."""
        known = None
        if self.reference.kind == "same_hour":
            known = hours.known(state)
            if known is None:
                ring.start_block(state)
                return None
        ring.push(state, known)
        return self._test(row, state)

    def _test(self, row: Row, state: dict[str, Any]) -> Finding | None:
        spans, starts, windows = ring.newest(state)
        references = ring.references(state, self.reference, windows, starts)
        scores = levelled(self.statistic, STATISTICS[self.statistic](windows, references), _LENGTHS[: len(spans)])
        # a sample of a few minutes is no reference for a block of a week
        scores = np.where((references.sum(-1) >= self.every) | (self.reference.kind == "same_hour"), scores, 0.0)
        if self.only_up and state["bins"][0] == "numbers":
            rank = np.arange(windows.shape[1])
            scores = np.where(
                (windows @ rank) * references.sum(-1) > (references @ rank) * windows.sum(-1), scores, 0.0
            )
        best = int(scores.argmax())
        used = int(((references[best] > 0) | (windows[best] > 0)).sum())
        budget = self.false_alarms_every / self.every / (2 if self.only_up else 1)
        if self.reference.grows and len(state["bins"][1]) == 1:
            budget *= _FLUKES
        limit = threshold(self.statistic, self.reference.grows, used, budget)
        score = float(scores[best])
        if score < limit:
            # the reference must stay larger than the longest window
            ring.forget_old(state, self.reference, row[1], max(WARM_UP, 2 * SPANS[-1] * self.every))
            return None
        start = (state["blocks"] - spans[best] + 1) % REACH
        return self._finding(row, state, start, score, limit, windows[best], references[best])

    def _finding(
        self, row: Row, state: dict[str, Any], start: int, score: float, limit: float, window: Counts, reference: Counts
    ) -> Finding:
        n, m = float(window.sum()), float(reference.sum())
        after, before = window / n, reference / m
        moved = after - before
        statistic = {
            "distance": told(distance(self.statistic, window, reference)),
            "score": told(score),
            "threshold": told(limit),
        }
        if state["bins"][0] == "numbers":
            statistic |= ring.means(state, self.reference, start, window)
        most = int(moved.argmax())
        ranked = sorted(range(len(moved)), key=lambda i: (-moved[i], i))
        ids = tuple(state["ids"][i] for i in ranked if moved[i] > 0 and state["ids"][i] is not None)[:_EXAMPLES]
        said = (
            f"{_NAMES[self.statistic]} {statistic['distance']:.3g} over the last {int(n)} values; "
            f"{bins.named(state['bins'], most)} went from {before[most]:.1%} to {after[most]:.1%}"
        )
        first = state["firsts"][start]
        statistic = {name: value for name, value in statistic.items() if math.isfinite(value)}
        return Finding(row[1], row[2], first, row[3], int(n), told(score / limit), statistic, ids, said)

    def _restart(self, finding: Finding, state: dict[str, Any]) -> None:
        """After a finding: a reference that grows starts anew, any other stays; windows start anew.

        Where a few values are all there is, bins need not be fitted again, and the new reference is what was found.
        """
        if not self.reference.grows:
            ring.clear(state, bins.size(state["bins"]), self.reference)
            return
        if len(state["bins"][1]) > 1 or finding.n < _LEAST:
            state["bins"], state["sample"] = None, []
            return
        at = state["blocks"] % REACH
        start = (state["blocks"] - finding.n // self.every) % REACH
        state["first"] = state["ring"][at] - state["ring"][start]
        state["sum"] = state["total"] - state["sums"][start]
        state["mark"] = state["next"] = None
        ring.clear(state, bins.size(state["bins"]), self.reference)


def _number(value: Any) -> float:
    """What a value adds to a sum: nothing where it is no number."""
    return value if isinstance(value, float | int) and value == value else 0.0
