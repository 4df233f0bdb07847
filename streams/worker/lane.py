"""A lane: a task on a worker, with what only the worker knows of it."""

from __future__ import annotations

import math
import threading
from typing import Any

from headrace.streams.checkpoint import Checkpoint
from headrace.streams.models.versions import Frozen
from headrace.streams.recovery import Recovered
from headrace.streams.task import Task

__all__ = ["Lane"]


class Lane:
    """How far the checkpoints, the journal and the inputs of one task are.

    Parameters
    ----------
    side
        The producer of the task's checkpoints.

    Attributes
    ----------
    checkpoint, checkpoint_began, checkpointed_at, checkpointed_seq
        The checkpoint under way and when it began; when the last one ended; the journal number of the newest of them.
    savepoint, savepoint_tried, savepoint_follows
        The last savepoint, the last that was tried; whether one is to be made of the checkpoint under way.
    savepoint_again_s
        After so long one is tried again that has failed; else endless.
    savepoint_done
        Set unless a savepoint is being made.
    beginning, uncopied
        Whether an epoch has begun of which there is no checkpoint yet, before which nothing is processed; the epoch
        whose checkpoint is still to be copied.
    models
        Versions to be published of the checkpoint under way.
    journal_offset, journal_seen
        From where the journal is read after the checkpoint under way, and after the next one.
    state_end
        Where the state topic ended at the last checkpoint at least, or as the task was recovered.
    parked_at
        Where the journal stood when the partition was taken away.
    end_offsets, read_to
        By rank, of the inputs that were read to their end: that end, and the offset after the last record before it.
    waiting_since
        Since when an input that another group writes is waited for; None: none is.
    """

    def __init__(self, task: Task, found: Recovered, side: Any) -> None:
        self.task = task
        self.side = side
        self.checkpoint: Checkpoint | None = None
        self.checkpoint_began = 0.0
        self.checkpointed_at = 0.0
        self.checkpointed_seq = found.checkpoint_seq or 0
        self.savepoint = self.savepoint_tried = found.savepoint
        self.savepoint_follows = False
        self.savepoint_again_s = math.inf
        self.savepoint_done = threading.Event()
        self.savepoint_done.set()
        self.models: list[Frozen] = []
        self.epoch_due, self.changed = found.epoch_due, found.changed
        self.beginning, self.uncopied = found.beginning, found.uncopied
        self.journal_offset = self.journal_seen = found.journal_offset
        self.state_end = found.state_end
        self.parked_at = -1
        self.paused: set[int] = set()
        self.end_offsets: dict[int, int] = {}
        self.read_to: dict[int, int] = {}
        self.waiting_since: float | None = None

    def anew(self, side: Any) -> Lane:
        """The same task under a new assignment, of which nothing has been read yet."""
        self.task.start()
        self.side, self.paused, self.end_offsets, self.waiting_since = side, set(), {}, None
        return self

    def ended(self, rank: int, offset: int) -> None:
        """The consumer has come to the end of an input; one that another group writes may yet go on."""
        buffer = self.task.merge.buffers[rank]
        self.read_to[rank] = buffer[-1].offset + 1 if buffer else self.task.positions[rank]
        self.end_offsets[rank] = offset  # last, as whoever exports the lag may look in between
        group = self.task.group
        if group.inputs[rank] not in group.upstream:
            self.task.merge.end(rank)

    def balance(self, consumer: Any, most: int) -> None:
        """Pause the inputs that run ahead of the others; resume them when half of the buffer is free."""
        shard, topics = self.task.shard, [source.topic for source in self.task.chain.sources]
        for rank, buffer in enumerate(self.task.merge.buffers):
            if rank not in self.paused and len(buffer) > most:
                consumer.pause(topics[rank], shard)
                self.paused.add(rank)
            elif rank in self.paused and len(buffer) < most // 2:
                self.paused.discard(rank)
                consumer.resume(topics[rank], shard, buffer[-1].offset + 1 if buffer else self.task.positions[rank])
