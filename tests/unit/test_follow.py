"""The follower: reads topics whole into the board, and says when Kafka is away."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.errors import KafkaConnectionError

from headrace.examples.contest import contest
from headrace.streams.control import follow
from headrace.streams.control.board import Board
from headrace.streams.control.follow import Follower
from tests.unit.test_board import alert, encoded

TOPICS = {"alerts": "contest.alerts", "registry": "contest.registry"}


class Kafka:
    """What the fake consumers see: logs by topic, or no broker at all."""

    def __init__(self, **logs: list[bytes | None]) -> None:
        self.logs = {name.replace("_", "."): log for name, log in logs.items()}
        self.away = False
        self.made: list[Consumer] = []

    def consumer(self, **settings: Any) -> Consumer:
        """A client."""
        self.made.append(Consumer(self, settings))
        return self.made[-1]


class Consumer:
    """The part of aiokafka's consumer that the follower uses."""

    def __init__(self, kafka: Kafka, settings: dict[str, Any]) -> None:
        self.kafka, self.settings, self.places, self.stopped = kafka, settings, {}, False

    def _there(self) -> None:
        if self.kafka.away:
            raise KafkaConnectionError("no broker")

    async def start(self) -> None:
        """Connect."""
        self._there()

    async def stop(self) -> None:
        """Disconnect; where the broker is away, the real one is cancelled from within."""
        self.stopped = True
        if self.kafka.away:
            raise asyncio.CancelledError

    async def topics(self) -> set[str]:
        """Names."""
        self._there()
        return set(self.kafka.logs)

    def assign(self, partitions: list[Any]) -> None:
        """Choose."""
        self.places = dict.fromkeys(partitions, 0)

    def seek(self, tp: Any, offset: int) -> None:
        """Go there."""
        self.places[tp] = offset

    async def position(self, tp: Any) -> int:
        """The next offset."""
        return self.places[tp]

    async def end_offsets(self, partitions: list[Any]) -> dict[Any, int]:
        """Where the logs end."""
        self._there()
        return {tp: len(self.kafka.logs[tp.topic]) for tp in partitions}

    async def getmany(self, *, timeout_ms: int, max_records: int) -> dict[Any, list[Any]]:
        """The next records; a broker that is away is not noticed here, as in the real one."""
        await asyncio.sleep(0.001)
        found: dict[Any, list[Any]] = {}
        for tp, place in self.places.items() if not self.kafka.away else ():
            log = self.kafka.logs[tp.topic][place : place + max_records]
            found[tp] = [
                SimpleNamespace(offset=place + i, key=b"k", value=value, headers=(), timestamp=1)
                for i, value in enumerate(log)
            ]
            self.places[tp] += len(log)
        return found


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Checks and pauses of a test's length."""
    monkeypatch.setattr(follow, "_CHECK_S", 0.005)
    monkeypatch.setattr(follow, "_PAUSES_S", (0.001,))


def followed(kafka: Kafka, *steps: Callable[[Board], bool], between: Callable[[int], None] = lambda i: None) -> Board:
    """A board that was followed until each step came true, in turn."""
    board = Board(contest)

    async def run() -> None:
        task = asyncio.create_task(Follower(board, TOPICS, {"bootstrap_servers": "x"}, kafka.consumer).run())
        try:
            for i, step in enumerate(steps):
                async with asyncio.timeout(10):
                    while not step(board):
                        assert not task.done(), task.exception()
                        await asyncio.sleep(0.001)
                between(i)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    asyncio.run(run())
    return board


def state(wanted: str) -> Callable[[Board], bool]:
    """Whether the link is in this state."""
    return lambda board: board.section("link")["state"] == wanted


def ids(board: Board) -> list[str]:
    """The alerts that the board knows."""
    return sorted(row["alert_id"] for row in board.section("alerts")["alerts"])


def records(*names: str) -> list[bytes | None]:
    """A log of alerts."""
    return [encoded(alert(name)) for name in names]


def test_it_reads_whole_topics_without_a_group():
    """Everything from the beginning, committed records only, and no offsets are stored."""
    kafka = Kafka(contest_alerts=records("a", "b"), contest_registry=[])
    board = followed(kafka, state("following"))
    assert ids(board) == ["a", "b"]
    settings = kafka.made[0].settings
    assert (settings["group_id"], settings["isolation_level"], settings["enable_auto_commit"]) == (
        None, "read_committed", False,
    )  # fmt: skip


def test_it_goes_on_live():
    """What comes later is folded as well."""
    kafka = Kafka(contest_alerts=records("a"), contest_registry=[])
    log = kafka.logs["contest.alerts"]
    board = followed(
        kafka, state("following"), lambda b: ids(b) == ["a", "b"], between=lambda i: log.extend(records("b"))
    )
    assert ids(board) == ["a", "b"]


def test_kafka_away_is_said_and_ends_by_itself():
    """The board says so while it lasts, and afterwards no record was read twice."""
    kafka = Kafka(contest_alerts=records("a"), contest_registry=[])

    def between(step: int) -> None:
        kafka.away = step == 0
        if step == 1:
            kafka.logs["contest.alerts"] += records("b")

    board = followed(kafka, state("following"), state("away"), state("following"), between=between)
    assert ids(board) == ["a", "b"]
    assert board.section("link")["records"] == 2
    *left, _ = kafka.made
    assert left
    assert all(consumer.stopped for consumer in left)


def test_kafka_away_at_the_start():
    """The board says what is wrong and that it is tried again, in one sentence."""
    kafka = Kafka()
    kafka.away = True
    board = followed(kafka, state("away"))
    assert board.section("link")["why"] == "Kafka does not answer (KafkaConnectionError); trying again."


def test_a_missing_topic_is_named_and_noticed_when_it_comes():
    """Until then the others are followed."""
    kafka = Kafka(contest_registry=[])

    def between(step: int) -> None:
        kafka.logs["contest.alerts"] = records("a")

    missing: list[list[str]] = []

    def said(board: Board) -> bool:
        missing.append(board.section("link")["missing"])
        return state("following")(board)

    board = followed(kafka, said, lambda b: ids(b) == ["a"], between=between)
    assert missing[-1] == ["contest.alerts"]
    assert board.section("link")["missing"] == []


def test_no_topic_at_all_is_no_error():
    """A pipeline whose topics were never made: all are named as missing."""
    board = followed(Kafka(), state("following"))
    assert board.section("link")["missing"] == ["contest.registry", "contest.alerts"]


def test_topics_made_anew_are_read_anew():
    """A topic that ends before where we were is another one: the board begins anew."""
    kafka = Kafka(contest_alerts=records("a", "b"), contest_registry=[])

    def between(step: int) -> None:
        kafka.logs["contest.alerts"] = records("c")

    board = followed(kafka, state("following"), lambda b: ids(b) == ["c"], between=between)
    assert ids(board) == ["c"]


def test_a_client_that_does_not_answer_is_given_up(monkeypatch: pytest.MonkeyPatch):
    """One that swallows its cancellation, as aiokafka's stop may, holds nobody up."""
    monkeypatch.setattr(follow, "_ANSWER_S", 0.01)
    kafka = Kafka(contest_alerts=[], contest_registry=[])
    stuck = asyncio.Event

    async def stop(self: Consumer) -> None:
        try:
            await stuck().wait()
        except asyncio.CancelledError:
            await asyncio.sleep(0.05)

    monkeypatch.setattr(Consumer, "stop", stop)

    def between(step: int) -> None:
        kafka.away = step == 0

    followed(kafka, state("following"), state("away"), state("following"), between=between)
