"""What a consumer of the demo's predictions sees: how many there are, and how long after their events."""

from __future__ import annotations

import threading
import time

import msgspec

from headrace.streams.kafka import Cluster

__all__ = ["Watcher", "percentile"]

_SOME_S = 0.5


class _Coordinates(msgspec.Struct):
    offset: int


class Watcher:
    """Follows the events and the predictions of a pipeline with one partition, in a thread, reading committed records.

    A prediction's latency is from when the broker appended its event to when the prediction could be read. Predictions
    come in transactions: the rate counts those after the first that were seen, over the time that they took.
    """

    def __init__(self, cluster: Cluster, events: str, predictions: str) -> None:
        self.predictions = 0
        self._first: tuple[int, float] | None = None
        self._last_s = 0.0
        self.latencies_ms: list[float] = []
        self.live_from_offset: int | None = None
        self._events = events
        self._appended_ms: dict[int, int] = {}
        self._reader = cluster.reader()
        self._reader.follow({(events, 0): 0, (predictions, 0): 0})
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="demo-watcher", daemon=True)
        self._thread.start()

    @property
    def per_s(self) -> float | None:
        """Predictions a second so far; None when they came within half a second, which says nothing."""
        if self._first is None or self._last_s - self._first[1] < _SOME_S:
            return None
        return (self.predictions - self._first[0]) / (self._last_s - self._first[1])

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
                self._last_s = now
                if self.live_from_offset is not None:
                    at_ms = self._appended_ms.pop(offset_of(record.value).offset, None)
                    if at_ms is not None:
                        self.latencies_ms.append(now * 1000 - at_ms)
            if self._first is None and self.predictions:
                self._first = self.predictions, now


def percentile(values: list[float], share: float) -> float | None:
    """The value below which this share of them lies, None of nothing."""
    ordered = sorted(values)
    return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 1) if ordered else None
