"""The ends of a worker that it cannot bring about itself: told to stop it takes too long, or it makes no progress.

Both print the stack of every thread and end the process at once; the log is all that the next start needs.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

__all__ = ["STALLED", "Watchdog", "end_now", "stop_on_signals"]

STALLED = 70

Exit = Callable[[str, int], None]


def end_now(message: str, code: int) -> None:
    """Say why, show every thread's stack, and leave without any clean-up."""
    sys.stderr.write(f"{message}\n")
    sys.stderr.flush()
    faulthandler.dump_traceback(file=sys.__stderr__ or 2, all_threads=True)
    os._exit(code)


class Watchdog:
    """Ends the process when the worker's loop stands still, or has work and commits nothing, for `stall_s`.

    `look` is one look at the worker, at a moment given in seconds; `start` does that from a thread.
    """

    def __init__(self, worker: Any, stall_s: float, *, end: Exit = end_now) -> None:
        self.stall_s = stall_s
        self._worker, self._end = worker, end
        self._ticks = self._progress = -1
        self._ticked = self._progressed = 0.0

    def start(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Look every so often, until the process ends.

        Code that never gives up the interpreter would keep this thread from looking, too: then the process ends with 1.
        """
        period = max(0.05, min(5.0, self.stall_s / 4))

        def watch() -> None:
            nap = threading.Event()
            while not nap.wait(period):
                faulthandler.dump_traceback_later(self.stall_s + period, exit=True, file=sys.__stderr__ or 2)
                self.look(clock())

        threading.Thread(target=watch, name="headrace-watchdog", daemon=True).start()

    def look(self, now_s: float) -> None:
        """Compare with the look before."""
        worker = self._worker
        if worker.ticks != self._ticks:
            self._ticks, self._ticked = worker.ticks, now_s
        idle = not worker.ready or not worker.waiting
        if worker.progress != self._progress or idle:
            self._progress, self._progressed = worker.progress, now_s
        if now_s - self._ticked > self.stall_s:
            self._end(f"The worker has stood still for {self.stall_s:g} s; it ends, to be started again.", STALLED)
        elif now_s - self._progressed > self.stall_s:
            self._end(f"The worker has work, but committed nothing for {self.stall_s:g} s; it ends.", STALLED)


def stop_on_signals(worker: Any, budget_s: float, *, end: Exit = end_now) -> Callable[[], None]:
    """Stop the worker at SIGTERM, SIGINT or SIGHUP, within the budget; a second SIGINT ends at once.

    SIGHUP stays ignored where it is (`nohup`). Returns how to undo it.
    """
    timers: list[threading.Timer] = []

    def stop(number: int, frame: FrameType | None) -> None:
        if timers and number == signal.SIGINT:
            end("Interrupted twice: ending without a checkpoint.", 1)
        worker.stop()
        if not timers:
            late = f"The worker did not stop within {budget_s:g} s."
            timer = threading.Timer(budget_s, end, (late, 1))
            timer.daemon = True
            timers.append(timer)
            timer.start()  # another signal may have come in between, and started its own

    numbers = [signal.SIGTERM, signal.SIGINT]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    before = {number: signal.signal(number, stop) for number in numbers}

    def undo() -> None:
        for timer in timers:
            timer.cancel()
        for number, handler in before.items():
            signal.signal(number, handler)

    return undo
