"""Completion in shells: commands, options, pipelines, roles and models, and the scripts that ask for them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner

from headrace.streams.cli import main
from headrace.streams.commands.completion import SHELLS

PIPELINE = """
from headrace import Pipeline
water = Pipeline("water")
fire: Pipeline = Pipeline(
    "fire")
nothing = print("Pipeline(")
"""


@pytest.fixture
def complete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """What is offered for the last word of a line, in a folder with two pipelines in a file that cannot be loaded."""
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "mine.py").write_text(PIPELINE)
    (tmp_path / "broken.py").write_bytes(b"\xff\xfe")
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> list[str]:
        found = ShellComplete(main, {}, "headrace", "_HEADRACE_COMPLETE").get_completions(list(words[:-1]), words[-1])
        return [item.value for item in found]

    return run


def test_commands_and_options(complete):
    """By what they begin with."""
    assert complete("st") == ["status"]
    assert complete("dead-letter", "re") == ["retry"]
    assert "--until-caught-up" in complete("run", "headrace.examples.flights:flights", "--un")


@pytest.mark.parametrize("typed", ["", "inner", "inner/", "inner/mine.py", "inner/mine.py:"])
@pytest.mark.parametrize("command", ["run", "status", "audit", "models", "control"])
def test_pipelines_are_found_in_files(complete, command: str, typed: str):
    """Those that a file declares, at every stage of typing; no file is run."""
    assert complete(command, typed) == ["inner/mine.py:water", "inner/mine.py:fire"]


def test_a_pipeline_that_is_not_there(complete):
    """Nothing is offered, and nothing fails."""
    assert complete("run", "nowhere/x") == []
    assert complete("models", "nowhere/x.py:x", "promote", "") == []


def test_roles_and_models(complete):
    """Roles of topics, and the models that the pipeline declares."""
    assert complete("tail", "headrace.examples.flights:flights", "pre") == ["predictions"]
    assert complete("models", "headrace.examples.flights:flights", "promote", "") == ["logreg", "hat"]
    assert complete("models", "headrace.examples.flights:flights", "rollback", "--to", "l") == ["logreg"]


def test_a_completed_word_is_all_that_is_printed():
    """What is on stderr comes to stand in the line that is typed."""
    asked = {"_HEADRACE_COMPLETE": "bash_complete", "COMP_WORDS": "headrace au", "COMP_CWORD": "1"}
    result = CliRunner().invoke(main, [], prog_name="headrace", env=asked)
    assert (result.exit_code, result.stdout, result.stderr) == (0, "plain,audit\n", "")


@pytest.mark.parametrize("shell", SHELLS)
def test_the_script_of_a_shell(shell: str, tmp_path: Path):
    """It is written for that shell, and bash takes its own."""
    result = CliRunner().invoke(main, ["completion", shell], prog_name="headrace")
    assert (result.exit_code, "_HEADRACE_COMPLETE" in result.stdout) == (0, True)
    if shell != "bash":
        return
    script = tmp_path / "script"
    script.write_text(result.stdout)
    assert subprocess.run(["bash", "-n", str(script)], capture_output=True, text=True).stderr == ""


def test_another_shell():
    """The legal ones are named."""
    result = CliRunner().invoke(main, ["completion", "tcsh"], prog_name="headrace")
    assert result.exit_code == 2
    assert "'bash', 'zsh', 'fish'" in result.stderr
