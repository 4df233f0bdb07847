"""A control plane without Kafka: a board fed with what a real run publishes, and actions that answer as workers do."""

from __future__ import annotations

import asyncio
import copy
import functools
import json
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
from aiohttp import web

from headrace import Pipeline, Proxies, examples
from headrace.examples.contest import contest
from headrace.examples.flights import flights
from headrace.processors.registry import answer, fold, fresh
from headrace.schemas.records import Acknowledgement, Alert, Command, Fact
from headrace.streams import data, memory
from headrace.streams.control.board import Board
from headrace.streams.control.page.guard import Guard
from headrace.streams.control.page.server import build
from headrace.streams.errors import UsageError
from headrace.streams.topology import STAGES

__all__ = ["TOKEN", "Scene"]

TOKEN = "a-token-for-the-browser-tests"
_FLIGHTS = 4_000
_EXAMPLES = Path(examples.__file__).parent
_NASTY = b'{"event_id": "<img src=x onerror=alert(1)>", "carrier": "</script><script>window.hacked=1</script>"'

scene = Pipeline(
    "contest",
    task=contest.task,
    events=replace(flights.events, schema=str(_EXAMPLES / "flight.avsc")),
    labels=replace(flights.labels, schema=str(_EXAMPLES / "arrival.avsc")),
    features=contest.features,
    models=contest.models,
    champion=contest.champion,
    gate=contest.gate,
    drift=flights.drift,
    proxies=Proxies(every=500),
    columns=["origin"],
    evaluate_every=400,
    classes=[("headrace.examples.contest", "Sabotaged")],
    data=flights.data,
)
"""The contest of models, with drift watched as well."""


@functools.cache
def published() -> dict[str, list[Any]]:
    """What a worker publishes for the first flights of 2013, some of them damaged."""
    frame = data.load(None, scene, _FLIGHTS)
    events, labels = data.records(scene, frame)
    inputs = [[(r.key, r.value) for r in labels], [(r.key, r.value) for r in events]]
    for place in range(100, _FLIGHTS, 700):
        inputs[1].insert(place, (b"JFK", _NASTY))
    for place in range(300, _FLIGHTS, 1500):
        inputs[1].insert(place, (b"LGA", events[place].value.replace(b'"distance":', b'"distance":-')))
    return memory.run(scene, inputs, now_ms=1_400_000_000_000).outputs


class Scene:
    """The page on a port of its own, in a thread of its own; `feed` and `say` change what it shows."""

    def __init__(self, *, token: str | None = TOKEN, partitions: int = 1) -> None:
        declared = copy.copy(scene)
        declared.partitions = partitions
        self.board = Board(declared, "contest.py:contest")
        self.registry = fresh()
        self.glance: dict[str, Any] | None = None
        self.asked: list[tuple[Any, ...]] = []
        self.worker = True
        self.port = 0
        self._offsets: dict[str, int] = {}
        self._token = token
        self._loop = asyncio.new_event_loop()
        self._runner: web.AppRunner | None = None
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}/"

    # -- its life --------------------------------------------------------------------------------------------------

    def start(self) -> Scene:
        """Serve."""
        self._thread.start()
        self.wait(self._start(0))
        return self

    def restart(self) -> None:
        """End and serve again, at the same port: every stream is cut."""
        self.wait(self._end())
        self.wait(self._start(self.port))

    def renew(self, token: str) -> None:
        """The same with another token."""
        self._token = token
        self.restart()

    def pause(self) -> None:
        """End until `resume`."""
        self.wait(self._end())

    def resume(self) -> None:
        """Serve again."""
        self.wait(self._start(self.port))

    def stop(self) -> None:
        """End for good."""
        self.wait(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def wait(self, coroutine: Any) -> Any:
        """What a coroutine gives that runs in the loop."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(20)

    async def _start(self, port: int) -> None:
        app = build(self.board, self, Guard(self._token), self._glance)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", port, reuse_address=True)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def _end(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _glance(self) -> dict[str, Any] | None:
        return self.glance

    # -- what it shows ---------------------------------------------------------------------------------------------

    def say(self, change: Callable[..., Any], *args: Any) -> None:
        """Call something of the board in its own thread."""

        async def run() -> None:
            change(*args)

        self.wait(run())

    def take(self, role: str, value: bytes | None, key: bytes | None = b"k", headers: Any = ()) -> None:
        """One more record of a topic."""
        self.say(self._take, role, value, key, headers)

    def _take(self, role: str, value: bytes | None, key: bytes | None, headers: Any) -> None:
        offset = self._offsets[role] = self._offsets.get(role, -1) + 1
        if role == "registry":
            fold(self.registry, msgspec.json.decode(value or b"", type=Fact))
        self.board.take(role, 0, offset, key, value, headers, time.time_ns() // 1_000_000)

    def feed(self) -> Scene:
        """Everything of a real run, and a glance to go with it."""
        for role in ("registry", "evaluations", "alerts", "dead-letter"):
            for _, key, value, headers in published()[role]:
                self.take(role, value, key, headers or ())
        self.say(self.board.link, "following")
        self.glance = glance(published())
        return self

    def alert(self, name: str, **more: Any) -> None:
        """One more alert."""
        told = json.loads(published()["alerts"][0][2])
        record = msgspec.convert(told | {"alert_id": name, "status": "opened"} | more, Alert)
        self.take("alerts", msgspec.json.encode(record), name.encode())

    # -- what people may do ----------------------------------------------------------------------------------------

    async def decide(self, kind: str, model: str | None, **how: Any) -> dict[str, Any]:
        """Answer as a worker does: a fact, or none when no worker runs."""
        self.asked.append((kind, model, how))
        if not self.worker:
            return {"id": "c", "shards": [{"shard": 0, "fact": None}]}
        command = Command(
            f"c{len(self.asked)}", kind, 0, how["by"], model, how["why"], how["saw"], share=how.get("share")
        )
        found = answer(self.registry, command, 0)
        refused = found.kind == "refused"
        champion = found.model if found.kind in ("promoted", "rolled_back") else self.registry["champion"]
        fact = Fact(
            self.registry["version"] + 1, found.kind, found.model, found.status, champion, 0, 5_000, None, {},
            how["by"], found.why if refused else how["why"], found.evidence, command.id, how["saw"],
        )  # fmt: skip
        self._take("registry", msgspec.json.encode(fact), b"m", ())
        return {"id": command.id, "shards": [{"shard": 0, "fact": msgspec.to_builtins(fact)}]}

    async def acknowledge(self, alert_id: str, by: str, note: str) -> dict[str, Any]:
        """Write it down."""
        self.asked.append(("acknowledge", alert_id, by, note))
        self._take("control", msgspec.json.encode(Acknowledgement(alert_id, by, note)), alert_id.encode(), ())
        return {"alert_id": alert_id}

    async def explain(self, event_id: str) -> dict[str, Any]:
        """A story, as `explain` tells it."""
        self.asked.append(("explain", event_id))
        if event_id == "hang":
            raise UsageError("Another event is being explained: try again when that is done.")
        return story(event_id)


def story(event_id: str) -> dict[str, Any]:
    """One event's way, with markup in its bytes."""
    record = {
        "topic": "contest.events",
        "partition": 0,
        "offset": 7,
        "key": "JFK",
        "time_ms": 1_357_100_000_000,
        "y": None,
    }
    return {
        "event_id": event_id,
        "status": "labelled",
        "why": "",
        "events": [record | {"value": f'{{"event_id": "{event_id}", "x": "<b>bold</b>"}}', "became": "features"}],
        "features": {"distance": 1069.0, "hour": 5},
        "learned": {"version": "poor/0@120", "n": 120, "until_ms": 1_357_099_000_000, "last": []},
        "prediction": {"model": "poor/0@120", "prediction": True, "probability": 0.61, "reason": None},
        "labels": [record | {"value": "{}", "became": "example 121"}],
        "example": {"n": 121},
        "first": {"version": "poor/0@121", "event_id": "next", "offset": 8},
        "compared": [{"topic": "contest.predictions", "offset": 7, "difference": None}],
        "different": 0,
        "covered": {},
        "ended": None,
    }


def glance(outputs: dict[str, list[Any]]) -> dict[str, Any]:
    """As `overview.gather` tells of a worker that is busy."""
    now_ms = time.time_ns() // 1_000_000
    rates = {
        "events": 1240.0,
        "labels": 1190.0,
        "examples": 1188.0,
        "evaluations": 46.0,
        "alerts": 0.1,
        "dead-letter": 2.0,
    }
    sizes = {role: len(found) for role, found in outputs.items()} | {"events": _FLIGHTS, "labels": _FLIGHTS}
    topics = [
        {"role": role, "topic": f"contest.{role}", "offsets": n, "rate_per_s": rates.get(role, 1240.0)}
        for role, n in sizes.items()
    ]
    reads = ("events", "events", "features", "labels", "examples", "examples", "examples")
    stages = [
        {"stage": stage, "group": "contest.lane", "reads": role, "rate_per_s": rates.get(role, 1240.0), "lag": lag}
        for stage, role, lag in zip(STAGES, reads, (312, None, None, 40, None, None, None), strict=True)
    ]
    group = {"group": "contest.lane", "name": "lane", "stages": list(STAGES), "members": 1, "inputs": [], "lag": 352}
    last = {"published_ms": now_ms, "age_s": 0.4, "event_id": "2013-01-06 B6 1", "model": "logreg/0@4800"}
    return {
        "pipeline": "contest",
        "taken_ms": now_ms,
        "missing": [],
        "groups": [group],
        "stages": stages,
        "topics": topics,
        "last_prediction": last,
        "freshness": {
            "model_age_s": 420.0,
            "stream_time_ms": 1_357_500_420_000,
            "learned_until_ms": 1_357_500_000_000,
            "checkpoint_age_s": 0.8,
        },
        "laws": [{"group": "lane", "law": "events = features + dead", "holds": True}],
    }
