"""What every page says of commands, variables and other pages is so."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from headrace.streams.cli import main

ROOT = Path(__file__).resolve().parents[2]
PAGES = {page.name: page.read_text(encoding="utf-8") for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md"))}
COMMANDS = sorted(
    {
        (name, " ".join(call.split()))
        for name, text in PAGES.items()
        for call in re.findall(r"(?:`|^ *|\$ |bin/)headrace +([a-z-][^`\n#&|>]*)", text, re.MULTILINE)
    }
)
VARIABLE = r"\bHEADRACE_[A-Z_]+\b"


@pytest.mark.parametrize("name", sorted(PAGES))
def test_links_lead_somewhere(name: str):
    """To files that are there, and headings that they have."""
    for link in re.findall(r"\]\((?!https?:)([^)\s]+)\)", PAGES[name]):
        file, _, anchor = link.partition("#")
        where = ROOT / ("" if name == "README.md" else "docs")
        assert (where / file).exists(), link
        headings = re.findall(r"^#+ (.+)$", PAGES[Path(file).name if file else name], re.MULTILINE) if anchor else []
        assert not anchor or anchor in {re.sub(r"[^\w -]", "", one.lower()).replace(" ", "-") for one in headings}, link


def test_the_readme_leads_to_every_page():
    """Nobody has to find one by chance."""
    assert set(re.findall(r"\]\(docs/([\w-]+\.md)", PAGES["README.md"])) == set(PAGES) - {"README.md"}


@pytest.mark.parametrize(("name", "call"), COMMANDS, ids=lambda value: value)
def test_commands_and_options_exist(name: str, call: str):
    """Each command that a page names is one, and takes the options that stand behind it."""
    command: click.Command = main
    known = {"--help", "-h"} | {flag for option in main.params for flag in option.opts}
    for word in shlex.split(call.replace("'", '"') if call.count('"') % 2 == 0 else call.replace('"', "")):
        if word.startswith("-"):
            assert word.rstrip(".,;:").partition("=")[0] in known, word
        elif isinstance(command, click.Group) and (found := command.get_command(click.Context(command), word)):
            command = found
            known |= {flag for option in command.params for flag in (*option.opts, *option.secondary_opts)}
        else:
            assert command is not main or word == "COMMAND", word


def test_every_variable_is_in_the_table():
    """All that the code reads from the environment, and no others."""
    (table,) = re.findall(r"^\| variable \|.*?(?=^$)", PAGES["cli.md"], re.MULTILINE | re.DOTALL)
    rooms = ("streams", "processors", "schemas", "deploy")
    code = "\n".join(file.read_text(encoding="utf-8") for room in rooms for file in (ROOT / room).rglob("*.py"))
    internal = {"HEADRACE_FAILPOINT", "HEADRACE_FAUST_"}
    read = set(re.findall(rf'"({VARIABLE})"', code)) - internal
    named = set(re.findall(VARIABLE, table)) - {"HEADRACE_KAFKA_"}
    assert read - {"HEADRACE_KAFKA_"} == named
