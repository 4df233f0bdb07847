"""The leaves that trees' kernels share: how one is found, asked and taught in River's own nodes.

River calls four methods for every feature of every class, and copies dictionaries in depth to scale two numbers. Here
both are written out, with the same bits. What is learned stands in River's nodes after every step. Whatever else comes
up, as a splitter of another kind, goes to River's own method.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import exp, inf, log, tau
from typing import Any

from river.tree.splitter import GaussianSplitter
from river.tree.utils import do_naive_bayes_prediction

__all__ = ["Row", "Votes", "ask_leaf", "best", "find_leaf", "has_numbers_only", "scaled", "teach_leaf"]

_HALF_LOG_TAU = 0.5 * log(tau)

Row = Mapping[str, Any]
Votes = dict[Any, float]


def has_numbers_only(x: Row) -> bool:
    """Whether all values are numbers, as what they add up to shows at once."""
    try:
        return sum(x.values()).__class__ in (float, int)
    except Exception:  # whatever adding them raises: River may see it otherwise
        return False


def find_leaf(node: Any, x: Row, branch: Any, leaf: Any) -> tuple[Any, Any, int | None]:
    """The leaf that a row reaches from `node`, its parent and its number there; no leaf where River has to find it."""
    parent = number = None
    try:
        while node.__class__ is branch:
            parent, number = node, 0 if x[node.feature] <= node.threshold else 1
            node = node.children[number]
    except KeyError:
        return None, None, None
    return (node, parent, number) if node.__class__ is leaf else (None, None, None)


def teach_leaf(leaf: Any, x: Row, y: Any, weight: float, bayes: Votes | None) -> None:
    """Let a leaf learn; `bayes` are its naive Bayes votes, if they are known already."""
    stats, splitters = leaf.stats, leaf.splitters
    if splitters is not None:
        if not stats or best(scaled(stats, sum(stats.values()))) == y:
            leaf._mc_correct_weight += weight
        if bayes is None:
            bayes = _bayes(x, stats, splitters)
        if bayes and best(bayes) == y:
            leaf._nb_correct_weight += weight
    stats[y] = stats[y] + weight if y in stats else weight
    if splitters is not None:
        _observe(leaf, x, y, weight)


def ask_leaf(leaf: Any, x: Row) -> tuple[Votes, Votes | None]:
    """What the class counts of a leaf say, or naive Bayes where that was right more often; and the latter by itself."""
    if leaf.splitters is not None and leaf._nb_correct_weight >= leaf._mc_correct_weight:
        bayes = _bayes(x, leaf.stats, leaf.splitters)
        return bayes, bayes
    return scaled(leaf.stats, sum(leaf.stats.values())), None


def _observe(leaf: Any, x: Row, y: Any, weight: float) -> None:
    """Each feature's distribution in class `y`: its range, and mean and variance after West (1979)."""
    splitters = leaf.splitters
    for name, value in x.items():
        splitter = splitters.get(name)
        if splitter.__class__ is not GaussianSplitter:
            leaf.update_splitters({name: value}, y, weight, None)
            continue
        gaussian = splitter._att_dist_per_class.get(y)
        if gaussian is None:
            splitter.update(value, y, weight)  # type: ignore[no-untyped-call]
            continue
        if value < splitter._min_per_class[y]:
            splitter._min_per_class[y] = value
        if value > splitter._max_per_class[y]:
            splitter._max_per_class[y] = value
        variance = gaussian._var
        mean = variance.mean
        before = mean._mean
        mean.n = n = mean.n + weight
        mean._mean = after = before + (weight / n) * (value - before)
        variance._S += weight * (value - before) * (value - after)


def _bayes(x: Row, stats: Votes, splitters: dict[str, Any]) -> Votes:
    """Naive Bayes over the Gaussians of a leaf: each class's probability."""
    try:
        total = sum(stats.values())
        votes = {label: log(weight / total) for label, weight in stats.items() if weight > 0}
        if len(votes) != len(stats):
            return _rivers_bayes(x, stats, splitters)
        for name, splitter in splitters.items():
            if splitter.__class__ is not GaussianSplitter:
                return _rivers_bayes(x, stats, splitters)
            value = x[name]
            for label, gaussian in splitter._att_dist_per_class.items():
                held = gaussian._var
                mean = held.mean
                freedom = mean.n - held.ddof
                if freedom > 0:
                    variance = held._S / freedom
                    if variance > 0.0:
                        log_p = (value - mean._mean) ** 2 / (-2.0 * variance) - _HALF_LOG_TAU - 0.5 * log(variance)
                        if log_p > -inf:
                            votes[label] += log_p
        most = max(votes.values())
        whole = most + log(sum([exp(vote - most) for vote in votes.values()]))
        return {label: exp(vote - whole) for label, vote in votes.items()}
    except (ArithmeticError, KeyError, ValueError):
        return _rivers_bayes(x, stats, splitters)


def _rivers_bayes(x: Row, stats: Votes, splitters: dict[str, Any]) -> Votes:
    return do_naive_bayes_prediction(x, stats, splitters)  # type: ignore[no-any-return]


def scaled(votes: Votes, factor: float) -> Votes:
    """Divided by `factor`, unless that is zero or no number."""
    if factor == 0 or factor != factor:
        return votes
    by = 1 / factor
    return {label: vote * by for label, vote in votes.items()}


def best(votes: Votes) -> Any:
    """The class with the most votes."""
    return max(votes, key=votes.__getitem__)
