"""Alerts to where people are told of them: at least once, in order, each route by itself.

A record of the alerts topic goes to every route. A route delivers its records one after the other and tries each until
it has it, so none is lost while it is down, and none of the others waits for it: each has a queue of its own, and the
record is done when all have it. What makes a delivery known again, after a restart too, is its idempotency key, a pure
function of the record.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import Any, NamedTuple, Protocol

import msgspec

from headrace.schemas.records import Alert
from headrace.streams.control.agents import Incoming
from headrace.streams.control.outside import Answer, Failed, Outside, Target
from headrace.streams.errors import UNREADABLE

__all__ = ["Line", "Notice", "Route", "Routes", "Webhook", "answered"]

log = logging.getLogger("headrace.control")

_alert = msgspec.json.Decoder(Alert).decode
_PAUSES_S = (1.0, 2.0, 5.0, 10.0, 30.0)
_LONGEST_PAUSE_S = 300.0
_FINAL = (400, 413, 422)
"""What a receiver answers that will never take this very record."""
_FINAL_ATTEMPTS = 5
_KEPT = 10_000


class Notice(NamedTuple):
    """What is delivered: an alert record, where it lies, and the key by which it is known again."""

    key: str
    pipeline: str
    alert: Alert
    record: Incoming


class Route(Protocol):
    """Somewhere alerts go. `name` may be shown; `deliver` raises `Failed` unless the receiver has it."""

    name: str

    async def deliver(self, notice: Notice) -> None:
        """Hand over one record."""


class Webhook:
    """Posts each record as JSON, with the header ``Idempotency-Key``; any answer of 2xx means that it is taken."""

    def __init__(self, target: Target, outside: Outside, number: int = 1) -> None:
        self.name = f"webhook-{number} {target.name}"
        self._target, self._outside = target, outside

    async def deliver(self, notice: Notice) -> None:
        """Post it."""
        record = notice.record
        body = {
            "idempotency_key": notice.key,
            "pipeline": notice.pipeline,
            "alert": notice.alert,
            "source": {
                "topic": record.topic,
                "partition": record.partition,
                "offset": record.offset,
                "time_ms": record.time_ms,
            },
        }
        answer = await self._outside.post(self._target, msgspec.json.encode(body), {"Idempotency-Key": notice.key})
        answered(answer)


def answered(answer: Answer) -> None:
    """Raise `Failed` unless this answer means that the request was taken."""
    status = answer.status
    if 200 <= status < 300:
        return
    if 300 <= status < 400:
        raise Failed(f"it answers {status}: redirects are not followed, name the address that it leads to")
    raise Failed(f"it answers {status}", final=status in _FINAL, after_s=answer.retry_after_s)


class Line:
    """One route's queue, and the task that empties it in order.

    A record that the receiver refuses for good is given up after some attempts, loudly; all else is tried for ever.
    """

    def __init__(self, route: Route, pauses_s: tuple[float, ...] = _PAUSES_S) -> None:
        self.route, self.name = route, route.name
        self.delivered = self.retried = self.refused = 0
        self.why = ""
        self.last_s: float | None = None
        self._pauses_s = pauses_s
        self._queue: deque[tuple[Notice, Callable[[], None]]] = deque()
        self._more = asyncio.Event()
        self._known: OrderedDict[str, None] = OrderedDict()

    @property
    def waiting(self) -> int:
        """How many records it has still to deliver."""
        return len(self._queue)

    def health(self) -> dict[str, Any]:
        """How it fares, in plain values."""
        return {
            "state": "down" if self.why else "up",
            "why": self.why,
            "waiting": self.waiting,
            "delivered": self.delivered,
            "retried": self.retried,
            "refused": self.refused,
            "last_s": self.last_s,
        }

    def put(self, notice: Notice, done: Callable[[], None]) -> None:
        """Deliver this after all that is there; `done` is called when the receiver has it."""
        self._queue.append((notice, done))
        self._more.set()

    def attempted(self, why: str) -> None:
        """Note why an attempt that was no record's has failed, or that it has not (""): alerts are repeated, too."""
        if why:
            (log.info if self.why else log.warning)("%s: %s", self.name, why)
        elif self.why:
            log.warning("%s: delivers again", self.name)
        self.why = why

    async def run(self) -> None:
        """Deliver, until cancelled."""
        while True:
            while not self._queue:
                self._more.clear()
                await self._more.wait()
            notice, done = self._queue[0]
            if notice.key not in self._known:
                await self._deliver(notice)
                self._known[notice.key] = None
                if len(self._known) > _KEPT:
                    self._known.popitem(last=False)
            self._queue.popleft()
            done()

    async def _deliver(self, notice: Notice) -> None:
        attempt = finals = 0
        while True:
            try:
                await self.route.deliver(notice)
            except Failed as failed:
                self.why = str(failed)
                pause_s = self._pauses_s[min(attempt, len(self._pauses_s) - 1)]
                finals += failed.final
                if finals >= _FINAL_ATTEMPTS:
                    self.refused += 1
                    log.error("%s: gives up on %s: %s", self.name, notice.key, self.why)
                    return
                self.retried += 1
                if failed.after_s is not None:
                    pause_s = max(pause_s, min(failed.after_s, _LONGEST_PAUSE_S))
                (log.warning if attempt in (0, 10) else log.info)("%s: %s", self.name, self.why)
                await asyncio.sleep(pause_s)
                attempt += 1
            else:
                if attempt:
                    log.warning("%s: delivers again", self.name)
                self.delivered += 1
                self.why, self.last_s = "", time.time()
                return


class Routes:
    """Every route: `take` is the handler of the agent of alerts."""

    def __init__(self, pipeline: str, lines: Sequence[Line]) -> None:
        self.pipeline, self.lines = pipeline, lines
        self.unreadable = 0
        self.seen: list[Callable[[Alert, Incoming], None]] = []

    async def take(self, record: Incoming) -> asyncio.Future[None] | None:
        """Queue an alert for every route; done when all of them have it. What is no alert is counted, and done."""
        try:
            alert = _alert(record.value or b"")
        except UNREADABLE:
            self.unreadable += 1
            log.warning("%s/%d@%d is no alert: it goes to nobody", *record[:3])
            return None
        for see in self.seen:
            see(alert, record)
        if not self.lines:
            return None
        notice = Notice(key_of(self.pipeline, alert), self.pipeline, alert, record)
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        left = len(self.lines)

        def one_more() -> None:
            nonlocal left
            left -= 1
            if not left and not done.done():
                done.set_result(None)

        for line in self.lines:
            line.put(notice, one_more)
        return done


def key_of(pipeline: str, alert: Alert) -> str:
    """The idempotency key of an alert record: the same whenever, and by whomever, it is delivered."""
    told = (pipeline, alert.alert_id, alert.status, str(alert.findings))
    return blake2b("\x1f".join(told).encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
