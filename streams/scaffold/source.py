"""Python text as a formatter would have it: imports, lists and mappings, quoted words."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["WIDTH", "imported", "listed", "listing", "mapping", "quoted", "safe"]

WIDTH = 120


def imported(module: str, words: list[str]) -> str:
    """An import, in one line where it fits."""
    line = f"from {module} import {', '.join(words)}"
    if len(line) <= WIDTH:
        return line
    return f"from {module} import (\n" + "".join(f"    {word},\n" for word in words) + ")"


def listing(name: str, words: list[str]) -> list[str]:
    """A list in one line, or a word a line where it is too long; and the empty line after it."""
    line = f"{name} = {listed(words)}"
    if len(line) <= WIDTH:
        return [line, ""]
    return [f"{name} = [", *[f"    {quoted(word)}," for word in words], "]", ""]


def mapping(name: str, values: Mapping[str, str]) -> list[str]:
    """A mapping of words, one a line."""
    return [f"{name} = {{", *[f"    {quoted(key)}: {quoted(value)}," for key, value in values.items()], "}"]


def listed(words: list[str]) -> str:
    """A list of words."""
    return "[" + ", ".join(quoted(word) for word in words) + "]"


def quoted(text: str) -> str:
    """A literal in double quotes, as formatters have it; escapes what cannot be seen."""
    if '"' in text and "'" not in text and text.isprintable() and "\\" not in text:
        return f"'{text}'"
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in escaped) + '"'


def safe(text: str) -> str:
    """Somebody's words within a docstring."""
    return "".join(c for c in text if c.isprintable() and c not in '\\"`')[:60] or "it"
