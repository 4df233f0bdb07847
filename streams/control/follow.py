"""Follows the topics of the board, whole and from their beginning: committed records only, no group, nothing written.

When Kafka is away it says so on the board, tries again, and goes on where it was. A topic that was made anew (it ends
before where we were) makes everything be read anew.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, TypeVar

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from headrace.streams.control.board import FOLLOWED, Board

__all__ = ["Follower"]

_BATCH = 500
_ANSWER_S = 5.0
_CHECK_S = 2.0
_PAUSES_S = (0.5, 1.0, 2.0, 3.0)
_QUIET_MS = 250

T = TypeVar("T")


class Follower:
    """Keeps a board up to date; `topics` are names by role, `settings` what aiokafka is to be told beyond its defaults.

    `consumer` makes the client: tests give a fake.
    """

    def __init__(
        self,
        board: Board,
        topics: Mapping[str, str],
        settings: Mapping[str, Any],
        consumer: Callable[..., Any] = AIOKafkaConsumer,
    ) -> None:
        self.board = board
        self.roles = {topics[role]: role for role in FOLLOWED if role in topics}
        self.places: dict[TopicPartition, int] = {}
        self._settings = {
            "group_id": None,
            "isolation_level": "read_committed",
            "enable_auto_commit": False,
            "auto_offset_reset": "earliest",
            "request_timeout_ms": round(_ANSWER_S * 1000),
            "metadata_max_age_ms": 5_000,
            **settings,
        }
        self._consumer = consumer

    async def run(self) -> None:
        """Follow until cancelled; whatever Kafka does, it is tried again."""
        failures = 0
        while True:
            await self._follow()
            if self.board.section("link")["state"] in ("following", "reading"):
                failures = 0
            await asyncio.sleep(_PAUSES_S[min(failures, len(_PAUSES_S) - 1)])
            failures += 1

    async def _follow(self) -> None:
        """One connection's life: until there are other topics than at its beginning, or it breaks."""
        consumer = self._consumer(**self._settings)
        try:
            await _within(consumer.start(), 2 * _ANSWER_S)
            there = await _within(consumer.topics(), _ANSWER_S)
            partitions = self._assign(consumer, there)
            missing = [name for name in self.roles if name not in there]
            await self._read(consumer, partitions, missing)
        except (KafkaError, OSError, TimeoutError) as error:
            # A Kafka error's text may be long and name addresses: its kind says enough to a person.
            self.board.link("away", f"Kafka does not answer ({type(error).__name__}); trying again.")
        finally:
            with contextlib.suppress(KafkaError, OSError, TimeoutError):
                await _within(consumer.stop(), _ANSWER_S)

    def _assign(self, consumer: Any, there: set[str]) -> list[TopicPartition]:
        count = self.board.pipeline.partitions
        partitions = [TopicPartition(name, p) for name in self.roles if name in there for p in range(count)]
        consumer.assign(partitions)
        return partitions

    async def _read(self, consumer: Any, partitions: list[TopicPartition], missing: list[str]) -> None:
        ends = await self._ends(consumer, partitions)
        if any(self.places.get(tp, 0) > end for tp, end in ends.items()):
            self.places.clear()
            self.board.forget()
        for tp in partitions:
            consumer.seek(tp, self.places.get(tp, 0))
        await self._place(consumer, partitions)
        checked = asyncio.get_running_loop().time()
        self._say(ends, missing)
        while True:
            if partitions:
                await self._take(consumer)
                await self._place(consumer, partitions)
            else:
                await asyncio.sleep(_CHECK_S)
            behind = any(self.places.get(tp, 0) < end for tp, end in ends.items())
            now = asyncio.get_running_loop().time()
            if now - checked >= _CHECK_S or not behind:
                self._say(ends, missing)
            if now - checked >= _CHECK_S:
                checked = now
                ends = await self._ends(consumer, partitions)
                there = await _within(consumer.topics(), _ANSWER_S)
                if any(name in there for name in missing) or any(tp.topic not in there for tp in partitions):
                    return
                if any(self.places.get(tp, 0) > end for tp, end in ends.items()):
                    return

    async def _take(self, consumer: Any) -> None:
        found = await consumer.getmany(timeout_ms=_QUIET_MS, max_records=_BATCH)
        for tp, records in found.items():
            role = self.roles[tp.topic]
            for record in records:
                self.board.take(
                    role, tp.partition, record.offset, record.key, record.value, record.headers or (), record.timestamp
                )
        await asyncio.sleep(0)

    async def _place(self, consumer: Any, partitions: list[TopicPartition]) -> None:
        """Remember where we are: positions also pass what was aborted."""
        for tp in partitions:
            self.places[tp] = await _within(consumer.position(tp), _ANSWER_S)

    async def _ends(self, consumer: Any, partitions: list[TopicPartition]) -> dict[TopicPartition, int]:
        if not partitions:
            await _within(consumer.topics(), _ANSWER_S)
            return {}
        found: dict[TopicPartition, int] = await _within(consumer.end_offsets(partitions), _ANSWER_S)
        return found

    def _say(self, ends: Mapping[TopicPartition, int], missing: list[str]) -> None:
        left = sum(max(0, end - self.places.get(tp, 0)) for tp, end in ends.items())
        if left > 0:
            self.board.link("reading", f"{left:,} records are still to be read.", missing)
        else:
            self.board.link("following", "", missing)


async def _within(waited: Coroutine[Any, Any, T], seconds: float) -> T:
    """What it gives, or TimeoutError: also where the client swallows its cancellation, as aiokafka's sometimes does."""
    task = asyncio.ensure_future(waited)
    try:
        done, _ = await asyncio.wait({task}, timeout=seconds)
    except asyncio.CancelledError:
        task.cancel()
        raise
    if not done:
        task.add_done_callback(_forget)
        task.cancel()
        raise TimeoutError
    if task.cancelled():
        raise ConnectionError("the client has cancelled its own work")  # not ours, which would end the following
    return task.result()


def _forget(task: asyncio.Future[Any]) -> None:
    """Take what became of it, so that nobody misses it."""
    if not task.cancelled():
        task.exception()
