"""``headrace topics`` and ``headrace check``: what a pipeline declares, and whether the cluster fits it."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

import click

from headrace.streams.commands.options import Context, Headrace, given, json_option, kafka_options, pipeline_argument
from headrace.streams.commands.output import emit, say, show
from headrace.streams.errors import TopicError
from headrace.streams.kafka import Cluster
from headrace.streams.pipeline import Pipeline
from headrace.streams.topics import TopicSpec, too_small, topic_specs, wrong_settings

__all__ = ["check", "create_missing", "require", "topics"]

_VISIBLE_S = 15.0


@click.command(cls=Headrace)
@pipeline_argument
@click.option("--apply", is_flag=True, help="Create the topics that are missing.")
@kafka_options
@json_option
@click.pass_context
def topics(ctx: click.Context, pipeline: Pipeline, apply: bool, json_to: str | None) -> None:
    """Compare the topics with what they have to be; exit 1 when one is missing or wrong.

    With --apply the missing ones are created. An existing topic is never changed: it is reported with its setting, its
    value, and the value that it should have.
    """
    cluster = ctx.ensure_object(Context).cluster()
    specs = topic_specs(pipeline)
    created = create_missing(cluster, specs) if apply else []
    found = {spec.name: wrong for spec, wrong in _compare(cluster, specs)}
    rows = [_row(spec, found[spec.name], spec.name in created) for spec in specs]
    right = not any(row["wrong"] or row["state"] == "missing" for row in rows)
    if emit(json_to, {"topics": rows, "right": right}):
        show("", ("topic", "partitions", "state"), [(r["name"], r["partitions"], _state(r)) for r in rows])
        if any(row["state"] == "missing" for row in rows):
            say("With --apply, the missing ones are created.")
    if not right:
        ctx.exit(1)


@click.command(cls=Headrace)
@pipeline_argument
@json_option
def check(pipeline: Pipeline, json_to: str | None) -> None:
    """Load the declaration and show what it says; exit 2 with one sentence when it is wrong. Needs no Kafka."""
    features = {field["name"]: _type(field["type"]) for field in pipeline.featurize.fields()}
    value = {
        "name": pipeline.name,
        "task": pipeline.task,
        "champion": pipeline.champion,
        "features": features,
        "models": {name: repr(model) for name, model in pipeline.models.items()},
        "topics": {spec.role: spec.name for spec in topic_specs(pipeline)},
    }
    if not emit(json_to, value):
        return
    show(f"{pipeline.name}: {pipeline.task}", ("feature", "type"), features.items())
    models = pipeline.models.items()
    show("", ("model", "", "is"), [(n, "champion" * (n == pipeline.champion), _short(m)) for n, m in models])
    show("", ("topic", "name", "partitions"), [(s.role, s.name, s.partitions) for s in topic_specs(pipeline)])


def create_missing(cluster: Cluster, specs: Iterable[TopicSpec]) -> list[str]:
    """Create those topics that do not exist, and return their names once every broker knows them."""
    wanted = list(specs)
    existing = cluster.describe(spec.name for spec in wanted)
    missing = [spec for spec in wanted if spec.name not in existing]
    cluster.create((spec.name, spec.partitions, spec.config) for spec in missing)
    names = [spec.name for spec in missing]
    deadline = time.monotonic() + _VISIBLE_S
    while set(names) - set(cluster.describe(names)):
        if time.monotonic() > deadline:
            raise TopicError(f"Topics were created but are not visible after {_VISIBLE_S:g} s: {', '.join(names)}.")
        time.sleep(0.05)
    return names


def require(cluster: Cluster, pipeline: Pipeline, roles: Iterable[str], *, writes: bool = False) -> None:
    """Raise `TopicError`, naming each, when topics with these roles are missing or break a promise.

    Whoever `writes` needs topics that take what it may write.
    """
    wanted = set(roles)
    compared = _compare(cluster, [spec for spec in topic_specs(pipeline) if spec.role in wanted], writes=writes)
    missing = [spec.name for spec, wrong in compared if wrong is None]
    if missing:
        apply = f"`headrace topics {given()} --apply`"
        raise TopicError(f"Missing topics: {', '.join(missing)}; create them with {apply}.")
    found = [line for _, wrong in compared for line in wrong or []]
    if found:
        raise TopicError(f"{'; '.join(found)}. `headrace topics {given()}` shows all.")


def _compare(
    cluster: Cluster, specs: list[TopicSpec], *, writes: bool = True
) -> list[tuple[TopicSpec, list[str] | None]]:
    """What is wrong with each topic, or None where there is none."""
    existing = cluster.describe(spec.name for spec in specs)

    def wrong(spec: TopicSpec) -> list[str]:
        partitions, config = existing[spec.name]
        return wrong_settings(spec, partitions, config) + (too_small(spec, config) if writes else [])

    return [(spec, wrong(spec) if spec.name in existing else None) for spec in specs]


def _row(spec: TopicSpec, wrong: list[str] | None, created: bool) -> dict[str, Any]:
    state = "missing" if wrong is None else "wrong" if wrong else "created" if created else "right"
    return {
        "role": spec.role,
        "name": spec.name,
        "partitions": spec.partitions,
        "config": dict(spec.config),
        "state": state,
        "wrong": wrong or [],
    }


def _state(row: dict[str, Any]) -> str:
    return "; ".join(row["wrong"]) or str(row["state"])


def _type(avro: Any) -> str:
    if isinstance(avro, list):
        return " or ".join(_type(part) for part in avro if part != "null") + " (may be missing)"
    return str(avro["type"] if isinstance(avro, dict) else avro)


def _short(model: object) -> str:
    steps = getattr(model, "steps", None)
    parts = steps.values() if isinstance(steps, dict) else [model]
    return " | ".join(type(part).__name__ for part in parts)
