"""Work: what a worker works on, and with what. The parts of a worker share it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from headrace.streams.models.versions import Publisher
from headrace.streams.pipeline import Pipeline
from headrace.streams.stores import ObjectCodec
from headrace.streams.task import Version
from headrace.streams.topics import group_name
from headrace.streams.topology import Group
from headrace.streams.worker.collector import Collector
from headrace.streams.worker.observe import Observer
from headrace.streams.worker.tuning import Settings

__all__ = ["Work"]


@dataclass(slots=True)
class Work:
    """One group of stages of one pipeline, the cluster, and what is injected.

    `consumer` and `reader` are there once the worker is open; all else is fixed for its life. What each one is, says
    `Worker`.
    """

    pipeline: Pipeline
    group: Group
    cluster: Any
    topics: Callable[[str], str]
    settings: Settings
    version: Version
    observer: Observer
    codec: ObjectCodec | None
    versions: Publisher | None
    clock: Callable[[], float]
    wall_ms: Callable[[], int]
    aside: Callable[[Callable[[], None]], None]
    collector: Collector
    consumer: Any = field(init=False, default=None)
    reader: Any = field(init=False, default=None)

    @property
    def name(self) -> str:
        """The consumer group."""
        return group_name(self.pipeline, self.group)

    def inputs(self, shard: int) -> list[tuple[str, int]]:
        """The input partitions of a task, in the order of the inputs."""
        return [(self.topics(role), shard) for role in self.group.inputs]

    def stable(self, role: str, shard: int) -> int:
        """The last stable offset of a partition: where readers of committed records stop."""
        return int(self.reader.stable(self.topics(role), shard))
