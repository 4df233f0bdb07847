"""The bare transactional hop that latency is compared with: consume, copy each event, commit; the lane's own clients.

What a batch is, how long it gathers, and every setting of the clients are the lane's. Nothing is decoded or computed.
"""

from __future__ import annotations

import json
import signal
import sys
import time
from typing import Any

from benchmarks.worker import cpu_s, say
from headrace.streams.kafka import Cluster
from headrace.streams.log import END
from headrace.streams.worker.tuning import Rhythm, Settings

__all__ = ["main"]


def main(job: dict[str, Any]) -> None:
    """Copy until SIGTERM."""
    cluster = Cluster(job["bootstrap"])
    settings = Settings(**job["settings"])
    stopping: list[bool] = []
    signal.signal(signal.SIGTERM, lambda *_: stopping.append(True))
    events, labels, output = job["events"], job["labels"], job["output"]
    assigned: list[Any] = []
    producer = cluster.producer(f"{output}.copy")
    callbacks = {"on_assign": assigned.extend, "on_revoke": lambda _: None}
    consumer = cluster.consumer(output, f"{output}.copy", gather_s=settings.gather_s, **callbacks)
    consumer.subscribe([events, labels])
    while not assigned:
        consumer.fetch(1, 0.1)
    positions = dict.fromkeys(((topic, 0) for topic in (events, labels)), 0)
    consumer.seek(positions)
    say("ready")
    began_s, transactions = cpu_s(), 0
    rhythm = Rhythm(settings.gather_s, time.monotonic)
    while not stopping:
        records = [r for r in consumer.fetch(settings.batch, rhythm.next_s()) if r.value is not END]
        rhythm.gathered()
        if not records:
            producer.poll()
            continue
        producer.begin()
        for record in records:
            positions[record.topic, 0] = record.offset + 1
            if record.topic == events:
                producer.send(output, 0, record.key, record.value)
        producer.offsets(positions, consumer.metadata())
        producer.commit()
        transactions += 1
    say("ended", cpu_s=cpu_s() - began_s, transactions=transactions)
    producer.drop()
    consumer.close()


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
