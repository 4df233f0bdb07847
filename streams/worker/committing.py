"""Committing beside processing: while one transaction is committed, the next batch is fetched and processed.

Never more than one is under way: whoever submits, checkpoints, gives partitions back or ends has settled the last one
first. Memory may so run ahead of the log by one batch, and whatever a commit meets is raised by the next `settle`:
then everything in memory is dropped and rebuilt from the log, as after a crash.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Protocol

__all__ = ["AtOnce", "Beside", "Committer"]

Work = Callable[[], None]


class Committer(Protocol):
    """Does one piece of work at a time."""

    @property
    def busy(self) -> bool:
        """Whether there is work that is not settled."""

    def submit(self, work: Work) -> None:
        """Do this, now or later; everything submitted before is settled."""

    def settle(self) -> None:
        """Return when the work is done; raises what it raised."""


class AtOnce:
    """In the caller's thread, before `submit` returns: simulations, and live traffic, where nothing else waits."""

    busy = False

    def submit(self, work: Work) -> None:
        """Do it."""
        work()

    def settle(self) -> None:
        """It is done already."""


class Beside:
    """In a thread of its own, which waits for work as long as the process lives."""

    def __init__(self) -> None:
        self.busy = False
        self._work: Work | None = None
        self._error: BaseException | None = None
        self._given, self._done = threading.Semaphore(0), threading.Semaphore(0)
        self._thread: threading.Thread | None = None

    def submit(self, work: Work) -> None:
        """Hand it to the thread."""
        if self.busy:
            raise RuntimeError("the work before is not settled")
        if self._thread is None:
            self._thread = threading.Thread(target=self._loop, name="headrace-commit", daemon=True)
            self._thread.start()
        self.busy, self._work = True, work
        self._given.release()

    def settle(self) -> None:
        """Wait for the thread; what it met is raised here."""
        if not self.busy:
            return
        self._done.acquire()
        self.busy = False
        error, self._error = self._error, None
        if error is not None:
            raise error

    def _loop(self) -> None:
        while True:
            self._given.acquire()
            work, self._work = self._work, None
            try:
                if work is not None:
                    work()
            except BaseException as error:  # raised in the worker's thread, by `settle`
                self._error = error
            self._done.release()
