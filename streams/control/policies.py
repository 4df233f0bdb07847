"""Policies: decisions that the control plane makes by itself, as commands on the registry.

- `Approvals` turns what the gate has proposed into an approval.
- `Schedules` has a fresh copy of a model learned by the clock.

A command's id is a pure function of what is decided: whoever decides the same again, after a restart or beside another
process, sends a copy, and workers ignore a copy. So a decision may be sent as often as it takes.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from hashlib import blake2b
from typing import Any

import msgspec
from croniter import CroniterBadDateError, croniter

from headrace.processors.registry import fold, fresh
from headrace.schemas.records import Command, Fact
from headrace.streams.control.agents import Incoming
from headrace.streams.errors import UNREADABLE, UsageError
from headrace.streams.kafka import Cluster
from headrace.streams.models import registry
from headrace.streams.pipeline import Pipeline
from headrace.streams.topics import topic_name

__all__ = ["Approvals", "Registries", "Retraining", "Schedules", "retraining"]

log = logging.getLogger("headrace.control")

_record: Callable[[bytes], Command | Fact] = msgspec.json.Decoder(Command | Fact).decode
_BY = "control"
_STAMPED = re.compile(r"-[0-9]{8}-[0-9]{4}")
_CRON = re.compile(
    r"(?:[^a-z]|jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec|mon|tue|wed|thu|fri|sat|sun|l)+", re.IGNORECASE
)
"""A schedule that means the same times whenever it is read: croniter's R is a random number."""
_LONGEST_NAP_S = 30.0
_PAUSES_S = (1.0, 5.0, 15.0, 30.0)


class Registries:
    """Every shard's registry as its topic has it, read on from where it was; and how commands get there."""

    def __init__(self, pipeline: Pipeline, cluster: Cluster) -> None:
        self.pipeline, self._cluster = pipeline, cluster
        self._topic = topic_name(pipeline, "registry")
        self._folds: dict[int, dict[str, Any]] = {shard: fresh() for shard in range(pipeline.partitions)}
        self._places = dict.fromkeys(self._folds, 0)
        self._lock = threading.Lock()

    def now(self) -> dict[int, dict[str, Any]]:
        """The registry of each shard; blocks, so call it in a thread."""
        with self._lock, contextlib.closing(self._cluster.reader()) as reader:
            for shard in self._folds:
                if reader.stable(self._topic, shard) < self._places[shard]:  # made anew
                    self._folds[shard], self._places[shard] = fresh(), 0
                known = self._folds[shard]
                for place, fact in registry.facts(self.pipeline, reader, shard, self._places[shard]):
                    self._places[shard] = place
                    with contextlib.suppress(ValueError):  # no fact of a worker's: audit tells
                        fold(known, fact)
            return self._folds

    def send(self, commands: Iterable[Command]) -> None:
        """Append commands; blocks as well."""
        registry.send(self.pipeline, self._cluster, commands)


class Approvals:
    """Approves what the gate proposes: `take` is the handler of the agent of the registry.

    An approval names the registry version that it rests on. One that comes too late is refused, and decided anew on the
    registry as it is then, while the proposal stands.
    """

    def __init__(self, registries: Registries) -> None:
        self._registries = registries
        self.sent = self.unreadable = 0

    async def take(self, record: Incoming) -> None:
        """Look at the proposals of a shard, if this record gives reason to."""
        try:
            found = _record(record.value or b"")
        except UNREADABLE:
            self.unreadable += 1
            return
        if isinstance(found, Command):
            return
        ours = found.command is not None and found.command.startswith("approve-")
        if found.kind == "proposed" or (found.kind == "refused" and ours):
            await asyncio.to_thread(self._approve, record.partition)

    def _approve(self, shard: int) -> None:
        known = self._registries.now()[shard]
        wanted = [approval(known, shard, model, version) for model, version in known["proposals"].items()]
        wanted = [command for command in wanted if command.id not in known["commands"]]
        if wanted:
            self._registries.send(wanted)
            self.sent += len(wanted)
            log.info("approved: %s", ", ".join(str(command.model) for command in wanted))


def approval(known: dict[str, Any], shard: int, model: str, proposed: int) -> Command:
    """The approval of a model that was proposed with this version, as the registry stands."""
    changed = known["changed"]
    name = _id("approve", shard, model, proposed, changed)
    why = f"proposed by version {proposed} of the registry; the policy is --approve"
    return Command(name, "approve", shard, _BY, model, why, changed)


@dataclass(frozen=True, slots=True)
class Retraining:
    """A declared model, and when a fresh copy of it is to be learned: cron's five fields, in UTC."""

    model: str
    cron: str

    def last(self, now_s: float) -> int:
        """The latest time that was due, in seconds since 1970."""
        return int(croniter(self.cron, now_s + 1e-3).get_prev(float))

    def next(self, now_s: float) -> int:
        """The first time after now."""
        return int(croniter(self.cron, now_s).get_next(float))

    def name(self, due_s: int) -> str:
        """What the copy made at that time is called."""
        return f"{self.model}-{datetime.fromtimestamp(due_s, UTC):%Y%m%d-%H%M}"


def retraining(text: str, pipeline: Pipeline) -> Retraining:
    """What ``MODEL=CRON`` asks for; UsageError says what is wrong with it."""
    model, equals, cron = (part.strip() for part in text.partition("="))
    if not equals or model not in pipeline.models:
        known = ", ".join(pipeline.models)
        raise UsageError(f"--retrain is {text!r}; legal: MODEL=CRON with a declared model ({known}).")
    if len(cron.split()) != 5 or not _CRON.fullmatch(cron) or not croniter.is_valid(cron):
        raise UsageError(
            f"--retrain {model} has the schedule {cron!r}; legal: cron's five fields, as in '0 3 * * 1', without "
            "letters other than names of months and weekdays, and L."
        )
    made = Retraining(model, cron)
    try:
        made.next(time.time())
    except CroniterBadDateError as error:
        raise UsageError(f"--retrain {model} has the schedule {cron!r}; legal: one that comes about.") from error
    if len(made.name(0)) > 100:
        raise UsageError(f"--retrain: copies of {model} would have names of more than 100 letters.")
    return made


class Schedules:
    """Has models retrained by the clock. One time that was missed while nobody ran is made up for, once."""

    def __init__(
        self,
        registries: Registries,
        declared: Iterable[Retraining],
        wall: Callable[[], float] = time.time,
        pauses_s: tuple[float, ...] = _PAUSES_S,
    ) -> None:
        self.declared = tuple(declared)
        self.sent = 0
        self.why = ""
        self._registries, self._wall, self._pauses_s = registries, wall, pauses_s

    async def run(self) -> None:
        """Until cancelled."""
        begun = self._wall()
        missed = await self._patiently(partial(self._missed, begun))
        for declared, due_s in missed:
            await self._patiently(partial(self.retrain, declared, due_s))
        due = {declared: declared.next(begun) for declared in self.declared}
        while True:
            for declared, due_s in sorted(due.items(), key=lambda item: (item[1], item[0].model)):
                if due_s <= self._wall():
                    await self._patiently(partial(self.retrain, declared, due_s))
                    due[declared] = declared.next(max(due_s, self._wall()))
            await asyncio.sleep(max(0.05, min(_LONGEST_NAP_S, min(due.values()) - self._wall())))

    def retrain(self, declared: Retraining, due_s: int) -> None:
        """Ask every shard for a copy, and retire the one before it unless that serves; blocks."""
        name = declared.name(due_s)
        wanted = []
        for shard, known in self._registries.now().items():
            if declared.model not in known["models"] or name in known["models"]:
                continue
            for old in _made(known, declared.model):
                if known["models"][old]["status"] in ("challenger", "retraining"):
                    command = _id("retire", shard, old, name)
                    wanted.append(Command(command, "retire", shard, _BY, old, f"{name} takes its place"))
            why = f"due by the schedule {declared.cron}"
            command = _id("retrain", shard, declared.model, due_s)
            wanted.append(Command(command, "retrain", shard, _BY, declared.model, why, name=name))
        if wanted:
            self._registries.send(wanted)
            self.sent += len(wanted)
            log.info("retraining %s as %s", declared.model, name)

    def _missed(self, now_s: float) -> list[tuple[Retraining, int]]:
        """What became due after a copy was made and before now, the latest of each."""
        out = []
        for declared in self.declared:
            due_s = declared.last(now_s)
            made = {name for known in self._registries.now().values() for name in _made(known, declared.model)}
            if made and max(made) < declared.name(due_s):
                out.append((declared, due_s))
        return out

    async def _patiently(self, function: Callable[[], Any]) -> Any:
        """Call it in a thread until it has worked."""
        attempt = 0
        while True:
            try:
                found = await asyncio.to_thread(function)
            except Exception as error:
                self.why = f"{type(error).__name__}: {error}"
                log.warning("schedule: %s", self.why)
                await asyncio.sleep(self._pauses_s[min(attempt, len(self._pauses_s) - 1)])
                attempt += 1
            else:
                self.why = ""
                return found


def _made(known: dict[str, Any], base: str) -> list[str]:
    """Copies that a schedule has made of a model."""
    entries = known["models"].items()
    return [n for n, e in entries if e["base"] == base and _STAMPED.fullmatch(n.removeprefix(base)) is not None]


def _id(kind: str, *what: object) -> str:
    told = "\x1f".join(map(str, what)).encode("utf-8", "surrogatepass")
    return f"{kind}-{blake2b(told, digest_size=12).hexdigest()}"
