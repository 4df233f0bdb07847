"""What commands print: tables for people, JSON for scripts, bars on a terminal only.

Whatever is printed may come from records, which anybody may have sent: controls are shown, never sent to a terminal.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import click
import msgspec
from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from headrace.streams.errors import UsageError

__all__ = [
    "confirm",
    "console",
    "emit",
    "escaped",
    "figure",
    "json_line",
    "json_text",
    "printable",
    "progress",
    "say",
    "show",
    "warn",
]

_PIPED_WIDTH = 10_000  # a table is as wide as its content, a pipe has no edge


def console(*, stderr: bool = False) -> Console:
    """A console on today's stdout or stderr; without colours and without wrapping when piped."""
    stream = sys.stderr if stderr else sys.stdout
    return Console(file=stream, highlight=False, width=None if stream.isatty() else _PIPED_WIDTH)


def say(text: str) -> None:
    """A line on stdout."""
    console().print(Text(printable(text)), soft_wrap=True)


def warn(text: str) -> None:
    """A line on stderr."""
    console(stderr=True).print(Text(printable(text)), soft_wrap=True)


def confirm(what: str) -> None:
    """Ask on stderr whether to do this, and go on with a yes only; UsageError where nobody can be asked."""
    if not sys.stdin.isatty():
        raise UsageError(f"Nobody can be asked here: pass --yes to {what}.")
    click.confirm(f"{what[0].upper()}{what[1:]}?", abort=True, err=True)


def show(title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]], none: str = "") -> None:
    """A table on stdout, figures aligned to the right; `none` is said in its place where there are no rows."""
    filled = [[figure(cell) for cell in row] for row in rows]
    if none and not filled:
        say(none)
        return
    table = Table(title=title or None, title_justify="left", box=box.SIMPLE, pad_edge=False)
    for i, column in enumerate(columns):
        numeric = bool(filled) and all(_numeric(row[i]) for row in filled)
        table.add_column(column, justify="right" if numeric else "left", overflow="fold")
    for row in filled:
        table.add_row(*map(Text, row))
    console().print(table)


def emit(json_to: str | None, value: Any) -> bool:
    """Write the result where ``--json`` says; whether tables belong on stdout besides."""
    if json_to is None:
        return True
    text = msgspec.json.format(json_text(value), indent=2) + "\n"
    if json_to == "-":
        sys.stdout.write(text)
        sys.stdout.flush()
        return False
    try:
        Path(json_to).write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{json_to} (--json) cannot be written: {error.strerror}.") from error
    return True


def json_line(value: Any) -> None:
    """One JSON object as a line on stdout, at once."""
    sys.stdout.write(json_text(value) + "\n")
    sys.stdout.flush()


def json_text(value: Any) -> str:
    """JSON in one line, safe to print: JSON itself leaves a terminal's 8-bit controls as they are."""
    text = msgspec.json.encode(value, enc_hook=str).decode()
    return text if text.isprintable() else "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in text)


@contextlib.contextmanager
def progress(title: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """A bar on stderr while the block runs, if that is a terminal; call what is given with the number done."""
    terminal = console(stderr=True)
    if not terminal.is_terminal:
        yield lambda done: None
        return
    bars = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*bars, console=terminal, transient=True) as bar:
        task = bar.add_task(title, total=total)
        yield lambda done: bar.advance(task, done)


def figure(value: Any) -> str:
    """A value as a cell: figures with separators, four decimals, None as a dash."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4f}" if isinstance(value, float) else printable(str(value))


def escaped(data: bytes | None, limit: int = 120) -> str:
    """Bytes that anybody may have sent, safe to print: escaped, and shortened."""
    if data is None:
        return "null"
    text = data[:limit].decode("utf-8", "backslashreplace")
    shown = printable(text)
    return shown if len(data) <= limit else f"{shown}… ({len(data):,} bytes)"


def printable(text: str) -> str:
    """Text that anybody may have sent, safe to print: controls are escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _numeric(text: str) -> bool:
    return text == "-" or text.replace(",", "").replace(".", "").replace("-", "").isdigit()
