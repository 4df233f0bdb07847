"""What the runtime tells whoever watches it. The default watches nothing; metrics implement it."""

from __future__ import annotations

from headrace.streams.recovery import Recovered
from headrace.streams.task import Processed, Task

__all__ = ["Observer"]


class Observer:
    """Called by the runtime; does nothing by itself and must never raise."""

    def assigned(self, shards: list[int]) -> None:
        """The worker holds these partitions now."""

    def recovered(self, task: Task, found: Recovered) -> None:
        """A task is ready to go on."""

    def processed(self, task: Task, batch: Processed, seconds: float) -> None:
        """A batch was processed; its transaction is not committed yet."""

    def committed(self, tasks: list[tuple[Task, Processed]], seconds: float, now_ms: int) -> None:
        """A transaction was committed."""

    def checkpointed(self, task: Task, entries: int, size: int, seconds: float) -> None:
        """A checkpoint was committed."""

    def aborted(self, reason: str) -> None:
        """A transaction did not happen; tasks are being rebuilt from the log."""

    def lag(self, task: Task, topic: str, records: int) -> None:
        """Committed records of an input that the task has not processed yet."""

    def idle(self) -> None:
        """A cycle found nothing to do."""
