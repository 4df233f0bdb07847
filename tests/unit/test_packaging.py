"""What pyproject.toml says about the rooms agrees with what lies there."""

from __future__ import annotations

import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("deploy", "examples", "processors", "schemas", "streams")
SETUPTOOLS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]


def _folders_with_code() -> set[str]:
    return {str(file.parent.relative_to(ROOT)) for room in ROOMS for file in (ROOT / room).rglob("*.py")}


def test_every_folder_with_code_is_a_package():
    """Each folder of a room that holds Python is shipped, under headrace and its own path."""
    expected = {"headrace": "headrace"} | {f"headrace.{path.replace('/', '.')}": path for path in _folders_with_code()}
    assert SETUPTOOLS["package-dir"] == expected
    assert sorted(SETUPTOOLS["packages"]) == sorted(expected)


def test_every_package_has_an_init():
    """No room or subpackage is an implicit namespace, which a user's folder of the same name could extend."""
    assert [path for path in _folders_with_code() if not (ROOT / path / "__init__.py").exists()] == []


def test_links_for_mypy_point_at_the_rooms():
    """headrace/ links to each room and to nothing else, so mypy sees what is installed."""
    links = {link.name: str(link.readlink()) for link in (ROOT / "headrace").iterdir() if link.is_symlink()}
    assert links == {room: f"../{room}" for room in ROOMS}
