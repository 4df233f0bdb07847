"""How the control plane fares: /metrics, /healthz and /readyz, as its own server and the page answer them.

Kafka's absence and a route that is down are no illness of its own: starting it again would mend neither. /healthz tells
them and answers 200; /readyz answers 503 while Kafka is away.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from aiohttp import web

from headrace.streams.control.agents import Agent
from headrace.streams.control.routes import Line
from headrace.streams.health import unserved
from headrace.streams.metrics import Sample, Sampled

if TYPE_CHECKING:
    from headrace.streams.control.service import Service

__all__ = ["Health", "listen"]


class Health:
    """What a service says of itself."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._metrics = Sampled(self._samples)

    def trouble(self) -> list[str]:
        """Why it is not healthy."""
        service = self._service
        found = [f"agent {agent.name} is dead: {agent.why}" for agent in service.agents if not agent.alive]
        for agent in service.agents:
            if agent.busy_s() > agent.longest_s:
                found.append(f"agent {agent.name} has had one record in hand for {agent.busy_s():.0f} s")
        if service.kafka is None:
            found += [f"{name}: {why}" for name, why in service.parts.down().items()]
        return found

    def report(self) -> dict[str, Any]:
        """Everything, in plain values."""
        service, trouble = self._service, self.trouble()
        return {
            "ok": not trouble,
            "reason": "; ".join(trouble) or None,
            "pipeline": service.pipeline.name,
            "kafka": {"up": service.kafka is None, "why": service.kafka},
            "agents": {agent.name: agent.health() for agent in service.agents},
            "routes": {line.name: line.health() for line in service.routes.lines},
            "parts": service.parts.health(),
        }

    def ready(self) -> dict[str, Any]:
        """The same, and whether everything runs."""
        service, found = self._service, self.report()
        unready = [] if service.kafka is None else [service.kafka]
        unready += [f"agent {agent.name} is starting" for agent in service.agents if agent.state == "starting"]
        if found["ok"] and unready:
            found |= {"ok": False, "reason": "; ".join(unready)}
        return found

    def add_to(self, app: web.Application) -> None:
        """Answer /metrics, /healthz and /readyz there."""

        async def metrics(request: web.Request) -> web.Response:
            data, content_type = self._metrics.exposition(request.headers.get("Accept", ""))
            return web.Response(body=data, headers={"Content-Type": content_type, "Cache-Control": "no-store"})

        async def healthz(request: web.Request) -> web.Response:
            return _answer(self.report())

        async def readyz(request: web.Request) -> web.Response:
            return _answer(self.ready())

        app.router.add_get("/metrics", metrics)
        app.router.add_get("/healthz", healthz)
        app.router.add_get("/readyz", readyz)

    def _samples(self) -> Iterator[Sample]:
        service, name = self._service, self._service.pipeline.name
        yield "headrace_control_kafka_up", (name,), float(service.kafka is None)
        readers: dict[str, Any] = {"alerts": service.routes, "registry": service.approvals}
        for agent in service.agents:
            yield from _of_agent((name, agent.name), agent, readers[agent.name].unreadable)
        for line in service.routes.lines:
            yield from _of_line((name, line.name), line)
        policies: Iterable[tuple[str, Any]] = (("approve", service.approvals), ("retrain", service.schedules))
        for policy, made in policies:
            if made is not None:
                yield "headrace_control_decisions_total", (name, policy), made.sent


async def listen(app: web.Application, host: str, port: int, option: str = "--port") -> tuple[web.AppRunner, str]:
    """Serve an application; returns what runs and its address.

    A port that is taken is a `UsageError`, and so is a host of others; it names the option that chooses another. Bodies
    stay as they come: none is taken compressed, and one that is damaged would be a traceback in the log.
    """
    runner = web.AppRunner(app, access_log=None, auto_decompress=False, shutdown_timeout=2)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
    except OSError as error:
        await runner.cleanup()
        raise unserved(host, port, error, option) from error
    bound, number = runner.addresses[0][:2]
    return runner, f"http://{f'[{bound}]' if ':' in bound else bound}:{number}"


def _answer(found: dict[str, Any]) -> web.Response:
    return web.json_response(found, status=200 if found["ok"] else 503, headers={"Cache-Control": "no-store"})


def _of_agent(labels: tuple[str, ...], agent: Agent, unreadable: int) -> Iterator[Sample]:
    yield "headrace_control_agent_up", labels, float(agent.alive)
    yield "headrace_control_agent_restarts_total", labels, agent.restarts
    yield "headrace_control_agent_busy_seconds", labels, agent.busy_s()
    yield "headrace_control_records_total", labels, agent.handled
    yield "headrace_control_failures_total", labels, agent.failures
    yield "headrace_control_unreadable_total", labels, unreadable


def _of_line(labels: tuple[str, ...], line: Line) -> Iterator[Sample]:
    for outcome in ("delivered", "retried", "refused"):
        yield "headrace_control_deliveries_total", (*labels, outcome), getattr(line, outcome)
    yield "headrace_control_undelivered", labels, line.waiting
    yield "headrace_control_route_up", labels, float(not line.why)
    if line.last_s is not None:
        yield "headrace_control_last_delivery_timestamp_seconds", labels, line.last_s
