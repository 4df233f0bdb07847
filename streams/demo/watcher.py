"""What a consumer of the demo's predictions sees: how many there are, and how long after their events."""

from __future__ import annotations

import threading
import time

import msgspec

from headrace.streams.kafka import Cluster

__all__ = ["Watcher", "percentile"]


class _Coordinates(msgspec.Struct):
    offset: int


class Watcher:
    """Follows the events and the predictions of a pipeline with one partition, in a thread, reading committed records.

    A prediction's latency is from when the broker appended its event to when the prediction could be read.
    """

    def __init__(self, cluster: Cluster, events: str, predictions: str) -> None:
        self.predictions = 0
        self.first_s: float | None = None
        self.last_s: float | None = None
        self.latencies_ms: list[float] = []
        self.live_from_offset: int | None = None
        self._events, self._predictions = events, predictions
        self._appended_ms: dict[int, int] = {}
        self._reader = cluster.reader()
        self._reader.follow({(events, 0): 0, (predictions, 0): 0})
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="demo-watcher", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop following."""
        self._stop.set()
        self._thread.join()
        self._reader.close()

    def _run(self) -> None:
        offset_of = msgspec.json.Decoder(_Coordinates).decode
        while not self._stop.is_set():
            records = self._reader.poll(5_000, 0.02)
            now = time.time()
            for record in records:
                if record.topic == self._events:
                    if self.live_from_offset is not None and record.offset >= self.live_from_offset:
                        self._appended_ms[record.offset] = record.timestamp_ms
                    continue
                self.predictions += 1
                if self.first_s is None:
                    self.first_s = now
                self.last_s = now
                if self.live_from_offset is not None:
                    at_ms = self._appended_ms.pop(offset_of(record.value).offset, None)
                    if at_ms is not None:
                        self.latencies_ms.append(now * 1000 - at_ms)


def percentile(values: list[float], share: float) -> float | None:
    """The value below which this share of them lies, None of nothing."""
    ordered = sorted(values)
    return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 1) if ordered else None
