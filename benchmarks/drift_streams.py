"""Signals with known drifts, and without: what a watch sees, made from River's generators, models and datasets.

Errors are those of a logistic regression that goes on learning (prequentially, labels at once) on River's generators;
features are drawn from the columns of River's Bananas with replacement, or from distributions, so that they are stable
until they are made to change; labels are coin flips. All seeded.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from river import datasets, linear_model, optim, preprocessing
from river.datasets import synth

__all__ = ["DRIFTS", "Stream", "drifting", "stable"]

DRIFTS = ("abrupt", "gradual", "recurring", "features only", "labels only")
BURN_IN = 1_500
"""Events in which a model learns before anybody looks."""
STABLE = 6_000
BEFORE = 3_000
"""Stable events before the first change."""
HORIZON = 2_000
"""Events after a change in which it must be found; a change that is not counts as found at the end."""
_WIDTH = 1_000  # events over which a gradual change comes


class Stream(NamedTuple):
    """A signal (``error``, ``feature`` or ``label``), its values, and where it changes."""

    kind: str
    values: list[float]
    changes: tuple[int, ...]


def stable(number: int) -> Stream:
    """Stable stream `number`: a quarter each of models' errors, coin flips, features, and labels."""
    rng, family = np.random.default_rng(10_000 + number), number % 4
    if family == 0:
        return Stream("error", _errors(number, STABLE, lambda _: 0.0), ())
    if family == 1:
        return Stream("error", _bits(rng, STABLE, (0.05, 0.1, 0.2, 0.3, 0.4)[number // 4 % 5]), ())
    if family == 2:
        return Stream("feature", _feature(rng, number // 4, STABLE), ())
    return Stream("label", _bits(rng, STABLE, (0.1, 0.2, 0.45)[number // 4 % 3]), ())


def drifting(kind: str, number: int) -> Stream:
    """Stream `number` with a drift of this kind."""
    rng = np.random.default_rng(20_000 + number)
    length = BEFORE + HORIZON
    if kind == "abrupt":
        return Stream("error", _errors(number, length, lambda i: float(i >= BEFORE)), (BEFORE,))
    if kind == "gradual":
        share = lambda i: 1 / (1 + math.exp(-8 * ((i - BEFORE) / _WIDTH - 0.5)))  # noqa: E731
        return Stream("error", _errors(number, length, lambda i: share(i) if i >= BEFORE else 0.0), (BEFORE,))
    if kind == "recurring":
        back = BEFORE + HORIZON
        away = lambda i: float(BEFORE <= i < back)  # noqa: E731
        return Stream("error", _errors(number, back + HORIZON, away), (BEFORE, back))
    if kind == "features only":
        before, after = _feature(rng, number, BEFORE), np.array(_feature(rng, number, HORIZON))
        mean, spread = float(np.mean(before)), float(np.std(before))
        moved = [after + 0.5 * spread, mean + 1.6 * (after - mean), after + 1.0 * spread][number % 3]
        return Stream("feature", [*before, *moved.tolist()], (BEFORE,))
    rate = (0.1, 0.2, 0.45)[number % 3]
    return Stream("label", _bits(rng, BEFORE, rate) + _bits(rng, HORIZON, rate + 0.15), (BEFORE,))


def _bits(rng: Any, n: int, rate: float) -> list[float]:
    found: list[float] = (rng.random(n) < rate).astype(float).tolist()
    return found


def _feature(rng: Any, number: int, n: int) -> list[float]:
    """Values of a real column, or of a distribution, drawn independently."""
    choice = number // 3 % 4
    if choice == 0:
        drawn = rng.normal(size=n)
    elif choice == 1:
        drawn = rng.exponential(size=n)
    else:
        drawn = rng.choice(_column(choice - 2), size=n)
    found: list[float] = drawn.tolist()
    return found


@functools.cache
def _column(which: int) -> Any:
    return np.array([x[str(which + 1)] for x, _ in datasets.Bananas()])


def _errors(number: int, n: int, other: Any) -> list[float]:
    """A learning model's errors where event i is of the second concept with probability other(i)."""
    before, after = _concepts(number)
    rng = np.random.default_rng(30_000 + number)
    model = preprocessing.StandardScaler() | linear_model.LogisticRegression(optim.SGD(0.01))
    errors = []
    for i in range(-BURN_IN, n):
        share = other(i)
        x, y = next(after if share and rng.random() < share else before)
        if i >= 0:
            errors.append(float(model.predict_one(x) != bool(y)))
        model.learn_one(x, bool(y))
    return errors


def _concepts(number: int) -> tuple[Iterator[Any], Iterator[Any]]:
    """Two concepts of one of River's generators."""
    seed, which = number + 1, number % 3
    if which == 0:
        pair = synth.SEA(variant=0, noise=0.1, seed=seed), synth.SEA(variant=3, noise=0.25, seed=seed + 1)
    elif which == 1:
        pair = synth.SEA(variant=2, noise=0.15, seed=seed), synth.SEA(variant=0, noise=0.3, seed=seed + 1)
    else:
        pair = synth.Sine(0, seed=seed), synth.Sine(2, seed=seed + 1)
    return itertools.chain(pair[0]), itertools.chain(pair[1])
