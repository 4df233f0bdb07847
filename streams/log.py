"""The seam between the runtime and a log: what is fetched from it, be it Kafka's or a simulated one."""

from __future__ import annotations

from typing import Any, NamedTuple

__all__ = ["END", "Record"]

END: Any = object()
"""Stands for a value where the end of a partition was reached."""


class Record(NamedTuple):
    """A record, or (value `END`) the news that `offset` is the end of the partition for now."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: Any
    timestamp_ms: int
    headers: list[tuple[str, bytes]] | None = None
