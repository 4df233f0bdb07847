"""The demo's control plane: a process of its own, which may be left running to look at."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import platformdirs

__all__ = ["Plane"]

_PORT = 9475
_KINDLY = 10


class Plane:
    """`headrace control`, with less right to the processor than those whose throughput is shown.

    `address` is None until it has said where its page is. Where another demo's was left running, that one ends.
    """

    def __init__(self, reference: str, bootstrap: str, environment: dict[str, str]) -> None:
        folder = _folder()
        folder.mkdir(parents=True, exist_ok=True)
        self.log, self._note = folder / "log", folder / "pid"
        self._end_former()
        self.address: str | None = None
        command = [sys.executable, "-m", "headrace", "--bootstrap", bootstrap, "control", reference]
        with self.log.open("w", encoding="utf-8") as log:
            self.process = subprocess.Popen(
                [*command, "--port", str(_free(_PORT)), "--log-level", "warning"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=environment,
                start_new_session=True,
            )
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, self.process.pid, _KINDLY)
        self._note.write_text(str(self.process.pid), encoding="utf-8")
        threading.Thread(target=self._listen, name="demo-plane", daemon=True).start()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    def _listen(self) -> None:
        for line in self.process.stdout or ():
            found = line.strip().partition(": ")[2]
            if self.address is None and found.startswith("http"):
                self.address = found

    def _end_former(self) -> None:
        """End the one that an earlier demo left running; a process that has taken its number is no control plane."""
        with contextlib.suppress(OSError, ValueError):
            former = int(self._note.read_text(encoding="utf-8"))
            words = Path(f"/proc/{former}/cmdline").read_bytes().split(b"\0")
            if b"headrace" in words and b"control" in words:
                os.kill(former, signal.SIGTERM)
        self._note.unlink(missing_ok=True)


def _folder() -> Path:
    root = os.environ.get("HEADRACE_DATA_DIR") or platformdirs.user_state_dir("headrace", appauthor=False)
    return Path(root).absolute() / "demo-control"


def _free(port: int) -> int:
    """This port if nobody has it, else 0: any."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return 0
    return port
