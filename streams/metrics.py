"""What a worker tells Prometheus: an observer that keeps figures, and the collector that exports them.

Conservation counters are not counted here. They are the task's own counts, which live in its state: taken when a batch
was processed, shown when it is committed. So they equal the log's truth, also after a recovery, and go on where they
were after a restart instead of beginning at 0. Everything else counts from the start of the process.

Nothing is done per record, and next to nothing per transaction: a copy of some thirty counters and a few samples.
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder

from headrace import __version__
from headrace.streams.pipeline import Pipeline
from headrace.streams.recovery import Recovered
from headrace.streams.series import METRICS, Kind
from headrace.streams.summary import counted, tells
from headrace.streams.task import Processed, Task
from headrace.streams.topics import group_name
from headrace.streams.topology import Group
from headrace.streams.worker.observe import Observer

__all__ = ["MetricsObserver", "Sample", "Sampled"]

_PER_BATCH = 8
"""How many records of a batch are looked at for latency; each stands for its part of the batch."""

_COUNTS = {
    "headrace_events_total": "events",
    "headrace_features_total": "features",
    "headrace_duplicates_total": "duplicates",
    "headrace_predictions_total": "predictions",
    "headrace_history_total": "history",
    "headrace_labelled_total": "labelled",
    "headrace_expired_total": "expired",
    "headrace_labels_total": "labels",
    "headrace_alerts_total": "alerts",
}
_SPLIT = {  # prefix of a count → its metric and labels
    "dead.": ("headrace_dead_letters_total", 2),
    "labels.": ("headrace_label_outcomes_total", 1),
    "model_errors.": ("headrace_model_errors_total", 1),
}

Sample = tuple[str, tuple[str, ...], float]


class _View(NamedTuple):
    """A task's figures as of one batch."""

    counts: dict[str, int]
    pending: int
    stream_time_ms: int
    learned: int
    learned_until_ms: int | None


class _Histogram:
    """Weighted observations in buckets; prometheus_client's own knows no weights."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def add(self, value: float, weight: int = 1) -> None:
        self.counts[bisect_left(self.bounds, value)] += weight
        self.sum += value * weight

    def buckets(self) -> list[tuple[str, float]]:
        """Cumulative counts by upper bound."""
        out: list[tuple[str, float]] = []
        total = 0
        for bound, count in zip((*map(float, self.bounds), "+Inf"), self.counts, strict=True):
            total += count
            out.append((str(bound), float(total)))
        return out


class MetricsObserver(Observer):
    """Keeps the figures of one worker, and exports them as Prometheus metrics.

    Parameters
    ----------
    pipeline, group
        What the worker runs: the labels `pipeline` and `group` (the consumer group) of everything exported.
    process
        Whether to export the process's own figures too (CPU time, memory, open files; Linux only).
    wall
        Seconds since 1970.

    The worker's thread calls the observer's methods, another one `exposition`: a lock keeps them apart.
    """

    def __init__(
        self, pipeline: Pipeline, group: Group, *, process: bool = True, wall: Callable[[], float] = time.time
    ) -> None:
        self.pipeline, self.group = pipeline, group
        self.registry = CollectorRegistry(auto_describe=False)
        self.registry.register(self)
        if process:
            ProcessCollector(registry=self.registry)
        self._labels = (pipeline.name, group_name(pipeline, group))
        self._wall = wall
        self._lock = threading.Lock()
        self._worker: Any = None
        self._views: dict[int, _View] = {}
        self._ahead: dict[tuple[int, int], _View] = {}
        self._sums: dict[tuple[str, tuple[str, ...]], float] = {}
        self._histograms: dict[tuple[str, tuple[str, ...]], _Histogram] = {}
        self._lags: dict[tuple[int, str, str], int] = {}
        self._add("headrace_aborts_total", self._labels, 0.0)

    def watch(self, worker: Any) -> None:
        """Export what this worker is doing at the moment of a scrape as well: buffers, readiness, ticks."""
        self._worker = worker

    # -- what the runtime calls ----------------------------------------------------------------------------------

    def assigned(self, shards: list[int]) -> None:
        """Forget partitions that another worker holds now; one that came back with its memory is known already."""
        lanes = {} if self._worker is None else self._worker.lanes
        with self._lock:
            self._views = {shard: view for shard, view in self._views.items() if shard in shards}
            for shard in shards:
                if shard not in self._views and shard in lanes:
                    self._views[shard] = _view(lanes[shard].task)
            self._lags = {key: lag for key, lag in self._lags.items() if key[0] in shards}
            self._ahead.clear()

    def recovered(self, task: Task, found: Recovered) -> None:
        """The state was rebuilt: its counts are the log's."""
        labels = (*self._labels, str(task.shard))
        with self._lock:
            self._views[task.shard] = _view(task)
            self._add("headrace_recoveries_total", labels, 1)
            self._add("headrace_recovery_seconds_total", labels, found.seconds)
            self._add("headrace_recovered_batches_total", labels, found.journalled)

    def processed(self, task: Task, batch: Processed, seconds: float) -> None:
        """Take the task's figures as of this batch; they are shown when it is committed."""
        with self._lock:
            self._ahead[task.shard, batch.entry.seq] = _view(task)
            self._add("headrace_processing_seconds_total", (*self._labels, str(task.shard)), seconds)

    def committed(self, tasks: list[tuple[Task, Processed]], seconds: float, now_ms: int) -> None:
        """The batches are in the log: so are their figures."""
        with self._lock:
            self._histogram("headrace_transaction_seconds", self._labels).add(seconds)
            self._sums["headrace_last_commit_timestamp_seconds", self._labels] = now_ms / 1000
            for task, processed in tasks:
                view = self._ahead.pop((task.shard, processed.entry.seq), None)
                self._views[task.shard] = view if view is not None else _view(task)
                self._latencies(task, processed, now_ms)

    def checkpointed(self, task: Task, entries: int, size: int, seconds: float) -> None:
        """A checkpoint was committed."""
        labels = (*self._labels, str(task.shard))
        with self._lock:
            self._histogram("headrace_checkpoint_seconds", labels).add(seconds)
            self._add("headrace_checkpoint_entries_total", labels, entries)
            self._add("headrace_checkpoint_bytes_total", labels, size)
            self._sums["headrace_last_checkpoint_timestamp_seconds", labels] = self._wall()

    def aborted(self, reason: str) -> None:
        """A transaction did not happen: what it would have counted never was."""
        with self._lock:
            self._ahead.clear()
            self._add("headrace_aborts_total", self._labels, 1)

    def lag(self, task: Task, topic: str, records: int) -> None:
        """Offsets between the task's place in a topic and the topic's last stable offset."""
        role = next(source.role for source in task.chain.sources if source.topic == topic)
        with self._lock:
            self._lags[task.shard, role, topic] = records

    def lag_unknown(self) -> None:
        """The cluster does not answer: no figure is better than an old one."""
        with self._lock:
            self._lags.clear()

    # -- what a scrape calls -------------------------------------------------------------------------------------

    def exposition(self, accept: str = "") -> tuple[bytes, str]:
        """The metrics as text, in the format that fits the Accept header, and its content type."""
        encode, content_type = choose_encoder(accept)
        return encode(self.registry), content_type

    def collect(self) -> Iterator[Metric]:
        """All metrics now; Prometheus' registry calls it."""
        families = {name: _family(name, kind) for name, kind in METRICS.items()}
        with self._lock:
            samples = [*self._from_state(), *self._sums_now(), *self._lags_now()]
            for (name, labels), histogram in self._histograms.items():
                families[name].add_metric(list(labels), histogram.buckets(), histogram.sum)
        for name, labels, value in [*samples, *self._from_worker()]:
            families[name].add_metric(list(labels), value)
        return (family for family in families.values() if family.samples)

    # -- keeping -------------------------------------------------------------------------------------------------

    def _add(self, name: str, labels: tuple[str, ...], by: float) -> None:
        self._sums[name, labels] = self._sums.get((name, labels), 0.0) + by

    def _histogram(self, name: str, labels: tuple[str, ...]) -> _Histogram:
        found = self._histograms.get((name, labels))
        if found is None:
            found = self._histograms[name, labels] = _Histogram(METRICS[name].buckets)
        return found

    def _latencies(self, task: Task, processed: Processed, now_ms: int) -> None:
        batch = processed.batch
        size = len(batch)
        labels = (*self._labels, str(task.shard))
        self._histogram("headrace_batch_records", labels).add(size)
        inputs = self.group.inputs
        parts = min(_PER_BATCH, size)
        for part in range(parts):
            start, end = size * part // parts, size * (part + 1) // parts
            rank, item = batch[(start + end) // 2]
            seconds = max(0, now_ms - item.timestamp_ms) / 1000
            name = "headrace_commit_latency_seconds"
            self._histogram(name, (*labels, inputs[rank])).add(seconds, end - start)

    # -- exporting -----------------------------------------------------------------------------------------------

    def _from_state(self) -> Iterable[Sample]:
        for shard, view in self._views.items():
            labels = (*self._labels, str(shard))
            for name, count in _COUNTS.items():
                if tells(self.group, count):
                    yield name, labels, view.counts.get(count, 0)
            for count, value in view.counts.items():
                prefix, dot, rest = count.partition(".")
                split = _SPLIT.get(prefix + dot)
                if split is not None:
                    yield split[0], (*labels, *rest.split(".", split[1] - 1)), value
            for law, holds in self._laws(view).items():
                yield "headrace_conservation_law", (*labels, law), float(holds)
            if view.stream_time_ms > 0:
                yield "headrace_stream_time_timestamp_seconds", labels, view.stream_time_ms / 1000
            if self.group.back:
                yield "headrace_pending", labels, view.pending
                yield "headrace_examples_learned_total", labels, view.learned
            if view.learned_until_ms is not None:
                age_ms = max(0, view.stream_time_ms - view.learned_until_ms)
                yield "headrace_model_age_seconds", labels, age_ms / 1000

    def _laws(self, view: _View) -> dict[str, bool]:
        mine = {"events": self.group.front, "predictions": self.group.back}
        laws = counted(view.counts, view.pending).laws
        return {name: holds for law, holds in laws.items() if mine.get(name := law.partition(" ")[0])}

    def _sums_now(self) -> Iterable[Sample]:
        return ((name, labels, value) for (name, labels), value in self._sums.items())

    def _lags_now(self) -> Iterable[Sample]:
        for (shard, role, topic), records in self._lags.items():
            yield "headrace_lag_records", (*self._labels, str(shard), role, topic), records

    def _from_worker(self) -> Iterable[Sample]:
        worker = self._worker
        if worker is None:
            return
        slot = worker.id.rpartition(".")[2]
        deciding = (lane.task.chain.decisions for lane in list(worker.lanes.values()))
        champion = next((found.champion for found in deciding if found is not None), self.pipeline.champion)
        about = (slot, __version__, worker.version.hash, champion)
        yield "headrace_worker_info", (*self._labels, *about), 1
        yield "headrace_ready", self._labels, float(worker.ready)
        yield "headrace_ticks_total", self._labels, worker.ticks
        for shard, lane in list(worker.lanes.items()):
            for rank, buffer in enumerate(lane.task.merge.buffers):
                labels = (*self._labels, str(shard), self.group.inputs[rank])
                yield "headrace_buffered_records", labels, len(buffer)
                yield "headrace_paused", labels, float(rank in lane.paused)


class Sampled:
    """Exports samples that are asked for at each scrape: name in `METRICS`, values of its labels, value."""

    def __init__(self, samples: Callable[[], Iterable[Sample]]) -> None:
        self._samples = samples
        self.registry = CollectorRegistry(auto_describe=False)
        self.registry.register(self)
        ProcessCollector(registry=self.registry)

    def exposition(self, accept: str = "") -> tuple[bytes, str]:
        """The metrics as text, in the format that fits the Accept header, and its content type."""
        encode, content_type = choose_encoder(accept)
        return encode(self.registry), content_type

    def collect(self) -> Iterator[Metric]:
        """All metrics now; Prometheus' registry calls it."""
        families: dict[str, Any] = {}
        for name, labels, value in self._samples():
            if name not in families:
                families[name] = _family(name, METRICS[name])
            families[name].add_metric(list(labels), value)
        return iter(families.values())


def _view(task: Task) -> _View:
    chain = task.chain
    learned, until = chain.stores.states["chain"]["progress"].value
    return _View(dict(chain.counts), chain.pending, chain.stream_time_ms, learned, until)


def _family(name: str, kind: Kind) -> Any:
    families: Mapping[str, Any] = {
        "counter": CounterMetricFamily,
        "gauge": GaugeMetricFamily,
        "histogram": HistogramMetricFamily,
    }
    return families[kind.kind](name, kind.help, labels=list(kind.labels))
