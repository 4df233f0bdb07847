"""A broker that comes up forgets the markers of transactions that it ends before it knows its partitions' leaders."""

from __future__ import annotations

import os
import signal
import time
import uuid
from pathlib import Path

import pytest

from headrace.deploy import broker
from headrace.deploy.server import any_port
from headrace.streams.kafka import Cluster
from headrace.streams.leftovers import end_leftovers, open_places
from tests.faults.harness import until

EAGER = {"transaction.abort.timed.out.transaction.cleanup.interval.ms": "10"}
"""Look for transactions that timed out at once, so that the broker does it before it knows anything."""


def test_what_the_broker_forgot_is_ended_by_the_next_producer_of_the_id(tmp_path: Path) -> None:
    """A partition that waits for a marker for ever is read to its end again, without that transaction's records."""
    instance, port = f"forgotten-{uuid.uuid4().hex[:8]}", any_port()

    def start() -> broker.Status:
        return broker.start(instance=instance, data_dir=tmp_path, port=port, config=EAGER, progress=False)

    try:
        cluster = Cluster(str(start().bootstrap))
        cluster.create([("t", 1, {})])
        for _ in range(5):
            producer = cluster.producer("p", timeout_ms=1_000)
            producer.begin()
            producer.send("t", 0, b"k", b"lost")
            producer.flush()
            os.kill(int(start().pid or 0), signal.SIGKILL)
            producer.drop()
            until(lambda: not broker.status(instance=instance).running, "the broker's end")
            time.sleep(1.0)  # the transaction's timeout, by the broker's clock
            start()
            reader = cluster.reader()
            successor = cluster.producer("p", timeout_ms=1_000)
            if open_places(reader, [("t", 0)]):
                break
            reader.close()
        else:
            pytest.skip("the broker forgot nothing in five restarts")
        end_leftovers(successor, [("t", 0)])
        successor.drop()
        successor = cluster.producer("p")
        assert open_places(reader, [("t", 0)]) == []
        successor.begin()
        successor.send("t", 0, b"k", b"kept")
        successor.commit()
        assert [record.value for record in reader.read("t", 0)] == [b"kept"]
        successor.drop()
        reader.close()
    finally:
        cluster._admin = None
        broker.stop(instance=instance)
