"""What a worker exports: figures that equal the log's, and a web server that tells the truth about the loop."""

from __future__ import annotations

import http.client
import json
import socket
import threading
from collections.abc import Iterator
from functools import cache
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as parsed

from headrace.examples.flights import flights
from headrace.streams import data
from headrace.streams.errors import Unreachable, UsageError
from headrace.streams.health import Pulse, Server, _measure, serve
from headrace.streams.metrics import MetricsObserver
from headrace.streams.recovery import Recovered
from headrace.streams.series import METRICS
from headrace.streams.summary import summary_of
from headrace.streams.task import Task
from headrace.streams.topology import Group, group_of
from headrace.streams.worker.lane import Lane
from headrace.streams.worker.tuning import Settings

NOW_MS = 1_800_000_000_000
BAD = [b"{", b"\xff\xfe", None, b'{"event_id": 1}']


class Driven:
    """A task fed with flights and a few bad records, and the observer that watches it, driven by hand."""

    def __init__(self, flights_: int = 400, *, group: Group | None = None, batch: int = 50) -> None:
        self.group = group or group_of()
        self.batch = batch
        self.task = Task(flights, self.group, 0, topics=lambda role: f"flights.{role}")
        self.observer = MetricsObserver(flights, self.group, process=False, wall=lambda: NOW_MS / 1000)
        events, labels = data.records(flights, first_flights().head(flights_))
        values = [r.value for r in events]
        inputs = {"events": [*values, *BAD, values[0]], "labels": [r.value for r in labels]}
        for rank, role in enumerate(self.group.inputs):
            for offset, value in enumerate(inputs.get(role, [])):
                self.task.feed(rank, offset, None, value, NOW_MS - 4_000)
            self.task.merge.end(rank)

    def process(self) -> Any:
        """One batch, processed and not committed."""
        processed = self.task.run(self.batch)
        if processed is not None:
            self.observer.processed(self.task, processed, 0.25)
        return processed

    def commit(self, processed: Any) -> None:
        """Its transaction."""
        self.observer.committed([(self.task, processed)], 0.02, NOW_MS)

    def all(self) -> None:
        """Everything there is, one transaction a batch."""
        while (processed := self.process()) is not None:
            self.commit(processed)

    def samples(self) -> dict[str, float]:
        """What is exported: name and the labels that are not those of every series → value."""
        return exported(self.observer)


@cache
def first_flights() -> pd.DataFrame:
    """The first flights of 2013."""
    return data.load(None, flights, 400)


def exported(observer: MetricsObserver) -> dict[str, float]:
    """Samples by name and distinguishing labels, as `name{a=b}`."""
    out = {}
    text = observer.exposition()[0].decode()
    for family in parsed(text):
        for sample in family.samples:
            rest = {k: v for k, v in sample.labels.items() if k not in ("pipeline", "group", "partition")}
            name = f"{sample.name}{{{','.join(f'{k}={v}' for k, v in sorted(rest.items()))}}}" if rest else sample.name
            out[name] = sample.value
    return out


@pytest.fixture(scope="module")
def driven() -> Driven:
    """All of 400 flights, committed; only looked at."""
    out = Driven()
    out.all()
    return out


def test_counters_equal_the_tasks_own(driven: Driven):
    """Every conservation counter is the task's count, and the laws hold."""
    samples, summary = driven.samples(), summary_of(driven.task.chain)
    for name in ("events", "features", "duplicates", "predictions", "labelled", "expired"):
        assert samples[f"headrace_{name}_total"] == getattr(summary, name)
    assert samples["headrace_pending"] == summary.pending > 0
    dead = {name: value for name, value in samples.items() if name.startswith("headrace_dead_letters_total")}
    assert sum(dead.values()) == sum(summary.dead_letters.values()) == len(BAD)
    assert dead["headrace_dead_letters_total{reason=not_utf8,stage=validate}"] == 1
    assert samples["headrace_duplicates_total"] == 1
    assert (
        samples["headrace_conservation_law{law=events}"] == samples["headrace_conservation_law{law=predictions}"] == 1
    )


def test_what_was_not_committed_is_not_counted():
    """A batch whose transaction failed leaves no trace; after recovery the figures are those of the rebuilt task."""
    driven = Driven()
    driven.commit(driven.process())
    before = driven.samples()["headrace_events_total"]
    driven.process()
    assert driven.samples()["headrace_events_total"] == before
    driven.observer.aborted("broker went away")
    assert driven.samples()["headrace_events_total"] == before
    assert driven.samples()["headrace_aborts_total"] == 1
    driven.observer.recovered(driven.task, Recovered(seconds=1.5, journalled=2))
    after = driven.samples()
    assert after["headrace_events_total"] == driven.task.chain.counts["events"] > before
    assert after["headrace_recoveries_total"] == 1
    assert after["headrace_recovery_seconds_total"] == 1.5
    assert after["headrace_recovered_batches_total"] == 2


def test_a_commit_shows_its_own_batch_only():
    """Where a task has already gone on when a commit returns, the figures are those of the committed batch."""
    driven = Driven()
    first = driven.process()
    events = driven.task.chain.counts["events"]
    second = driven.process()
    driven.commit(first)
    assert driven.samples()["headrace_events_total"] == events
    driven.commit(second)
    assert driven.samples()["headrace_events_total"] == driven.task.chain.counts["events"] > events


def test_counters_go_on_after_a_restart():
    """A new process that recovers the state exports at once what the old one did: counters never fall."""
    driven = Driven()
    driven.all()
    successor = MetricsObserver(flights, driven.group, process=False)
    successor.recovered(driven.task, Recovered())
    before, after = driven.samples(), exported(successor)
    kept = [name for name in METRICS if name in before and name.startswith(("headrace_events", "headrace_labelled"))]
    assert len(kept) == 2
    assert {name: after[name] for name in kept} == {name: before[name] for name in kept}


def test_latency_is_sampled_and_weighted(driven: Driven):
    """Every record counts in the latency histogram though few are looked at, and each batch in the others."""
    samples = driven.samples()
    records = {role: samples[f"headrace_commit_latency_seconds_count{{input={role}}}"] for role in ("events", "labels")}
    assert sum(records.values()) == samples["headrace_batch_records_sum"] == sum(driven.task.positions)
    assert samples["headrace_commit_latency_seconds_bucket{input=events,le=5.0}"] == records["events"]
    assert samples["headrace_commit_latency_seconds_bucket{input=events,le=2.5}"] == 0
    assert samples["headrace_transaction_seconds_count"] == samples["headrace_batch_records_count"]
    assert samples["headrace_processing_seconds_total"] == 0.25 * samples["headrace_batch_records_count"]


def test_the_model_tells_its_age(driven: Driven):
    """n is the number of examples learned, and the age is stream time less the last label learned."""
    samples = driven.samples()
    learned, until_ms = driven.task.chain.stores.states["chain"]["progress"].value
    assert samples["headrace_examples_learned_total"] == learned > 0
    age_ms = driven.task.chain.stream_time_ms - until_ms
    assert samples["headrace_model_age_seconds"] == pytest.approx(max(0, age_ms) / 1000)
    assert samples["headrace_stream_time_timestamp_seconds"] == driven.task.chain.stream_time_ms / 1000


def test_a_broken_law_shows():
    """A count that does not add up turns the law's gauge to 0, and only that law's."""
    driven = Driven(50)
    driven.task.chain.counts["labelled"] = 7
    driven.all()
    samples = driven.samples()
    assert samples["headrace_conservation_law{law=predictions}"] == 0
    assert samples["headrace_conservation_law{law=events}"] == 1


def test_each_group_exports_what_it_makes():
    """Where stages are separate workers, no figure is exported by two of them."""
    front, back = (
        Driven(50, group=group_of(["validate", "featurize"])),
        group_of(["predict", "join", "train", "evaluate"]),
    )
    front.all()
    samples = front.samples()
    assert samples["headrace_events_total"] == 55
    assert samples["headrace_conservation_law{law=events}"] == 1
    assert not {"headrace_predictions_total", "headrace_pending", "headrace_labels_total"} & samples.keys()
    behind = MetricsObserver(flights, back, process=False)
    behind.recovered(Task(flights, back, 0, topics=str), Recovered())
    assert "headrace_events_total" not in exported(behind)
    assert exported(behind)["headrace_predictions_total"] == 0


def test_a_partition_that_left_is_not_exported(driven: Driven):
    """What another worker counts now is not exported here any more."""
    gone = Driven(20)
    gone.all()
    gone.observer.lag(gone.task, "flights.events", 3)
    gone.observer.assigned([])
    left = gone.samples()
    assert "headrace_events_total" not in left
    assert not [name for name in left if name.startswith("headrace_lag")]


def test_a_partition_that_came_back_with_its_memory_is_exported():
    """A kept task is not recovered: its figures are there again as soon as it is assigned."""
    driven = Driven(20)
    driven.all()
    driven.observer.watch(Worker(driven.task))
    driven.observer.assigned([])
    driven.observer.assigned([0])
    assert driven.samples()["headrace_events_total"] == 25


def test_checkpoints_are_counted():
    """Entries and bytes add up; the moment of the last is told."""
    driven = Driven(20)
    driven.observer.checkpointed(driven.task, 10, 1_000, 0.4)
    driven.observer.checkpointed(driven.task, 5, 500, 3.0)
    samples = driven.samples()
    assert samples["headrace_checkpoint_entries_total"] == 15
    assert samples["headrace_checkpoint_bytes_total"] == 1_500
    assert samples["headrace_checkpoint_seconds_sum"] == pytest.approx(3.4)
    assert samples["headrace_checkpoint_seconds_bucket{le=0.5}"] == 1
    assert samples["headrace_last_checkpoint_timestamp_seconds"] == NOW_MS / 1000


def test_every_metric_is_declared_and_well_formed(driven: Driven):
    """Both exposition formats parse; names begin with headrace_, and every declared label is there."""
    driven.observer.watch(Worker(driven.task))
    driven.observer.lag(driven.task, "flights.events", 3)
    text, kind = driven.observer.exposition("application/openmetrics-text; version=1.0.0")
    assert kind.startswith("application/openmetrics-text")
    families = {family.name: family for family in openmetrics(text.decode())}
    for name, kind_ in METRICS.items():
        family = families.get(name.removesuffix("_total"))
        if family is not None:
            assert family.type == kind_.kind
            assert {"le", *kind_.labels} >= set(family.samples[0].labels) >= set(kind_.labels)
    assert set(families) <= {name.removesuffix("_total") for name in METRICS}
    assert len(families) > 25


# -- the web server ----------------------------------------------------------------------------------------------


class Worker:
    """As much of a worker as its observers look at."""

    def __init__(self, task: Any = None, cluster: Any = None) -> None:
        self.id, self.group_name = "flights.0", "flights"
        self.version = SimpleNamespace(hash="0123456789abcdef")
        self.settings = Settings(stall_s=5)
        self.ticks = self.progress = 0
        self.ready = self.stopping = False
        self.lanes = {} if task is None else {0: SimpleNamespace(task=task, paused={1}, end_offsets={}, read_to={})}
        self.cluster = cluster or SimpleNamespace(reader=lambda: Ends({}))


class Ends:
    """A reader that knows the last stable offsets; one of None stands for a broker that is away."""

    def __init__(self, ends: dict[str, int | None]) -> None:
        self.ends = ends
        self.closed = False

    def stable(self, topic: str, partition: int) -> int:
        """The last stable offset."""
        end = self.ends[topic]
        if end is None:
            raise Unreachable("No Kafka broker answers.")
        return end

    def close(self) -> None:
        """Remember it."""
        self.closed = True


@pytest.fixture
def worker() -> Worker:
    """A worker that has not begun."""
    return Worker()


@pytest.fixture
def server(worker: Worker) -> Iterator[Server]:
    """Its web server on a free port of the loopback."""
    with serve("127.0.0.1", 0, worker, MetricsObserver(flights, group_of())) as running:
        yield running


def ask(server: Server, path: str, method: str = "GET", accept: str = "") -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body."""
    client = http.client.HTTPConnection(server.host, server.port, timeout=60)
    client.request(method, path, headers={"Accept": accept})
    response = client.getresponse()
    out = response.status, dict(response.headers), response.read()
    client.close()
    return out


def test_metrics_are_served(server: Server, worker: Worker):
    """A scrape has the worker's figures and its process's, in Prometheus' text format."""
    worker.ticks = 41
    status, headers, body = ask(server, "/metrics")
    assert status == 200
    assert headers["Content-Type"].startswith("text/plain")
    assert b'headrace_ticks_total{group="flights",pipeline="flights"} 41.0' in body
    assert b'spec_hash="0123456789abcdef"' in body
    assert b"process_cpu_seconds_total" in body


def test_health_and_readiness_are_told_apart(server: Server, worker: Worker):
    """A worker that recovers is alive and not ready; one that stops is not ready any more."""
    assert ask(server, "/healthz")[0] == 200
    status, _, body = ask(server, "/readyz")
    assert status == 503
    assert "recovering" in json.loads(body)["reason"]
    worker.ready = True
    assert ask(server, "/readyz")[0] == 200
    worker.stopping = True
    assert "stopping" in json.loads(ask(server, "/readyz")[2])["reason"]
    assert ask(server, "/healthz")[0] == 200


def test_the_pulse_stops_after_the_deadline(worker: Worker):
    """Within the deadline silence is nothing; after it the reason says how long; a tick mends it."""
    now = [100.0]
    pulse = Pulse(worker, 5.0, clock=lambda: now[0])
    now[0] += 5
    assert pulse.stalled() is None
    now[0] += 1
    assert pulse.stalled() == "the loop has not gone round for 6 s (allowed: 5 s)"
    worker.ready = True
    assert pulse.unready() == pulse.stalled()
    worker.ticks += 1
    assert pulse.stalled() is None
    assert pulse.unready() is None


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/", 404), ("GET", "/metrics/", 404), ("POST", "/metrics", 405), ("DELETE", "/healthz", 405)],
)
def test_nothing_else_is_served(server: Server, method: str, path: str, status: int):
    """Other paths are 404 and other methods 405, as plain text."""
    found, headers, body = ask(server, path, method)
    assert found == status
    assert headers["Content-Type"].startswith("text/plain")
    assert b"<" not in body


def test_head_has_no_body_and_no_banner(server: Server):
    """HEAD gives the headers of GET without the body; no header says what the server is made of."""
    status, headers, body = ask(server, "/healthz", "HEAD")
    assert (status, body) == (200, b"")
    assert int(headers["Content-Length"]) > 0
    assert "Server" not in headers
    assert "python" not in str(headers).lower()


def test_closing_frees_the_port_and_ends_the_threads(worker: Worker):
    """After close nothing listens, none of its threads is left, and the port can be had again at once."""
    with serve("127.0.0.1", 0, worker, MetricsObserver(flights, group_of())) as first:
        port = first.port
        assert ask(first, "/healthz")[0] == 200
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0
    with serve("127.0.0.1", port, worker, MetricsObserver(flights, group_of())) as second:
        assert ask(second, "/healthz")[0] == 200
    assert {thread.name for thread in threading.enumerate()} & {"headrace-http", "headrace-watch"} == set()


def test_a_taken_port_is_a_usage_error(server: Server, worker: Worker):
    """The message names the address and the way on; an illegal port names the legal ones."""
    observer = MetricsObserver(flights, group_of())
    with pytest.raises(UsageError, match=f"127.0.0.1:{server.port} .*choose another --metrics-port, or 0"):
        serve("127.0.0.1", server.port, worker, observer)
    with pytest.raises(ValueError, match="legal are 0"):
        serve("127.0.0.1", 70_000, worker, observer)


def test_lag_is_measured_beside_the_loop(caplog: pytest.LogCaptureFixture):
    """Lag is the last stable offset less the task's place; when the cluster is away the series is gone.

    Then the worker is not ready: it was, until its own wait for a broker was over. The log says so once.
    """
    driven = Driven(20)
    driven.all()
    ends: dict[str, int | None] = {"flights.events": 30, "flights.labels": 25}
    reader = Ends(ends)
    measured = threading.Event()
    unknown = threading.Event()

    class Told(MetricsObserver):
        def lag(self, task: Task, topic: str, records: int) -> None:
            super().lag(task, topic, records)
            if topic == "flights.events":
                measured.set()

        def lag_unknown(self) -> None:
            super().lag_unknown()
            unknown.set()

    observer = Told(flights, group_of(), process=False)
    worker = Worker(driven.task, SimpleNamespace(reader=lambda: reader))
    worker.ready = True
    with serve("127.0.0.1", 0, worker, observer, lag_every_s=0.01) as served:
        assert measured.wait(5)
        assert exported(observer)["headrace_lag_records{input=events,topic=flights.events}"] == 5
        assert exported(observer)["headrace_paused{input=labels}"] == 1
        assert exported(observer)["headrace_paused{input=events}"] == 0
        assert ask(served, "/readyz")[0] == 200
        ends["flights.labels"] = None
        assert unknown.wait(5)
        unknown.clear()
        assert unknown.wait(5)
        assert json.loads(ask(served, "/readyz")[2])["reason"] == "No Kafka broker answers."
        assert caplog.messages.count("lag unknown: No Kafka broker answers.") == 1
        assert not [name for name in exported(observer) if "lag" in name and "labels" in name]
    assert reader.closed


def test_markers_behind_the_last_record_are_no_lag():
    """Where the worker has read to the end, what counts is what it has not processed, in its hands or not."""
    driven = Driven(20)
    task, rank = driven.task, driven.group.inputs.index("events")
    lane, worker = Lane(task, Recovered(), None), Worker(task)
    worker.lanes = {0: lane}
    name = "headrace_lag_records{input=events,topic=flights.events}"

    def lag(end: int) -> float:
        _measure(worker, driven.observer, Ends({"flights.events": end, "flights.labels": 25}))
        return driven.samples()[name]

    lane.ended(rank, 30)
    assert lag(30) == 25
    task.merge.take(10)
    assert lag(30) == 25
    driven = Driven(20)
    driven.all()
    task = driven.task
    lane = worker.lanes[0] = Lane(task, Recovered(), None)
    lane.ended(rank, 30)
    assert lag(30) == 0
    assert lag(31) == 6


def test_an_end_is_noted_with_what_was_read_to_it():
    """The lag is looked at by another thread, at any moment: it found no place that was read to."""
    driven = Driven(20)
    lane, found = Lane(driven.task, Recovered(), None), []

    class Seen(dict[int, int]):
        def __setitem__(self, rank: int, offset: int) -> None:
            found.append(lane.read_to.get(rank))

    lane.end_offsets = Seen()
    lane.ended(driven.group.inputs.index("events"), 30)
    assert found == [25]
