"""docs/tutorial.md, as somebody new would follow it: its commands, in their order, in an empty folder."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner
from river.datasets import Phishing

from headrace.streams.cli import main
from headrace.streams.kafka import Cluster

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "tutorial.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^ *\$ ((?:headrace|python) .+)$", TEXT, re.MULTILINE)
FIVE = 5


@pytest.fixture(autouse=True)
def _elsewhere(cluster: Cluster, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands are given in that folder, to the tests' own broker; what they import is forgotten."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("HEADRACE_BOOTSTRAP", cluster.bootstrap)
    monkeypatch.setenv("HEADRACE_SIGNING_KEY", str(folder / "key.pem"))
    monkeypatch.setenv("PYTHONHASHSEED", "0")
    for name in ("sites", "sites_data"):
        monkeypatch.delitem(sys.modules, name, raising=False)


def shell(command: str) -> str:
    """What a command of the tutorial prints. Only workers and pytest get a process, as starting one takes long."""
    words = shlex.split(command)
    if words[:2] != ["headrace", "run"] and words[0] == "headrace":
        result = CliRunner().invoke(main, words[1:], prog_name="headrace")
        assert result.exit_code == 0, (command, result.output)
        return result.stdout
    start = [sys.executable, *(["-m", "headrace"] if words[0] == "headrace" else [])]
    done = subprocess.run([*start, *words[1:]], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, (command, done.stdout, done.stderr)
    return done.stdout


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the file of unknown columns in it that the tutorial makes."""
    code, _ = python()
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    return tmp_path


def python() -> list[str]:
    """The tutorial's Python: what makes the file, and what makes it of JSON Lines."""
    return re.findall(r"^```python\n(.+?)^```$", TEXT, re.MULTILINE | re.DOTALL)


def test_json_lines_become_the_same_file(folder: Path):
    """As the tutorial says, nested fields too."""
    rows = Phishing()
    lines = [json.dumps({**x, "is_phishing": y, "of": {"page": {"n": n}}}) for n, (x, y) in enumerate(rows)]
    before = (folder / "sites.csv").read_text().splitlines()
    (folder / "sites.jsonl").write_text("\n".join(lines))
    subprocess.run([sys.executable, "-c", python()[1]], cwd=folder, check=True)
    made = (folder / "sites.csv").read_text().splitlines()
    assert made[0] == f"{before[0]},of.page.n"
    assert [line.rpartition(",")[0] for line in made] == before


def test_the_tutorial_as_it_stands(folder: Path):
    """Five commands and less than two minutes to the first predictions; then all that it says to look at."""
    assert [command.split()[1] for command in COMMANDS[:FIVE]] == ["new", "broker", "topics", "publish", "run"]
    began = time.monotonic()
    for command in COMMANDS[:FIVE]:
        if "broker start" not in command:  # the tests' own runs already
            shell(command)
    took_s = time.monotonic() - began
    said = {command.split()[1]: shell(command) for command in COMMANDS[FIVE:]}
    assert took_s < 120
    assert said["tail"].count('"model":"linear/0@') == 3
    assert re.search(r"linear +0 +champion", said["status"])
    assert "all hold" in said["status"]
    assert "labelled" in said["explain"]
    assert "prediction" in said["drift"]
    assert re.search(r"tree +0 +champion", shell("headrace models sites/sites.py:sites list"))
    assert " 0 different" in said["audit"]
    assert "7 passed" in said["-m"]
    head = TEXT.partition("$ head -3 sites.csv\n")[2].splitlines()[:3]
    assert [line.strip() for line in head] == (folder / "sites.csv").read_text().splitlines()[:3]
