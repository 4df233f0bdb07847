"""``headrace dead-letter``: what was refused, why, and once more."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from heapq import nlargest
from typing import Any, NamedTuple

import click

from headrace.streams.commands.options import (
    Commands,
    Context,
    Headrace,
    given,
    json_option,
    kafka_options,
    pipeline_argument,
)
from headrace.streams.commands.output import confirm, emit, escaped, progress, say, show, warn
from headrace.streams.commands.publish import Publisher
from headrace.streams.commands.topics import require
from headrace.streams.data import Outgoing
from headrace.streams.errors import UsageError
from headrace.streams.log import Record
from headrace.streams.pipeline import Pipeline
from headrace.streams.reading import every
from headrace.streams.topics import names_of

__all__ = ["dead_letter"]

_SAMPLES = 10
_NONE = "There are none."
_PLACE = re.compile(r"(?:([0-9]{1,10}):)?([0-9]{1,19})")


class _Letter(NamedTuple):
    """A dead letter: the record, and what its headers say."""

    record: Record
    headers: dict[str, str]

    @property
    def place(self) -> str:
        """Its place in the dead-letter topic."""
        return f"{self.record.partition}:{self.record.offset}"


class _Place(click.ParamType):
    name = "offset"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        place = _PLACE.fullmatch(str(value))
        if place is None:
            self.fail(f"{value!r} is no OFFSET or PARTITION:OFFSET", param, ctx)
        return int(place[1] or 0), int(place[2])


@click.group(cls=Commands, name="dead-letter")
def dead_letter() -> None:
    """Records that were refused: count them, look at them, publish them again."""


@dead_letter.command(name="list", cls=Headrace)
@pipeline_argument
@kafka_options
@json_option
@click.pass_context
def list_(ctx: click.Context, pipeline: Pipeline, json_to: str | None) -> None:
    """Count them by topic, stage and reason, each with the place of the first and the last."""
    found: dict[tuple[str, str, str], tuple[int, _Letter, _Letter]] = {}
    for letter in _letters(ctx, pipeline):
        key = (letter.headers.get("topic", "?"), letter.headers.get("stage", "?"), letter.headers.get("reason", "?"))
        n, first, last = found.get(key, (0, letter, letter))
        found[key] = n + 1, min(first, letter, key=_age), max(last, letter, key=_age)
    rows = [
        {"topic": t, "stage": s, "reason": r, "n": n, "first": first.place, "last": last.place}
        for (t, s, r), (n, first, last) in sorted(found.items())
    ]
    if emit(json_to, {"dead_letters": rows, "n": sum(row["n"] for row in rows)}):
        columns = ("topic", "stage", "reason", "n", "first", "last")
        show("", columns, [[row[name] for name in columns] for row in rows], _NONE)


@dead_letter.command(name="show", cls=Headrace)
@pipeline_argument
@click.option("--reason", metavar="R", help="Only those with this reason.")
@click.option(
    "-n", "--count", type=click.IntRange(min=1), default=_SAMPLES, show_default=True, metavar="N", help="How many."
)
@kafka_options
@json_option
@click.pass_context
def show_(ctx: click.Context, pipeline: Pipeline, reason: str | None, count: int, json_to: str | None) -> None:
    """Show the newest of them, with what was wrong; payloads are escaped and shortened."""
    letters = (letter for letter in _letters(ctx, pipeline) if reason in (None, letter.headers.get("reason")))
    newest = nlargest(count, letters, key=_age)[::-1]
    rows = [
        {
            "place": letter.place,
            "source": "/".join(letter.headers.get(name, "?") for name in ("topic", "partition", "offset")),
            "stage": letter.headers.get("stage", "?"),
            "reason": letter.headers.get("reason", "?"),
            "detail": letter.headers.get("detail", ""),
            "key": None if letter.record.key is None else escaped(letter.record.key),
            "value": escaped(letter.record.value),
        }
        for letter in newest
    ]
    if emit(json_to, {"dead_letters": rows}):
        show("", tuple(rows[0]) if rows else (), [list(row.values()) for row in rows], _NONE)


@dead_letter.command(cls=Headrace)
@pipeline_argument
@click.argument("offsets", nargs=-1, required=True, type=_Place(), metavar="OFFSET...")
@click.option("--yes", is_flag=True, help="Do not ask.")
@kafka_options
@json_option
@click.pass_context
def retry(
    ctx: click.Context, pipeline: Pipeline, offsets: tuple[tuple[int, int], ...], yes: bool, json_to: str | None
) -> None:
    """Publish the original key and bytes of these dead letters to the input topic and partition that they came from.

    OFFSET is as `show` prints it: PARTITION:OFFSET, or the offset alone in partition 0. An event that was refused by
    the champion was accepted under its id: within `duplicates_within` it counts as a duplicate.
    """
    chosen = _chosen(ctx, pipeline, offsets)
    inputs = {names_of(pipeline)(role) for role in ("events", "labels")}
    for letter in chosen:
        if letter.headers.get("topic") not in inputs:
            raise UsageError(
                f"{letter.place} came from {letter.headers.get('topic', '?')}, which is no input: only events and "
                "labels can be published again."
            )
        if "cut" in letter.headers:
            raise UsageError(
                f"{letter.place} was cut to what its topic takes: the whole record is in {letter.headers['topic']}/"
                f"{letter.headers['partition']} at offset {letter.headers['offset']}."
            )
    late = [letter.place for letter in chosen if letter.headers.get("stage") == "predict"]
    if late:
        warn(f"Accepted before, so they may count as duplicates: {', '.join(late)}.")
    if not yes:
        confirm(f"publish {len(chosen)} record{'s' * (len(chosen) != 1)} again")
    publisher = Publisher(ctx.ensure_object(Context).cluster())
    for letter in chosen:
        record = letter.record  # of the partition that it was read from, whatever partitioner chose that
        publisher.send(letter.headers["topic"], Outgoing(0, record.key, record.value), record.partition)
    publisher.flush()
    if emit(json_to, {"retried": [letter.place for letter in chosen]}):
        say(f"{len(chosen)} record{'s' * (len(chosen) != 1)} published again")


def _chosen(ctx: click.Context, pipeline: Pipeline, offsets: tuple[tuple[int, int], ...]) -> list[_Letter]:
    found = {(letter.record.partition, letter.record.offset): letter for letter in _letters(ctx, pipeline)}
    missing = [f"{partition}:{offset}" for partition, offset in offsets if (partition, offset) not in found]
    if missing:
        places = f"`headrace dead-letter show {given()}` prints their places"
        raise UsageError(f"No dead letter is at {', '.join(missing)}; {places}.")
    return [found[place] for place in dict.fromkeys(offsets)]


def _age(letter: _Letter) -> tuple[int, int, int]:
    """What sorts them from the oldest to the newest, whatever partition they are in."""
    return letter.record.timestamp_ms, letter.record.partition, letter.record.offset


def _letters(ctx: click.Context, pipeline: Pipeline) -> Iterator[_Letter]:
    cluster = ctx.ensure_object(Context).cluster()
    require(cluster, pipeline, ["dead-letter"])
    with contextlib.closing(cluster.reader()) as reader, progress("dead letters", None) as advance:
        for record in every(reader, names_of(pipeline)("dead-letter"), pipeline.partitions):
            advance(1)
            headers = {name: escaped(text, 300) for name, text in record.headers or []}
            yield _Letter(record, headers)
