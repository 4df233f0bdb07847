"""A publisher in an open loop: every record has a moment at which it is due, whatever became of those before it.

It says when the first was due (`began`), and how late it was itself in the worst case (`finished`).
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from benchmarks import declared
from benchmarks.worker import say
from headrace.streams.kafka import Cluster

__all__ = ["main", "schedule"]

_CHUNK_S = 0.001


def schedule(kind: str, options: dict[str, Any]) -> list[tuple[int, int, Any]]:
    """Events and labels as they would come, as (time, 1 for an event, record); labels first at equal times."""
    makers: dict[str, Any] = {"flights": declared.flight_records, "synthetic": declared.synthetic_records}
    events, labels = makers[kind](**options)
    merged = [(r.time_ms, 1, r) for r in events] + [(r.time_ms, 0, r) for r in labels]
    return sorted(merged, key=lambda item: item[:2])


def main(job: dict[str, Any]) -> None:
    """Publish record i at began + i / rate."""
    records = schedule(job["kind"], job["options"])
    producer = Cluster(job["bootstrap"]).plain_producer(**{"linger.ms": job.get("linger_ms", 0)})
    names = (job["labels"], job["events"])
    producer.list_topics(timeout=10)
    say("prepared", records=len(records))
    sys.stdin.readline()
    rate, worst = job["rate"], 0.0
    began = time.monotonic() + 0.1
    say("began", first_due=began)
    for i, (_, rank, record) in enumerate(records):
        ahead = began + i / rate - time.monotonic()
        if ahead > 0:
            producer.poll(0)
            if ahead > _CHUNK_S / 2:
                time.sleep(ahead)
        elif -ahead > worst:
            worst = -ahead
        while True:
            try:
                producer.produce(names[rank], record.value, record.key, 0)
                break
            except BufferError:
                producer.poll(0.01)
        if i & 1023 == 0:
            producer.poll(0)
    seconds = time.monotonic() - began
    left = producer.flush(60)
    say("finished", seconds=seconds, worst_late_ms=worst * 1000, left=left)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
