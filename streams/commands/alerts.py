"""``headrace alerts`` and ``headrace drift``: what was found, and what is watched."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import click
import msgspec

from headrace.processors.drift import spelled
from headrace.schemas.records import Alert, Fact
from headrace.streams.commands.options import (
    Context,
    Headrace,
    given,
    in_order,
    json_option,
    kafka_options,
    pipeline_argument,
)
from headrace.streams.commands.output import emit, say, show
from headrace.streams.commands.topics import require
from headrace.streams.errors import UNREADABLE, UsageError
from headrace.streams.models import registry
from headrace.streams.pipeline import Pipeline
from headrace.streams.reading import every
from headrace.streams.status.moments import stamp
from headrace.streams.topics import names_of

__all__ = ["alerts", "drift", "matters"]

_COLUMNS = ("id", "status", "severity", "signal", "opened", "last", "findings", "message")
_SHORT = 8


class _Alerts(Headrace):
    """`show` may come before the pipeline."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """In the documented order."""
        return super().parse_args(ctx, in_order(args, ("show",), pipeline_first=True))


@click.command(cls=_Alerts)
@pipeline_argument
@click.argument("what", nargs=-1, metavar="[show ID]")
@click.option("--open", "only_open", is_flag=True, help="Only those that are not resolved.")
@click.option("--signal", metavar="S", help="Only those of this signal, such as error or feature:distance.")
@kafka_options
@json_option
@click.pass_context
def alerts(
    ctx: click.Context,
    pipeline: Pipeline,
    what: tuple[str, ...],
    only_open: bool,
    signal: str | None,
    json_to: str | None,
) -> None:
    """List the alerts, each as it stands now; with `show ID`, all records of one (the ID's beginning is enough)."""
    found = _read(ctx, pipeline)
    if what:
        _show(found, what, json_to, lambda: _facts(ctx, pipeline))
        return
    rows = [row for row in matters(found) if not (only_open and row["status"] == "resolved")]
    rows = [row for row in rows if signal in (None, row["signal"])]
    if emit(json_to, {"alerts": rows, "open": sum(row["status"] != "resolved" for row in rows)}):
        table = [
            [str(row["alert_id"])[:_SHORT], row["status"], row["severity"], row["signal"], stamp(row["opened_ms"]),
             stamp(row["time_ms"]), row["findings"], row["message"]]
            for row in rows
        ]  # fmt: skip
        show("", _COLUMNS, table, "There are none.")


@click.command(cls=Headrace)
@pipeline_argument
@kafka_options
@json_option
@click.pass_context
def drift(ctx: click.Context, pipeline: Pipeline, json_to: str | None) -> None:
    """Say of each watch what it may raise by chance, what it has raised, and whether that is open."""
    counted = matters(_read(ctx, pipeline)) if pipeline.drift else []
    rows = []
    for watch in pipeline.drift:
        mine = [row for row in counted if row["signal"] == watch.signal]
        rows.append(
            {
                "signal": watch.signal,
                "detector": spelled(watch.detector),
                "false_alarms_every": watch.false_alarms_every,
                "alerts": len(mine),
                "open": sum(row["status"] != "resolved" for row in mine),
                "last_ms": mine[-1]["opened_ms"] if mine else None,
                "last": mine[-1]["message"] if mine else None,
            }
        )
    if emit(json_to, {"watches": rows}):
        columns = ("signal", "false alarms every", "alerts", "open", "last opened", "last")
        table = [
            [row["signal"], row["false_alarms_every"] or "unknown", row["alerts"], row["open"],
             "-" if row["last_ms"] is None else stamp(row["last_ms"]), row["last"]]
            for row in rows
        ]  # fmt: skip
        show("", columns, table, f"{pipeline.name} declares no watches (drift=).")


def matters(records: list[Alert]) -> list[dict[str, Any]]:
    """The last record of each alert, as plain values, in the order in which they were opened."""
    last: dict[str, Alert] = {}
    for record in records:
        last[record.alert_id] = record
    return [msgspec.to_builtins(record) for record in sorted(last.values(), key=lambda r: (r.opened_ms, r.alert_id))]


def _show(found: list[Alert], what: tuple[str, ...], json_to: str | None, facts: Callable[[], list[Fact]]) -> None:
    if len(what) != 2 or what[0] != "show":
        raise UsageError(f"{' '.join(what)!r} is no command of alerts; legal: show ID.")
    mine = [alert for alert in found if alert.alert_id.startswith(what[1])]
    ids = sorted({alert.alert_id for alert in mine})
    if len(ids) != 1:
        raise UsageError(
            f"{len(ids)} alerts begin with {what[1]!r}; `headrace alerts {given()} --json` lists their ids."
        )
    led = _chain(facts(), ids[0])
    told = {"records": [msgspec.to_builtins(alert) for alert in mine], "facts": [msgspec.to_builtins(f) for f in led]}
    if not emit(json_to, told):
        return
    last = mine[-1]
    say(f"{last.alert_id}  {last.signal}  {last.severity}  {last.status}")
    for alert in mine:
        say(f"{stamp(alert.time_ms)}  {alert.status:8}  {alert.message}")
    say(f"offsets   {last.topic}/{last.partition} {last.first_offset} to {last.last_offset}, {last.n} values")
    say(f"statistic {', '.join(f'{name} {value:.6g}' for name, value in last.statistic.items())}")
    say(f"examples  {', '.join(map(str, last.examples)) or '-'}")
    if last.segments:
        say(f"segments  {', '.join(f'{name} {change:+.6g}' for name, change in last.segments.items())}")
    say(f"detector  {last.detector}")
    for fact in led:
        say(f"led to    {fact.kind} of {fact.model} (version {fact.version} of the registry, shard {fact.shard})")


def _chain(facts: list[Fact], alert_id: str) -> list[Fact]:
    """The facts that name the alert, and all later ones about a model that was retrained because of it."""
    led, names = [], set()
    for fact in facts:
        named = fact.evidence.get("alert") == alert_id
        if named and fact.kind == "retraining":
            names.add((fact.shard, fact.model))
        if named or (fact.shard, fact.model) in names:
            led.append(fact)
    return led


def _read(ctx: click.Context, pipeline: Pipeline) -> list[Alert]:
    """Every alert record that can be read, by partition, in order."""
    cluster = ctx.ensure_object(Context).cluster()
    require(cluster, pipeline, ["alerts"])
    found = []
    with contextlib.closing(cluster.reader()) as reader:
        for record in every(reader, names_of(pipeline)("alerts"), pipeline.partitions):
            with contextlib.suppress(*UNREADABLE):
                found.append(msgspec.json.decode(record.value or b"", type=Alert))
    return found


def _facts(ctx: click.Context, pipeline: Pipeline) -> list[Fact]:
    """The registry's facts, shard by shard."""
    with contextlib.closing(ctx.ensure_object(Context).cluster().reader()) as reader:
        return [fact for shard in range(pipeline.partitions) for _, fact in registry.facts(pipeline, reader, shard)]
