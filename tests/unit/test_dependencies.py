"""Every direct dependency is justified, and every justification has its dependency."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _declared() -> set[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    return {_canonical(re.split(r"[^A-Za-z0-9._-]", line, maxsplit=1)[0]) for group in groups for line in group}


def test_each_dependency_has_its_line():
    """The dependencies in pyproject.toml are exactly those that docs/dependencies.md justifies."""
    page = (ROOT / "docs" / "dependencies.md").read_text()
    justified = re.findall(r"^- \*\*([^*]+)\*\*: \S.{10,}$", page, flags=re.MULTILINE)
    assert sorted(_declared()) == sorted(justified)


def test_lock_pins_each_dependency():
    """Each direct dependency is pinned in requirements.lock, so a forgotten `make lock` is noticed."""
    pinned = set(re.findall(r"^([a-z0-9-]+)==\S+ \\$", (ROOT / "requirements.lock").read_text(), flags=re.MULTILINE))
    assert _declared() - pinned == set()


def test_lock_has_a_hash_for_everything_and_no_address():
    """requirements.lock holds no address and no package without a hash, so any index may serve it."""
    text = (ROOT / "requirements.lock").read_text()
    entries = re.findall(r"^[a-z0-9-]+==\S+.*$(?:\n {4}--hash=sha256:[0-9a-f]{64}(?: \\)?$)*", text, flags=re.MULTILINE)
    assert [entry.split()[0] for entry in entries if "--hash" not in entry] == []
    assert "://" not in text
