"""``headrace new``: a pipeline to begin with, from a table or from a template."""

from __future__ import annotations

import importlib.util
import keyword
import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

import click

from headrace.processors.metrics import TASKS
from headrace.streams.commands.options import Headrace, json_option
from headrace.streams.commands.output import emit, say
from headrace.streams.errors import UsageError
from headrace.streams.scaffold.infer import plan_of
from headrace.streams.scaffold.plan import Plan, Wishes
from headrace.streams.scaffold.table import read_table
from headrace.streams.scaffold.write import files

__all__ = ["new"]

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,59}")
_TAKEN = {"headrace", "river", "pandas", "numpy", "pytest", "click", "rich", "msgspec", "conftest"}
_TEMPLATE_ROWS = 5_000


@click.command(cls=Headrace)
@click.argument("name", metavar="NAME")
@click.option("--from", "source", type=click.Path(path_type=Path), metavar="FILE", help="A CSV file with a header.")
@click.option("--label", metavar="COLUMN", help="What is to be predicted.")
@click.option("--task", type=click.Choice(list(TASKS)), help="What kind of label it is.")
@click.option("--time", metavar="COLUMN", help="When an event happened.")
@click.option("--id", "id_", metavar="COLUMN", help="An event's own id.")
@click.option("--key", metavar="COLUMN", help="What an event is about: the customer, the machine.")
@click.option("--label-time", metavar="COLUMN", help="When its label became known.")
@click.option("--time-format", metavar="FORMAT", help="How times are written, such as '%d.%m.%Y %H:%M'.")
@click.option("--encoding", metavar="NAME", help="The file's encoding, such as latin-1.")
@json_option
def new(
    name: str,
    source: Path | None,
    id_: str | None,
    encoding: str | None,
    json_to: str | None,
    **wishes: Any,
) -> None:
    """Write a pipeline into a new folder NAME: declaration, schemas, tests and README. Needs no Kafka.

    With --from its columns are told from the file: what is not named is guessed, and said. Without it the pipeline is
    about real flights, to be changed.
    """
    folder = Path(name)
    called, module = _named(folder)
    if source is None:
        if id_ or encoding or any(wishes.values()):
            raise UsageError("Columns are named of a file: give it with --from FILE.")
        with tempfile.TemporaryDirectory() as scratch:
            template = Path(scratch) / "flights.csv"
            _template(template)
            table = read_table(template)
            raw = template.read_bytes()
        plan = plan_of(table, _FLIGHTS)
        made = files(plan, called, module, "flights.csv") | {"flights.csv": raw}
    else:
        plan = plan_of(read_table(source, encoding), Wishes(id=id_, **wishes))
        made = files(plan, called, module, _seen_from(folder, source))
    _write(folder, made)
    pipeline = f"{folder / module}.py:{module}"
    if emit(json_to, _value(plan, pipeline, folder, made)):
        _say(plan, pipeline, folder)


def _named(folder: Path) -> tuple[str, str]:
    """The pipeline's name, and that of its module; UsageError for what could not be imported."""
    name = folder.name
    module = name.replace("-", "_").lower()
    if not _NAME.fullmatch(name):
        raise UsageError(f"NAME is {name!r}; legal: a letter, then letters, digits, _ and -, at most 60.")
    if keyword.iskeyword(module) or module in _TAKEN or module in sys.stdlib_module_names:
        raise UsageError(f"NAME is {name!r}, and Python has a module or word {module!r} already: choose another.")
    if folder.exists():
        raise UsageError(f"{folder} is there already, and nothing is overwritten: choose another name, or remove it.")
    return name, module


def _seen_from(folder: Path, source: Path) -> str:
    """The file's path from within the folder; absolute where they have nothing in common."""
    at, to = folder.resolve(), source.resolve()
    common = Path(os.path.commonpath([at, to]))
    return Path(os.path.relpath(to, at)).as_posix() if common != Path(common.anchor) else to.as_posix()


def _write(folder: Path, made: dict[str, bytes]) -> None:
    """All files or none."""
    try:
        folder.mkdir(parents=True)
    except FileExistsError as error:
        raise UsageError(f"{folder} is there already, and nothing is overwritten: choose another name.") from error
    except OSError as error:
        raise UsageError(f"{folder} cannot be made: {error.strerror}.") from error
    try:
        for name, content in made.items():
            (folder / name).write_bytes(content)
    except OSError as error:
        for name in made:
            (folder / name).unlink(missing_ok=True)
        folder.rmdir()
        raise UsageError(f"{folder} cannot be written: {error.strerror}.") from error


_FLIGHTS = Wishes(
    label="late", time="scheduled_departure", id="event_id", key="origin", task="binary", label_time="arrived_at"
)


def _template(path: Path) -> None:
    """Real departures from New York, each with whether it came late, and when that was known."""
    import pandas as pd

    from headrace.examples.flights_data import flights

    rows = flights(_TEMPLATE_ROWS)
    late = (rows["arr_delay"] > 15).map({True: "true", False: "false"}).where(rows["arr_delay"].notna(), "")
    table = rows[["event_id", "carrier", "origin", "dest", "distance"]].assign(
        scheduled_departure=pd.to_datetime(rows["scheduled_departure"], unit="ms", utc=True),
        arrived_at=pd.to_datetime(rows["arrived_at"], unit="ms", utc=True),
        late=late,
    )
    table.to_csv(path, index=False, date_format="%Y-%m-%dT%H:%M:%SZ")


def _value(plan: Plan, pipeline: str, folder: Path, made: dict[str, bytes]) -> dict[str, Any]:
    return {
        "pipeline": pipeline,
        "folder": str(folder),
        "files": sorted(made),
        "task": plan.task,
        "label": plan.label and plan.label.name,
        "positive": plan.positive,
        "id": plan.id,
        "time": plan.time,
        "key": plan.key if plan.has_key else None,
        "features": list(plan.features),
        "notes": plan.notes,
    }


def _say(plan: Plan, pipeline: str, folder: Path) -> None:
    assert plan.label is not None
    true = "" if plan.positive is None else f", true is {plan.positive!r}"
    say(f"{folder}: {plan.task}, predicts {plan.label.name!r}{true}; {len(plan.features)} columns are features.")
    for note in plan.notes:
        say(f"  - {note}")
    say("Next:")
    for command in (
        *(["pip install pytest"] if importlib.util.find_spec("pytest") is None else []),
        f"python -m pytest {folder}",
        f"headrace backtest {pipeline}",
        "headrace broker start",
        f"headrace topics {pipeline} --apply",
        f"headrace publish {pipeline}",
        f"headrace run {pipeline}",
    ):
        say(f"  {command}")
