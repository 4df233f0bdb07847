"""``headrace models``: what each model is, what happened to it, and decisions of people about it."""

from __future__ import annotations

import contextlib
import getpass
from collections.abc import Callable
from typing import Any

import click
import msgspec

from headrace.processors.registry import standing
from headrace.schemas.records import Fact
from headrace.schemas.wire import moment_ms
from headrace.streams.commands.options import (
    PIPELINE,
    Commands,
    Context,
    Headrace,
    ModelName,
    PipelineType,
    given,
    json_option,
    kafka_options,
    model_argument,
)
from headrace.streams.commands.output import emit, say, show, warn
from headrace.streams.commands.topics import require
from headrace.streams.commands.versions import VERSION_COMMANDS
from headrace.streams.declaration.legal import is_name
from headrace.streams.errors import UsageError
from headrace.streams.models import registry
from headrace.streams.pipeline import Pipeline
from headrace.streams.topics import group_name
from headrace.streams.topology import groups

__all__ = ["models"]

_WAIT_S = 30.0
_PATIENT_S = 2.0
_MOST_DIGITS = 19


@click.group(cls=Commands)
@click.argument("pipeline", type=PipelineType(), metavar="PIPELINE")
@click.pass_context
def models(ctx: click.Context, pipeline: Pipeline) -> None:
    """Models of PIPELINE: what they are, their history, promotion, rollback."""
    ctx.meta[PIPELINE] = pipeline


@models.command(name="list", cls=Headrace)
@kafka_options
@json_option
@click.pass_context
def list_(ctx: click.Context, json_to: str | None) -> None:
    """What each model is, in each shard."""
    rows = [
        {"model": name, "shard": shard.number, **standing(shard.registry, name)}
        for shard in _shards(ctx)
        for name in shard.registry["models"]
    ]
    if emit(json_to, {"models": rows}):
        columns = ("model", "shard", "status", "share", "since", "proposed")
        if rows:
            show("", columns, [[_cell(row[name]) for name in columns] for row in rows])
        else:
            _not_yet("Nothing is")


@models.command(name="show", cls=Headrace)
@model_argument
@kafka_options
@json_option
@click.pass_context
def show_(ctx: click.Context, model: str, json_to: str | None) -> None:
    """One model: what it is in each shard, and the facts about it."""
    shards = _shards(ctx)
    _check_known(_pipeline(ctx), shards, model)
    having = [shard for shard in shards if model in shard.registry["models"]]
    about = [fact for shard in having for fact in shard.facts if fact.model == model]
    states = [{"shard": s.number} | standing(s.registry, model) | s.registry["models"][model] for s in having]
    if emit(json_to, {"model": model, "shards": states, "facts": [msgspec.to_builtins(fact) for fact in about]}):
        if having:
            show("", ("shard", "status", "since"), [(one["shard"], one["status"], one["since"]) for one in states])
            _show_facts(about)
        else:
            _not_yet(f"{model} is not")


@models.command(cls=Headrace)
@kafka_options
@json_option
@click.pass_context
def history(ctx: click.Context, json_to: str | None) -> None:
    """Every fact: what happened, when, by whom, why."""
    all_facts = [fact for shard in _shards(ctx) for fact in shard.facts]
    if emit(json_to, {"facts": [msgspec.to_builtins(fact) for fact in all_facts]}):
        if all_facts:
            _show_facts(all_facts)
        else:
            _not_yet("Nothing is")


for _command in VERSION_COMMANDS:
    models.add_command(_command)


def _deciding(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of a command that wants something of a worker."""
    options: list[Callable[[Callable[..., Any]], Callable[..., Any]]]
    options = [
        click.option("--shard", type=click.IntRange(min=0), metavar="N", help="Only this shard; else all."),
        click.option("--why", default="", metavar="TEXT", help="The reason, for those who read the history."),
        click.option("--by", metavar="NAME", help="Who decides; else the user of this machine."),
        click.option(
            "--saw", type=click.IntRange(min=0), metavar="V", help="The registry version that you saw; else now's."
        ),
        click.option(
            "--wait",
            type=click.FloatRange(min=0),
            default=_WAIT_S,
            show_default=True,
            metavar="SECONDS",
            help="How long to wait for the answer; 0: not at all.",
        ),
        kafka_options,
        json_option,
        click.pass_context,
    ]
    for option in reversed(options):
        command = option(command)
    return command


_PLAIN = {
    "promote": "Make MODEL the champion.",
    "approve": "Make MODEL, which the gate has proposed, the champion.",
    "retire": "Let MODEL never answer or learn again.",
}
"""Decisions that take a model and nothing else."""


def _plain(kind: str, says: str) -> None:
    """Add the command for one of them."""

    @models.command(name=kind, cls=Headrace, help=says)
    @model_argument
    @_deciding
    def decide(ctx: click.Context, model: str, **how: Any) -> None:
        _decide(ctx, kind, model, **how)


for _kind, _says in _PLAIN.items():
    _plain(_kind, _says)


@models.command(cls=Headrace)
@click.option("--to", type=ModelName(), metavar="MODEL", help="An earlier champion; else the one before.")
@_deciding
def rollback(ctx: click.Context, to: str | None, **how: Any) -> None:
    """Make the champion before the champion again."""
    _decide(ctx, "rollback", to, **how)


@models.command(cls=Headrace)
@model_argument
@click.argument("share", metavar="SHARE", type=click.FloatRange(0, 1))
@_deciding
def canary(ctx: click.Context, model: str, share: float, **how: Any) -> None:
    """Let MODEL serve this SHARE of the keys, from 0 (none: end it) to 1."""
    _decide(ctx, "canary", model, share=share, **how)


@models.command(cls=Headrace)
@model_argument
@click.option("--as", "name", required=True, metavar="NAME", help="What the new model is to be called.")
@click.option(
    "--from",
    "start",
    metavar="N|TIME",
    help="Leave out the first N examples, or those whose label was known before TIME (ISO-8601); else none.",
)
@_deciding
def retrain(ctx: click.Context, model: str, name: str, start: str | None, **how: Any) -> None:
    """Let a fresh copy of MODEL learn the training log while the others serve, and then challenge the champion."""
    if not is_name(name):
        raise UsageError(f"--as is {name!r}; legal: up to 100 letters, digits, dots, dashes and underscores.")
    _decide(ctx, "retrain", model, name=name, **_start(start), **how)


def _start(text: str | None) -> dict[str, Any]:
    if text is None:
        return {}
    if text.isdecimal() and len(text) < _MOST_DIGITS:
        return {"from_n": int(text)}
    try:
        return {"from_ms": moment_ms(text)}
    except (ValueError, OverflowError) as error:
        raise UsageError(
            f"--from is {text!r}; legal: a number of examples, or a time as 2013-02-01T00:00:00Z."
        ) from error


def _decide(
    ctx: click.Context,
    kind: str,
    model: str | None,
    *,
    shard: int | None,
    why: str,
    by: str | None,
    saw: int | None,
    wait: float,
    json_to: str | None,
    **more: Any,
) -> None:
    """Append the command, wait for what becomes of it, and say so; exit 1 unless it was done everywhere."""
    pipeline = _pipeline(ctx)
    if shard is not None and shard >= pipeline.partitions:
        raise UsageError(f"--shard is {shard}; the shards are 0 to {pipeline.partitions - 1}.")
    known = [s for s in _shards(ctx) if shard in (None, s.number)]
    if model is not None:  # a worker would say so, too, but only when one runs
        _check_known(pipeline, known, model)
    wanted = registry.commands(known, kind, by or _user(), saw=saw, model=model, why=why, **more)
    wanted = [registry.readable(command) for command in wanted]  # a worker answers no other
    cluster = ctx.ensure_object(Context).cluster()
    idle = not any(cluster.members([group_name(pipeline, group) for group in groups() if group.back]).values())
    starts = registry.send(pipeline, cluster, wanted)
    if idle:
        warn(
            "No worker is a member of the group: the command is queued and takes effect when one runs "
            f"(`headrace run {given()}`)."
        )
    found = _await(pipeline, cluster, wanted[0].id, starts, wait) if wait else {}
    done = bool(found) and len(found) == len(starts) and all(fact.kind != "refused" for fact in found.values())
    rows = [{"shard": s, "fact": msgspec.to_builtins(found[s]) if s in found else None} for s in starts]
    if emit(json_to, {"command": wanted[0].id, "kind": kind, "model": model, "done": done, "shards": rows}):
        for number in starts:
            say(f"shard {number}: {_said(found.get(number), wait, given())}")
    if not done and wait:
        ctx.exit(1)


def _await(pipeline: Pipeline, cluster: Any, name: str, starts: dict[int, int], wait: float) -> dict[int, Fact]:
    said = _PATIENT_S

    def waiting(seconds: float, left: int) -> None:
        nonlocal said
        if seconds >= said:
            said = 2 * said
            warn(f"waiting for {left} of {len(starts)} shards, {seconds:.0f} of {wait:g} s")

    with contextlib.closing(cluster.reader()) as reader:
        return registry.answers(pipeline, reader, name, starts, wait, waiting)


def _said(fact: Fact | None, wait: float, pipeline: str) -> str:
    """What became of a command in a shard, as a sentence; None: nobody has answered yet."""
    if fact is None:
        late = f"no answer within {wait:g} s" if wait else "written"
        return (
            f"{late}; the command stays queued and takes effect when a worker reads it: "
            f"`headrace models {pipeline} history`."
        )
    if fact.kind == "refused":
        return f"refused: {fact.why}."
    if fact.kind == "retraining":
        return f"{fact.model} learns the log up to n={fact.n} (version {fact.version}); then it is a challenger."
    if fact.kind == "rolled_back":
        before = fact.evidence.get("before")
        who = f"{before} was rolled back" if isinstance(before, str) else "rolled back"
        return f"{who} to {fact.model} at n={fact.n}; {fact.champion} serves (version {fact.version})."
    return f"{fact.model} {fact.kind.replace('_', ' ')} at n={fact.n}; {fact.champion} serves (version {fact.version})."


def _not_yet(what: str) -> None:
    say(f"{what} registered yet: a worker does that with its first records (`headrace run {given()}`).")


def _check_known(pipeline: Pipeline, shards: list[registry.Shard], model: str) -> None:
    """Raise `UsageError`, naming the models, when this one is neither declared nor in the registry."""
    names = dict.fromkeys([*pipeline.models, *(name for shard in shards for name in shard.registry["models"])])
    if model not in names:
        raise UsageError(f"There is no model {model!r}; the models are {', '.join(names)}.")


def _pipeline(ctx: click.Context) -> Pipeline:
    found: Pipeline = ctx.meta[PIPELINE]
    return found


def _shards(ctx: click.Context) -> list[registry.Shard]:
    """Every shard's registry; says when records in the topic are nobody's facts."""
    pipeline = _pipeline(ctx)
    cluster = ctx.ensure_object(Context).cluster()
    require(cluster, pipeline, ["registry"])
    with contextlib.closing(cluster.reader()) as reader:
        found = registry.shards(pipeline, reader)
    odd = sum(shard.odd for shard in found)
    if odd:
        warn(f"{odd} records of the registry claim to be facts and do not fit: `headrace audit` shows them.")
    return found


def _show_facts(facts: list[Fact]) -> None:
    columns = ("shard", "version", "n", "fact", "model", "champion", "by", "why")
    rows = [(f.shard, f.version, f.n, f.kind, f.model or "", f.champion or "", f.by, f.why) for f in facts]
    show("", columns, rows)


def _cell(value: Any) -> Any:
    return "yes" if value is True else "" if value is None or value is False else value


def _user() -> str:
    try:
        return getpass.getuser()[:200]
    except (OSError, KeyError, ImportError):
        return "unknown"
