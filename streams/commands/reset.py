"""``headrace reset``: start a pipeline anew from its inputs."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable

import click

from headrace.streams.commands.options import Context, Headrace, json_option, kafka_options, pipeline_argument
from headrace.streams.commands.output import emit, say, show
from headrace.streams.commands.topics import create_missing
from headrace.streams.errors import TopicError, UsageError
from headrace.streams.kafka import Cluster
from headrace.streams.pipeline import Pipeline
from headrace.streams.topics import TopicSpec, consumer_groups, topic_specs

__all__ = ["reset"]

_GONE_S = 30.0


@click.command(cls=Headrace)
@pipeline_argument
@click.option("--yes", is_flag=True, help="Do it; without, only say what would be done.")
@click.option(
    "--keep-inputs/--delete-inputs", default=True, show_default=True, help="Whether events and labels stay as they are."
)
@click.option(
    "--wait",
    type=click.FloatRange(min=0),
    default=0.0,
    metavar="SECONDS",
    help="Wait this long for the workers to be gone: one that was stopped counts for 10 s more.",
)
@kafka_options
@json_option
@click.pass_context
def reset(
    ctx: click.Context, pipeline: Pipeline, yes: bool, keep_inputs: bool, wait: float, json_to: str | None
) -> None:
    """Empty every topic that the pipeline writes and forget its groups: the next run starts from the first event.

    What was learned and published is gone then; the inputs stay. Without --yes it only says what it would delete. It
    refuses while a worker or the control plane is a member of one of the groups.
    """
    cluster = ctx.ensure_object(Context).cluster()
    kept = ("events", "labels") if keep_inputs else ()
    specs = [spec for spec in topic_specs(pipeline) if spec.role not in kept]
    existing = cluster.describe(spec.name for spec in specs)
    doomed = [spec for spec in specs if spec.name in existing]
    names = [name for name in consumer_groups(pipeline) if cluster.committed(name)]
    if yes:
        _refuse_while_active(cluster, pipeline, wait)
    counts = _counts(cluster, doomed)
    if yes:
        for name in names:
            cluster.delete_group(name)
        _empty(cluster, doomed)
    value = {"done": yes, "topics": counts, "groups": names}
    if emit(json_to, value):
        show("", ("topic", "records deleted" if yes else "records to delete"), counts.items())
        if not yes:
            offsets = f" and the offsets of {', '.join(names)}" if names else ""
            say(f"Nothing was deleted. With --yes, these records{offsets} would be.")


def _refuse_while_active(cluster: Cluster, pipeline: Pipeline, wait: float) -> None:
    deadline, groups = time.monotonic() + wait, consumer_groups(pipeline)
    while active := [name for name, members in cluster.members(groups).items() if members]:
        if time.monotonic() >= deadline:
            raise UsageError(
                f"Workers are still members of {', '.join(active)}: stop them first, the control plane too (a stopped "
                "one counts for 10 s more: --wait 15)."
            )
        time.sleep(0.2)


def _counts(cluster: Cluster, specs: Iterable[TopicSpec]) -> dict[str, int]:
    """Offsets in use by topic: records, and the markers of transactions."""
    out = {}
    with contextlib.closing(cluster.reader()) as reader:
        for spec in specs:
            partitions = cluster.describe([spec.name])[spec.name][0]
            marks = [reader.watermarks(spec.name, partition) for partition in range(partitions)]
            out[spec.name] = sum(high - low for low, high in marks)
    return out


def _empty(cluster: Cluster, specs: list[TopicSpec]) -> None:
    """Delete the topics and create them again: also their transaction markers and compaction history are gone then."""
    names = [spec.name for spec in specs]
    cluster.delete(names)
    deadline = time.monotonic() + _GONE_S
    while left := cluster.describe(names):
        if time.monotonic() > deadline:
            raise TopicError(f"Topics still exist {_GONE_S:g} s after they were deleted: {', '.join(left)}.")
        time.sleep(0.05)
    create_missing(cluster, specs)
