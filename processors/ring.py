"""Ring: counts of the newest blocks of a signal, so that a window of any length is one subtraction.

Everything is kept in the scan's state, under names of its own; an array has a row for each block, the oldest replaced.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from headrace.processors.findings import told
from headrace.processors.references import Reference
from headrace.processors.twosample import Counts

__all__ = ["REACH", "SPANS", "clear", "forget_old", "means", "newest", "push", "references", "start_block"]

SPANS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
"""The windows' lengths in blocks."""
REACH = SPANS[-1] + 1
"""Rows of the ring."""


def clear(state: dict[str, Any], bins: int, reference: Reference) -> None:
    """Forget the windows, not the reference."""
    state["block"], state["ids"], state["fill"], state["blocks"] = [0] * bins, [None] * bins, 0, 0
    state["from"], state["added"], state["total"] = -1, 0.0, 0.0
    state["ring"], state["expected"] = np.zeros((REACH, bins)), None
    state["firsts"], state["sums"] = [-1] * REACH, [0.0] * REACH
    if reference.kind == "same_hour":
        state["expected"] = np.zeros((REACH, bins + 1))


def start_block(state: dict[str, Any]) -> None:
    """The next value begins a block."""
    state["block"], state["fill"], state["from"], state["added"] = [0] * len(state["block"]), 0, -1, 0.0


def push(state: dict[str, Any], known: Counts | None = None) -> None:
    """Put the block into the ring; `known` is what it is compared with, where each block has something of its own."""
    block = np.array(state["block"], dtype=np.float64)
    state["blocks"] += 1
    at, ring = state["blocks"] % REACH, state["ring"]
    before = (state["blocks"] - 1) % REACH
    ring[at] = ring[before] + block
    state["total"] += state["added"]
    state["sums"][at], state["firsts"][at] = state["total"], state["from"]
    if known is not None:
        n = float(block.sum())
        state["expected"][at, :-1] = state["expected"][before, :-1] + known * (n / known.sum())
        state["expected"][at, -1] = state["expected"][before, -1] + n / known.sum()
    start_block(state)


def newest(state: dict[str, Any]) -> tuple[list[int], list[int], Counts]:
    """The windows that end with the newest block: their lengths in blocks, the rows before them, and their counts."""
    blocks, ring = state["blocks"], state["ring"]
    spans = [span for span in SPANS if span <= blocks]
    starts = [(blocks - span) % REACH for span in spans]
    return spans, starts, ring[blocks % REACH] - ring[starts]


def references(state: dict[str, Any], reference: Reference, windows: Counts, starts: list[int]) -> Counts:
    """For each window the counts that it is compared with."""
    at = state["blocks"] % REACH
    if state["expected"] is not None:
        expected = state["expected"]
        shares, weight = expected[at, :-1] - expected[starts, :-1], expected[at, -1] - expected[starts, -1]
        # of as many values as the hours' references had, weighted: never more than the truth
        return np.asarray(shares / weight[:, None])
    if not reference.grows:
        return np.broadcast_to(state["first"], windows.shape)
    whole = state["ring"][at] + state["first"]
    if state["mark"] is not None:
        whole = whole - state["mark"]
    return np.asarray(whole - windows)


def forget_old(state: dict[str, Any], reference: Reference, time_ms: int, least: int) -> None:
    """A reference of the previous period is of one to two periods, and `least` values: two marks move on in turn."""
    if not reference.grows or (reference.period_ms is None and not reference.n):
        return
    at, mark = state["blocks"] % REACH, state["next"]
    n = float(state["ring"][at].sum())
    if mark is None:
        state["next"] = (time_ms, n, None)
        return
    by_time = reference.period_ms is not None
    over = time_ms - mark[0] >= (reference.period_ms or 0) if by_time else n - mark[1] >= reference.n
    if over and n - mark[1] >= least:
        if mark[2] is not None:
            state["mark"] = mark[2]
        state["next"] = (time_ms, n, state["ring"][at] + state["first"])


def means(state: dict[str, Any], reference: Reference, start: int, window: Counts) -> dict[str, float]:
    """The means before and after, where they are of numbers that are there; the window begins at row `start`."""
    total, n = state["total"], float(window.sum())
    newer = total - state["sums"][(start - 1) % REACH]
    out = {"after": told(newer / (n - window[-1]))} if n > window[-1] else {}
    if reference.kind == "same_hour" or state["mark"] is not None:
        return out
    older = state["sum"] + (total - newer if reference.grows else 0.0)
    count = float(state["first"][:-1].sum())
    if reference.grows:
        count += float(state["ring"][state["blocks"] % REACH][:-1].sum() - window[:-1].sum())
    return out | ({"before": told(older / count)} if count else {})
