"""Hashes of states, functions and the environment: what a journal, a spec and an audit compare."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Final

from headrace.streams.identity.canonical import state_hash
from headrace.streams.identity.functions import function_hash

__all__ = ["code_revision", "environment", "environment_hash", "function_hash", "python_version", "state_hash"]

_BYTES: Final = 16


def python_version() -> str:
    """Python's major and minor version, to which bytecode belongs."""
    major, minor, _ = platform.python_version_tuple()
    return f"{major}.{minor}"


def environment() -> dict[str, str]:
    """Give the versions that decide what a replay computes; nothing of the machine."""
    found = {"python": f"{platform.python_implementation().lower()} {python_version()}"}
    for library in ("google-re2", "headrace", "msgspec", "numpy", "river"):
        try:
            found[library] = metadata.version(library)
        except metadata.PackageNotFoundError:
            found[library] = "source"
    return found


def environment_hash() -> str:
    """Hash `environment`: 32 hex digits."""
    encoded = json.dumps(environment(), sort_keys=True).encode()
    return hashlib.blake2b(encoded, digest_size=_BYTES).hexdigest()


def code_revision(folder: Path) -> str:
    """The commit of the repository that `folder` lies in, or what ``HEADRACE_REVISION`` says; "" if neither is there.

    Git's own files are read, so that nothing has to be started; a checkout with changes has the same revision.
    """
    named = os.environ.get("HEADRACE_REVISION")
    if named:
        return named[:100]
    for place in (folder.resolve(), *folder.resolve().parents):
        git = place / ".git"
        try:
            if git.is_file():  # a worktree
                git = place / git.read_text().partition("gitdir: ")[2].strip()
            if git.is_dir():
                return _commit(git)
        except (OSError, UnicodeDecodeError):
            return ""
    return ""


def _commit(git: Path) -> str:
    head = (git / "HEAD").read_text().strip()
    if not head.startswith("ref: "):
        return head[:40]
    ref = head.removeprefix("ref: ")
    shared = git / (git / "commondir").read_text().strip() if (git / "commondir").is_file() else git
    for place in (git, shared):
        if (place / ref).is_file():
            return (place / ref).read_text().strip()[:40]
    packed = (shared / "packed-refs").read_text().splitlines() if (shared / "packed-refs").is_file() else []
    return next((line[:40] for line in packed if line.endswith(f" {ref}")), "")
