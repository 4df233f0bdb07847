"""Loops that are watched: one that ends is started again, after ever longer pauses, and how it fares can be asked."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from headrace.streams.errors import HeadraceError

__all__ = ["PAUSES_S", "Part", "Parts"]

log = logging.getLogger("headrace.control")

PAUSES_S = (0.5, 1.0, 2.0, 5.0, 10.0)
_AGAIN_S = 2.0
_STEADY_S = 60.0
"""What has run for so long is started again soon, should it end."""


@dataclass(slots=True)
class Part:
    """One watched loop: how it is, why it was last started again, and how often."""

    state: str = "starting"
    why: str = ""
    restarts: int = 0


class Parts:
    """The watched loops by name."""

    def __init__(self, pauses_s: tuple[float, ...] = PAUSES_S) -> None:
        self._parts: dict[str, Part] = {}
        self._pauses_s = pauses_s
        self._tasks: list[asyncio.Task[None]] = []

    def keep(self, name: str, run: Callable[[], Awaitable[None]]) -> None:
        """Run this until `stop`, whatever becomes of it."""
        part = self._parts[name] = Part()
        self._tasks.append(asyncio.ensure_future(self._kept(part, name, run)))

    async def stop(self) -> None:
        """Cancel all of them, again should one have swallowed it, and wait until they have ended."""
        left = set(self._tasks)
        while left:
            for task in left:
                task.cancel()
            left = (await asyncio.wait(left, timeout=_AGAIN_S))[1]

    def down(self) -> dict[str, str]:
        """Those that are down now, each with the reason."""
        return {name: part.why for name, part in self._parts.items() if part.state == "down"}

    def health(self) -> dict[str, Any]:
        """All of them in plain values."""
        return {
            name: {"state": part.state, "why": part.why, "restarts": part.restarts}
            for name, part in self._parts.items()
        }

    async def _kept(self, part: Part, name: str, run: Callable[[], Awaitable[None]]) -> None:
        quick = 0
        while True:
            began = time.monotonic()
            part.state = "running"
            try:
                await run()
                part.why = "it ended"
            except HeadraceError as error:
                part.why = str(error)
            except Exception as error:
                part.why = f"{type(error).__name__}: {error}"
                log.exception("%s", name)
            part.state = "down"
            part.restarts += 1
            quick = 0 if time.monotonic() - began > _STEADY_S else quick + 1
            log.warning("%s is started again: %s", name, part.why)
            await asyncio.sleep(self._pauses_s[min(quick, len(self._pauses_s) - 1)])
