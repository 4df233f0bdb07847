"""Hashes of states, functions and the environment: what a journal, a spec and an audit compare."""

from __future__ import annotations

import hashlib
import json
import platform
from importlib import metadata
from typing import Final

from headrace.streams.canonical import state_hash
from headrace.streams.functions import function_hash

__all__ = ["environment", "environment_hash", "function_hash", "state_hash"]

_BYTES: Final = 16


def environment() -> dict[str, str]:
    """Give the versions that decide what a replay computes; nothing of the machine."""
    major, minor, _ = platform.python_version_tuple()
    found = {"python": f"{platform.python_implementation().lower()} {major}.{minor}"}
    for library in ("headrace", "msgspec", "numpy", "river"):
        try:
            found[library] = metadata.version(library)
        except metadata.PackageNotFoundError:
            found[library] = "source"
    return found


def environment_hash() -> str:
    """Hash `environment`: 32 hex digits."""
    encoded = json.dumps(environment(), sort_keys=True).encode()
    return hashlib.blake2b(encoded, digest_size=_BYTES).hexdigest()
