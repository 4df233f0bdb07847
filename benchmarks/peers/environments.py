"""The peers' environments: made from hashed locks into a folder of the user's cache, once, and found again."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import platformdirs

__all__ = ["PEERS", "python"]

PEERS = ("quix", "faust")
_FOLDER = Path(__file__).parent


def python(peer: str) -> Path:
    """The interpreter of this peer's environment, which is made if it is not there (a minute, needs the network)."""
    if peer not in PEERS:
        raise ValueError(f"peer is {peer!r}; legal: {', '.join(PEERS)}")
    lock = _FOLDER / f"{peer}.lock"
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    digest = hashlib.sha256(lock.read_bytes() + version.encode()).hexdigest()[:12]
    home = Path(platformdirs.user_cache_dir("headrace", appauthor=False)) / "bench" / f"{peer}-{digest}"
    found, done = home / "bin" / "python", home / "installed"
    if not done.exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(home)], check=True)
        pip = [str(found), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "--require-hashes", "-r", str(lock)], check=True)
        done.touch()
    return found
