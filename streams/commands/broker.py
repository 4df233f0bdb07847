"""``headrace broker``: a real Kafka on this machine."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import click

from headrace.deploy import broker as local
from headrace.streams.commands.options import Commands, Headrace, json_option
from headrace.streams.commands.output import emit, show
from headrace.streams.errors import UsageError

__all__ = ["broker"]

_STARTED = ("bootstrap", "version", "log")
"""What people need of a broker that runs; `status` and JSON have the rest."""

instance_option = click.option(
    "--instance", default="default", show_default=True, metavar="NAME", help="Which of several local brokers."
)


@click.group(cls=Commands)
def broker() -> None:
    """A real Kafka on this machine, one node, loopback only."""


@broker.command(cls=Headrace)
@click.option("--fresh", is_flag=True, help="New, empty data, deleted at stop.")
@instance_option
@json_option
def start(fresh: bool, instance: str, json_to: str | None) -> None:
    """Start it, or find it running; data and port are kept unless --fresh."""
    _legal(instance)
    _print(local.start(instance=instance, fresh=fresh), json_to, _STARTED)


@broker.command(cls=Headrace)
@instance_option
@json_option
def stop(instance: str, json_to: str | None) -> None:
    """Stop it; done also when it does not run."""
    _legal(instance)
    _print(local.stop(instance=instance), json_to)


@broker.command(cls=Headrace)
@instance_option
@json_option
@click.pass_context
def status(ctx: click.Context, instance: str, json_to: str | None) -> None:
    """Say whether it runs and where; exit 1 when it does not."""
    _legal(instance)
    found = local.status(instance=instance)
    _print(found, json_to)
    if not found.running:
        ctx.exit(1)


def _legal(instance: str) -> None:
    try:
        local.status(instance=instance)
    except ValueError as error:
        raise UsageError(f"--instance: {error}.") from error


def _print(found: local.Status, json_to: str | None, shown: Sequence[str] | None = None) -> None:
    values = dataclasses.asdict(found)
    if emit(json_to, values):
        show("", ("broker", ""), [(name.replace("_", " "), _cell(values[name])) for name in shown or values])


def _cell(value: object) -> object:
    return value if isinstance(value, bool) or value is None else str(value)
