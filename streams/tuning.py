"""How a worker works: sizes and times. None of it changes what comes out."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Settings"]


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
        How long to gather records for a transaction: latency against throughput.
    buffer
        Most records waiting in a task's buffers for one input; beyond, the partition that runs ahead is paused.
    checkpoint_s
        Seconds between checkpoints.
    savepoint_s
        Seconds between savepoints: how far audit must go back at most, once the inputs before are gone.
    checkpoint_entries
        State entries written per cycle while a checkpoint is under way.
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
