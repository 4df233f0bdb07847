"""A request that was sent twice: its late copy must not end a transaction that it does not belong to (KIP-890).

And one that is not answered: a commit is given up while its transaction may still be decided.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from headrace.streams.errors import Aborted
from headrace.streams.kafka import Cluster
from tests.faults.harness import until
from tests.faults.proxy import ADD_PARTITIONS, PRODUCE, Proxy, behind_proxy


@pytest.fixture
def proxied(tmp_path: Path) -> Iterator[tuple[Cluster, Proxy]]:
    """A broker of its own with a topic `t`, reached through a proxy."""
    with behind_proxy(f"late-{tmp_path.name}"[:60], tmp_path / "broker") as (start, proxy):
        direct = Cluster(str(start().bootstrap))
        direct.create([("t", 1, {})])
        direct._admin = None  # a client with a request under way does not end once its broker is gone
        yield Cluster(proxy.bootstrap), proxy


def test_a_late_end_txn_finds_a_new_epoch(proxied: tuple[Cluster, Proxy]) -> None:
    """A commit whose request was repeated is suspicious, each time; under a new producer its late copy is refused."""
    cluster, proxy = proxied
    producer = cluster.producer("late")
    suspicious = []
    held = (2, 3, 4, 5, 7)
    for i in range(9):
        if producer.suspicious:
            producer.drop()
            producer = cluster.producer("late")
        producer.begin()
        producer.send("t", 0, None, b"%d" % i)
        if i in held:
            until(lambda: not proxy.holding, "the late copy of the one before")  # it comes when this one has begun
            proxy.hold_end_txn(ADD_PARTITIONS if i % 2 else PRODUCE)
        producer.commit()
        suspicious += [i] if producer.suspicious else []
    reader = cluster.reader()
    values = [int(record.value) for record in reader.read("t", 0)]
    reader.close()
    producer.drop()
    assert values == list(range(9))
    assert suspicious == list(held)
    until(
        lambda: proxy.faults["late_endtxn"] == proxy.faults["late_refused"] + proxy.faults["late_accepted"], "answers"
    )
    assert proxy.faults["late_endtxn"] == proxy.faults["late_refused"] == len(held)


def test_a_commit_is_given_up_before_its_coordinator_does(proxied: tuple[Cluster, Proxy]) -> None:
    """Else the producer would be told that another one has started, when it is back after the transaction's time."""
    cluster, proxy = proxied
    producer = cluster.producer("away", timeout_ms=8_000)
    producer.begin()
    producer.send("t", 0, None, b"lost or not")
    producer.flush()
    began = time.monotonic()
    proxy.black_hole(12.0)
    with pytest.raises(Aborted):
        producer.commit()
    assert time.monotonic() - began < 8.0
    producer.drop()
    successor = cluster.producer("away")
    successor.begin()
    successor.send("t", 0, None, b"kept")
    successor.commit()
    successor.drop()
