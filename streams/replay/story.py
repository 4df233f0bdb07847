"""The story of one event, as `explain` tells it: what was read and made of it, and whether that was published so."""

from __future__ import annotations

from typing import Any

import msgspec

__all__ = ["Compared", "Explained", "Learned", "RawRecord", "plain"]


class RawRecord(msgspec.Struct):
    """An input record that names the event: where it lies, what it holds, and what became of it."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    time_ms: int
    became: str = ""
    y: Any = None


class Compared(msgspec.Struct):
    """A record made again, and the published one: `difference` is None where they are the same bytes."""

    topic: str
    offset: int | None
    difference: str | None


class Learned(msgspec.Struct):
    """What the version that answered had learned: n examples, the latest label time, and the last few of them.

    Of these last, those that were replayed.
    """

    version: str
    n: int
    until_ms: int | None
    last: list[dict[str, Any]]


class Explained(msgspec.Struct):
    """One event's way. What has not happened is None or empty.

    `status`: unknown, dead letter, pending (its label or its prediction is to come), expired, labelled. `first` is the
    first prediction by a version that had learned from this event. `covered` are the input offsets that were replayed,
    by topic and partition; `begun` and `ended` say why no earlier or later ones were, if so. `whole` says whether
    everything was replayed.
    """

    event_id: Any
    status: str = "unknown"
    why: str = ""
    events: list[RawRecord] = []
    features: dict[str, Any] | None = None
    learned: Learned | None = None
    prediction: dict[str, Any] | None = None
    labels: list[RawRecord] = []
    example: dict[str, Any] | None = None
    first: dict[str, Any] | None = None
    compared: list[Compared] = []
    different: int = 0
    covered: dict[str, list[int]] = {}
    begun: str | None = None
    ended: str | None = None
    whole: bool = True


def plain(found: Explained) -> dict[str, Any]:
    """As JSON has it: raw bytes as text, escaped where they are none."""
    out: dict[str, Any] = msgspec.to_builtins(found, builtin_types=(bytes,))
    for name in ("events", "labels"):
        for record in out[name]:
            record["bytes"] = len(record["value"] or b"")
            record["key"] = None if record["key"] is None else record["key"].decode(errors="backslashreplace")
            record["value"] = None if record["value"] is None else record["value"].decode(errors="backslashreplace")
    return out
