"""``headrace status``: everything about a pipeline at a glance, once or live."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import click
from rich.console import Group as Stack
from rich.live import Live
from rich.text import Text

from headrace.streams.commands.glance import lines, view
from headrace.streams.commands.options import (
    Context,
    Duration,
    Headrace,
    json_option,
    kafka_options,
    pipeline_argument,
)
from headrace.streams.commands.output import console, emit, json_line, say, warn
from headrace.streams.commands.topics import require
from headrace.streams.errors import HeadraceError, UsageError
from headrace.streams.kafka import Cluster
from headrace.streams.pipeline import Pipeline
from headrace.streams.status.overview import Seen, gather

__all__ = ["status"]

_ASK_AGAIN_S = 1.0
_AWAY_S = 3.0


@click.command(cls=Headrace)
@pipeline_argument
@click.option("-w", "--watch", is_flag=True, help="Go on until Ctrl-C: live on a terminal, a line a look when piped.")
@click.option("--every", type=Duration(), default="2s", show_default=True, metavar="TIME", help="Between two looks.")
@kafka_options
@json_option
@click.pass_context
def status(ctx: click.Context, pipeline: Pipeline, watch: bool, every: float, json_to: str | None) -> None:
    """Show everything at a glance: stages with rates and lag, models, freshness, alerts, dead letters, laws.

    With --watch, Kafka may go away: that is said, and the watch goes on.
    """
    context = ctx.ensure_object(Context)
    if watch:
        if json_to not in (None, "-"):
            raise UsageError(f"A watch writes its JSON to standard output only: --watch --json > {json_to}.")
        cluster = Cluster(context.connection.bootstrap, context.connection.config)
        _watch(cluster, pipeline, max(every, 0.1), json_to is not None, context.redacted)
        return
    cluster = context.cluster()
    require(cluster, pipeline, ["events", "labels", "features", "predictions", "examples", "journal"])
    seen = Seen()
    with contextlib.closing(cluster.reader()) as reader:
        value = gather(cluster, reader, pipeline, seen)
        if any(group["members"] for group in value["groups"]):  # something may move: how fast takes a second look
            time.sleep(_ASK_AGAIN_S)
            value = gather(cluster, reader, pipeline, seen)
    if emit(json_to, value):
        console().print(view(value))


def _watch(cluster: Cluster, pipeline: Pipeline, every_s: float, as_json: bool, redacted: Callable[[str], str]) -> None:
    """Look again and again, until Ctrl-C."""
    with contextlib.suppress(KeyboardInterrupt):
        looks = _looks(cluster, pipeline, every_s, redacted)
        if as_json:
            for value, trouble in looks:
                json_line({"error": trouble, "last": value} if trouble else value)
        elif console().is_terminal:
            _live(looks)
        else:
            for value, trouble in looks:
                if trouble:
                    warn(trouble)
                elif value is not None:
                    say(lines(value))


def _live(looks: Iterator[tuple[dict[str, Any] | None, str | None]]) -> None:
    """One picture, renewed in place; the last one stays when it ends."""
    with Live(console=console(), auto_refresh=False, screen=False, vertical_overflow="crop") as live:
        for value, trouble in looks:
            parts: list[Any] = [] if value is None else [view(value)]
            if trouble:
                parts.append(Text.assemble((f"{datetime.now(UTC):%H:%M:%S UTC}", "bold red"), f" {trouble}"))
            live.update(Stack(*parts), refresh=True)


def _looks(
    cluster: Cluster, pipeline: Pipeline, every_s: float, redacted: Callable[[str], str]
) -> Iterator[tuple[dict[str, Any] | None, str | None]]:
    """What each look saw; while there is trouble, the last that was seen, and what the trouble is."""
    seen, value = Seen(), None
    reader: Any = None
    try:
        while True:
            began = time.monotonic()
            try:
                reader = cluster.reader() if reader is None else reader
                value = gather(cluster, reader, pipeline, seen, timeout_s=_AWAY_S)
                yield value, None
            except HeadraceError as error:
                yield value, f"{redacted(str(error))} Looking again every {every_s:g} s; Ctrl-C ends."
            time.sleep(max(0.0, every_s - (time.monotonic() - began)))
    finally:
        if reader is not None:
            reader.close()
