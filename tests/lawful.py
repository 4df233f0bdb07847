"""What must hold of every result in memory, whatever the records: nothing vanishes."""

from __future__ import annotations

from headrace.schemas.records import REASONS
from headrace.streams.memory import Backtest

__all__ = ["lawful", "letters"]


def letters(result: Backtest) -> list[tuple[bytes | None, bytes | None, dict[str, str]]]:
    """The dead letters: key, value, and headers as text."""
    return [
        (key, value, {name: text.decode() for name, text in headers or []})
        for _, key, value, headers in result.outputs.get("dead-letter", [])
    ]


def lawful(result: Backtest) -> bool:
    """Whether the conservation laws hold, and every label has one outcome."""
    summary, counts = result.summary, result.task.chain.counts
    waiting = len(result.task.chain.stores.states["join"]["early"])
    refused = sum(counts.get(f"dead.join.{reason}", 0) for reason in REASONS if reason not in ("orphan", "late_label"))
    met = summary.labelled + counts.get("labels.refused", 0)
    others = sum(summary.labels.get(name, 0) for name in ("duplicate", "corrected", "late", "orphan"))
    return all(summary.laws.values()) and counts.get("labels", 0) == met + others + refused + waiting
