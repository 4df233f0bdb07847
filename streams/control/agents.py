"""Agents: one topic each, read in order; what is not done is never acknowledged.

A handler gets a record and says when it is done: at once, or by a future, while the records after it are taken already.
Acknowledged is in the topic's order alone. A handler that raises, or takes too long, is called again with the same
record, after ever longer pauses; one that never succeeds is given up loudly: its agent is *dead*, stands where it is,
and whoever supervises (`service`) starts the app anew from the committed offset.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

__all__ = ["Agent", "Incoming"]

log = logging.getLogger("headrace.control")

_PAUSES_S = (0.2, 1.0, 3.0, 10.0)


class Incoming(NamedTuple):
    """A committed record, as an agent is given it; `time_ms` is Kafka's."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    time_ms: int


Handler = Callable[[Incoming], Awaitable["asyncio.Future[None] | None"]]


class Agent:
    """One topic's agent, and how it fares.

    Parameters
    ----------
    name, topic
        Its own name, and what it reads.
    handle
        What to do with a record. Returns None when it is done, or a future that is when it is.
    deadline_s
        How long a call of the handler may take.
    attempts
        How often a record is tried before the agent is given up.
    most
        How many records may be under way; then the next one waits for the oldest.
    """

    def __init__(
        self,
        name: str,
        topic: str,
        handle: Handler,
        *,
        deadline_s: float = 60.0,
        attempts: int = 5,
        most: int = 10_000,
        pauses_s: tuple[float, ...] = _PAUSES_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name, self.topic = name, topic
        self.handled = self.failures = self.restarts = 0
        self.why = ""
        self._handle, self._deadline_s, self._attempts, self._most = handle, deadline_s, attempts, most
        self._pauses_s = [pauses_s[min(n, len(pauses_s) - 1)] for n in range(attempts - 1)]
        self._clock = clock
        self._state, self._since, self._retired = "starting", clock(), False
        self._waiting: deque[tuple[Any, asyncio.Future[None]]] = deque()
        self._places: dict[tuple[str, int, int], asyncio.Future[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    # -- how it fares --------------------------------------------------------------------------------------------

    @property
    def state(self) -> str:
        """starting, idle, working, retrying, full (waits for the oldest record under way), or dead."""
        return self._state

    @property
    def alive(self) -> bool:
        """Whether it reads, or is about to."""
        return self._state != "dead"

    @property
    def under_way(self) -> int:
        """Records taken and not acknowledged."""
        return len(self._waiting)

    @property
    def longest_s(self) -> float:
        """After so long with one record its tries should be over, and the agent dead: one of them has no end."""
        return 1.1 * (self._attempts * self._deadline_s + sum(self._pauses_s))

    def busy_s(self) -> float:
        """For how long the record in hand has been in hand; 0 when there is none."""
        return self._clock() - self._since if self._state in ("working", "retrying") else 0.0

    def health(self) -> dict[str, Any]:
        """All of it in plain values."""
        return {
            "state": self._state,
            "why": self.why,
            "handled": self.handled,
            "under_way": self.under_way,
            "failures": self.failures,
            "restarts": self.restarts,
            "busy_s": round(self.busy_s(), 3),
        }

    def retire(self) -> None:
        """Its app is about to be stopped: that is no death."""
        self._retired = True

    def reset(self) -> None:
        """Ready for another app, which starts at the committed offset."""
        self.restarts += self._retired
        self._retired = False
        self._enter("starting")
        self._waiting.clear()

    # -- what Faust runs -----------------------------------------------------------------------------------------

    async def run(self, stream: Any) -> None:
        """Take events until cancelled. It neither raises nor returns otherwise: Faust would go on behind the loss."""
        if self._state != "starting":  # Faust has started it again, behind the event that it died of
            self._die(self.why or "it was started twice")
            await asyncio.Event().wait()
        try:
            self._enter("idle")
            source = stream.noack()
            async for event in source.events():
                await self._room(source)
                await self._take(source, event)
            self._die("its stream ended")
        except asyncio.CancelledError:
            self._die("it was cancelled")
            if self._retired:
                raise
        except Exception as error:
            log.exception("agent %s", self.name)
            self._die(f"{type(error).__name__}: {error}")
        await asyncio.Event().wait()

    async def _take(self, source: Any, event: Any) -> None:
        message = event.message
        place = (message.topic, message.partition, message.offset)
        done = self._places.get(place)
        if done is None:
            made = await self._done(Incoming(*place, message.key, message.value, round(message.timestamp * 1000)))
            if made is None:
                made = asyncio.get_running_loop().create_future()
                made.set_result(None)
            done = self._places[place] = made
        self._waiting.append((event, done))
        if done.done():
            await self._acknowledge(source)
        else:
            done.add_done_callback(lambda _: self._later(source))

    async def _done(self, record: Incoming) -> asyncio.Future[None] | None:
        """Call the handler until it has taken the record."""
        self._enter("working")
        for attempt in range(self._attempts):
            try:
                async with asyncio.timeout(self._deadline_s):  # wait_for may swallow a cancellation
                    found = await self._handle(record)
            except Exception as error:
                self.failures += 1
                late = isinstance(error, TimeoutError)
                self.why = f"not within {self._deadline_s:g} s" if late else f"{type(error).__name__}: {error}"
                log.warning("agent %s, %s/%d@%d: %s", self.name, *record[:3], self.why)
            else:
                self._enter("idle")
                self.why = ""
                self.handled += 1
                return found
            if attempt < len(self._pauses_s):
                self._state = "retrying"
                await asyncio.sleep(self._pauses_s[attempt])
        raise RuntimeError(
            f"{record.topic}/{record.partition}@{record.offset} failed {self._attempts} times: {self.why}"
        )

    async def _room(self, source: Any) -> None:
        """Wait while too many records are under way."""
        while len(self._waiting) >= self._most:
            self._enter("full")
            await asyncio.shield(self._waiting[0][1])
            await self._acknowledge(source)

    async def _acknowledge(self, source: Any) -> None:
        """Acknowledge what is done, in order, up to the first record that is not."""
        while self._waiting and self._waiting[0][1].done() and self._state != "dead":
            event, _ = self._waiting.popleft()
            message = event.message
            self._places.pop((message.topic, message.partition, message.offset), None)
            await source.ack(event)

    def _later(self, source: Any) -> None:
        task = asyncio.ensure_future(self._acknowledge(source))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _enter(self, state: str) -> None:
        self._state, self._since = state, self._clock()

    def _die(self, why: str) -> None:
        if not self._retired:
            log.error("agent %s is dead: %s", self.name, why)
            self.why = why
        self._enter("dead")
