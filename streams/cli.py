"""The command ``headrace``: every command in one list, and every error as one sentence.

Exit codes: 0 done; 1 the answer is no, or the work failed; 2 wrong use or configuration; 70 an error of our own; 130
interrupted. A traceback is shown with ``--debug`` only.
"""

from __future__ import annotations

import difflib
import errno
import importlib
import logging
import os
import re
import sys
from collections.abc import Sequence
from typing import Any

import click
from click.shell_completion import CompletionItem

from headrace import __version__
from headrace.deploy.broker import BrokerError
from headrace.streams.commands.options import Context, kafka_options
from headrace.streams.commands.output import warn
from headrace.streams.errors import HeadraceError
from headrace.streams.logs import WAITING

__all__ = ["COMMANDS", "main"]

COMMANDS = {
    "demo": ("demo", "Real flights through a real Kafka, from start to finish."),
    "new": ("new", "Write a pipeline into a new folder, from a table of yours."),
    "broker": ("broker", "A real Kafka on this machine, one node, loopback only."),
    "check": ("topics", "Load a declaration and show what it says."),
    "topics": ("topics", "Create a pipeline's topics, or say what is wrong with them."),
    "backtest": ("backtest", "Run a pipeline in memory over a file, or its own data."),
    "publish": ("publish", "Publish a file, or the declared data, as events and labels."),
    "run": ("run", "Run a worker: all stages chained, or some of them."),
    "control": ("control", "Watch and steer a pipeline: its page, alerts, policies."),
    "status": ("status", "Show everything at a glance: rates, lag, models, alerts."),
    "tail": ("tail", "Show the records of one of a pipeline's topics, decoded."),
    "alerts": ("alerts", "List the alerts, each as it stands now."),
    "drift": ("alerts", "Say of each watch what it may raise by chance, and has."),
    "audit": ("audit", "Recompute all that was published, and compare each byte."),
    "explain": ("explain", "Recompute one event's prediction, and tell its way."),
    "models": ("models", "List, compare, promote, roll back and rebuild models."),
    "keys": ("keys", "The signing key of this user, and the keys that are trusted."),
    "dead-letter": ("dead_letter", "Count, look at and publish again what was refused."),
    "reset": ("reset", "Empty what a pipeline wrote, to start from the first event."),
    "completion": ("completion", "Print the completion script of bash, zsh or fish."),
}
"""Name → its file in `commands/`, which is imported when the command is called, and what it does; in order of use."""

_UNKNOWN = re.compile(r"No such command '(.*)'\.")
_WORDS = {
    "is not a valid integer range": "is no whole number",
    "is not a valid integer": "is no whole number",
    "is not a valid float range": "is no number",
    "is not a valid float": "is no number",
}
_MACHINE = {errno.EACCES, errno.EDQUOT, errno.EFBIG, errno.ENOSPC, errno.ENOTDIR, errno.EPERM, errno.EROFS}
"""What the machine says where a folder, a disk or its rights do not fit: no error of our own."""
_COMPLETE = "_HEADRACE_COMPLETE"
_OURS = 70
_INTERRUPTED = 130


class _Root(click.Group):
    """The group of all commands; it never lets an exception out."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """Run the command line and exit with its code."""
        if not standalone_mode:
            return super().main(args, prog_name, complete_var, False, **extra)
        context = Context()
        try:
            code = super().main(args, prog_name or "headrace", complete_var, False, obj=context, **extra)
            sys.stdout.flush()
        except (Exception, KeyboardInterrupt, SystemExit) as error:
            if isinstance(error, SystemExit) and _COMPLETE in os.environ:
                raise  # click has completed a word
            if _unread(error):
                os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
                code = 1
            elif context.debug:
                raise
            else:
                code = _explain(error, context)
        sys.exit(int(code or 0))

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order in which they are used."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, imported now."""
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"headrace.streams.commands.{COMMANDS[cmd_name][0]}")
        command: click.Command = getattr(module, cmd_name.replace("-", "_"))
        return command

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Commands and options, without importing any command."""
        named = [CompletionItem(name, help=does) for name, (_, does) in COMMANDS.items() if name.startswith(incomplete)]
        return named + click.Command.shell_complete(self, ctx, incomplete)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Every command and what it does, without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, does) for name, (_, does) in COMMANDS.items()])


class _Word(logging.Handler):
    """Says on stderr what is logged, in a process that keeps no log."""

    def emit(self, record: logging.LogRecord) -> None:
        """As a sentence."""
        if not logging.getLogger().handlers:
            said = record.getMessage()
            warn(f"{said[0].upper()}{said[1:]}.")


_WORD = _Word()


@click.group(cls=_Root, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="headrace", message="%(prog)s %(version)s")
@click.option("--debug", is_flag=True, envvar="HEADRACE_DEBUG", help="Show the traceback of an error.")
@kafka_options
@click.pass_context
def main(ctx: click.Context, debug: bool) -> None:
    """Replayable machine learning on Kafka.

    A PIPELINE is named module:object or path.py:object.
    """
    ctx.ensure_object(Context).debug = debug
    logging.getLogger("headrace").addHandler(logging.NullHandler())  # only a worker logs; others say it in one sentence
    logging.getLogger(WAITING).addHandler(_WORD)


def _said(error: click.UsageError) -> str:
    """click's words in one sentence, with what was probably meant."""
    said = " ".join(error.format_message().split())
    for theirs, ours in _WORDS.items():
        said = said.replace(theirs, ours)
    group = error.ctx.command if error.ctx else None
    unknown = _UNKNOWN.fullmatch(said)
    if not isinstance(group, click.Group) or unknown is None:
        return said
    names = sorted(group.list_commands(error.ctx)) if error.ctx else []
    if ":" in unknown[1]:
        return f"{said[:-1]}: the command comes before the PIPELINE, one of {', '.join(names)}."
    close = difflib.get_close_matches(unknown[1], names, n=1)
    return f"{said[:-1]}: is it {close[0]}?" if close else f"{said[:-1]}; legal: {', '.join(names)}."


def _unread(error: BaseException) -> bool:
    """Whether nobody reads standard output any more: click and rich make a `sys.exit` of that."""
    return isinstance(error.__context__ if isinstance(error, SystemExit) else error, BrokenPipeError)


def _explain(error: BaseException, context: Context) -> int:
    """Say on stderr in one sentence what is wrong; returns the exit code."""
    if isinstance(error, KeyboardInterrupt | click.Abort):
        click.echo("Interrupted.", err=True)
        return _INTERRUPTED
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        click.echo(error.format_message(), err=True)
        return error.exit_code
    if isinstance(error, click.UsageError):
        where = f" See `{error.ctx.command_path} --help`." if error.ctx else ""
        said = _said(error)
        text, code = f"{said}{'' if said.endswith(('.', '?')) else '.'}{where}", error.exit_code
    elif isinstance(error, click.ClickException):
        text, code = error.format_message(), error.exit_code
    elif isinstance(error, HeadraceError):
        text, code = str(error), error.exit_code
    elif isinstance(error, BrokerError):
        text, code = str(error), 2
    elif isinstance(error, OSError) and error.errno in _MACHINE:
        place = error.filename2 or error.filename or "The output"
        text, code = f"{place} cannot be used: {error.strerror}.", 2
    elif isinstance(error, RuntimeError) and "home directory" in str(error):  # Python's words, or platformdirs'
        text, code = "This user has no home directory: set HOME, or for keys alone HEADRACE_SIGNING_KEY.", 2
    elif isinstance(error, SystemExit):  # no command raises it
        text, code = f"The pipeline's own code called sys.exit({error.code!r}): raise an exception there instead.", 2
    else:
        said = str(error) or "no message"
        text, code = f"{type(error).__name__}: {said} (an error of Headrace's own; --debug shows where)", _OURS
    click.echo(f"Error: {context.redacted(text)}", err=True)
    return code
