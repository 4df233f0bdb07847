"""Bins: values of any kind to small numbers, fitted once to a bounded sample of the reference.

Numbers go by quantiles of the sample, or each to a bin of its own where few differ; text by its most frequent values,
the rest together. Vectors go by a QuantTree: bins cut off one after the other, each a share of what is left, along
features that a seed chooses, so that what is counted does not depend on how the features are distributed (Boracchi,
Carrera, Cervellera & Macciò 2018, "QuantTree: histograms for change detection in multivariate data streams", ICML).
A missing value has a bin of its own, the last. Fitted bins are plain values: tuples of numbers and text.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

__all__ = ["Binned", "fit", "named", "reader", "size"]

_TRIES = 16

Binned = tuple[Any, ...]
"""(kind, what it takes): "numbers" and edges; "text" and values; "vector" and cuts (feature, value, above); "any" and
nothing where all were missing."""


def fit(values: Sequence[Any], bins: int) -> Binned:
    """Bins for values like these: numbers, text, or tuples of numbers (None is missing).

    Numbers that are not finite have no say: sets and sorts of NaN are ordered by chance.
    """
    present = [value for value in values if _finite(value)]
    if not present:
        return ("any", ())
    if isinstance(present[0], tuple):
        return ("vector", _quant_tree(present, bins))
    if any(isinstance(value, str) for value in present):
        return ("text", _frequent([value for value in present if isinstance(value, str)], bins))
    return ("numbers", _edges([float(value) for value in present], bins))


def _finite(value: Any) -> bool:
    if isinstance(value, tuple):
        return all(map(_finite, value))
    return value is not None and (isinstance(value, str) or math.isfinite(value))


def size(binned: Binned) -> int:
    """How many bins there are, that of missing values among them."""
    return len(binned[1]) + 2


def reader(binned: Binned) -> Callable[[Any], int]:
    """A function from a value to its bin; what is no such value counts as missing."""
    kind, parts = binned
    last = len(parts) + 1
    if kind == "text":
        places = {value: place for place, value in enumerate(parts)}
        other = last - 1
        return lambda value: places.get(value, other) if value.__class__ is str else last
    if kind == "any":
        return lambda value: int(value is None or (value.__class__ is tuple and None in value))
    if kind == "vector":
        return _vector(parts, last)

    def number(value: Any) -> int:
        try:
            return bisect_right(parts, value) if value == value else last
        except TypeError:
            return last

    return number


def named(binned: Binned, place: int) -> str:
    """A bin in words."""
    kind, parts = binned
    if place == len(parts) + 1:
        return "missing"
    if kind == "any":
        return "not missing"
    if kind == "text":
        return repr(parts[place]) if place < len(parts) else "other values"
    if kind == "vector":
        return f"region {place + 1} of {len(parts) + 1}"
    if place == 0:
        return f"below {parts[0]:.6g}"
    if place == len(parts):
        return f"{parts[-1]:.6g} and more"
    return f"{parts[place - 1]:.6g} to {parts[place]:.6g}"


def _vector(cuts: Sequence[tuple[int, float, bool]], last: int) -> Callable[[Any], int]:
    def place(value: Any) -> int:
        if None in value:
            return last
        for at, (feature, cut, above) in enumerate(cuts):
            if value[feature] > cut if above else value[feature] <= cut:
                return at
        return last - 1

    return place


def _edges(numbers: list[float], bins: int) -> tuple[float, ...]:
    """Where one bin ends and the next begins (an edge belongs to the bin above it)."""
    distinct = sorted(set(numbers))
    if len(distinct) == 1:  # anything else than the constant is news, on either side
        return (distinct[0], math.nextafter(distinct[0], math.inf))
    if len(distinct) <= bins:
        return tuple(a / 2 + b / 2 if a / 2 + b / 2 > a else b for a, b in pairwise(distinct))
    ordered = sorted(numbers)
    quantiles = {ordered[len(ordered) * i // bins] for i in range(1, bins)}
    return tuple(sorted(quantiles - {ordered[0]})) or (math.nextafter(ordered[0], math.inf),)


def _frequent(texts: list[str], bins: int) -> tuple[str, ...]:
    """The most frequent values, in a fixed order; those of less than half a bin's share are left to the rest."""
    counts: dict[str, int] = {}
    for text in texts:
        counts[text] = counts.get(text, 0) + 1
    least = len(texts) / (2 * bins)
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return tuple(text for text, count in ranked[: bins - 1] if count >= least)


def _quant_tree(vectors: list[tuple[Any, ...]], bins: int) -> tuple[tuple[int, float, bool], ...]:
    """Cuts that take 1 / bins of the sample each; which feature and which end is a fixed sequence, not chance.

    Where many share a value, a cut may take far more: then the next ones in the sequence are tried, and the least is
    taken. Of a feature that is constant anything else is news, on either side; that is looked for in what is left, so
    that it hides no other feature once it varies.
    """
    columns = [[float(value) for value in column] for column in zip(*vectors, strict=True)]
    varied = [feature for feature, column in enumerate(columns) if min(column) < max(column)]
    cuts: list[tuple[int, float, bool]] = []
    news: list[tuple[int, float, bool]] = []
    for feature in sorted({*range(len(columns))} - {*varied})[: bins // 4]:
        constant = columns[feature][0]
        news += [(feature, constant, True), (feature, math.nextafter(constant, -math.inf), False)]
    left, parts, state = list(zip(*columns, strict=True)), bins - len(news), 1
    for i in range(parts - 1 if varied else 0):
        take = len(vectors) * (i + 1) // parts - len(vectors) * i // parts
        found: tuple[int, tuple[int, float, bool]] | None = None
        for _ in range(_TRIES if 0 < take < len(left) else 0):
            state = state * 6364136223846793005 + 1442695040888963407 & (1 << 64) - 1  # Knuth's MMIX generator
            feature, above = varied[(state >> 33) % len(varied)], bool(state >> 32 & 1)
            column = sorted([vector[feature] for vector in left])
            cut = column[-take - 1] if above else column[take - 1]
            taken = len(left) - bisect_right(column, cut) if above else bisect_right(column, cut)
            if 0 < taken < len(left) and (found is None or taken < found[0]):
                found = taken, (feature, cut, above)
            if found is not None and found[0] <= 2 * take:
                break
        if found is None:
            break
        feature, cut, above = found[1]
        cuts.append(found[1])
        left = [vector for vector in left if not (vector[feature] > cut if above else vector[feature] <= cut)]
    return (*cuts, *news)
