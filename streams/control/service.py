"""The control plane as one process: the page first, up even when Kafka is away; then everything that needs Kafka.

Every part runs in a loop of its own that is watched: one that ends is started again, after ever longer pauses, and both
its state and how often that has happened are in its health. Agents belong to one Faust app; when one is dead the app is
stopped and made anew, and goes on at the offset that was committed. What cannot be mended from within (a loop that
stands still, a stop that takes too long) ends the process, for whoever started it to start it again: that is safe at
any moment, as nothing is kept but offsets.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from headrace.streams.control.actions import Actions
from headrace.streams.control.agents import Agent, Incoming
from headrace.streams.control.alertmanager import Alertmanager, Standing
from headrace.streams.control.app import Timing, build
from headrace.streams.control.board import FOLLOWED, Board
from headrace.streams.control.follow import Follower
from headrace.streams.control.health import Health
from headrace.streams.control.looking import Looking
from headrace.streams.control.outside import Outside, Target
from headrace.streams.control.parts import PAUSES_S, Parts
from headrace.streams.control.policies import Approvals, Registries, Retraining, Schedules
from headrace.streams.control.routes import Line, Route, Routes, Webhook
from headrace.streams.errors import HeadraceError
from headrace.streams.kafka import Cluster
from headrace.streams.kafka.aio import clients
from headrace.streams.pipeline import Pipeline
from headrace.streams.settings import Connection
from headrace.streams.topics import control_group, topic_name
from headrace.streams.worker.watchdog import STALLED, end_now

__all__ = ["Options", "Service"]

log = logging.getLogger("headrace.control")

_PING_S = 3.0


@dataclass(frozen=True)
class Options:
    """What the control plane is to do, and its times.

    Parameters
    ----------
    webhooks, alertmanagers
        Where alerts go.
    allow_private
        Whether those may be at private addresses.
    approve, retrain
        The policies.
    repeat_s
        How often open alerts are posted to Alertmanager again.
    timeout_s
        How long a request to the outside may take.
    look_s, idle_s
        How often the pipeline is looked at as a whole while somebody watches, and for how long after that.
    watch_s
        How often the parts are looked after.
    stall_s
        After so long without a turn of the loop the process ends.
    stop_s
        How long stopping may take.
    retry_s, pauses_s
        Between attempts to deliver, and between starts of a part.
    timing
        What Faust is told beyond the settings in `app`.
    """

    webhooks: tuple[Target, ...] = ()
    alertmanagers: tuple[Target, ...] = ()
    allow_private: bool = False
    approve: bool = False
    retrain: tuple[Retraining, ...] = ()
    repeat_s: float = 60.0
    timeout_s: float = 10.0
    look_s: float = 2.0
    idle_s: float = 10.0
    watch_s: float = 0.5
    stall_s: float = 60.0
    stop_s: float = 10.0
    retry_s: tuple[float, ...] = (1.0, 2.0, 5.0, 10.0, 30.0)
    pauses_s: tuple[float, ...] = PAUSES_S
    timing: Timing = field(default_factory=dict)


class Service:
    """The parts of one pipeline's control plane, put together.

    `reference` names the pipeline on the command line, for the process that makes its overview, which there is none of
    without it, and for people.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        connection: Connection,
        options: Options | None = None,
        *,
        reference: str | None = None,
        end: Callable[[str, int], None] = end_now,
    ) -> None:
        self.pipeline, self.options = pipeline, options or Options()
        self.cluster = Cluster(connection.bootstrap, connection.config)
        self.board = Board(pipeline, reference)
        self.actions = Actions(pipeline, self.cluster)
        self.kafka: str | None = "it has not answered yet"
        self.looking = Looking(reference, connection, self.options.look_s, self.options.idle_s)
        self.parts = Parts(self.options.pauses_s)
        self._clients = clients(connection)
        self._end = end
        self._pinging = ThreadPoolExecutor(1, thread_name_prefix="headrace-ping")
        self._ticked = time.monotonic()
        self._stopped = threading.Event()
        self._make_routes()
        self._make_policies()
        self.health = Health(self)

    # -- what it is made of --------------------------------------------------------------------------------------

    def _make_routes(self) -> None:
        options, name = self.options, self.pipeline.name
        self._outside = Outside(allow_private=options.allow_private, timeout_s=options.timeout_s)
        self._standing = Standing()
        hooks = [Webhook(target, self._outside, n) for n, target in enumerate(options.webhooks, 1)]
        self._managers = [
            Alertmanager(name, target, self._outside, self._standing, every_s=options.repeat_s, number=n)
            for n, target in enumerate(options.alertmanagers, 1)
        ]
        routes: list[Route] = [*hooks, *self._managers]
        self.routes = Routes(name, [Line(route, options.retry_s) for route in routes])
        self._repeated = list(zip(self._managers, self.routes.lines[len(hooks) :], strict=True))
        if self._managers:
            self.routes.seen.append(self._standing.take)

    def _make_policies(self) -> None:
        registries = Registries(self.pipeline, self.cluster)
        self.approvals = Approvals(registries) if self.options.approve else None
        self.schedules = Schedules(registries, self.options.retrain) if self.options.retrain else None
        self.agents = [Agent("alerts", topic_name(self.pipeline, "alerts"), self.routes.take)]
        if self.approvals is not None:
            self.agents.append(Agent("registry", topic_name(self.pipeline, "registry"), self.approvals.take))

    # -- running -------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start every part, in the loop that runs."""
        follower = Follower(
            self.board,
            {role: topic_name(self.pipeline, role) for role in FOLLOWED},
            self._clients.aiokafka(),
        )
        self.parts.keep("board", follower.run)
        self.parts.keep("link", self._ping)
        self.parts.keep("overview", self.looking.run)
        for line in self.routes.lines:
            self.parts.keep(f"route {line.name}", line.run)
        for manager, line in self._repeated:
            self.parts.keep(f"repeat {manager.name}", partial(manager.repeat, line.attempted))
        if self.schedules is not None:
            self.parts.keep("schedules", self.schedules.run)
        self.parts.keep("agents", self._run_agents)
        self.parts.keep("pulse", self._tick)
        threading.Thread(target=self._watch_loop, name="headrace-watchdog", daemon=True).start()

    async def stop(self) -> None:
        """Stop every part; a stop that takes too long ends the process."""
        late = f"The control plane did not stop within {self.options.stop_s:g} s."
        timer = threading.Timer(self.options.stop_s, self._end, (late, 1))
        timer.daemon = True
        timer.start()
        try:
            self._stopped.set()
            await self.parts.stop()
            await self._outside.close()
            self.actions.close()
            self._pinging.shutdown(wait=False)
        finally:
            timer.cancel()

    # -- the parts -----------------------------------------------------------------------------------------------

    async def _run_agents(self) -> None:
        """One life of the Faust app: returns when an agent or the app has died, after it has been stopped."""
        await asyncio.to_thread(self.cluster.check, 5.0)
        if self._managers:
            await asyncio.to_thread(self._read_standing)
        for agent in self.agents:
            agent.reset()
        app = build(control_group(self.pipeline), self._clients, self.agents, self.options.timing)
        starting = asyncio.ensure_future(app.start())
        try:
            async with asyncio.timeout(60):
                await asyncio.shield(starting)
            while not app.crashed and all(agent.alive for agent in self.agents):
                await asyncio.sleep(self.options.watch_s)
            dead = "; ".join(f"{agent.name}: {agent.why}" for agent in self.agents if not agent.alive)
            raise HeadraceError(f"agent {dead}" if dead else f"the app crashed: {app.crash_reason!r}")
        finally:
            await self._stop_app(app, starting)

    async def _stop_app(self, app: Any, starting: asyncio.Future[None]) -> None:
        """Faust may never come back from a stop, and it swallows cancellation: the process ends then.

        One that is still starting cannot be stopped: that is waited for first. When everything stops anyway, the end
        of the process is near, and Faust is left behind, in time for the rest to be closed within `stop_s` as well.
        """
        for agent in self.agents:
            agent.retire()
        deadline = time.monotonic() + self.options.stop_s * 0.8
        await _ended(starting, time.monotonic() + self.options.stop_s / 2)
        stopping = asyncio.ensure_future(app.stop())
        await _ended(stopping, deadline)
        if not stopping.done() and self._stopped.is_set():
            log.warning("Faust did not stop; it is left behind.")
        elif not stopping.done():
            self._end("Faust did not stop; the control plane ends, to be started again.", STALLED)
        elif not stopping.cancelled() and stopping.exception() is not None:
            log.warning("stopping the agents: %r", stopping.exception())

    def _read_standing(self) -> None:
        """How every alert stands, up to now, from the topic."""
        topic = topic_name(self.pipeline, "alerts")
        with contextlib.closing(self.cluster.reader()) as reader:
            for partition in range(self.pipeline.partitions):
                start, end = reader.watermarks(topic, partition)[0], reader.stable(topic, partition)
                for r in reader.read(topic, partition, start, end) if start < end else ():
                    self._standing.read(Incoming(topic, partition, r.offset, r.key, r.value, r.timestamp_ms))

    async def _ping(self) -> None:
        """Whether Kafka answers, by a client of its own: other requests may hang for long after an outage."""
        cluster, loop = Cluster(self.cluster.bootstrap, self.cluster.config), asyncio.get_running_loop()
        away = False
        while True:
            try:
                await loop.run_in_executor(self._pinging, cluster.topics, _PING_S)
                self.kafka = None
            except HeadraceError as error:
                self.kafka = str(error)
            if self.kafka is not None and not away:
                log.warning("%s Everything here waits for one.", self.kafka)
            if self.kafka is None and away:
                log.warning("Kafka answers again.")
            away = self.kafka is not None
            await asyncio.sleep(self.options.look_s)

    async def _tick(self) -> None:
        while True:
            self._ticked = time.monotonic()
            await asyncio.sleep(min(1.0, self.options.stall_s / 4))

    def _watch_loop(self) -> None:
        """From a thread: a loop that something blocks cannot tell so itself."""
        while not self._stopped.wait(min(5.0, self.options.stall_s / 4)):
            if time.monotonic() - self._ticked > self.options.stall_s:
                self._end(f"The control plane's loop has stood still for {self.options.stall_s:g} s; it ends.", STALLED)


async def _ended(task: asyncio.Future[None], deadline: float) -> None:
    """Wait for a task until this time, whoever wants to cancel that."""
    while not task.done() and time.monotonic() < deadline:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait({task}, timeout=0.2)
