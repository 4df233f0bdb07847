"""What people may do from the page: decide about models, acknowledge alerts, have an event explained.

Decisions are commands on the registry, as the command line sends them, and their answer is the worker's fact. Kafka's
own client blocks, so all of it happens in threads, within a time; whatever is wrong is a `HeadraceError`, one sentence.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec

from headrace.schemas.records import Acknowledgement
from headrace.streams.errors import HeadraceError, Unreachable, UsageError
from headrace.streams.kafka import Cluster
from headrace.streams.models import registry
from headrace.streams.models.keys import signing_key, trusted_keys
from headrace.streams.models.snapshots import Sealed
from headrace.streams.pipeline import Pipeline
from headrace.streams.replay.explain import event_id_of
from headrace.streams.replay.explain import explain as recompute
from headrace.streams.replay.story import plain
from headrace.streams.topics import names_of, topic_name

__all__ = ["KINDS", "Actions"]

KINDS = ("promote", "approve", "rollback", "retire", "canary")
_CHECK_S = 5.0
_ANSWER_S = 15.0
"""How long a decision waits for the worker's answer."""
_EXPLAIN_S = 120.0
"""How long an explanation may take."""


class Actions:
    """Everything that the page can change, and the one thing that it has computed.

    Parameters
    ----------
    pipeline, cluster
        Whose registry and alerts, and where.
    """

    def __init__(self, pipeline: Pipeline, cluster: Cluster) -> None:
        self._pipeline, self._cluster = pipeline, cluster
        self._threads = ThreadPoolExecutor(8, thread_name_prefix="headrace-actions")
        self._explaining = False

    async def decide(
        self,
        kind: str,
        model: str | None,
        *,
        why: str = "",
        saw: int | None = None,
        shard: int | None = None,
        by: str,
        share: float | None = None,
    ) -> dict[str, Any]:
        """Append a command, and wait for what becomes of it: ``{"id", "shards": [{"shard", "fact" or None}]}``.

        `saw` is the registry version that the author saw: a decision on an older one is refused by the worker, with
        what has changed.
        """
        if kind not in KINDS:
            raise UsageError(f"There is no decision {kind!r}; there are {', '.join(KINDS)}.")
        if shard is not None and not 0 <= shard < self._pipeline.partitions:
            raise UsageError(f"There is no shard {shard}; the shards are 0 to {self._pipeline.partitions - 1}.")
        found: dict[str, Any] = await self._run(self._decide, kind, model, why, saw, shard, by, share)
        return found

    async def acknowledge(self, alert_id: str, by: str, note: str = "") -> dict[str, Any]:
        """Write down that somebody has seen an alert."""
        record = registry.readable(Acknowledgement(alert_id, by, note))
        await self._run(self._acknowledge, record)
        found: dict[str, Any] = msgspec.to_builtins(record)
        return found

    async def explain(self, event_id: str) -> dict[str, Any]:
        """One event's way, recomputed and compared: one at a time, and only for so long."""
        wanted = event_id_of(self._pipeline, event_id)
        if self._explaining:
            raise UsageError("Another event is being explained: try again when that is done.")
        self._explaining = True
        try:
            found: dict[str, Any] = await self._run(self._explain, wanted, time.monotonic() + _EXPLAIN_S)
            return found
        finally:
            self._explaining = False

    def close(self) -> None:
        """Start nothing more; what is under way is left to end by itself."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    # -- in threads ----------------------------------------------------------------------------------------------

    async def _run(self, function: Callable[..., Any], *args: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._threads, function, *args)

    def _decide(
        self, kind: str, model: str | None, why: str, saw: int | None, shard: int | None, by: str, share: float | None
    ) -> dict[str, Any]:
        self._cluster.check(_CHECK_S)
        with contextlib.closing(self._cluster.reader()) as reader:
            known = [found for found in registry.shards(self._pipeline, reader) if shard in (None, found.number)]
            more: dict[str, Any] = {"model": model, "why": why} | ({} if share is None else {"share": share})
            wanted = registry.commands(known, kind, by, saw=saw, **more)
            name = wanted[0].id
            starts = registry.send(self._pipeline, self._cluster, [registry.readable(command) for command in wanted])
            answers = registry.answers(self._pipeline, reader, name, starts, _ANSWER_S)
        facts = {number: msgspec.to_builtins(fact) for number, fact in answers.items()}
        return {"id": name, "shards": [{"shard": number, "fact": facts.get(number)} for number in starts]}

    def _acknowledge(self, record: Acknowledgement) -> None:
        failed: list[str] = []
        topic = topic_name(self._pipeline, "control")
        self._cluster.check(_CHECK_S)
        producer = self._cluster.plain_producer()
        producer.produce(
            topic,
            msgspec.json.encode(record),
            record.alert_id.encode(),
            on_delivery=lambda error, _: failed.append(str(error)) if error is not None else None,
        )
        left = producer.flush(_ANSWER_S)
        if failed or left:
            raise Unreachable(f"The acknowledgement could not be written to {topic}: {(failed or ['no answer'])[0]}.")

    def _explain(self, event_id: Any, deadline: float) -> dict[str, Any]:
        def in_time(_: int) -> None:
            if time.monotonic() > deadline:
                raise HeadraceError(
                    f"Explaining takes longer than {_EXPLAIN_S:g} s here: use `headrace explain` in a terminal."
                )

        self._cluster.check(_CHECK_S)
        codec = Sealed(signing_key(), trusted_keys(), self._pipeline.classes)
        found = recompute(
            self._pipeline,
            [event_id],
            self._cluster.reader,
            names_of(self._pipeline),
            codec=codec,
            progress=in_time,
        )
        return plain(found[event_id])
