"""``headrace tail``: what stands in a topic."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import click

from headrace.streams.commands.options import Context, Headrace, given, kafka_options, pipeline_argument
from headrace.streams.commands.output import escaped, json_line, json_text, say, warn
from headrace.streams.commands.records import decoder, plain
from headrace.streams.commands.topics import require
from headrace.streams.log import Record
from headrace.streams.pipeline import Pipeline
from headrace.streams.reading import every, last
from headrace.streams.status.moments import moment
from headrace.streams.topics import ROLES, names_of, topic_specs

__all__ = ["tail"]

_FOLLOW_S = 0.2
_COUNT = 10


@click.command(cls=Headrace)
@pipeline_argument
@click.argument("role", type=click.Choice(list(ROLES)), metavar="ROLE")
@click.option("--from-beginning", is_flag=True, help="The first records instead of the last: all, or -n of them.")
@click.option("-n", "--count", type=click.IntRange(min=0), metavar="N", help=f"How many; {_COUNT} by default.")
@click.option("-f", "--follow", is_flag=True, help="Go on with new records until Ctrl-C, or until there were -n.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@kafka_options
@click.pass_context
def tail(
    ctx: click.Context,
    pipeline: Pipeline,
    role: str,
    from_beginning: bool,
    count: int | None,
    follow: bool,
    as_json: bool,
) -> None:
    """Show committed records of the topic with this role, decoded.

    ROLE is events, labels, features, predictions, examples, evaluations, alerts, dead-letter, journal, state and so on
    (`headrace check` lists them with their topics). Without options: the last 10 records.
    """
    cluster = ctx.ensure_object(Context).cluster()
    require(cluster, pipeline, [role])
    name = names_of(pipeline)(role)
    partitions = next(spec.partitions for spec in topic_specs(pipeline) if spec.role == role)
    decode = decoder(pipeline, role)
    with contextlib.closing(cluster.reader()) as reader:
        if follow:
            records = _followed(reader, name, partitions, None if from_beginning else 0 if count else _COUNT)
        elif from_beginning:
            records = every(reader, name, partitions)
        else:
            records = iter(_last(reader, name, _ends(reader, name, partitions), _COUNT if count is None else count))
        wanted = count if follow or from_beginning or count is not None else _COUNT
        with contextlib.suppress(KeyboardInterrupt):
            silent = wanted != 0 and not as_json
            for record in islice(records, wanted):
                silent = False
                _print(record, decode, as_json)
            if silent:
                warn(f"Nothing is committed in {name} yet: look at `headrace status {given()}`.")


def _ends(reader: Any, topic: str, partitions: int) -> dict[int, int]:
    """Where each partition ends; a broker that is away is waited for."""
    found = reader.ends([(topic, partition) for partition in range(partitions)])
    return {partition: stable for (_, partition), (stable, _) in found.items()}


def _last(reader: Any, topic: str, ends: dict[int, int], count: int) -> list[Record]:
    found = [record for partition, end in ends.items() for record in last(reader, topic, partition, count, end)]
    found.sort(key=lambda record: (record.timestamp_ms, record.partition, record.offset))
    return found[-count:] if count else []


def _followed(reader: Any, topic: str, partitions: int, before: int | None) -> Iterator[Record]:
    """The last `before` records (None: all), then every new one, for ever; each once."""
    if before is None:
        places = {partition: reader.watermarks(topic, partition)[0] for partition in range(partitions)}
    else:
        places = _ends(reader, topic, partitions)
    if before:
        yield from _last(reader, topic, places, before)
    while True:
        for partition, end in _ends(reader, topic, partitions).items():
            place = places[partition]
            if place < end:
                yield from reader.read(topic, partition, place, end)
                places[partition] = end
        time.sleep(_FOLLOW_S)


def _print(record: Record, decode: Callable[[Record], Any], as_json: bool) -> None:
    value = decode(record)
    if as_json:
        json_line(plain(record, value))
        return
    at = moment(record.timestamp_ms)
    text = value if isinstance(value, str) else json_text(value)
    notes = " ".join(f"{name}={escaped(note, 200)}" for name, note in record.headers or [])
    say(f"{record.partition}:{record.offset} {at} {escaped(record.key, 60)} {text}{' ' + notes if notes else ''}")
