"""A task: what it processed can be made again from the journal and the inputs, and from nothing less."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import msgspec
import pytest

from headrace.schemas.wire import BadRecord
from headrace.streams.errors import Diverged, Lost
from headrace.streams.journal import Entry
from headrace.streams.task import Intake, Processed, Task, Version
from headrace.streams.topology import group_of
from tests.small import HOUR_MS, NOW_MS, Pickled, event, known, small

LABELS = [known(str(n), n + 1.5, n % 2 == 0) for n in range(30)]
EVENTS = [event(str(n), n, "ab"[n % 2], float(n % 7)) for n in range(30)]
EVENTS[7] = (b"a", b"{broken")


def task(**changed: Any) -> Task:
    return Task(small(**changed), group_of(), 0, topics=lambda role: f"small.{role}", codec=Pickled())


def fed(into: Task) -> Task:
    for rank, records in enumerate(((), LABELS, EVENTS)):
        for offset in range(into.positions[rank], len(records)):
            into.feed(rank, offset, *records[offset], NOW_MS)
        into.merge.end(rank)
    return into


def inputs(of: Task, starts: list[int]) -> list[Any]:
    def read(rank: int, records: Any) -> Any:
        intake = Intake(of.chain, rank, tolerant=True)
        for offset in range(starts[rank], len(records)):
            yield intake.read(0, offset, *records[offset], NOW_MS)

    return [read(rank, records) for rank, records in enumerate(((), LABELS, EVENTS))]


def ran(limit: int = 7) -> list[Processed]:
    one, out = fed(task()), []
    while (processed := one.run(limit)) is not None:
        out.append(processed)
    return out


def test_a_replay_makes_the_same_outputs() -> None:
    """From the entries and the inputs, the unreadable record included; it stands where the run ended."""
    batches, again = ran(), task()
    read = inputs(again, [0, 0, 0])
    for batch in batches:
        assert again.replay(batch.entry, read).outputs == batch.outputs
    assert (again.positions, again.seq) == ([0, 30, 30], len(batches))
    assert sum(len(batch.outputs) for batch in batches) > 80


def test_the_size_of_batches_changes_no_output() -> None:
    """One at a time, or all at once."""

    def outputs(limit: int) -> list[Any]:
        return [output for batch in ran(limit) for output in batch.outputs]

    assert outputs(1) == outputs(7) == outputs(1_000)


def test_another_order_is_noticed() -> None:
    """All labels first, instead of the order that the journal has, makes other bytes."""
    batches, again = ran(30), task()
    runs = batches[0].entry.runs
    turned = msgspec.structs.replace(batches[0].entry, runs=bytes([0, sum(runs[1::2]), sum(runs[2::2])]))
    with pytest.raises(Diverged, match=r"journal record 0 of lane/0"):
        again.replay(turned, inputs(again, [0, 0, 0]))


def test_other_code_is_noticed() -> None:
    """Replayed with another label function, the outputs are not those of the digest."""
    entry = ran(1_000)[0].entry
    other = task(labels={"y": lambda record: not record.y})
    with pytest.raises(Diverged, match="other bytes"):
        other.replay(entry, inputs(other, [0, 0, 0]))


def test_without_comparing_other_code_may_replay() -> None:
    """Which is what an accepted change asks for."""
    entry = ran(1_000)[0].entry
    other = task(labels={"y": lambda record: not record.y})
    assert len(other.replay(entry, inputs(other, [0, 0, 0]), compare=False).outputs) == entry.outputs


def test_records_that_are_gone_are_named() -> None:
    """The inputs begin after what the journal names: retention was shorter."""
    entry, again = ran(1_000)[0].entry, task()
    with pytest.raises(Lost, match=r"small\.\w+/0: records between 0 and 30"):
        again.replay(entry, inputs(again, [0, 3, 3]))


def test_a_missing_journal_record_is_named() -> None:
    """Sequence numbers are dense."""
    batches, again = ran(), task()
    read = inputs(again, [0, 0, 0])
    again.replay(batches[0].entry, read)
    with pytest.raises(Lost, match="Journal record 1 of lane/0 is missing; the next is 2"):
        again.replay(batches[2].entry, read)


def test_a_restored_task_goes_on_as_the_first_did() -> None:
    """State and marker of the middle, in another task, lead to the same bytes."""
    first = fed(task())
    first.run(25)
    marker = first.marker()
    entries = {key: data for key, data in first.chain.stores.freeze() if data is not None}
    rest = first.run(1_000)
    second = task()
    second.restore(entries, marker)
    second.start()
    again = fed(second).run(1_000)
    assert rest is not None
    assert again is not None
    assert (again.outputs, again.entry) == (rest.outputs, rest.entry)


def test_a_batch_says_where_it_begins_and_ends() -> None:
    """Offsets by input rank, and dense numbers."""
    entries: list[Entry] = [batch.entry for batch in ran()]
    assert [entry.seq for entry in entries] == list(range(len(entries)))
    assert entries[0].starts == [0, 0, 0]
    assert all(before.ends == after.starts for before, after in pairwise(entries))
    assert entries[-1].ends == [0, 30, 30]


def test_an_unreadable_record_has_the_time_of_the_one_before_it() -> None:
    """So it keeps its place in the merge, in a run and in a replay alike."""
    one = fed(task())
    times = [item.time_ms for item in one.merge.buffers[2]]
    assert times[6] == times[7] < times[8]
    assert isinstance(one.merge.buffers[2][7].payload, BadRecord)


def test_a_version_is_of_specification_and_environment() -> None:
    """The same declaration has the same hash, another one another."""
    assert Version.of(small()).hash == Version.of(small()).hash
    assert Version.of(small()).hash != Version.of(small(columns=["shop"])).hash
    assert "river" in Version.of(small()).environment


def test_an_epoch_takes_a_number_of_the_journal() -> None:
    """The first is 0; each later one counts up."""
    one = task()
    first, second = one.open_epoch(Version.of(small()), first=True), one.open_epoch(Version.of(small()), first=False)
    assert [(epoch.seq, epoch.epoch) for epoch in (first, second)] == [(0, 0), (1, 1)]
    assert one.seq == 2


def test_a_worker_that_starts_amid_bad_records_knows_the_good_ones_before() -> None:
    """What would not have stopped it without a restart does not stop it after one; their times are the same, too."""
    one = fed(task())
    while one.run(7) is not None:
        pass
    one.start()
    for offset in range(30, 30 + 250):
        one.feed(2, offset, b"a", b"{", NOW_MS)
    assert [item.time_ms for item in one.merge.buffers[2]] == [29 * HOUR_MS] * 250


def test_what_changed_is_named_as_it_is_declared():
    """For a worker and for an audit alike; that a feature stands elsewhere is told where nothing else is new."""
    before = Version("a", {"features": {"x": 1}, "order": {"features": ["x"]}}, {"river": "1"})
    wider = {"features": {"x": 1, "y": 2}, "order": {"features": ["y", "x"]}}
    assert before.changed(Version("b", wider, {"river": "2"})) == ["features.y", "environment.river"]
    assert before.changed(before._replace(spec=wider | {"features": {"x": 1}})) == ["order.features"]
