"""What the segments of a chain share: stores, stream time, counts, and the outputs they add to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from headrace.streams.pipeline import Pipeline
from headrace.streams.stages.outbox import Outbox, Output
from headrace.streams.stages.outputs import Packed
from headrace.streams.topology import Group

__all__ = ["Context", "Output", "Pending"]

_LONGEST_VALUES = 6
"""A dead letter's value may be so many times as long as an input's, its key as long: less than topics take
(`topics.py`), or a worker could never go on."""


class Pending(NamedTuple):
    """What waits for a label. The first two items order its expiry (see `Join`).

    `x` is None when the champion refused the event: its outcome still counts for windows, but nothing learns from it.
    `values` are those of the gate's segments, if there are any.
    """

    time_ms: int
    offset: int
    partition: int
    key: bytes | None
    keys: tuple[Any, ...]
    x: dict[str, Any] | None
    answers: tuple[Any, ...]
    prediction: Any
    probability: float | None
    model: str | None
    values: tuple[Any, ...] = ()


class Context:
    """One chain's surroundings; `states` are the stores by processor, `clock` is [stream time, last time by input].

    `origin` is the features record being predicted, where another group has made it: what a dead letter is about.
    `values` are those of the gate's segments of the event that is being predicted, or learned from; () without them.
    `packed` has the bytes of pending events' features, by the identity of the features: no state, it only spares work.
    """

    def __init__(
        self, pipeline: Pipeline, group: Group, shard: int, topic: Callable[[str], str], states: dict[str, Any]
    ) -> None:
        self.pipeline, self.group, self.shard, self.topic, self.states = pipeline, group, shard, topic, states
        self.outbox = Outbox()
        self.origin: Any = None
        self.values: tuple[Any, ...] = ()
        self.packed: Packed = {}
        self.clock: list[Any] = states["chain"]["clock"].value
        self.counts: dict[str, int] = states["chain"]["counts"].value
        self.progress: list[Any] = states["chain"]["progress"].value

    def count(self, name: str, by: int = 1) -> None:
        """Add to a counter."""
        self.counts[name] = self.counts.get(name, 0) + by

    def dead(self, stage: str, role: str, reason: str, detail: str, item: Any) -> None:
        """A dead letter for `item` (partition, offset, key, value) of the input with this role.

        What is longer than the topic would take, however the batch was compressed on its way here, is cut, and says so.
        """
        self.count(f"dead.{stage}.{reason}")
        headers = [
            ("reason", reason.encode()),
            ("detail", detail.encode("utf-8", "backslashreplace")),
            ("stage", stage.encode()),
            ("topic", self.topic(role).encode()),
            ("partition", str(item.partition).encode()),
            ("offset", str(item.offset).encode()),
        ]
        key, value, longest_key = item.key, item.value, self.pipeline.max_bytes
        longest_value = _LONGEST_VALUES * longest_key
        if len(key or b"") > longest_key or len(value or b"") > longest_value:
            headers.append(("cut", f"{len(key or b'')} {len(value or b'')}".encode()))
            key, value = key and key[:longest_key], value and value[:longest_value]
        self.outbox.put(("dead-letter", key, value, headers))
