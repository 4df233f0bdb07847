"""Python's hash seed: under any but 0, sets of strings have another order in each process."""

from __future__ import annotations

import os
import sys

from headrace.streams.errors import UsageError

__all__ = ["fixed_hash_seed"]


def fixed_hash_seed() -> None:
    """Go on under hash seed 0: start this very command anew if it was started otherwise.

    Iteration order of sets of strings depends on the seed, and a model that depends on that would not be replayable.
    """
    if os.environ.get("PYTHONHASHSEED") == "0":
        if sys.flags.hash_randomization:
            raise UsageError("Python was told to ignore PYTHONHASHSEED (-E or -I): leave that option out.")
        return
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, "PYTHONHASHSEED": "0"})
