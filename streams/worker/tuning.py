"""How a worker works: sizes and times. None of it changes what comes out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Rhythm", "Settings"]

_LEAST = 0.2


@dataclass(frozen=True, slots=True)
class Settings:
    """The sizes and times of a worker.

    Parameters
    ----------
    batch
        Most input records in one transaction.
    beside
        Records in a batch from which on it is committed beside the next one; smaller ones are committed at once.
    gather_s
        Time from one transaction's gathering to the next one's, and how long a broker gathers records before it hands
        them out: latency against throughput.
    buffer
        Most records waiting in a task's buffers for one input; beyond, the partition that runs ahead is paused.
    checkpoint_s
        Seconds between checkpoints.
    savepoint_s
        Seconds between savepoints: how far audit must go back at most, once the inputs before are gone.
    checkpoint_entries
        State entries written per cycle while a checkpoint is under way; live, at first, a tenth.
    stall_s
        Without progress for this long, the worker says so and ends.
    upstream_wait_s
        How long to wait for a group that feeds an input and has work left, before going on without it.
    """

    batch: int = 8_000
    beside: int = 1_000
    gather_s: float = 0.02
    buffer: int = 50_000
    checkpoint_s: float = 10.0
    checkpoint_entries: int = 2_000
    savepoint_s: float = 3_600.0
    stall_s: float = 120.0
    upstream_wait_s: float = 30.0


class Rhythm:
    """How long to gather records for the next transaction, so that one begins every `gather_s`.

    What processing and committing took is not waited for once more, but at least a fifth is: a transaction that begins
    right after another finds its markers unwritten, and waits for them longer (docs/performance.md).
    """

    def __init__(self, gather_s: float, clock: Callable[[], float]) -> None:
        self._gather_s, self._clock = gather_s, clock
        self._gathered_at = float("-inf")

    def next_s(self) -> float:
        """How long to gather now."""
        return max(_LEAST * self._gather_s, self._gather_s - (self._clock() - self._gathered_at))

    def gathered(self) -> None:
        """What there was is taken."""
        self._gathered_at = self._clock()
