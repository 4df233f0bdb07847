"""Failpoints: named places in the worker at which a test can have the process die, at the n-th pass.

`HEADRACE_FAILPOINT="commit.done:3"` kills the process by SIGKILL at its third pass through `hit("commit.done")`. Unset,
`hit` is a function that does nothing, and the places lie on the way of transactions and batches, not of records.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

__all__ = ["SITES", "VARIABLE", "arm", "hit"]

VARIABLE = "HEADRACE_FAILPOINT"

SITES: tuple[str, ...] = (
    *("open.fenced", "open.joining", "assign.begun"),
    *("recover.begun", "recover.sides", "recover.committed", "recover.state", "recover.journal"),
    *("recover.replaying", "recover.replayed", "resume.begun", "resume.sought"),
    *("epoch.begun", "epoch.sent", "epoch.offsets", "epoch.done"),
    *("cycle.fetched", "cycle.processed", "commit.begun", "commit.outputs", "commit.journaled", "commit.offsets"),
    "commit.done",
    *("checkpoint.due", "checkpoint.frozen", "checkpoint.begun", "checkpoint.entries", "checkpoint.marked"),
    "checkpoint.done",
    *("savepoint.begun", "savepoint.marked", "savepoint.done"),
    *("version.fenced", "version.begun", "version.chunk", "version.sent", "version.done"),
    *("revoke.begun", "revoke.parked", "rebuild.begun", "reopen.proven", "rebuild.fenced"),
    *("finish.begun", "finish.done"),
)
"""Every place there is."""


def _pass(site: str) -> None:
    """Nothing: no failpoint is set."""


hit: Callable[[str], None] = _pass
"""The worker is at this place. Call it through the module (`failpoints.hit(...)`), as `arm` replaces it."""


def arm(setting: str | None) -> None:
    """Die at `"site:n"`, the n-th time that the site is passed (n from 1; default 1); None: nowhere."""
    global hit
    if not setting:
        hit = _pass
        return
    site, _, count = setting.partition(":")
    if site not in SITES or not (count or "1").isdigit() or count == "0":
        raise ValueError(f"{VARIABLE} is {setting!r}; legal: site:n with n from 1 and one of: {', '.join(SITES)}")
    left = int(count or 1)

    def fatal(passed: str) -> None:
        nonlocal left
        if passed == site:
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    hit = fatal


arm(os.environ.get(VARIABLE))
