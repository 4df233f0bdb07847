"""The slot of a worker, without a broker."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from headrace.streams.topology import group_of
from headrace.streams.worker.slot import Slot


class _Reader:
    """Finds nothing open."""

    def __init__(self) -> None:
        self.closed = False

    def ends(self, places: list[Any]) -> dict[Any, tuple[int, int]]:
        """Where the partitions end."""
        assert not self.closed
        return dict.fromkeys(places, (7, 7))

    def close(self) -> None:
        """Release it."""
        self.closed = True


def test_a_slot_looks_with_readers_of_its_own() -> None:
    """It is opened anew by the thread that commits, while the other one may be asking the worker's reader."""
    made: list[_Reader] = []

    def reader() -> _Reader:
        made.append(_Reader())
        return made[-1]

    producer = SimpleNamespace(suspicious=True, prove=lambda place, group: None, drop=lambda: None)
    cluster = SimpleNamespace(reader=reader, producer=lambda name: producer, offsets_of=lambda group: [])
    work: Any = SimpleNamespace(
        cluster=cluster, group=group_of(), topics=str, name="one", pipeline=SimpleNamespace(partitions=2)
    )  # it has no reader
    slot = Slot(work, "one.0")
    slot.open()
    slot.distrust([])
    assert len(made) == 3
    assert all(each.closed for each in made)
