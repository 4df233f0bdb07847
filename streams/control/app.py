"""Faust as far as we use it: one app of agents over raw, committed records, with three of its defects repaired.

- **Committed only.** Faust reads uncommitted records unless it writes its own transactions: here every consumer is
  `read_committed`, so that nothing is ever done about a record of an aborted transaction.
- **Offsets.** Faust commits up to the first gap in the offsets that were acknowledged, and on a topic that
  transactions write every marker is a gap that its bookkeeping counts wrongly: the committed offset falls ever further
  behind, or stays for good, and a restart repeats all of it. Our agents acknowledge in order and leave nothing out
  (`agents`), so that the largest acknowledged offset says everything.
- **Acknowledgements.** Faust acknowledges an event when its handler has raised, or was cancelled: our agents use
  streams without acknowledgement (`noack`), and a clean stop does not wait for events under way.

- **Stopping.** After an outage aiokafka may wait for ever for a connection of before it to be closed, and with it
  Faust, whose consumer runs in a thread: that wait, the last step of stopping, ends after `_CLOSE_S`.

Its settings come from nowhere but here: without a prefix of its own, `BROKER_URL`, `WEB_BIND` or `PRODUCER_ACKS` in the
environment would win over our arguments. Tables, its web server and its worker are not used.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterable, Mapping
from typing import Any

import faust
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from mode.threads import WorkerThread

from headrace.streams.control.agents import Agent
from headrace.streams.kafka.aio import Clients

__all__ = ["Timing", "build", "connection"]

Timing = Mapping[str, Any]
"""Settings of Faust's that differ from `TIMING`, for tests."""

TIMING: Timing = {
    "broker_commit_interval": 1.0,
    "broker_heartbeat_interval": 1.0,
    "broker_request_timeout": 15.0,
    "broker_session_timeout": 10.0,
    "consumer_metadata_max_age_ms": 5_000,
    "producer_request_timeout": 10.0,
}

_CLOSE_S = 3.0


def build(group: str, clients: Clients, agents: Iterable[Agent], timing: Timing = TIMING) -> Any:
    """A new app, to be started once; an agent's records are acknowledged and committed under `group`.

    The group's one member has a static name, so that a process that comes after a killed one need not wait for its
    session to end.
    """
    logging.getLogger(__name__).setLevel(logging.WARNING)  # Faust tells every step under our classes' module
    app = _App(
        group,
        **connection(clients),
        **{**TIMING, **timing},
        autodiscover=False,
        consumer_auto_offset_reset="earliest",
        consumer_group_instance_id=f"{group}.0",
        env_prefix="HEADRACE_FAUST_",
        key_serializer="raw",
        store="memory://",
        stream_wait_empty=False,
        table_standby_replicas=0,
        topic_allow_declare=False,
        topic_disable_leader=True,
        value_serializer="raw",
        web_enabled=False,
    )
    for agent in agents:
        topic = app.topic(
            agent.topic, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw", internal=False
        )
        app.agent(topic, name=agent.name)(agent.run)
    return app


def connection(clients: Clients) -> dict[str, Any]:
    """The arguments of `faust.App` that say where Kafka is, and who we are."""
    servers = [server.strip() for server in clients.bootstrap.split(",") if server.strip()]
    return {
        "broker": [f"aiokafka://{server}" for server in servers],
        "broker_client_id": clients.client_id,
        "broker_credentials": _credentials(clients.protection),
    }


def _credentials(told: Mapping[str, Any]) -> Any:
    if "sasl_mechanism" in told:
        return faust.SASLCredentials(
            username=told["sasl_plain_username"],
            password=told["sasl_plain_password"],
            mechanism=told["sasl_mechanism"],
            ssl_context=told.get("ssl_context"),
        )
    context = told.get("ssl_context")
    return None if context is None else faust.SSLCredentials(context)


class _Daemon(WorkerThread):
    """A process that has nothing else to do may end without it."""

    def __init__(self, service: Any, **options: Any) -> None:
        super().__init__(service, **options)
        self.daemon = True


class _Thread(driver.AIOKafkaConsumerThread):
    Worker = _Daemon

    async def on_thread_stop(self) -> None:
        """Stop the consumer; what its client does not close in time is left to the end of the thread's loop."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_S):
                await super().on_thread_stop()

    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer = super()._create_worker_consumer(transport)
        assert consumer._isolation_level == "read_uncommitted"  # read when the consumer starts
        consumer._isolation_level = "read_committed"
        return consumer


class _Consumer(driver.Consumer):
    def _new_consumer_thread(self) -> Any:
        return _Thread(self, loop=self.loop, beacon=self.beacon)

    def _new_offset(self, tp: TP) -> int | None:
        """The offset after the last acknowledged record, as agents acknowledge in order and leave nothing out."""
        acked = self._acked[tp]
        if not acked:
            return None
        last = max(acked)
        acked.clear()
        self._acked_index[tp].clear()
        self._gap.pop(tp, None)
        return int(last) + 1


class _Transport(driver.Transport):
    Consumer = _Consumer


class _App(faust.App):
    def _new_transport(self) -> Any:
        return _Transport(self.conf.broker_consumer, self)

    def _create_directories(self) -> None:
        """None: they are for tables on disk, and where the control plane runs nothing may be writable."""
