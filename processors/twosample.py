"""Two-sample statistics on counts: how far a window's distribution is from a reference's, in units of chance.

All of them take counts by bin, windows by bins, and return one number a window whose distribution without a change
does not depend on the sizes of the two samples (nearly: the thresholds come from simulation, see `thresholds`).

`js`: Jensen-Shannon divergence weighted by the sizes; times 2 (n + m) it is the likelihood ratio statistic G of
"two multinomials" against "one" (Lin 1991, IEEE Trans. Inf. Theory 37), about chi-squared with bins - 1 degrees.
`psi`: population stability index, the symmetrised Kullback-Leibler divergence (Jeffreys 1946); times nm / (n + m)
about chi-squared, too (Yurdakul & Naranjo 2020, J. Risk Model Validation 14). Half a count is added to every bin, but
to those that are empty in both samples: they say nothing, and would be a distance.
`ks`: Kolmogorov-Smirnov's largest distance of the distribution functions, times sqrt(nm / (n + m)).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

__all__ = ["STATISTICS", "Counts", "distance", "levelled"]

Counts = np.ndarray[Any, Any]

_LONGEST = 64.0  # blocks
_TINY = 1e-300  # so that 0 log 0 is 0
_HANDICAP = 1.5  # 2 would make every length equally often wrong; less finds large changes sooner


def _x_log_x(x: Counts) -> Counts:
    return np.asarray(x * np.log(np.maximum(x, _TINY)))


def _js(window: Counts, reference: Counts) -> Counts:
    n, m = window.sum(-1), reference.sum(-1)
    both = window + reference
    parts = (_x_log_x(window) + _x_log_x(reference) - _x_log_x(both)).sum(-1)
    return np.asarray(2.0 * (parts - _x_log_x(n) - _x_log_x(m) + _x_log_x(n + m)))


def _psi(window: Counts, reference: Counts) -> Counts:
    p, q, n, m = _smooth(window, reference)
    apart = (p - q) * np.log(np.maximum(p, _TINY) / np.maximum(q, _TINY))
    return np.asarray(apart.sum(-1) * (n * m / (n + m)))


def _ks(window: Counts, reference: Counts) -> Counts:
    n, m = window.sum(-1), reference.sum(-1)
    apart = np.cumsum(window, -1) / n[..., None] - np.cumsum(reference, -1) / m[..., None]
    return np.asarray(np.abs(apart).max(-1) * np.sqrt(n * m / (n + m)))


def _smooth(window: Counts, reference: Counts) -> tuple[Counts, Counts, Counts, Counts]:
    half = 0.5 * (window + reference > 0)
    n, m, more = window.sum(-1), reference.sum(-1), half.sum(-1)
    p = (window + half) / (n + more)[..., None]
    q = (reference + half) / (m + more)[..., None]
    return p, q, n, m


STATISTICS: dict[str, Callable[[Counts, Counts], Counts]] = {"js": _js, "psi": _psi, "ks": _ks}
"""Name → the statistic in units of chance; window and reference counts along the last axis, no empty sample."""


def levelled(statistic: str, scores: Counts, spans: Counts) -> Counts:
    """Scores of windows of so many blocks, made comparable: there are more short windows than long ones to be wrong in.

    As with Duembgen & Spokoiny's multiscale statistics (2001, Annals of Statistics 29) a short window must show more.
    """
    handicap = _HANDICAP * np.log(_LONGEST / spans)
    if scores.ndim > 1:
        handicap = handicap[:, None]
    if statistic != "ks":
        return np.asarray(scores - handicap)
    return np.asarray(np.sqrt(np.maximum(scores * scores - handicap / 4.0, 0.0)))  # 4 T^2 has the tail of G


def distance(statistic: str, window: Counts, reference: Counts) -> float:
    """The distance as people know it: Jensen-Shannon in nats (0 to 0.69), PSI, or Kolmogorov-Smirnov's D.

    None depends on how large the samples are; of Jensen-Shannon that is the one in which both count the same.
    """
    n, m = float(window.sum()), float(reference.sum())
    if statistic == "js":
        return float(_js(window / n, reference / m)) / 4.0
    told = float(STATISTICS[statistic](window, reference))
    return told / (n * m / (n + m) if statistic == "psi" else float(np.sqrt(n * m / (n + m))))
