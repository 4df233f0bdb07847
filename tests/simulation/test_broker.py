"""The simulated broker behaves as Kafka does where the simulation depends on it."""

from __future__ import annotations

from typing import Any

import pytest

from headrace.streams.errors import Aborted, Expelled, Fenced
from tests.simulation.broker import Broker, Partition
from tests.simulation.clock import Clock
from tests.simulation.groups import SESSION_S, Coordinator

TP = ("t", 0)


def broker() -> Broker:
    """A broker with one partition."""
    made = Broker(Clock())
    made.partitions[TP] = Partition()
    return made


def write(to: Broker, epoch: int, value: bytes, name: str = "a") -> None:
    """One record in the open transaction of an id."""
    to.add(name, epoch, TP)
    to.write(name, epoch, TP, b"k", value, None)


def values(of: Broker) -> list[bytes | None]:
    """What a read_committed consumer sees."""
    return [row.value for row in of.partitions[TP].committed()]


def test_an_open_transaction_holds_the_stable_offset() -> None:
    """What follows an open transaction's first record is withheld from read_committed; markers take offsets."""
    b = broker()
    epoch = b.start_id("a", 20.0)
    write(b, epoch, b"1")
    b.partitions[TP].append(None, b"k", b"plain", 0)
    assert (values(b), b.partitions[TP].stable, b.partitions[TP].high) == ([], 0, 2)
    b.end("a", epoch, commit=True)
    assert (values(b), b.partitions[TP].stable) == ([b"1", b"plain"], 3)


def test_a_new_start_aborts_and_fences() -> None:
    """The successor's InitProducerId ends the open transaction; the predecessor can do nothing more."""
    b = broker()
    old = b.start_id("a", 20.0)
    write(b, old, b"1")
    b.start_id("a", 20.0)
    assert (values(b), b.partitions[TP].stable) == ([], 2)
    with pytest.raises(Fenced):
        b.end("a", old, commit=True)


def test_the_coordinator_times_transactions_out() -> None:
    """After its timeout a transaction is aborted, and its producer fenced."""
    b = broker()
    epoch = b.start_id("a", 20.0)
    write(b, epoch, b"1")
    b.clock.now = 20.1
    b.tick()
    assert b.partitions[TP].stable == 2
    with pytest.raises(Fenced):
        write(b, epoch, b"2")


def test_a_late_copy_ends_the_next_transaction() -> None:
    """A second EndTxn of the same epoch commits half of what is open then; what follows is refused."""
    b = broker()
    epoch = b.start_id("a", 20.0)
    write(b, epoch, b"1")
    b.end("a", epoch, commit=True)
    b.late.append((1.0, "a", epoch, ("end", None, None)))
    write(b, epoch, b"2")
    b.clock.now = 1.0
    b.tick()
    assert values(b) == [b"1", b"2"]
    with pytest.raises(Aborted, match="INVALID_TXN_STATE"):
        b.write("a", epoch, TP, b"k", b"3", None)


def test_compaction_keeps_what_is_uncertain() -> None:
    """The last committed value of a key stays; nothing at or above the stable offset is touched."""
    b = broker()
    log = b.partitions[TP]
    for value in (b"1", b"2"):
        log.append(None, b"k", value, 0)
    epoch = b.start_id("a", 20.0)
    write(b, epoch, b"3")
    log.compact()
    assert [row.value for row in log.rows] == [b"2", b"3"]
    b.start_id("a", 20.0)
    log.compact()
    assert [row.value for row in log.rows] == [b"2"]
    log.append(None, b"k", None, 0)
    log.compact()
    assert log.rows == []


class Client:
    """A process behind a member."""

    def __init__(self) -> None:
        self.beating = True
        self.polled = 0.0
        self.given: list[Any] = []

    def assigned(self, partitions: list[Any], generation: int) -> None:
        """What the coordinator tells."""
        self.given.append((partitions, generation))


def test_a_silent_member_is_put_out_and_its_generation_refused() -> None:
    """After the session timeout the partitions go to the others, and offsets of the old generation are refused."""
    clock = Clock()
    coordinator = Coordinator(clock, 2)
    one, two = Client(), Client()
    first = coordinator.join("g", "one", one, ["t"])
    second = coordinator.join("g", "two", two, ["t"])
    coordinator.rejoin("g", first)
    assert (one.given[-1], two.given[-1]) == (([("t", 0)], 2), ([("t", 1)], 2))
    coordinator.check(("g", "one", first.id, 2))
    one.beating = False
    clock.now = SESSION_S + 0.1
    coordinator.tick()
    assert coordinator.status("g", second) == "rebalance"
    coordinator.rejoin("g", second)
    assert two.given[-1] == ([("t", 0), ("t", 1)], 3)
    with pytest.raises(Aborted, match="UNKNOWN_MEMBER"):
        coordinator.check(("g", "one", first.id, 2))
    with pytest.raises(Aborted, match="GENERATION"):
        coordinator.check(("g", "two", second.id, 2))


def test_a_static_name_is_taken_over_without_a_rebalance() -> None:
    """A restarted process has its predecessor's partitions at once; the predecessor is fenced."""
    coordinator = Coordinator(Clock(), 1)
    old, new = Client(), Client()
    before = coordinator.join("g", "one", old, ["t"])
    coordinator.join("g", "one", new, ["t"])
    assert new.given == [([("t", 0)], 1)]
    assert coordinator.status("g", before) == "fenced"
    with pytest.raises(Expelled):
        coordinator.check(("g", "one", before.id, 1))
