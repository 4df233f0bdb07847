"""The overview for the page: made by a process of its own, and only while somebody watches.

It asks for consumer groups through librdkafka's admin client, which aborts the whole process when an answer comes after
its request was given up (seen when a coordinator came back: ``rd_kafka_admin_coord_response_parse``). That must not be
the end of alerts; and its work takes no time from the page's loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import time
from typing import Any

from headrace.streams.errors import HeadraceError
from headrace.streams.settings import Connection

__all__ = ["Looking"]

_LONGEST_LINE = 32 << 20


class Looking:
    """The last overview of a pipeline that is named by `reference`; without a name there is none.

    Parameters
    ----------
    every_s, idle_s
        Time between two looks, and how long after somebody has asked they go on.
    """

    def __init__(self, reference: str | None, connection: Connection, every_s: float, idle_s: float) -> None:
        self.value: dict[str, Any] | None = None
        self._every_s, self._idle_s = every_s, idle_s
        self._reference, self._connection = reference, connection
        self._asked = -float("inf")

    async def glance(self) -> dict[str, Any] | None:
        """The last overview; to ask for it is to watch."""
        self._asked = time.monotonic()
        return self.value

    async def run(self) -> None:
        """Look while somebody watches, until cancelled."""
        while True:
            if self._reference is not None and self._watched():
                await self._look(self._reference)
            await asyncio.sleep(0.2)

    def _watched(self) -> bool:
        return time.monotonic() - self._asked < self._idle_s

    async def _look(self, reference: str) -> None:
        words = ["status", reference, "--watch", "--every", f"{max(1, round(self._every_s))}s", "--json", "-"]
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "headrace", "--bootstrap", self._connection.bootstrap, *words),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env=self._connection.environment(os.environ),
            limit=_LONGEST_LINE,
        )
        try:
            assert process.stdout is not None
            while self._watched():
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(1.0):
                        line = await process.stdout.readline()
                        if not line:
                            raise HeadraceError("the overview's process has ended")
                        self._take(line)
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    def _take(self, line: bytes) -> None:
        """A look, or an error with the last one: the page tells how old it is."""
        found = json.loads(line)
        if "error" not in found:
            self.value = found
