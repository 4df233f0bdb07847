"""Live updates: what has changed on the board goes to every page that is open, as server-sent events.

Each client has one place for each section: an update that it has not taken yet gives way to a newer one, so that a slow
client costs no memory and skips what is old. A client that takes nothing at all is dropped; its browser connects again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import msgspec
from aiohttp import web

from headrace.streams.control.board import SECTIONS, Board
from headrace.streams.control.page.guard import Refused

__all__ = ["HUB", "Client", "Hub", "events", "running"]

_TICK_S = 0.25
_SLOW = {"metrics": 4, "letters": 2, "glance": 4}
"""Sections that are sent less often, and at every how many ticks."""
_BEAT_TICKS = 40
_STALL_S = 15.0
_RETRY_MS = 1_500
_MOST = 32
"""So many pages at once."""
_BEAT = b"event: beat\ndata: {}\n\n"

_log = logging.getLogger(__name__)


class Client:
    """One open page: the newest frame of each section that it has not taken yet. `gone` says whether it has left."""

    def __init__(self, gone: Callable[[], bool] = lambda: False) -> None:
        self.gone = gone
        self._waiting: dict[str, bytes] = {}
        self._more = asyncio.Event()
        self.closed = False

    def offer(self, section: str, frame: bytes) -> None:
        """Put a frame in the section's place."""
        self._waiting[section] = frame
        self._more.set()

    def close(self) -> None:
        """Let `take` end."""
        self.closed = True
        self._more.set()

    async def take(self) -> bytes | None:
        """All frames that wait, when there are any; None when it is over."""
        await self._more.wait()
        self._more.clear()
        if self.closed:
            return None
        frames, self._waiting = self._waiting, {}
        return b"".join(frames.values())


class Hub:
    """Looks at the board four times a second, and hands each client what is new."""

    def __init__(self, board: Board, glance: Callable[[], Awaitable[dict[str, Any] | None]]) -> None:
        self._board, self._glance = board, glance
        self.clients: set[Client] = set()
        self._sent: dict[str, int] = {}
        self._glanced: dict[str, Any] | None = None
        self._closed = False

    def join(self, gone: Callable[[], bool] = lambda: False) -> Client:
        """A new client, with everything as it is now; `Refused` when there are too many."""
        if self._closed or len(self.clients) >= _MOST:
            raise Refused(503, f"{_MOST} pages are open already: close one of them.", **{"Retry-After": "10"})
        client = Client(gone)
        for section in SECTIONS:
            client.offer(section, self._frame(section))
        client.offer("glance", _framed("glance", self._glanced))
        self.clients.add(client)
        return client

    def leave(self, client: Client) -> None:
        """Forget a client."""
        self.clients.discard(client)

    def snapshot(self) -> dict[str, Any]:
        """Everything as it is now, as plain values."""
        return {section: self._board.section(section) for section in SECTIONS} | {"glance": self._glanced}

    async def run(self) -> None:
        """Hand out what is new, until cancelled."""
        tick = 0
        while True:
            try:
                await self._look(tick)
            except Exception:
                _log.exception("an update could not be sent")  # the next one is tried all the same
            tick += 1
            await asyncio.sleep(_TICK_S)

    def close(self) -> None:
        """End all streams; nobody joins any more."""
        self._closed = True
        for client in self.clients:
            client.close()

    async def _look(self, tick: int) -> None:
        for client in self.clients:
            if client.gone():
                client.close()
        if self.clients and tick % _SLOW["glance"] == 0:
            told = await self._glance()
            if told != self._glanced:
                self._glanced = told
                self._hand("glance", _framed("glance", told))
        for section in SECTIONS:
            version = self._board.versions[section]
            if version != self._sent.get(section) and tick % _SLOW.get(section, 1) == 0:
                self._sent[section] = version
                if self.clients:
                    self._hand(section, self._frame(section))
        if tick % _BEAT_TICKS == 0:
            self._hand("beat", _BEAT)

    def _hand(self, section: str, frame: bytes) -> None:
        for client in self.clients:
            client.offer(section, frame)

    def _frame(self, section: str) -> bytes:
        return _framed(section, self._board.section(section))


HUB = web.AppKey("hub", Hub)


async def events(request: web.Request) -> web.StreamResponse:
    """The stream of one client, until it goes, stalls, or we end."""
    hub = request.app[HUB]
    client = hub.join(lambda: request.transport is None or request.transport.is_closing())
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
    try:
        await response.prepare(request)
        await response.write(b"retry: %d\n\n" % _RETRY_MS)
        while (frames := await client.take()) is not None:
            await asyncio.wait_for(response.write(frames), _STALL_S)
    except (ConnectionError, TimeoutError):
        if request.transport is not None:
            request.transport.abort()  # gone, or stalled: what it has not taken is not kept for it
    finally:
        hub.leave(client)
    return response


async def running(app: web.Application) -> AsyncIterator[None]:
    """The hub's task, as long as the application runs."""
    task = asyncio.create_task(app[HUB].run())
    yield
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


def _framed(section: str, value: Any) -> bytes:
    """One event. JSON has no line breaks of its own, so no data can end a frame or begin another."""
    return b"event: %s\ndata: %s\n\n" % (section.encode(), msgspec.json.encode(value))
