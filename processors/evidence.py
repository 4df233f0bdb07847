"""Evidence that one loss is larger than another, which may be looked at after every example: an e-process.

Of differences d in [-1, 1], seen one after the other, two sums suffice: of d, and of its squares. For every rate r in
(0, 1), ``exp(r * sum(d) - psi(r) * sum(d**2))`` with ``psi(r) = -log(1 - r) - r`` is at most a nonnegative
supermartingale that starts at 1, as long as the mean of the differences' conditional expectations (each given all that
was known before it) has never been above 0 (Fan, Grama & Liu 2015, inequality 4.12; Howard, Ramdas, McAuliffe & Sekhon
2021, "Time-uniform, nonparametric, nonasymptotic confidence sequences"; used to compare forecasters by Choe & Ramdas
2023, "Comparing sequential forecasters"). A mean over several rates is one, too: no rate has to be chosen.

**Ville's inequality** then says what is guaranteed: the chance that such a process *ever* reaches 1/alpha is at most
alpha, however often one looks and whenever one stops. Nothing else is assumed: no distribution, no independence, no
constant quality of either model. (Rates that follow the data, as in Waudby-Smith & Ramdas 2023, "Estimating means of
bounded random variables by betting", need fewer examples, but guard only against a difference whose expectation is
never above 0 at any single example; models take turns at being ahead, so the fixed rates are the ones wanted.)
"""

from __future__ import annotations

import math
from collections.abc import Sequence

__all__ = ["BATCHES", "FEWEST_BATCHES", "PSI", "RATES", "at_least", "batched", "log_e", "spread"]

RATES = tuple(0.95 * 0.5**k for k in range(10))
"""From large differences (few examples needed) to a few thousandths of the range."""
PSI = tuple(-math.log1p(-rate) - rate for rate in RATES)
BATCHES = 32
"""Batch sums that are kept: when there are as many, neighbours are added up."""
FEWEST_BATCHES = 8

_BISECTIONS = 40


def log_e(total: float, squares: float) -> float:
    """The logarithm of the e-process at these sums of differences and of their squares.

    >>> round(log_e(0.0, 4.0), 3), log_e(30.0, 40.0) > math.log(1 / 0.05)
    (-0.54, True)
    """
    logs = [rate * total - psi * squares for rate, psi in zip(RATES, PSI, strict=True)]
    largest = max(logs)
    return largest + math.log(sum([math.exp(log - largest) for log in logs]) / len(logs))


def at_least(n: int, total: float, squares: float, log_threshold: float) -> float:
    """The lower end of the confidence sequence of the mean difference: what was not rejected at this threshold.

    Of differences d - m, which are at least -(1 + m), the same process tests whether the mean is at most m.
    """
    low, high = -1.0, 1.0
    if not n:
        return low
    for _ in range(_BISECTIONS):
        m = (low + high) / 2.0
        reach = 1.0 + m
        moved = (squares - 2.0 * m * total + n * m * m) / (reach * reach)
        if log_e((total - n * m) / reach, max(moved, 0.0)) >= log_threshold:
            low = m
        else:
            high = m
    return low


def batched(batches: list[float], length: int, total: float) -> int:
    """Note the sum of another batch of `length` examples, in place; return the length of the batches from now on."""
    batches.append(total)
    if len(batches) < BATCHES:
        return length
    batches[:] = [a + b for a, b in zip(batches[::2], batches[1::2], strict=True)]
    return 2 * length


def spread(batches: Sequence[float], length: int, n: int, total: float, squares: float) -> float:
    """How many times as much batch sums vary as they would, were the differences independent; at least 1.

    Infinite while there are too few batches. To multiply the squares with it can only make the e-process smaller, so
    that Ville's inequality holds as before; and where whole stretches of examples favour one model or the other (bad
    weather, a bank holiday), such a stretch does not count as if its examples were independent. The method of batch
    means (Glynn & Whitt 1991; Flegal & Jones 2010), with batches that grow with the number of examples.
    """
    k = len(batches)
    if k < FEWEST_BATCHES:
        return math.inf
    mean = sum(batches) / k
    between = sum([(batch - mean) ** 2 for batch in batches]) / (k - 1) / length
    within = squares / n - (total / n) ** 2
    return max(1.0, between / within) if within > 0.0 else 1.0
