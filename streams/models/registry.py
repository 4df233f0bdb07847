"""The registry as its topic has it: for people and tools that look from outside, and those who want something of it."""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple, TypeVar

import msgspec

from headrace.processors.registry import fold, fresh
from headrace.schemas.records import Command, Fact
from headrace.streams.errors import UNREADABLE, Fault, Unreachable, UsageError
from headrace.streams.models.authority import sign
from headrace.streams.pipeline import Pipeline
from headrace.streams.topics import topic_name

__all__ = ["Shard", "answers", "commands", "facts", "readable", "send", "shards"]

_decode: Callable[[bytes], Command | Fact] = msgspec.json.Decoder(Command | Fact).decode
_encode = msgspec.json.Encoder().encode
_POLL_S = 0.1

_Record = TypeVar("_Record", bound=msgspec.Struct)


class Shard(NamedTuple):
    """A shard's registry: the fold of its facts, the facts, and how many records claim to be facts but do not fit."""

    number: int
    registry: dict[str, Any]
    facts: list[Fact]
    odd: int


def shards(pipeline: Pipeline, reader: Any) -> list[Shard]:
    """Every shard's registry as it stands now."""
    out = []
    for number in range(pipeline.partitions):
        registry, known, odd = fresh(), [], 0
        for _, fact in facts(pipeline, reader, number):
            try:
                fold(registry, fact)
            except ValueError:
                odd += 1
            else:
                known.append(fact)
        out.append(Shard(number, registry, known, odd))
    return out


def facts(pipeline: Pipeline, reader: Any, shard: int, start: int = 0) -> Iterator[tuple[int, Fact]]:
    """Committed facts of a shard from this offset on, each with the offset after it."""
    topic = topic_name(pipeline, "registry")
    start, end = max(start, reader.watermarks(topic, shard)[0]), reader.stable(topic, shard)
    for record in reader.read(topic, shard, start, end) if start < end else ():
        try:
            found = _decode(record.value or b"")
        except UNREADABLE:
            continue
        if isinstance(found, Fact):
            yield record.offset + 1, found


def commands(
    known: Iterable[Shard], kind: str, by: str, *, saw: int | None = None, id: str | None = None, **more: Any
) -> list[Command]:
    """One command for each of these shards, under one id; each names the version that is known, unless `saw` does."""
    name = id or uuid.uuid4().hex[:16]
    return [
        Command(name, kind, shard.number, by, saw=(shard.registry["version"] or None) if saw is None else saw, **more)
        for shard in known
    ]


def readable(record: _Record) -> _Record:
    """The record as whoever reads it decodes it; UsageError when nobody could."""
    try:
        return msgspec.json.decode(msgspec.json.encode(record), type=type(record))
    except UNREADABLE as error:
        raise UsageError(f"That cannot be written down: {error}.") from error


def send(pipeline: Pipeline, cluster: Any, wanted: Iterable[Command]) -> dict[int, int]:
    """Append these commands; returns the offset from which on each shard's answer can be looked for."""
    topic, reader = topic_name(pipeline, "registry"), cluster.reader()
    starts: dict[int, int] = {}
    failed: list[str] = []
    producer = cluster.plain_producer()

    def told(error: Any, _: Any) -> None:
        if error is not None:
            failed.append(str(error))

    try:
        for command in wanted:
            starts[command.shard] = reader.stable(topic, command.shard)
            key = None if command.model is None else command.model.encode()
            producer.produce(topic, _encode(sign(pipeline, command)), key, command.shard, on_delivery=told)
        left = producer.flush(30)
    finally:
        reader.close()
    if failed or left:
        raise Unreachable(f"The command could not be written to {topic}: {(failed or ['no broker answers'])[0]}.")
    return starts


def answers(
    pipeline: Pipeline,
    reader: Any,
    command_id: str,
    starts: dict[int, int],
    within_s: float,
    waiting: Callable[[float, int], None] = lambda seconds, left: None,
) -> dict[int, Fact]:
    """The fact that answers the command in each shard; a shard that has not answered in time is left out.

    `waiting` is called now and then with the seconds waited, and how many have not answered.
    """
    found: dict[int, Fact] = {}
    places = dict(starts)
    began = time.monotonic()
    while True:
        for shard in [shard for shard in places if shard not in found]:
            with contextlib.suppress(Fault):  # Kafka is away, and may be back in time: the command is written
                for place, fact in facts(pipeline, reader, shard, places[shard]):
                    places[shard] = place
                    if command_id in (fact.command, fact.evidence.get("command")):
                        found[shard] = fact
        waited = time.monotonic() - began
        if len(found) == len(starts) or waited >= within_s:
            return found
        waiting(waited, len(starts) - len(found))
        time.sleep(_POLL_S)
