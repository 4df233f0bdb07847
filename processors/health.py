"""Health of features, without labels: how much is missing, how many values differ, whether they vary, what is new.

Different values are counted by the k smallest of their hashes (Bar-Yossef et al. 2002), so that memory is bounded.
"""

from __future__ import annotations

import zlib
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["column", "distinct", "figures", "look"]

_K = 64
_KNOWN = 256
_SPAN = 1 << 32


def column(known: dict[str, None] | None = None) -> dict[str, Any]:
    """A feature of which nothing was seen in this window; `known` is text seen before it."""
    known = {} if known is None else known
    return {"missing": 0, "some": False, "first": None, "varies": False, "least": [], "known": known, "new": 0}


def look(columns: Mapping[str, dict[str, Any]], x: Mapping[str, Any]) -> None:
    """See an event's features."""
    for name, column in columns.items():
        seen = x.get(name)
        if seen is None:
            column["missing"] += 1
            continue
        if not column["some"]:
            column["some"], column["first"] = True, seen
        elif column["varies"] or seen != column["first"]:
            column["varies"] = True
        _add(column["least"], seen)
        if seen.__class__ is str and seen not in column["known"]:
            column["new"] += 1
            if len(column["known"]) < _KNOWN:
                column["known"][seen] = None


def figures(column: Mapping[str, Any], n: int) -> dict[str, float | None]:
    """What a window of `n` events says of a feature."""
    return {
        "Missing": column["missing"] / n,
        "Constant": None if n - column["missing"] < 2 else float(not column["varies"]),
        "Distinct": distinct(column["least"]),
        "New": column["new"] / n,
    }


def distinct(least: Sequence[int]) -> float:
    """How many different values there were, by the smallest of their hashes; exact below 64."""
    return float(len(least)) if len(least) < _K else (_K - 1) * _SPAN / least[-1]


def _add(least: list[int], value: Any) -> None:
    """Put a value's hash among the smallest, sorted, each once."""
    hashed = zlib.crc32(str(value).encode("utf-8", "surrogatepass")) * 2654435761 % _SPAN
    if len(least) >= _K and hashed >= least[-1]:
        return
    place = bisect_left(least, hashed)
    if place < len(least) and least[place] == hashed:
        return
    least.insert(place, hashed)
    del least[_K:]
