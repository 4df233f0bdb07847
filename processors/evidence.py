"""Evidence that one loss is larger than another, which may be looked at after every example: an e-process.

Of differences d in [-1, 1], seen one after the other, a gambler who stakes the same share r of his fortune each time on
the next being positive has the fortune ``prod(1 + r * d)``. As long as the mean of the differences' conditional
expectations e (each given all that was known before it) has never been above 0, that is at most a nonnegative
martingale that starts at 1, because ``prod(1 + r * e) <= exp(r * sum(e)) <= 1``; so is what is smaller, and a mean
over several shares: none has to be chosen. **Ville's inequality** (1939) then says what is guaranteed: the chance that
such a process *ever* reaches 1/alpha is at most alpha, however often one looks and whenever one stops. Nothing else is
assumed: no distribution, no independence, no constant quality of either model.

References: Waudby-Smith & Ramdas 2023, "Estimating means of bounded random variables by betting"; Choe & Ramdas 2023,
"Comparing sequential forecasters", whose null this is: not better *on average so far*. Shares that follow the data
would need fewer examples, but guard only against a difference whose expectation is never above 0 at any single
example; models take turns at being ahead, so it is fixed shares that are wanted.

Four sums of powers of the differences are all that is kept. The logarithm is expanded to the third power, and the rest
bounded by the fourth: ``log(1 + x) >= x - x²/2 + x³/3 - k(r) x⁴`` for x >= -r, as Fan, Grama & Liu 2015 (inequality
4.12) have it with two terms less. That can only make the process smaller.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

__all__ = ["BATCHES", "FEWEST_BATCHES", "RATES", "TERMS", "at_least", "batched", "log_e", "spread"]

RATES = tuple(0.98 * 0.6**k for k in range(12))
"""Shares to stake: from differences that few examples show to those of some thousandths."""
TERMS = tuple((rate, rate**2 / 2, rate**3 / 3, -math.log1p(-rate) - rate - rate**2 / 2 - rate**3 / 3) for rate in RATES)
"""For each share, the factors of the four sums."""
BATCHES = 32
"""Batch sums that are kept: when there are as many, neighbours are added up."""
FEWEST_BATCHES = 8

_BISECTIONS = 25
_ROUNDING = 1e-9
"""A variance of so small a part of the squares is that of the sums' rounding."""


def log_e(sums: Sequence[float], wide: float = 1.0) -> float:
    """The logarithm of the e-process at these sums of d, d², d³ and d⁴; the squares count `wide` times, 1 or more.

    >>> round(log_e([0.0, 4.0, 0.0, 1.0]), 3), log_e([30.0, 40.0, 30.0, 40.0]) > math.log(1 / 0.05)
    (-0.169, True)
    """
    one, two, three, four = sums[0], sums[1] * wide, sums[2], sums[3]
    logs = [a * one - b * two + c * three - d * four for a, b, c, d in TERMS]
    largest = max(logs)
    return largest + math.log(sum([math.exp(log - largest) for log in logs]) / len(logs))


def at_least(n: int, sums: Sequence[float], log_threshold: float, wide: float = 1.0) -> float:
    """The lower end of the confidence sequence of the mean difference: what was not rejected at this threshold.

    Of differences d - m, which are at least -(1 + m), the same process tests whether the mean is at most m.
    """
    low, high = -1.0, 1.0
    one, two, three, four = sums
    for _ in range(_BISECTIONS if n else 0):
        m = (low + high) / 2.0
        reach = 1.0 + m
        moved = (
            (one - n * m) / reach,
            max(two - 2 * m * one + n * m**2, 0.0) / reach**2,
            (three - 3 * m * two + 3 * m**2 * one - n * m**3) / reach**3,
            max(four - 4 * m * three + 6 * m**2 * two - 4 * m**3 * one + n * m**4, 0.0) / reach**4,
        )
        if log_e(moved, wide) >= log_threshold:
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
    means (Glynn & Whitt 1991; Flegal & Jones 2010), with batches that grow with the number of examples. Differences
    that are all the same do not vary, whatever rounding makes of their sums.
    """
    k = len(batches)
    if k < FEWEST_BATCHES:
        return math.inf
    mean = sum(batches) / k
    between = sum([(batch - mean) ** 2 for batch in batches]) / (k - 1) / length
    within = squares / n - (total / n) ** 2
    return max(1.0, between / within) if within > _ROUNDING * squares / n else 1.0
