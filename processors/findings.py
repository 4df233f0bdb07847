"""Findings: what a detector says of one moment of a signal, before an alert is made of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

__all__ = ["Finder", "Finding", "Row", "told"]

Row = tuple[Any, int, int, int, Any]
"""(value, time_ms, partition, offset, event id)"""


class Finding(NamedTuple):
    """A detection: where, how strong (1 is just enough), and what was different."""

    time_ms: int
    partition: int
    first_offset: int
    last_offset: int
    n: int
    strength: float
    statistic: dict[str, float]
    examples: tuple[Any, ...]
    said: str


class Finder(Protocol):
    """What finds something in a signal; configuration only, its state is an object."""

    def fresh(self) -> dict[str, Any]:
        """The state before the first value."""

    def run(self, rows: Sequence[Row], state: dict[str, Any]) -> list[tuple[int, Finding]]:
        """Take in values, in order; answers what was found, each with the place of the row that showed it."""


def told(value: float) -> float:
    """A figure to publish: nine digits, so that the last bit of a logarithm shows nowhere."""
    return float(f"{value:.9g}")
