"""Alerts on their way: in order, at least once, each route by itself."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from aiohttp import web

from headrace.schemas.records import Alert
from headrace.streams.control.alertmanager import Alertmanager, Matter, Standing, labels_of
from headrace.streams.control.outside import Failed, Outside, target
from headrace.streams.control.routes import Line, Notice, Routes, Webhook, key_of
from tests.alerting import alert, record
from tests.unit.test_outside import receiver


class Scripted:
    """A route that fails as it is told, by the number of the attempt."""

    def __init__(self, name: str = "r", fails: Callable[[int], Failed | None] = lambda attempt: None) -> None:
        self.name, self._fails = name, fails
        self.attempts = 0
        self.got: list[str] = []
        self.keys: list[str] = []

    async def deliver(self, notice: Notice) -> None:
        self.attempts += 1
        failed = self._fails(self.attempts)
        if failed is not None:
            raise failed
        self.got.append(f"{notice.alert.alert_id}/{notice.alert.status}/{notice.alert.findings}")
        self.keys.append(notice.key)


class Running:
    """Routes whose lines run."""

    def __init__(self, *scripted: Scripted) -> None:
        self.lines = [Line(route, (0.001,)) for route in scripted]
        self.routes = Routes("p", self.lines)

    async def __aenter__(self) -> Routes:
        self._tasks = [asyncio.ensure_future(line.run()) for line in self.lines]
        return self.routes

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def test_every_route_has_every_record_in_order():
    """And a record is done when all of them have it."""
    one, two = Scripted("one"), Scripted("two")

    async def test() -> None:
        async with Running(one, two) as routes:
            done = [await routes.take(record(n, alert(findings=n))) for n in range(1, 6)]
            await asyncio.gather(*done)  # type: ignore[arg-type]

    asyncio.run(test())
    assert one.got == two.got == [f"a1/opened/{n}" for n in range(1, 6)]


def test_a_route_that_is_down_holds_up_no_other():
    """The other has everything; nothing is done before the one that was down has it, in order too."""
    healed = asyncio.Event()
    down = Scripted("down", lambda attempt: None if healed.is_set() else Failed("down"))
    up = Scripted("up")

    async def test() -> None:
        async with Running(down, up) as routes:
            done = [await routes.take(record(n, alert(f"a{n}"))) for n in range(3)]
            while len(up.got) < 3 or down.attempts < 5:
                await asyncio.sleep(0)
            assert not any(each.done() for each in done)  # type: ignore[union-attr]
            assert (routes.lines[0].waiting, routes.lines[0].health()["state"]) == (3, "down")
            healed.set()
            await asyncio.gather(*done)  # type: ignore[arg-type]
            assert routes.lines[0].health() | {"last_s": 0} == {
                "state": "up", "why": "", "waiting": 0, "delivered": 3, "retried": down.attempts - 3, "refused": 0,
                "last_s": 0,
            }  # fmt: skip

    asyncio.run(test())
    assert down.got == up.got == ["a0/opened/1", "a1/opened/1", "a2/opened/1"]


def test_a_record_that_is_delivered_already_is_not_delivered_again():
    """It is read again after a rebalance; its key says that the route has it."""
    route = Scripted()

    async def test() -> None:
        async with Running(route) as routes:
            for _ in range(3):
                await (await routes.take(record(1, alert())))  # type: ignore[misc]

    asyncio.run(test())
    assert route.got == ["a1/opened/1"]


def test_a_record_that_is_refused_for_good_is_given_up_after_some_attempts(caplog: pytest.LogCaptureFixture):
    """Loudly; what comes behind it is delivered."""
    route = Scripted(fails=lambda attempt: Failed("it answers 400", final=True) if attempt <= 5 else None)

    async def test() -> Line:
        async with Running(route) as routes:
            done = [await routes.take(record(n, alert(f"a{n}"))) for n in range(2)]
            await asyncio.gather(*done)  # type: ignore[arg-type]
            return routes.lines[0]

    line = asyncio.run(test())
    assert (route.got, line.refused, line.delivered) == (["a1/opened/1"], 1, 1)
    assert "gives up on" in caplog.text


def test_all_else_is_tried_for_ever():
    """A hundred failures are no reason to lose an alert."""
    route = Scripted(fails=lambda attempt: Failed("it answers 503", after_s=0.0) if attempt <= 100 else None)

    async def test() -> None:
        async with Running(route) as routes:
            await (await routes.take(record(1, alert())))  # type: ignore[misc]

    asyncio.run(test())
    assert (route.attempts, route.got) == (101, ["a1/opened/1"])


@pytest.mark.parametrize("value", [None, b"", b"{}", b"\xff", b'{"alert_id": 7}', b"[" * 100_000])
def test_what_is_no_alert_goes_to_nobody(value: bytes | None):
    """It is counted, and done at once."""
    route = Scripted()

    async def test() -> Routes:
        async with Running(route) as routes:
            assert await routes.take(record(1, value)) is None
            return routes

    assert (asyncio.run(test()).unreadable, route.attempts) == (1, 0)


def test_keys_tell_records_of_one_alert_apart():
    """By pipeline, alert, status and findings, and by nothing else: a later delivery has the same."""
    keys = {
        key_of(pipeline, alert(name, status, findings))
        for pipeline in ("p", "q")
        for name in ("a", "b")
        for status in ("opened", "updated")
        for findings in (1, 2)
    }
    assert len(keys) == 16
    assert key_of("p", alert()) == key_of("p", alert(message="other")) == "f8ce8e42a57f4bb39a759dc5388202f4"


def test_a_webhook_gets_the_alert_and_its_source():
    """All of the record, where it lies, and the key in head and body."""
    bodies: list[tuple[str, dict[str, Any]]] = []

    async def take(request: web.Request) -> web.Response:
        bodies.append((request.headers["Idempotency-Key"], await request.json()))
        return web.Response(status=202)

    async def test() -> None:
        outside = Outside(allow_private=True)
        async with receiver(take) as base:
            route = Webhook(target(f"{base}/secret", "--webhook 1", allow_private=True), outside)
            notice = Notice("key", "p", alert(message="<script>\r\nX: 1"), record(7, alert()))
            await route.deliver(notice)
            assert "secret" not in route.name
        await outside.close()

    asyncio.run(test())
    [(key, body)] = bodies
    assert key == body["idempotency_key"] == "key"
    assert body["alert"]["message"] == "<script>\r\nX: 1"
    assert body["source"] == {"topic": "p.alerts", "partition": 0, "offset": 7, "time_ms": 1_700_000_007_000}


# -- Alertmanager ----------------------------------------------------------------------------------------------------


async def told(*steps: Any, start: Standing | None = None, wall: float = 1_700_000_100.0) -> list[list[dict[str, Any]]]:
    """What an Alertmanager is posted when these records come one after the other."""
    posts: list[list[dict[str, Any]]] = []

    async def take(request: web.Request) -> web.Response:
        assert request.path == "/am/api/v2/alerts"
        posts.append(await request.json())
        return web.Response()

    standing, outside = start or Standing(), Outside(allow_private=True)
    async with receiver(take) as base:
        to = target(f"{base}/am", "--alertmanager 1", allow_private=True)
        route = Alertmanager("p", to, outside, standing, every_s=30.0, wall=lambda: wall)
        for step in steps:
            found = msgspec.json.decode(step.value or b"", type=Alert)
            standing.take(found, step)
            await route.deliver(Notice("key", "p", found, step))
    await outside.close()
    return posts


def test_an_open_alert_is_posted_with_its_labels_and_times():
    """It starts at Kafka's time of its first record, and ends unless it is repeated ten times."""
    [[entry], [again]] = asyncio.run(told(record(1, alert()), record(5, alert(status="updated", findings=3))))
    assert entry["labels"] == labels_of("p", alert())
    assert entry["labels"]["alertname"] == "HeadraceErrorDrift"
    assert (entry["startsAt"], entry["endsAt"]) == ("2023-11-14T22:13:21.000Z", "2023-11-14T22:20:00.000Z")
    assert again["startsAt"] == entry["startsAt"]
    assert (again["labels"], again["annotations"]["findings"]) == (entry["labels"], "3")


def test_a_resolved_alert_is_posted_with_its_end():
    """Kafka's time of the record that says so."""
    posts = asyncio.run(told(record(1, alert()), record(5, alert(status="resolved"))))
    assert (posts[1][0]["startsAt"], posts[1][0]["endsAt"]) == ("2023-11-14T22:13:21.000Z", "2023-11-14T22:13:25.000Z")


def test_a_record_that_comes_again_tells_how_the_alert_stands_now():
    """After a restart the first record is delivered again, but the alert is resolved: it does not fire anew."""
    standing = Standing()
    for step in (record(1, alert()), record(5, alert(status="resolved"))):
        standing.read(step)
    [[entry]] = asyncio.run(told(record(1, alert()), start=standing))
    assert entry["endsAt"] == "2023-11-14T22:13:25.000Z"


def test_another_severity_ends_the_alert_of_the_one_before():
    """Labels are what it is known by: else the old one would stay open beside the new one."""
    posts = asyncio.run(told(record(1, alert()), record(5, alert(status="updated", severity="info"))))
    now, before = posts[1]
    assert (now["labels"]["severity"], before["labels"]["severity"]) == ("info", "warning")
    assert before["endsAt"] == "2023-11-14T22:13:25.000Z" < now["endsAt"]


def test_the_standing_is_a_fold_that_takes_each_record_once():
    """Repeated, in part or whole, it is the same; a topic that was made anew begins anew."""
    steps = [record(1, alert("a")), record(2, alert("b")), record(3, alert("a", "resolved")), record(4, b"{"),
             record(5, alert("a"))]  # fmt: skip
    once, often = Standing(), Standing()
    for step in steps:
        once.read(step)
    for step in [*steps[:3], *steps, *steps[2:]]:
        often.read(step)
    assert {name: (m.alert, m.began_ms) for name, m in once.matters.items()} == {
        name: (m.alert, m.began_ms) for name, m in often.matters.items()
    }
    assert [(m.alert.alert_id, m.began_ms % 100_000) for m in once.open()] == [("b", 2_000), ("a", 5_000)]
    once.read(record(0, alert("c"), time_ms=1_800_000_000_000))
    assert [m.alert.alert_id for m in once.open()] == ["c"]


def test_what_is_open_can_be_asked_while_the_topic_is_read(monkeypatch: pytest.MonkeyPatch):
    """It is read by a thread whenever the agents are started; the repetition ended, and began anew seconds later."""
    standing = Standing()
    for n in range(3):
        standing.read(record(n, alert(f"a{n}")))

    def read_on(matter: Matter) -> bool:
        standing.read(record(len(standing.matters), alert(f"a{len(standing.matters)}")))
        return matter.alert.status != "resolved"

    monkeypatch.setattr(Matter, "open", property(read_on))
    assert [matter.alert.alert_id for matter in standing.open()] == ["a0", "a1", "a2"]


def test_no_alert_is_forgotten_where_times_step_back():
    """Kafka's times are those of the broker that leads: records that come again are known by the latest of them."""
    steps = [record(n, alert(f"a{n}"), time_ms=time_ms) for n, time_ms in enumerate((100, 200, 150))]
    standing = Standing()
    for step in [*steps, *steps]:
        standing.read(step)
    assert [m.alert.alert_id for m in standing.open()] == ["a0", "a1", "a2"]


def test_a_topic_made_anew_begins_anew_once():
    """Not with each of its partitions: what one of them has told by then stays."""
    standing = Standing()
    for partition in (0, 1):
        standing.read(record(3, alert(f"old{partition}"))._replace(partition=partition))
    for partition in (1, 0):
        new = record(0, alert(f"new{partition}"), time_ms=1_800_000_000_000 + partition)
        standing.read(new._replace(partition=partition))
    assert [m.alert.alert_id for m in standing.open()] == ["new1", "new0"]


def test_open_alerts_are_repeated_until_they_are_resolved():
    """All in one post; one that fails is no end of it, but the route is down until one is taken."""
    posts: list[list[str]] = []
    states: list[str] = []
    standing = Standing()
    for n in range(3):
        standing.read(record(n, alert(f"a{n}")))

    async def take(request: web.Request) -> web.Response:
        posts.append(sorted(entry["labels"]["alert_id"] for entry in await request.json()))
        return web.Response(status=500 if len(posts) == 1 else 200)

    async def test() -> None:
        outside = Outside(allow_private=True)
        async with receiver(take) as base:
            to = target(base, "--alertmanager 1", allow_private=True)
            manager = Alertmanager("p", to, outside, standing, every_s=0.02)
            line = Line(manager)

            def attempted(why: str) -> None:
                line.attempted(why)
                states.append(f"{line.health()['state']} {line.why}")

            repeating = asyncio.ensure_future(manager.repeat(attempted))
            while len(posts) < 2:
                await asyncio.sleep(0.005)
            standing.read(record(9, alert("a1", "resolved")))
            while posts[-1] != ["a0", "a2"]:
                await asyncio.sleep(0.005)
            repeating.cancel()
            await asyncio.gather(repeating, return_exceptions=True)
        await outside.close()

    asyncio.run(asyncio.wait_for(test(), 120))
    assert posts[0] == posts[1] == ["a0", "a1", "a2"]
    assert states[:2] == ["down it answers 500", "up "]


def test_what_is_resolved_is_not_repeated_as_open_behind_it():
    """Where Alertmanager is slow to take a repetition, the end waits for it; else it would open again."""
    standing = Standing()
    taken: list[str] = []
    standing.read(record(1, alert()))
    slow, resolved = asyncio.Event(), record(5, alert(status="resolved"))

    async def take(request: web.Request) -> web.Response:
        [entry] = await request.json()
        still_open = entry["endsAt"] > "2023-11-14T22:13:25.000Z"
        if still_open and not slow.is_set():
            slow.set()
            await asyncio.sleep(0.2)
        taken.append("open" if still_open else "resolved")
        return web.Response()

    async def test() -> None:
        outside = Outside(allow_private=True)
        async with receiver(take) as base:
            to = target(base, "--alertmanager 1", allow_private=True)
            manager = Alertmanager("p", to, outside, standing, every_s=0.01)
            repeating = asyncio.ensure_future(manager.repeat(lambda why: None))
            await slow.wait()
            standing.read(resolved)
            await manager.deliver(Notice("key", "p", alert(status="resolved"), resolved))
            await asyncio.sleep(0.3)
            repeating.cancel()
            await asyncio.gather(repeating, return_exceptions=True)
        await outside.close()

    asyncio.run(asyncio.wait_for(test(), 120))
    assert taken == ["open", "resolved"]
