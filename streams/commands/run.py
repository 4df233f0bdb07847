"""``headrace run``: a worker."""

from __future__ import annotations

import contextlib
import logging
import os
from functools import partial

import click

from headrace.streams.commands.options import (
    Context,
    Duration,
    Headrace,
    SlotName,
    kafka_options,
    pipeline_name_argument,
    service_options,
)
from headrace.streams.commands.topics import require
from headrace.streams.errors import UsageError
from headrace.streams.health import serve
from headrace.streams.identity.hashseed import fixed_hash_seed
from headrace.streams.loading import load_pipeline
from headrace.streams.logs import configure
from headrace.streams.metrics import MetricsObserver
from headrace.streams.models.keys import signing_key, trusted_keys
from headrace.streams.models.snapshots import Sealed
from headrace.streams.models.versions import Publisher
from headrace.streams.runtime import Worker
from headrace.streams.topics import names_of
from headrace.streams.topology import STAGES, group_of
from headrace.streams.worker.collector import Calm
from headrace.streams.worker.observe import Observer
from headrace.streams.worker.tuning import Settings
from headrace.streams.worker.watchdog import Watchdog, stop_on_signals

__all__ = ["run"]

log = logging.getLogger("headrace.run")

_defaults = Settings()
_LONGEST_STALL_S = 86_400


@click.command(cls=Headrace)
@pipeline_name_argument
@click.option("--stages", metavar="A,B", help=f"Only these stages, chained: {', '.join(STAGES)}.")
@click.option(
    "--slot",
    type=SlotName(),
    default="0",
    show_default=True,
    metavar="NAME",
    help="This worker's stable name among those of its group.",
)
@click.option("--accept-change", is_flag=True, help="Go on from the journal of another specification, as a new epoch.")
@click.option("--keep-going", is_flag=True, help="Dead-letter even a topic of which nearly every record fails.")
@click.option("--checkpoint", type=Duration(), default="10s", show_default=True, help="Time between checkpoints.")
@click.option(
    "--batch",
    type=click.IntRange(1, 1_000_000),
    default=_defaults.batch,
    show_default=True,
    help="Most input records in a transaction.",
)
@click.option(
    "--latency",
    type=click.IntRange(0, 60_000),
    default=round(_defaults.gather_s * 1000),
    show_default=True,
    metavar="MS",
    help="Time from one transaction to the next while traffic is live.",
)
@click.option("--until-caught-up", is_flag=True, help="End when the inputs are read to their ends.")
@click.option(
    "--stop-within",
    type=Duration(),
    default="20s",
    show_default=True,
    help="Time to stop in; then exit 1 with all stacks.",
)
@service_options(
    metrics="Serve /metrics, /healthz and /readyz there (9464 is usual, 0 is any free port); not at all by default."
)
@kafka_options
@click.pass_context
def run(
    ctx: click.Context,
    pipeline: str,
    stages: str | None,
    slot: str,
    accept_change: bool,
    keep_going: bool,
    checkpoint: float,
    batch: int,
    latency: int,
    until_caught_up: bool,
    stop_within: float,
    metrics_port: int | None,
    metrics_host: str,
    log_level: str,
    log_json: bool,
) -> None:
    """Run a worker: all stages chained, or with --stages some of them.

    It never creates a topic (see `headrace topics`). SIGTERM and Ctrl-C end it after a checkpoint with exit 0. It runs
    under PYTHONHASHSEED=0, and starts itself anew if it was started otherwise.
    """
    fixed_hash_seed()
    loaded = load_pipeline(pipeline)
    group = group_of(None if stages is None else [stage.strip() for stage in stages.split(",")])
    context = ctx.ensure_object(Context)
    cluster = context.cluster()
    aside = {"alerts", "models", "registry"} if group.back else set()
    require(cluster, loaded, {*group.inputs, *group.outputs, "journal", "state", "savepoints", *aside}, writes=True)
    configure(log_level, as_json=log_json, pipeline=loaded.name, slot=slot, kafka_config=context.connection.config)
    settings = Settings(batch=batch, gather_s=latency / 1000, checkpoint_s=checkpoint, stall_s=_stall_s())
    codec = Sealed(signing_key(), trusted_keys(), loaded.classes, any_libraries=True)
    observer = Observer() if metrics_port is None else MetricsObserver(loaded, group)
    worker = Worker(
        loaded,
        group,
        cluster,
        topics=names_of(loaded),
        slot=slot,
        settings=settings,
        codec=codec,
        observer=observer,
        accept_change=accept_change,
        tolerant=keep_going,
        versions=Publisher(loaded, cluster, names_of(loaded), codec),
        collector=Calm(),
    )
    undo = stop_on_signals(worker, stop_within)
    Watchdog(worker, settings.stall_s).start()
    server = None if metrics_port is None else serve(metrics_host, metrics_port, worker, observer)
    try:
        worker.run(partial(_caught_up, worker) if until_caught_up else lambda: False)
    finally:
        undo()
        if server is not None:
            server.close()


def _caught_up(worker: Worker) -> bool:
    """Whether the worker has caught up; says so when it has."""
    done = worker.caught_up()
    if done:
        log.info("caught up: every input is read to its end")
    return done


def _stall_s() -> float:
    text = os.environ.get("HEADRACE_STALL_S") or str(_defaults.stall_s)
    with contextlib.suppress(ValueError):
        if 1 <= (seconds := float(text)) <= _LONGEST_STALL_S:
            return seconds
    raise UsageError(f"HEADRACE_STALL_S is {text!r}; legal: a number of seconds from 1 to {_LONGEST_STALL_S:,}.")
