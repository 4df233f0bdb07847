"""``headrace explain``: one event's way, recomputed and compared."""

from __future__ import annotations

import click

from headrace.streams.commands.options import (
    Context,
    Headrace,
    given,
    json_option,
    kafka_options,
    pipeline_name_argument,
)
from headrace.streams.commands.output import emit, escaped, progress, say, show
from headrace.streams.commands.topics import require
from headrace.streams.identity.hashseed import fixed_hash_seed
from headrace.streams.loading import load_pipeline
from headrace.streams.models.keys import signing_key, trusted_keys
from headrace.streams.models.snapshots import Sealed
from headrace.streams.replay.explain import event_id_of
from headrace.streams.replay.explain import explain as recompute
from headrace.streams.replay.story import Explained, RawRecord, plain
from headrace.streams.status.moments import moment
from headrace.streams.topics import names_of

__all__ = ["explain"]

_READ = ("events", "labels", "features", "predictions", "examples", "dead-letter", "journal", "savepoints")


@click.command(cls=Headrace)
@pipeline_name_argument
@click.argument("event_id", metavar="EVENT_ID")
@click.option("--whole", is_flag=True, help="Replay everything, not from the savepoint before its prediction on.")
@kafka_options
@json_option
@click.pass_context
def explain(ctx: click.Context, pipeline: str, event_id: str, whole: bool, json_to: str | None) -> None:
    """Recompute one event's features, prediction and example, compare them, and tell its way.

    Exit 1 when a byte differs from what was published, or when there is no such event.
    """
    fixed_hash_seed()
    loaded = load_pipeline(pipeline)
    wanted = event_id_of(loaded, event_id)
    cluster = ctx.ensure_object(Context).cluster()
    require(cluster, loaded, set(_READ))
    codec = Sealed(signing_key(), trusted_keys(), loaded.classes)
    with progress("replay", None) as advance:
        told = recompute(loaded, [wanted], cluster.reader, names_of(loaded), codec=codec, whole=whole, progress=advance)
    found = told[wanted]
    if emit(json_to, plain(found)):
        _tell(found)
    if found.different or not found.events:
        ctx.exit(1)


def _tell(found: Explained) -> None:
    if not found.events and not found.labels:
        spans = [f"{topic} {first} to {end - 1}" for topic, (first, end) in found.covered.items() if end > first]
        say(f"No event {found.event_id!r} was read; the replay covered {', '.join(spans) or 'nothing'}.")
        if found.begun:
            say(f"It covered {found.begun}.")
        if found.ended:
            say(f"It ended there: {found.ended}.")
        say(f"What has no id that can be read is not looked for: see `headrace dead-letter show {given()}`.")
        return
    say(f"Event {found.event_id!r}: {found.status}{f' ({found.why})' if found.why else ''}")
    _records("event", found.events)
    if found.features is not None:
        show("features", ("name", "value"), list(found.features.items()))
    if found.learned is not None and found.prediction is not None:
        until = "" if found.learned.until_ms is None else f", until {moment(found.learned.until_ms)}"
        last = [(e["n"], e["event_id"], e["label"], moment(e["label_time_ms"])) for e in found.learned.last]
        said = f"{found.learned.version} answered: {found.learned.n:,} examples learned{until}"
        say(f"{said}; the last of them:" if last else said)
        if last:
            show("", ("n", "event", "label", "known at"), last)
        answer = {name: found.prediction[name] for name in ("prediction", "probability", "reason")}
        say(", ".join(f"{name} {value}" for name, value in answer.items() if value is not None))
    _records("label", found.labels)
    if not found.labels and not found.whole:
        say("no label: its partition was replayed from the savepoint before it; --whole looks everywhere")
    if found.first is not None:
        say(f"{found.first['version']} is the first that had learned from it (it answered {found.first['event_id']!r})")
    rows = [(c.topic, "-" if c.offset is None else c.offset, c.difference or "the same bytes") for c in found.compared]
    show("recomputed", ("topic", "offset", "compared"), rows)


def _records(what: str, records: list[RawRecord]) -> None:
    for record in records:
        say(
            f"{what}: {record.topic}/{record.partition} offset {record.offset}, {len(record.value or b''):,} bytes, "
            f"{moment(record.time_ms)}, became {record.became or 'nothing yet'}"
        )
        say(f"  {escaped(record.value)}")
