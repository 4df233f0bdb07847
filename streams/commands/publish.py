"""``headrace publish``: a file's rows as events and labels, as any producer would publish them."""

from __future__ import annotations

import contextlib
import heapq
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import click

from headrace.streams import data
from headrace.streams.commands.backtest import warn_without_labels
from headrace.streams.commands.options import Context, Headrace, json_option, kafka_options, pipeline_argument
from headrace.streams.commands.output import emit, progress, say, warn
from headrace.streams.commands.topics import require
from headrace.streams.data import Outgoing
from headrace.streams.errors import HeadraceError, Unreachable, UsageError
from headrace.streams.kafka import Cluster
from headrace.streams.pipeline import Pipeline
from headrace.streams.topics import names_of, worker_groups

__all__ = ["Publisher", "check_keys", "interleaved", "publish", "warn_of_a_worker"]

_LATE_S, _AWAY_S = 5.0, 120.0
_REST = "publish the rest, or all of it again if `duplicates_within` reaches back to what is there"


class Publisher:
    """An idempotent producer that counts what was acknowledged; keys choose partitions as Java's default does.

    Where something waits for it, and nothing is acknowledged, it says so, and after two minutes gives up.
    """

    def __init__(self, cluster: Cluster, clock: Callable[[], float] = time.monotonic) -> None:
        self._sent, self._delivered = Counter[str](), Counter[str]()
        self._failed, self._why = 0, ""
        self._clock, self._looked, self._silent_s, self._late = clock, clock(), 0.0, False
        self._producer = cluster.plain_producer()

    def send(self, topic: str, record: Outgoing, partition: int = -1) -> None:
        """Queue a record for this partition, or the one of its key; waits while the queue is full."""
        while True:
            try:
                self._producer.produce(topic, record.value, record.key, partition, on_delivery=self._seen)
                break
            except BufferError:
                self.wait(0.1)
        self._sent[topic] += 1
        self.wait(0)

    def wait(self, seconds: float) -> None:
        """Let time pass while the producer works; raises when Kafka has not answered for two minutes."""
        self._producer.poll(seconds)
        before, self._looked = self._looked, self._clock()
        self._silent_s += min(self._looked - before, 1.0)  # no more, as this process may have been stopped meanwhile
        if not len(self._producer):
            self._silent_s, self._late = 0.0, False
        elif self._silent_s > _AWAY_S:
            raise Unreachable(
                f"No Kafka broker has answered for {_AWAY_S:g} s; {self.acknowledged}: when one does, {_REST}."
            )
        elif self._silent_s > _LATE_S and not self._late:
            self._late = True
            warn(f"Waiting for Kafka; {self.acknowledged}.")

    def flush(self) -> None:
        """Return when all is acknowledged; raises when something was not."""
        while len(self._producer):
            self.wait(0.5)
        if self._failed:
            failed = f"{self._failed:,} records were not delivered ({self._why})"
            raise HeadraceError(f"{failed}; {self.acknowledged}: when that is mended, {_REST}.")

    def leave(self) -> None:
        """Give what was sent a moment to be acknowledged, and say how much was."""
        self._producer.flush(_LATE_S)
        warn(f"Stopped; {self.acknowledged}.")

    @property
    def acknowledged(self) -> str:
        """How far it is, in words."""
        sent = [f"{self._delivered[topic]:,} of {count:,} sent to {topic}" for topic, count in self._sent.items()]
        return f"acknowledged are {' and '.join(sent) or 'none'}"

    def _seen(self, error: Any, message: Any) -> None:
        self._silent_s, self._late = 0.0, False
        if error is None:
            self._delivered[message.topic()] += 1
        else:
            self._failed += 1
            self._why = error.str()


@click.command(cls=Headrace)
@pipeline_argument
@click.argument("file", required=False, metavar="[FILE]")
@click.option("--labels", metavar="FILE", help="Labels from a file of their own.")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Only the first N rows.")
@click.option(
    "--rate",
    type=click.FloatRange(min=0, min_open=True),
    metavar="EVENTS_PER_S",
    help="At this pace, events and labels interleaved by time; else at full speed, events first.",
)
@click.option("--only", type=click.Choice(["events", "labels"]), help="Only one of the two.")
@kafka_options
@json_option
@click.pass_context
def publish(
    ctx: click.Context,
    pipeline: Pipeline,
    file: str | None,
    labels: str | None,
    limit: int | None,
    rate: float | None,
    only: str | None,
    json_to: str | None,
) -> None:
    """Publish FILE (.parquet, .csv, .jsonl), or the data that the pipeline declares, as events and labels."""
    cluster = ctx.ensure_object(Context).cluster()
    roles = ("events", "labels") if only is None else (only,)
    require(cluster, pipeline, roles)
    frame = data.load(file, pipeline, limit)
    events, known = data.records(pipeline, frame, None if labels is None else data.load(labels, pipeline))
    if labels is None and "labels" in roles:
        warn_without_labels(pipeline, frame)
    streams = {"events": events, "labels": known}
    streams = {role: streams[role] for role in roles}
    check_keys(pipeline, streams.get("labels", []))
    names = names_of(pipeline)
    if rate is None and only is None:
        warn_of_a_worker(cluster, pipeline, events)
    began = time.monotonic()
    publisher = Publisher(cluster)
    with progress(f"publish {pipeline.name}", sum(map(len, streams.values()))) as advance:
        try:
            _publish(publisher, streams, names, rate, advance)
            publisher.flush()
        except KeyboardInterrupt:
            publisher.leave()
            raise
    seconds = time.monotonic() - began
    counts = {role: len(records) for role, records in streams.items()}
    if emit(json_to, counts | {"seconds": round(seconds, 3)}):
        what = " and ".join(f"{count:,} {role}" for role, count in counts.items())
        say(f"{what} published in {seconds:.2f} s")


def check_keys(pipeline: Pipeline, labels: list[Outgoing]) -> None:
    """Refuse labels that would not reach the partitions of their events, as none of them has the events' key."""
    if pipeline.partitions > 1 and labels and all(record.key is None for record in labels):
        lacking = f"The labels have no column {pipeline.events.key}, the key of their events"
        raise UsageError(f"{lacking}, so they would not reach the same of {pipeline.partitions} partitions: add it.")


def warn_of_a_worker(cluster: Cluster, pipeline: Pipeline, events: list[Outgoing]) -> None:
    """Say what may become of more than `ttl` at full speed: a worker that runs does not wait for what is not there."""
    times = [record.time_ms for record in events]
    if times and max(times) - min(times) > pipeline.ttl_ms:
        with contextlib.suppress(HeadraceError):  # no reason not to publish
            if any(cluster.members(worker_groups(pipeline)).values()):
                apart = f"more than {pipeline.labels.ttl} from their events"
                warn(f"A worker runs, and may refuse labels that reach it {apart}: --rate keeps them together.")


def interleaved(streams: dict[str, list[Outgoing]]) -> Iterator[tuple[str, Outgoing]]:
    """All records by time, labels before events at equal times; each stream keeps its own order."""
    ranked = [(("labels", "events").index(role), role, records) for role, records in streams.items()]
    tagged = [_tagged(rank, role, records) for rank, role, records in ranked]
    for *_, role, record in heapq.merge(*tagged, key=lambda item: item[:3]):
        yield role, record


def _tagged(rank: int, role: str, records: list[Outgoing]) -> Iterator[tuple[int, int, int, str, Outgoing]]:
    latest = -(2**62)
    for i, record in enumerate(records):
        latest = max(latest, record.time_ms)
        yield latest, rank, i, role, record


def _publish(
    publisher: Publisher,
    streams: dict[str, list[Outgoing]],
    names: Callable[[str], str],
    rate: float | None,
    advance: Callable[[int], None],
) -> None:
    every: Iterable[tuple[str, Outgoing]]
    every = interleaved(streams) if rate else ((role, record) for role in streams for record in streams[role])
    paced = "events" if "events" in streams else "labels"
    began, sent, noted = time.monotonic(), 0, 0
    for count, (role, record) in enumerate(every, 1):
        if rate and role == paced:
            while (early := began + sent / rate - time.monotonic()) > 0:
                publisher.wait(min(early, 0.5))
            sent += 1
        publisher.send(names(role), record)
        if count - noted >= 500 or (rate and rate < 1_000):
            advance(count - noted)
            noted = count
