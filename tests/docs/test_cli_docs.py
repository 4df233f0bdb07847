"""docs/cli.md names every command, argument and option, and no others."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from headrace.streams.cli import main

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "cli.md").read_text()


def commands(command: click.Command = main, path: str = "headrace") -> Iterator[tuple[str, click.Command]]:
    """Every command that does something, with the words that call it."""
    if isinstance(command, click.Group):
        between = "".join(f" {p.metavar}" for p in command.params if isinstance(p, click.Argument))
        context = click.Context(command)
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            yield from commands(inner, f"{path}{between} {name}")
    else:
        yield path, command


def section(path: str) -> str:
    """What is written under a command's heading."""
    found = re.search(rf"^## `{re.escape(path)}[ `].*?(?=^## |\Z)", TEXT, re.DOTALL | re.MULTILINE)
    return found[0] if found else ""


@pytest.mark.parametrize(
    ("path", "command"), list(commands()), ids=lambda value: value if isinstance(value, str) else ""
)
def test_a_command_is_documented_with_its_options(path: str, command: click.Command):
    """Its section names each option (those for Kafka and --json may be left to the general part) and argument."""
    text = section(path)
    assert text, f"no section for {path}"
    general = TEXT.partition("\n## ")[0]
    shared = ("--bootstrap", "--kafka-config", "--json")
    missing = []
    for parameter in command.params:
        if isinstance(parameter, click.Argument):
            missing += (
                [parameter.make_metavar(click.Context(command))] if parameter.human_readable_name not in text else []
            )
            continue
        for flag in (*parameter.opts, *parameter.secondary_opts):
            place = text + general if flag in shared else text
            missing += [flag] if f"`{flag}" not in place and f" {flag}`" not in place else []
    assert missing == []


@pytest.mark.parametrize(
    "path", re.findall(r"^## `(headrace [a-z-]+(?: [a-z-]+)*(?: PIPELINE [a-z]+)?)", TEXT, re.MULTILINE)
)
def test_a_documented_command_exists(path: str):
    """No section speaks of a command that is not there, and no option in it either."""
    found = dict(commands())[path]
    known = {flag for parameter in found.params for flag in (*parameter.opts, *parameter.secondary_opts)} | {"--help"}
    assert set(re.findall(r"`(--?[a-z][a-z-]*)", section(path))) <= known


def test_the_exit_codes_are_documented():
    """Each code that the command line ends with is in the table."""
    assert re.findall(r"^\| (\d+) \|", TEXT, re.MULTILINE) == ["0", "1", "2", "70", "130"]
