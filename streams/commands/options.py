"""What several commands share: the pipeline argument, the options for Kafka, and ``--json``."""

from __future__ import annotations

import contextlib
import os
import re
import threading
from collections.abc import Callable, Container
from pathlib import Path
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem

from headrace.deploy import broker
from headrace.processors.windows import duration
from headrace.streams.commands.output import printable, warn
from headrace.streams.errors import UsageError
from headrace.streams.kafka import Cluster
from headrace.streams.loading import DECLARED, load_pipeline
from headrace.streams.logs import LEVELS
from headrace.streams.settings import BOOTSTRAP_VARIABLE, FILE_VARIABLE, Connection, connection, named

__all__ = [
    "PIPELINE",
    "Commands",
    "Context",
    "Duration",
    "Headrace",
    "ModelName",
    "PipelineName",
    "PipelineType",
    "SlotName",
    "given",
    "in_order",
    "json_option",
    "kafka_options",
    "model_argument",
    "pipeline_argument",
    "pipeline_name_argument",
    "service_options",
]

F = TypeVar("F", bound=Callable[..., Any])

_FILES, _BYTES = 200, 200_000
_LATE_S = 2.0
_HELP = 300
PIPELINE = "headrace.pipeline"
"""Under which name a group of commands finds its pipeline in the click context."""
_GIVEN = "headrace.pipeline.given"
_PIPELINE = re.compile(r"[^=]+:[A-Za-z_][\w.]*")


class Context:
    """What the options before and after the command's name said; made anew for each call of the command line."""

    def __init__(self) -> None:
        self.debug = False
        self.bootstrap: str | None = None
        self.kafka_config: str | None = None
        self._connection: Connection | None = None

    @property
    def connection(self) -> Connection:
        """Where Kafka is: as the options say, else the environment, else the local broker that runs."""
        if self._connection is None:
            self._connection = connection(self.bootstrap, self.kafka_config, os.environ, _local)
        return self._connection

    @property
    def named(self) -> bool:
        """Whether somebody named a cluster, a property too, so that nothing local is to be started."""
        return named(self.bootstrap, self.kafka_config, os.environ)[0] is not None

    def cluster(self) -> Cluster:
        """The cluster, after a broker has answered; one that takes its time is said to be waited for."""
        where = self.connection
        cluster = Cluster(where.bootstrap, where.config)
        late = threading.Timer(_LATE_S, warn, (f"Waiting for Kafka at {where.bootstrap}.",))
        late.start()
        try:
            cluster.check()
        finally:
            late.cancel()
        return cluster

    def redacted(self, text: str) -> str:
        """`text` without secrets."""
        return text if self._connection is None else self._connection.redacted(text)


class Headrace(click.Command):
    """A command whose ``--json`` never takes the pipeline's name for a file."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put the implied ``-`` between ``--json`` and a pipeline's name."""
        out: list[str] = []
        for i, arg in enumerate(args):
            out.append(arg)
            if arg == "--json" and i + 1 < len(args) and _PIPELINE.fullmatch(args[i + 1]):
                out.append("-")
        return super().parse_args(ctx, out)


def in_order(args: list[str], commands: Container[str], *, pipeline_first: bool) -> list[str]:
    """A PIPELINE and the command about it in the order that is documented; people may give them in either."""
    pipeline, command = (args[1:2], args[:1]) if pipeline_first else (args[:1], args[1:2])
    other = pipeline and command and command[0] in commands and _PIPELINE.fullmatch(pipeline[0])
    return [args[1], args[0], *args[2:]] if other else args


class Commands(click.Group):
    """A group of commands; where they are about a PIPELINE it may come before or after the command's name."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """In the documented order; the help of a command needs no pipeline."""
        first = any(isinstance(parameter, click.Argument) for parameter in self.params)
        called = next((word for word in args[:2] if word in self.commands), None)
        if first and called and not ctx.resilient_parsing and set(args) & set(ctx.help_option_names):
            self.commands[called].make_context(called, ["--help"], parent=ctx)
        return super().parse_args(ctx, in_order(args, self.commands, pipeline_first=first))

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Each with its first sentence, all of it."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, one.get_short_help_str(_HELP)) for name, one in sorted(self.commands.items())])


class PipelineName(click.ParamType):
    """``module:object`` or ``path.py:object``, as it is; completed from the files that declare a pipeline."""

    name = "pipeline"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The name, which is remembered in the click context."""
        if ctx is not None and isinstance(value, str):
            ctx.meta[_GIVEN] = value
        return value

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Pipelines declared in files of the folder that is being typed, and folders to look into; none is loaded."""
        typed = Path(incomplete.partition(".py:")[0])
        folder = typed if incomplete.endswith("/") or not incomplete else typed.parent
        found: list[CompletionItem] = []
        for file in sorted([*folder.glob("*.py"), *folder.glob("*/*.py")])[:_FILES]:
            with contextlib.suppress(OSError, UnicodeDecodeError):
                names = DECLARED.findall(file.read_text(encoding="utf-8")[:_BYTES])
                found += [CompletionItem(f"{file}:{name}") for name in names]
        return [item for item in found if item.value.startswith(incomplete)]


class PipelineType(PipelineName):
    """``module:object`` or ``path.py:object``, loaded."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The pipeline."""
        named = super().convert(value, param, ctx)
        if ctx is not None and isinstance(ctx.command, click.Group) and named in ctx.command.commands:
            raise UsageError(f"The PIPELINE comes before the command: `{ctx.command_path} PIPELINE {named}`.")
        return load_pipeline(named) if isinstance(named, str) else named


class ModelName(click.ParamType):
    """The name of a model; completed from those that the pipeline declares."""

    name = "model"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """The declared models of the pipeline that stands before it on the line."""
        above: click.Context | None = ctx
        while above is not None:
            pipeline = above.params.get("pipeline")
            if pipeline is not None:
                return [CompletionItem(name) for name in pipeline.models if name.startswith(incomplete)]
            above = above.parent
        return []


class SlotName(click.ParamType):
    """A worker's name among those of its group: part of transactional ids."""

    name = "slot"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The name."""
        if re.fullmatch(r"[A-Za-z0-9._-]{1,60}", str(value)) is None:
            self.fail(f"a slot has letters, digits, '.', '_' and '-', at most 60; got {value!r}", param, ctx)
        return str(value)


class Duration(click.ParamType):
    """A duration such as ``10s``, as seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Seconds."""
        if isinstance(value, int | float):
            return float(value)
        try:
            return duration(value) / 1000
        except ValueError as error:
            self.fail(str(error), param, ctx)


def pipeline_argument(command: F) -> F:
    """Argument ``PIPELINE``: ``module:object`` or ``path.py:object``, loaded."""
    return click.argument("pipeline", type=PipelineType(), metavar="PIPELINE")(command)


def pipeline_name_argument(command: F) -> F:
    """Argument ``PIPELINE`` as a name, for commands that start themselves anew before they load it."""
    return click.argument("pipeline", type=PipelineName(), metavar="PIPELINE")(command)


def model_argument(command: F) -> F:
    """Argument ``MODEL``."""
    return click.argument("model", type=ModelName(), metavar="MODEL")(command)


def json_option(command: F) -> F:
    """Option ``--json [FILE]``: the result as one JSON object, on stdout unless a file is named."""
    return click.option(
        "--json",
        "json_to",
        metavar="[FILE]",
        is_flag=False,
        flag_value="-",
        default=None,
        help="Write the result as JSON: alone or with - to stdout, else to FILE.",
    )(command)


def kafka_options(command: F) -> F:
    """Options ``--bootstrap`` and ``--kafka-config``; the same before the command's name."""
    command = click.option(
        "--kafka-config",
        metavar="FILE",
        expose_value=False,
        callback=_remember,
        help=f"Properties (key=value) for every Kafka client; also {FILE_VARIABLE} and HEADRACE_KAFKA_*.",
    )(command)
    return click.option(
        "--bootstrap",
        metavar="HOST:PORT",
        expose_value=False,
        callback=_remember,
        help=f"The Kafka cluster; else {BOOTSTRAP_VARIABLE}, else the local broker.",
    )(command)


def service_options(metrics: str) -> Callable[[F], F]:
    """Options of what runs until it is told to stop: ``--metrics-port`` (whose help is `metrics`), and its log."""

    def add(command: F) -> F:
        command = click.option("--log-json", is_flag=True, help="Log as JSON, one object a line.")(command)
        command = click.option(
            "--log-level", type=click.Choice(LEVELS), default="info", show_default=True, help="From which level on."
        )(command)
        command = click.option(
            "--metrics-host",
            default="127.0.0.1",
            show_default=True,
            metavar="HOST",
            help="Where --metrics-port listens.",
        )(command)
        return click.option("--metrics-port", type=click.IntRange(0, 65_535), metavar="PORT", help=metrics)(command)

    return add


def given() -> str:
    """The pipeline as the command line names it, for the next step in a message; of the command that runs."""
    running = click.get_current_context(silent=True)
    return printable(str(running.meta.get(_GIVEN, "PIPELINE"))) if running is not None else "PIPELINE"


def _remember(ctx: click.Context, param: click.Parameter, value: str | None) -> None:
    if value is not None and param.name is not None:
        setattr(ctx.ensure_object(Context), param.name, value)


def _local() -> str | None:
    return broker.status().bootstrap
