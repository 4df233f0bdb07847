"""What is imported when: a second of start-up and sixty megabytes are left to those who need them."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import headrace
from headrace.streams.cli import COMMANDS, main

SLOW = ("numpy", "pandas", "pyarrow", "river", "scipy")


def imported(code: str) -> list[str]:
    """Which of the slow libraries a new process has imported after this."""
    code += f"\nimport sys; print([name for name in {SLOW} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=True)
    return ast.literal_eval(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("words", ["--help", "broker --help", "keys --help", "completion bash", "run --metrics x"])
def test_the_command_line_needs_no_river(words: str):
    """What loads no pipeline is answered at once."""
    call = f"from headrace.streams.cli import main\ntry: main({words.split()!r})\nexcept SystemExit: pass"
    expected = ["numpy", "river", "scipy"] if words.startswith("run") else []
    assert imported(call) == expected


def test_completion_needs_no_command():
    """A name is completed, and what the command does is said, before any is imported."""
    code = (
        "from click.shell_completion import ShellComplete\nfrom headrace.streams.cli import main\n"
        "found = ShellComplete(main, {}, 'headrace', '_X').get_completions([], '')\n"
        "assert [(i.value, i.help) for i in found][0][0] == 'demo' and all(i.help for i in found[:20])"
    )
    assert imported(code) == []


def test_a_worker_needs_no_pandas():
    """Nor does a pipeline that it runs, as long as nobody reads its data."""
    code = "from headrace.examples import flights, water, contest\nimport headrace.streams.commands.run"
    assert imported(code) == ["numpy", "river", "scipy"]


def test_every_public_name_can_be_had():
    """Each is what its module calls so, and the names that tools read are the same."""
    tree = ast.parse(Path(str(headrace.__file__)).read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    told = {alias.asname or alias.name: (node.module, alias.name) for node in block.body for alias in node.names}  # type: ignore[attr-defined]
    assert sorted(told) == sorted(headrace.__all__)
    for name, (home, inner) in told.items():
        assert getattr(headrace, name) is getattr(importlib.import_module(home), inner)
    assert set(headrace.__all__) <= set(dir(headrace))
    with pytest.raises(AttributeError, match="'headrace' has no attribute 'nothing'"):
        headrace.nothing  # noqa: B018


def test_every_command_has_its_line():
    """Each command is where the list says, under its name, and its line fits on a terminal."""
    context = main.make_context("headrace", ["--help"], resilient_parsing=True)
    for name, (_, does) in COMMANDS.items():
        command = main.get_command(context, name)
        assert command is not None
        assert command.name == name
        assert len(does) <= 80 - 6 - max(map(len, COMMANDS))
