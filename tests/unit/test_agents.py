"""Agents and watched loops: what fails is tried again, what dies is seen, and nothing is acknowledged too early."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import Any

import pytest

from headrace.streams.control.agents import Agent, Incoming
from headrace.streams.control.parts import Parts
from headrace.streams.errors import Unreachable


class Stream:
    """A stream of these values, which then waits for ever; it writes down what is acknowledged."""

    def __init__(self, *values: bytes | None, ends: bool = False) -> None:
        self.values, self.ends = values, ends
        self.acked: list[int] = []

    def noack(self) -> Stream:
        return self

    async def events(self) -> AsyncIterator[Any]:
        for offset, value in enumerate(self.values):
            message = SimpleNamespace(topic="t", partition=0, offset=offset, key=None, value=value, timestamp=1.5)
            yield SimpleNamespace(message=message)
        if not self.ends:
            await asyncio.Event().wait()

    async def ack(self, event: Any) -> bool:
        self.acked.append(event.message.offset)
        return True


def agent(handle: Any, **more: Any) -> Agent:
    """An agent without pauses."""
    return Agent("a", "t", handle, **{"pauses_s": (0.0,)} | more)


async def running(made: Agent, stream: Stream, done: Callable[[], Any]) -> None:
    """Let the agent run until something holds."""
    task = asyncio.ensure_future(made.run(stream))
    try:
        async with asyncio.timeout(10):
            while not done():
                await asyncio.sleep(0.001)
    finally:
        made.retire()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def test_a_record_is_handled_with_all_that_is_known_of_it():
    """And acknowledged when the handler has returned."""
    got: list[Incoming] = []

    async def handle(record: Incoming) -> None:
        got.append(record)

    stream, made = Stream(b"x", None), agent(handle)
    asyncio.run(running(made, stream, lambda: len(stream.acked) == 2))
    assert got == [Incoming("t", 0, 0, None, b"x", 1500), Incoming("t", 0, 1, None, None, 1500)]
    assert (made.handled, made.failures, made.under_way) == (2, 0, 0)


def test_a_failure_is_tried_again_in_place():
    """The next record waits; nothing is acknowledged meanwhile."""
    tried: list[int] = []

    async def handle(record: Incoming) -> None:
        tried.append(record.offset)
        if tried.count(0) < 4:
            assert stream.acked == []
            raise ValueError("not yet")

    stream, made = Stream(b"x", b"y"), agent(handle)
    asyncio.run(running(made, stream, lambda: len(stream.acked) == 2))
    assert (tried, made.failures, made.why) == ([0, 0, 0, 0, 1], 3, "")


def test_a_handler_that_hangs_is_called_again():
    """After its deadline; its first call is cancelled."""
    calls = 0

    async def handle(record: Incoming) -> None:
        nonlocal calls
        calls += 1
        if calls == 1:
            await asyncio.Event().wait()

    stream, made = Stream(b"x"), agent(handle, deadline_s=0.02)
    asyncio.run(running(made, stream, lambda: stream.acked == [0]))
    assert (calls, made.failures) == (2, 1)


@pytest.mark.parametrize("error", [ValueError("never"), KeyError("k"), RecursionError()])
def test_what_never_succeeds_ends_the_agent(error: Exception, caplog: pytest.LogCaptureFixture):
    """It is dead, says why, and stands: what comes behind is neither handled nor acknowledged."""
    got: list[int] = []

    async def handle(record: Incoming) -> None:
        got.append(record.offset)
        if record.offset == 1:
            raise error

    stream, made = Stream(b"a", b"b", b"c"), agent(handle, attempts=3)
    asyncio.run(running(made, stream, lambda: not made.alive))
    assert (got, stream.acked) == ([0, 1, 1, 1], [0])
    assert f"t/0@1 failed 3 times: {type(error).__name__}" in made.why
    assert "agent a is dead" in caplog.text


def test_an_agent_that_has_died_does_not_go_on_by_itself():
    """Faust starts a crashed agent again at once, behind the record that was lost: this one waits for `reset`."""
    got: list[int] = []
    strikes = [asyncio.CancelledError()]

    async def handle(record: Incoming) -> None:
        if strikes:
            raise strikes.pop()
        got.append(record.offset)

    async def test() -> None:
        made, stream = agent(handle), Stream(b"a", b"b")
        await running(made, stream, lambda: not made.alive)
        made._retired = False
        await running(made, stream, lambda: made.why)
        assert (got, stream.acked, made.alive) == ([], [], False)
        made.reset()
        await running(made, stream, lambda: len(stream.acked) == 2)
        assert (got, made.restarts) == ([0, 1], 1)

    asyncio.run(test())


def test_a_stream_that_ends_is_a_death():
    """Streams do not end; one that does must not leave an agent that looks alive."""

    async def handle(record: Incoming) -> None:
        """Nothing."""

    made = agent(handle)
    asyncio.run(running(made, Stream(ends=True), lambda: not made.alive))
    assert made.why == "its stream ended"


def test_no_more_records_than_allowed_are_under_way():
    """The next one waits for the oldest, and the agent says so."""
    held: list[asyncio.Future[None]] = []

    async def handle(record: Incoming) -> asyncio.Future[None]:
        held.append(asyncio.get_running_loop().create_future())
        return held[-1]

    async def test() -> None:
        stream, made = Stream(*[b"x"] * 5), agent(handle, most=2)
        task = asyncio.ensure_future(made.run(stream))
        while made.state != "full":
            await asyncio.sleep(0)
        assert (len(held), made.under_way, stream.acked) == (2, 2, [])
        held[1].set_result(None)
        await asyncio.sleep(0.01)
        assert (len(held), stream.acked) == (2, [])
        held[0].set_result(None)
        while len(held) < 4:
            await asyncio.sleep(0)
        assert stream.acked == [0, 1]
        made.retire()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(asyncio.wait_for(test(), 120))


def test_health_tells_how_long_a_record_is_in_hand():
    """By the clock that it is given."""
    now = 0.0

    async def handle(record: Incoming) -> None:
        nonlocal now
        now = 100.0
        assert made.busy_s() == 100.0
        assert made.health()["state"] == "working"

    made = Agent("a", "t", handle, clock=lambda: now)
    stream = Stream(b"x")
    asyncio.run(running(made, stream, lambda: stream.acked))
    assert (made.busy_s(), made.failures) == (0.0, 0)


def test_no_record_is_in_hand_for_longer_than_its_tries_take():
    """An agent that gives a record up is dead shortly before it counts as stuck; the last pause comes again."""

    async def handle(record: Incoming) -> None:
        raise AssertionError

    for pauses_s, tries_s in (((0.2, 1.0, 3.0, 10.0), 314.2), ((30.0,), 420.0)):
        assert tries_s < Agent("a", "t", handle, pauses_s=pauses_s).longest_s < 1.2 * tries_s


def test_a_part_that_ends_is_started_again():
    """Whether it returns, raises, or says in a sentence what is wrong; its health tells."""
    ends: list[Exception | None] = [ValueError("x"), None, Unreachable("No broker.")]
    seen: list[dict[str, Any]] = []

    async def test() -> None:
        parts = Parts(pauses_s=(0.001,))

        async def run() -> None:
            seen.append(parts.health()["p"])
            if not ends:
                await asyncio.Event().wait()
            error = ends.pop(0)
            if error is not None:
                raise error

        parts.keep("p", run)
        async with asyncio.timeout(10):
            while len(seen) < 4:
                await asyncio.sleep(0)
        assert parts.down() == {}
        await parts.stop()

    asyncio.run(test())
    assert [(each["restarts"], each["why"]) for each in seen] == [
        (0, ""), (1, "ValueError: x"), (2, "it ended"), (3, "No broker.")
    ]  # fmt: skip
