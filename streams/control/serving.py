"""One run of the control plane: its page and its health on the network, its parts beside them, until told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterable

from aiohttp import web

from headrace.streams.control.health import listen
from headrace.streams.control.page import server
from headrace.streams.control.page.guard import Guard
from headrace.streams.control.service import Service

__all__ = ["serve"]

log = logging.getLogger("headrace.control")

Place = tuple[str, int]


async def serve(
    service: Service,
    page: Place,
    metrics: Place | None,
    token: str,
    names: Iterable[str],
    announce: Callable[[str], None],
) -> None:
    """Run until SIGTERM or SIGINT, then end the process with 0; a second signal ends it at once.

    The page listens before anything asks for Kafka. `announce` is given its address. `names` are host names under which
    the page may be reached.
    """
    stopping = _signals()
    runners: list[web.AppRunner] = []
    try:
        application = server.build(service.board, service.actions, Guard(token, names), service.looking.glance)
        service.health.add_to(application)
        runner, address = await listen(application, *page)
        runners.append(runner)
        if metrics is not None:
            small = web.Application()
            service.health.add_to(small)
            runner, beside = await listen(small, *metrics, "--metrics-port")
            runners.append(runner)
            log.info("metrics and health: %s", beside)
        announce(address)
        service.start()
        await stopping.wait()
    finally:
        await service.stop()
        for runner in runners:
            with contextlib.suppress(OSError):
                await runner.cleanup()
    sys.stdout.flush()
    os._exit(0)  # a thread may still wait for a Kafka that is away; nobody need wait for it


def _signals() -> asyncio.Event:
    """Set at the first signal."""
    stopping = asyncio.Event()

    def stop() -> None:
        if stopping.is_set():
            os._exit(1)
        stopping.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop)
    return stopping
