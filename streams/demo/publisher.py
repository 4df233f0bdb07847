"""The demo's publisher, a process of its own: history at full speed, then live traffic at a rate, a little of it bad.

It says on stdout how far it is, as JSON lines. It goes live when it reads a line on stdin.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any

from headrace.streams import data
from headrace.streams.data import Outgoing
from headrace.streams.kafka import Cluster
from headrace.streams.loading import load_pipeline
from headrace.streams.settings import connection
from headrace.streams.topics import topic_name

__all__ = ["BAD_EVENTS", "BAD_LABELS", "main", "spoiled"]

BAD_EVENTS: tuple[bytes | None, ...] = (
    None,
    b"",
    b"not json at all",
    b'{"event_id": "cut-short", "carrier": "UA"',
    b'\xff\xfe{"event_id": "not-utf8"}',
    b'{"event_id": "incomplete", "carrier": "UA"}',
    b'{"event_id": 7, "carrier": "UA", "flight": 1, "tailnum": null, "origin": "EWR", "dest": "IAH", "distance": 1400,'
    b' "scheduled_departure": 1357034400000, "scheduled_arrival": 1357045200000}',
    b'{"event_id": "nan", "carrier": "UA", "flight": 1, "tailnum": null, "origin": "EWR", "dest": "IAH",'
    b' "distance": NaN, "scheduled_departure": 1357034400000, "scheduled_arrival": 1357045200000}',
    b'{"event_id": "nowhere", "carrier": "UA", "flight": 1, "tailnum": null, "origin": "XXX", "dest": "IAH",'
    b' "distance": 1400, "scheduled_departure": 1357034400000, "scheduled_arrival": 1357045200000}',
    b'{"event_id": "far", "carrier": "UA", "flight": 1, "tailnum": null, "origin": "EWR", "dest": "IAH",'
    b' "distance": 99999, "scheduled_departure": 1357034400000, "scheduled_arrival": 1357045200000}',
    b'{"event_id": "year-3000", "carrier": "UA", "flight": 1, "tailnum": null, "origin": "EWR", "dest": "IAH",'
    b' "distance": 1400, "scheduled_departure": 32503680000000, "scheduled_arrival": 32503690800000}',
    b"[" * 5_000,
)
BAD_LABELS: tuple[bytes, ...] = (
    b"late, I am afraid",
    b'{"event_id": "no-such-flight", "arrived_at": 1357041600000, "arr_delay": 5}',
    b'{"event_id": "2013-01-01-UA1545-EWR-IAH-0515", "arrived_at": 1357041600000, "arr_delay": "five"}',
)
_EVERY = 997


def spoiled(events: list[Outgoing]) -> Iterator[Outgoing]:
    """The events, with a bad record now and then, and some of them published twice."""
    bad = 0
    for i, event in enumerate(events):
        yield event
        if i % _EVERY == _EVERY // 2:
            yield Outgoing(event.time_ms, event.key, BAD_EVENTS[bad % len(BAD_EVENTS)])
            bad += 1
        if i % _EVERY == _EVERY - 1:
            yield event


def main(reference: str, bootstrap: str, limit: int, live: int, rate: float) -> None:
    """Publish `limit` rows, the last `live` of them at `rate` a second."""
    pipeline = load_pipeline(reference)
    events, labels = data.records(pipeline, data.load(None, pipeline, limit or None))
    split = max(0, len(events) - live)
    where = connection(bootstrap, None, os.environ)
    producer = Cluster(where.bootstrap, where.config).plain_producer()
    names = topic_name(pipeline, "events"), topic_name(pipeline, "labels")
    turn = events[split].time_ms if split < len(events) else 2**62
    _say(total=len(events) + len(labels))
    history = _by_time(names, spoiled(events[:split]), (r for r in labels if r.time_ms < turn))
    history += [(names[1], Outgoing(turn, b"EWR", value)) for value in BAD_LABELS]
    done = _send(producer, history, None, 0)
    _say(history=split, labels=sum(r.time_ms < turn for r in labels))
    sys.stdin.readline()
    rest = _by_time(names, spoiled(events[split:]), (r for r in labels if r.time_ms >= turn))
    _send(producer, rest, rate * len(rest) / max(1, len(events) - split), done)
    _say(finished=True)


def _by_time(
    names: tuple[str, str], events: Iterable[Outgoing], labels: Iterable[Outgoing]
) -> list[tuple[str, Outgoing]]:
    """Events and labels as the world would have sent them."""
    both = [(names[0], event) for event in events] + [(names[1], label) for label in labels]
    return sorted(both, key=lambda item: item[1].time_ms)


def _send(producer: Any, records: list[tuple[str, Outgoing]], rate: float | None, done: int) -> int:
    began = time.perf_counter()
    for i, (topic, record) in enumerate(records):
        if rate is not None and i % 10 == 0:
            ahead = i / rate - (time.perf_counter() - began)
            if ahead > 0.001:
                time.sleep(ahead)
        while True:
            try:
                producer.produce(topic, record.value, record.key)
                break
            except BufferError:
                producer.poll(0.05)
        if i % 500 == 0:
            producer.poll(0)
            _say(done=done + i)
    producer.flush()
    _say(done=done + len(records))
    return done + len(records)


def _say(**what: Any) -> None:
    print(json.dumps(what), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), float(sys.argv[5]))
