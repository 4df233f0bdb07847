"""The peers' environments: made from hashed locks into a folder of the user's cache, once, and found again."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import platformdirs

__all__ = ["PEERS", "installed", "python"]

PEERS = ("quix", "faust")
_FOLDER = Path(__file__).parent


def installed(peer: str) -> bool:
    """Whether this peer's environment is there."""
    return (_home(peer) / "installed").exists()


def python(peer: str) -> Path:
    """The interpreter of this peer's environment, which is made if it is not there (a minute, needs the network)."""
    home = _home(peer)
    found = home / "bin" / "python"
    if not installed(peer):
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(home)], check=True)
        pip = [str(found), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "--require-hashes", "-r", str(_lock(peer))], check=True)
        (home / "installed").touch()
    return found


def _lock(peer: str) -> Path:
    if peer not in PEERS:
        raise ValueError(f"peer is {peer!r}; legal: {', '.join(PEERS)}")
    return _FOLDER / f"{peer}.lock"


def _home(peer: str) -> Path:
    """Named by what is installed there and by which Python, so that neither can be mistaken for another."""
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    digest = hashlib.sha256(_lock(peer).read_bytes() + version.encode()).hexdigest()[:12]
    return Path(platformdirs.user_cache_dir("headrace", appauthor=False)) / "bench" / f"{peer}-{digest}"
