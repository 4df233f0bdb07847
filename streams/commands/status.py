"""``headrace status``: how far every group of stages is."""

from __future__ import annotations

import contextlib
import time
from typing import Any

import click
import msgspec

from headrace.schemas.records import Prediction
from headrace.streams.commands.options import Context, Headrace, json_option, kafka_options, names_of, pipeline_argument
from headrace.streams.commands.output import emit, say, show
from headrace.streams.commands.records import last
from headrace.streams.commands.topics import require
from headrace.streams.journal import read as read_entry
from headrace.streams.kafka import Cluster
from headrace.streams.pipeline import Pipeline
from headrace.streams.runtime import group_name, topic_lag
from headrace.streams.topology import Group, groups

__all__ = ["active_members", "status"]

_RECENT = 200


@click.command(cls=Headrace)
@pipeline_argument
@kafka_options
@json_option
@click.pass_context
def status(ctx: click.Context, pipeline: Pipeline, json_to: str | None) -> None:
    """Show members, committed offsets and lag of each group, the journal, and the last prediction."""
    cluster = ctx.ensure_object(Context).cluster()
    require(cluster, pipeline, ["events", "labels", "features", "predictions", "examples", "journal"])
    with contextlib.closing(cluster.reader()) as reader:
        found = [_group(cluster, reader, pipeline, group) for group in groups()]
        value = {
            "pipeline": pipeline.name,
            "groups": [group for group in found if group["members"] or group["journal"] or _committed(group)],
            "last_prediction": _last_prediction(reader, pipeline),
        }
    if emit(json_to, value):
        _show(value)


def active_members(cluster: Cluster, pipeline: Pipeline) -> dict[str, int]:
    """Members of each of the pipeline's consumer groups that has any."""
    found = {group_name(pipeline, group): cluster.group_members(group_name(pipeline, group)) for group in groups()}
    return {name: members for name, members in found.items() if members}


def _group(cluster: Cluster, reader: Any, pipeline: Pipeline, group: Group) -> dict[str, Any]:
    name = group_name(pipeline, group)
    topics = names_of(pipeline)
    committed = cluster.committed(name)
    inputs = []
    for role in group.inputs[group.leading :]:
        for partition in range(pipeline.partitions):
            place = committed.get((topics(role), partition))
            stable = reader.stable(topics(role), partition)
            inputs.append(
                {
                    "topic": topics(role),
                    "partition": partition,
                    "committed": place,
                    "stable": stable,
                    "lag": topic_lag(stable, place),
                }
            )
    return {
        "group": name,
        "stages": list(group.stages),
        "members": cluster.group_members(name),
        "inputs": inputs,
        "journal": _journal(reader, pipeline, group),
    }


def _journal(reader: Any, pipeline: Pipeline, group: Group) -> list[dict[str, int]]:
    """The last journal record of each partition: its numbers count all there were."""
    out = []
    for partition in range(pipeline.partitions):
        recent = last(reader, names_of(pipeline)("journal"), partition, _RECENT)
        mine = [read_entry(r.value) for r in recent if r.key == group.name.encode()]
        if mine:
            # Records count from 0, and so do epochs, each of which opens with a record that is no batch.
            newest = mine[-1]
            out.append({"partition": partition, "batches": newest.seq - newest.epoch, "epoch": newest.epoch})
    return out


def _last_prediction(reader: Any, pipeline: Pipeline) -> dict[str, Any] | None:
    topic = names_of(pipeline)("predictions")
    found = [record for p in range(pipeline.partitions) for record in last(reader, topic, p, 1)]
    if not found:
        return None
    newest = max(found, key=lambda record: record.timestamp_ms)
    prediction = msgspec.json.decode(newest.value, type=Prediction)
    return {
        "published_ms": newest.timestamp_ms,
        "age_s": round(time.time() - newest.timestamp_ms / 1000, 3),
        "event_time_ms": prediction.time_ms,
        "model": prediction.model,
    }


def _committed(group: dict[str, Any]) -> bool:
    return any(place["committed"] is not None for place in group["inputs"])


def _show(value: dict[str, Any]) -> None:
    if not value["groups"]:
        say(f"Nothing has run yet: start a worker with `headrace run`, for pipeline {value['pipeline']}.")
    for group in value["groups"]:
        batches = sum(entry["batches"] for entry in group["journal"])
        say(f"{group['group']}: {group['members']} members, {batches:,} batches in the journal")
        columns = ("topic", "partition", "committed", "stable", "lag")
        show("", columns, [[place[name] for name in columns] for place in group["inputs"]])
    newest = value["last_prediction"]
    if newest is not None:
        say(f"The last prediction was published {newest['age_s']:,.1f} s ago, by {newest['model']}.")
