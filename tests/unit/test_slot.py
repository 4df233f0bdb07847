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


def test_a_slot_that_is_distrusted_looks_with_a_reader_of_its_own() -> None:
    """The thread that commits does that, while the other one may be asking the worker's reader."""
    made: list[_Reader] = []

    def reader() -> _Reader:
        made.append(_Reader())
        return made[-1]

    producer = SimpleNamespace(suspicious=True, prove=lambda place, group: None, drop=lambda: None)
    cluster = SimpleNamespace(reader=reader, producer=lambda name: producer, offsets_of=lambda group: [])
    work: Any = SimpleNamespace(
        cluster=cluster,
        group=group_of(),
        topics=str,
        name="one",
        pipeline=SimpleNamespace(partitions=2),
        reader=_Reader(),
    )
    slot = Slot(work, "one.0")
    slot.open()
    assert not made
    work.reader.close()
    slot.distrust([])
    assert [each.closed for each in made] == [True]
