"""``headrace audit``: recompute what was published, and compare."""

from __future__ import annotations

import click
import msgspec

from headrace.streams.commands.options import (
    Context,
    Headrace,
    json_option,
    kafka_options,
    pipeline_name_argument,
)
from headrace.streams.commands.output import emit, progress, say, show
from headrace.streams.commands.topics import require
from headrace.streams.identity.hashseed import fixed_hash_seed
from headrace.streams.loading import load_pipeline
from headrace.streams.models.keys import signing_key, trusted_keys
from headrace.streams.models.snapshots import Sealed
from headrace.streams.replay.audit import audit as recompute
from headrace.streams.topics import ROLES, names_of

__all__ = ["audit"]

_UNREAD = ("shadow", "models", "registry", "control", "state")


@click.command(cls=Headrace)
@pipeline_name_argument
@kafka_options
@json_option
@click.pass_context
def audit(ctx: click.Context, pipeline: str, json_to: str | None) -> None:
    """Recompute all that was published from the inputs and the journal; exit 1 when a byte differs."""
    fixed_hash_seed()
    loaded = load_pipeline(pipeline)
    cluster = ctx.ensure_object(Context).cluster()
    require(cluster, loaded, set(ROLES) - set(_UNREAD))
    codec = Sealed(signing_key(), trusted_keys(), loaded.classes)
    with progress("audit", None) as advance:
        result = recompute(loaded, cluster.reader, names_of(loaded), codec=codec, progress=advance)
    if emit(json_to, msgspec.to_builtins(result)):
        rows = [(role, counts["compared"], counts["different"]) for role, counts in result.by_topic.items()]
        show("", ("topic", "compared", "different"), rows)
        ranges = [(task, t, *span) for task, inputs in result.ranges.items() for t, span in inputs.items()]
        show("", ("task", "input", "from offset", "to before"), ranges)
        for line in result.first:
            say(line)
        for task, why in result.begun.items():
            say(f"{task} is covered from {why}")
        for task, gaps in result.skipped.items():
            why = "from another specification to the first savepoint of this one"
            say(f"{task} is covered but for {' and '.join(gaps)}: {why}")
        for task, why in result.ended.items():
            say(f"{task} is covered up to where {why}: audit the rest with that one")
        say(f"{result.compared:,} records compared, {result.different:,} different, {result.journal_batches:,} batches")
    if result.different:
        ctx.exit(1)
