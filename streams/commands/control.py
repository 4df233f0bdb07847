"""``headrace control``: the control plane of a pipeline."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import click

from headrace.streams.commands.options import (
    Context,
    Duration,
    Headrace,
    kafka_options,
    pipeline_name_argument,
    service_options,
)
from headrace.streams.commands.output import say, warn
from headrace.streams.commands.topics import require
from headrace.streams.errors import Unreachable, UsageError
from headrace.streams.identity.hashseed import fixed_hash_seed
from headrace.streams.kafka import Cluster
from headrace.streams.loading import load_pipeline
from headrace.streams.logs import configure
from headrace.streams.models.authority import obeyed
from headrace.streams.pipeline import Pipeline

__all__ = ["PORT", "control"]

PORT = 9475
TOKEN = "HEADRACE_CONTROL_TOKEN"
WEBHOOK_TOKEN = "HEADRACE_WEBHOOK_TOKEN"
ALERTMANAGER_TOKEN = "HEADRACE_ALERTMANAGER_TOKEN"
_READ = ("alerts", "control", "dead-letter", "evaluations", "registry")


@click.command(cls=Headrace)
@pipeline_name_argument
@click.option("--host", default="127.0.0.1", show_default=True, metavar="HOST", help="Where the page listens.")
@click.option(
    "--port", type=click.IntRange(0, 65_535), default=PORT, show_default=True, metavar="PORT", help="0: any free one."
)
@click.option(
    "--name",
    "names",
    multiple=True,
    metavar="NAME",
    help="A host name under which the page is reached, besides loopback and HOST; may be given several times.",
)
@click.option(
    "--token-file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help=f"Where the token is that changes need; else {TOKEN}, else a fresh one.",
)
@click.option(
    "--webhook",
    "webhooks",
    multiple=True,
    envvar="HEADRACE_WEBHOOKS",
    metavar="URL",
    help="Post every alert there; may be given several times, or as HEADRACE_WEBHOOKS, apart by spaces.",
)
@click.option(
    "--alertmanager", "alertmanagers", multiple=True, metavar="URL", help="Tell this Alertmanager; several times, too."
)
@click.option("--allow-private", is_flag=True, help="Let alerts go to private and loopback addresses as well.")
@click.option(
    "--repeat", type=Duration(), default="1m", show_default=True, help="Time between repetitions for Alertmanager."
)
@click.option("--timeout", type=Duration(), default="10s", show_default=True, help="Time for one delivery.")
@click.option("--approve", is_flag=True, help="Approve whatever the gate proposes.")
@click.option(
    "--retrain",
    multiple=True,
    metavar="MODEL=CRON",
    help="Have a fresh copy of MODEL learned by this schedule, cron's five fields in UTC: 'hat=0 3 * * 1'.",
)
@service_options(metrics="Serve /metrics, /healthz and /readyz there as well, without the page.")
@kafka_options
@click.pass_context
def control(
    ctx: click.Context,
    pipeline: str,
    host: str,
    port: int,
    names: tuple[str, ...],
    token_file: Path | None,
    webhooks: tuple[str, ...],
    alertmanagers: tuple[str, ...],
    allow_private: bool,
    repeat: float,
    timeout: float,
    approve: bool,
    retrain: tuple[str, ...],
    metrics_port: int | None,
    metrics_host: str,
    log_level: str,
    log_json: bool,
) -> None:
    """Watch and steer PIPELINE: its page, alerts to where people are told, decisions by policy.

    Workers run on without it. Whoever has the address that it prints at its start may change things; without the token
    in it the page is read-only. SIGTERM and Ctrl-C end it with exit 0.
    """
    fixed_hash_seed()
    # Faust and aiohttp take a second to import, which no other command should wait for.
    from headrace.streams.control.outside import target
    from headrace.streams.control.page.guard import LOOPBACK, fresh_token
    from headrace.streams.control.policies import retraining
    from headrace.streams.control.service import Options, Service
    from headrace.streams.control.serving import serve

    loaded = load_pipeline(pipeline)
    if (approve or retrain) and not obeyed(loaded):
        raise UsageError(
            f"{loaded.name} obeys its operators alone, and this user's key is none of theirs: whatever --approve and "
            "--retrain decide would be refused. Declare the key that `headrace keys show` prints, or leave them out."
        )
    context, chosen = ctx.ensure_object(Context), _token(token_file)
    tokens = {name: os.environ.get(name) or None for name in (WEBHOOK_TOKEN, ALERTMANAGER_TOKEN)}
    hooks = tuple(
        target(url, f"--webhook {n}", allow_private=allow_private, token=tokens[WEBHOOK_TOKEN])
        for n, url in enumerate(webhooks, 1)
    )
    if tokens[WEBHOOK_TOKEN] is not None and len({hook.url.host for hook in hooks}) > 1:
        raise UsageError(
            f"{WEBHOOK_TOKEN} would go to several hosts, each of which could use it at the others: name one."
        )
    options = Options(
        webhooks=hooks,
        alertmanagers=tuple(
            target(url, f"--alertmanager {n}", allow_private=allow_private, token=tokens[ALERTMANAGER_TOKEN])
            for n, url in enumerate(alertmanagers, 1)
        ),
        allow_private=allow_private,
        approve=approve,
        retrain=tuple(retraining(text, loaded) for text in retrain),
        repeat_s=max(0.1, repeat),
        timeout_s=max(0.1, timeout),
    )
    configure(log_level, as_json=log_json, pipeline=loaded.name, kafka_config=context.connection.config)
    service = Service(loaded, context.connection, options, reference=pipeline)
    _require(service.cluster, loaded)
    metrics = None if metrics_port is None else (metrics_host, metrics_port)
    own = (*LOOPBACK, f"[{host}]" if ":" in host else host, *names)
    token = chosen or fresh_token()

    def announce(address: str) -> None:
        """With the token behind the ``#``, which browsers neither send nor log; one that was chosen is for no log."""
        shown = not chosen or sys.stdout.isatty()
        say(f"The page of {loaded.name}: {address}/" + (f"#token={token}" if shown else " (for changes: #token=...)"))

    asyncio.run(serve(service, (host, port), metrics, token, own, announce))


def _token(file: Path | None) -> str | None:
    """The token that somebody has chosen; UsageError never repeats it."""
    if file is None:
        return os.environ.get(TOKEN) or None
    try:
        token = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{file} (--token-file) cannot be read as text.") from error
    if not token:
        raise UsageError(f"{file} (--token-file) is empty: put a token there, or leave the option out for a fresh one.")
    return token


def _require(cluster: Cluster, pipeline: Pipeline) -> None:
    """The topics must be there; a Kafka that is away is waited for, as the page says then."""
    try:
        cluster.check(5.0)
    except Unreachable as error:
        warn(f"{error} Until then, the page says so.")
    else:
        require(cluster, pipeline, _READ)
