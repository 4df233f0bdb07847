"""``headrace models P versions|rebuild|diff|export``: snapshots of the models, and the same made again from the log."""

from __future__ import annotations

import contextlib
import hashlib
import pickle
import re
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import click
import msgspec

from headrace.processors.compiled import compile_model
from headrace.streams.commands.options import (
    PIPELINE,
    Context,
    Headrace,
    given,
    json_option,
    kafka_options,
)
from headrace.streams.commands.output import emit, progress, say, show
from headrace.streams.commands.topics import require
from headrace.streams.errors import UsageError
from headrace.streams.identity.deepstack import on_deep_stack
from headrace.streams.identity.hashseed import fixed_hash_seed
from headrace.streams.kafka import Cluster
from headrace.streams.models.difference import compare_answers, difference
from headrace.streams.models.keys import signing_key, trusted_keys
from headrace.streams.models.snapshots import Header, Sealed, SnapshotError
from headrace.streams.models.versions import Published, Publisher, published
from headrace.streams.pipeline import Pipeline
from headrace.streams.replay.rebuild import SAMPLE, Rebuilt, Wanted, examples_of, rebuild
from headrace.streams.topics import names_of

__all__ = ["VERSION_COMMANDS"]

_NAMED = re.compile(r"(?P<name>[A-Za-z0-9._-]+)(/(?P<shard>\d+))?(@(?P<n>\d+))?")
_VERSION = "NAME[/SHARD][@N]"


class _Opened(NamedTuple):
    """What each of these commands needs."""

    pipeline: Pipeline
    cluster: Cluster
    codec: Sealed
    topics: Callable[[str], str]

    def versions(self, shard: int) -> dict[str, Published]:
        """What is published of a shard."""
        with contextlib.closing(self.cluster.reader()) as reader:
            return published(self.topics("models"), shard, reader)


def _open(ctx: click.Context, *roles: str) -> _Opened:
    fixed_hash_seed()
    context = ctx.ensure_object(Context)
    loaded: Pipeline = ctx.meta[PIPELINE]
    cluster = context.cluster()
    require(cluster, loaded, {"models", *roles})
    return _Opened(loaded, cluster, Sealed(signing_key(), trusted_keys(), loaded.classes), names_of(loaded))


def _find(opened: _Opened, text: str) -> tuple[Wanted, Published | None]:
    """The version that `text` names: the latest published one where it names none."""
    match = _NAMED.fullmatch(text)
    shard = int(match["shard"] or 0) if match else 0
    found = opened.versions(shard).values() if shard < opened.pipeline.partitions else ()
    known = dict.fromkeys([*opened.pipeline.models, *(one.name for one in found)])
    if match is None or match["name"] not in known or shard >= opened.pipeline.partitions:
        raise UsageError(
            f"{text!r} names no version: give {_VERSION}, with a model of {', '.join(known)} and a "
            f"shard below {opened.pipeline.partitions}."
        )
    there = {one.n: one for one in found if one.name == match["name"]}
    if match["n"] is None and not there:
        raise UsageError(f"No version of {text} is published: say which with @N.")
    n = max(there) if match["n"] is None else int(match["n"])
    one = there.get(n)
    wanted = Wanted(match["name"], shard, n) if one is None else Wanted.of(one, opened.codec)
    header = next((h for other in there.values() if (h := _header(other, opened.codec)) is not None), None)
    if wanted.header is None and header is not None:  # where it begins, another version of the same model says
        wanted.since, wanted.base = header.since, header.at.get("base", "")
    return wanted, one


def _header(one: Published, codec: Sealed) -> Header | None:
    try:
        return one.verified(codec.trusted)
    except SnapshotError:
        return None


@click.command(name="versions", cls=Headrace)
@kafka_options
@json_option
@click.pass_context
def versions(ctx: click.Context, json_to: str | None) -> None:
    """List the published versions, each verified; exit 1 when one is refused."""
    opened = _open(ctx)
    rows = []
    for shard in range(opened.pipeline.partitions):
        for one in opened.versions(shard).values():
            try:
                header, refused = one.verified(opened.codec.trusted), None
            except SnapshotError as error:
                header, refused = None, str(error)
            told = {} if header is None else msgspec.to_builtins(header)
            rows.append(
                {"version": one.version, "bytes": one.size, "chunks": len(one.pieces), "refused": refused, **told}
            )
    if emit(json_to, {"versions": rows}):
        columns = ("version", "bytes", "chunks", "state", "spec", "code", "refused")
        cells = [
            [str(row.get(name) or "")[:16] if name in columns[3:6] else row[name] for name in columns] for row in rows
        ]
        show("", columns, cells)
    if any(row["refused"] for row in rows):
        ctx.exit(1)


@click.command(name="rebuild", cls=Headrace)
@click.argument("version", metavar=_VERSION)
@click.option("--replay", is_flag=True, help="Replay everything, rather than fold the examples.")
@click.option("--publish", is_flag=True, help="Publish the rebuilt model where the published one is refused or absent.")
@kafka_options
@json_option
@click.pass_context
def rebuild_(ctx: click.Context, version: str, replay: bool, publish: bool, json_to: str | None) -> None:
    """Make a version again from the log, and compare it with its snapshot: state, and predictions on what followed.

    Exit 1 when it differs, when its state was not reached, or when the snapshot is refused: then with the reason, and
    it is rebuilt all the same.
    """
    opened = _open(ctx, "examples", "journal", "savepoints", "events", "labels")
    wanted, _ = _find(opened, version)
    kept: list[Any] = []
    with progress("rebuild", None) as advance:
        (found,) = rebuild(
            opened.pipeline,
            [wanted],
            opened.cluster.reader,
            opened.topics,
            codec=opened.codec,
            replay=replay,
            keep=lambda _, model: kept.append(model),
            progress=advance,
        )
    done = publish and wanted.header is None and bool(kept)
    if done:
        publisher = Publisher(opened.pipeline, opened.cluster, opened.topics, opened.codec)
        publisher.restore(wanted.name, wanted.shard, wanted.n, wanted.since, wanted.base or wanted.name, kept[-1])
    if emit(json_to, msgspec.to_builtins(found) | {"same": found.same, "republished": done}):
        _tell(found)
        if done:
            say(f"{found.version} is published anew, signed with this user's key.")
    if found.same is False or not found.state:
        ctx.exit(1)


def _tell(found: Rebuilt) -> None:
    way = f"{found.examples:,} examples" if found.way == "examples" else "everything replayed"
    say(f"{found.version} rebuilt from {way}: state {found.state or 'not reached'}")
    if found.refused is not None:
        say(f"The published snapshot is refused: {found.refused}.")
    elif found.published is None:
        say("No snapshot of it is published, so there is nothing to compare with.")
    elif not found.state:
        say(f"Published state {found.published}: not compared.")
    else:
        say(f"Published state {found.published}: {'the same' if found.state == found.published else 'ANOTHER'}.")
    if found.asked:
        say(f"{found.asked:,} predictions on the following examples: {found.different:,} different.")
    if found.examples_differ:
        say(f"{found.examples_differ:,} of the published examples are not what the log makes.")
    if found.note:
        say(found.note[0].upper() + found.note[1:] + ".")


@click.command(name="diff", cls=Headrace)
@click.argument("a", metavar="A")
@click.argument("b", metavar="B")
@kafka_options
@json_option
@click.pass_context
def diff(ctx: click.Context, a: str, b: str, json_to: str | None) -> None:
    """Say what two published versions do not share: parameters and tree nodes, sizes, answers to the last examples."""
    opened = _open(ctx, "examples")
    one, other = (_opened(opened, text) for text in (a, b))
    with contextlib.closing(opened.cluster.reader()) as reader:
        known = examples_of(opened.pipeline, one.shard, reader, opened.topics)
        last = deque((x for _, x, _, _ in known if x is not None), SAMPLE)
    found = difference(one.model, other.model)
    asked = [compile_model(opened.pipeline.task, version.model, None, ("model",)).predict for version in (one, other)]
    answers = compare_answers(asked[0], asked[1], last)
    value = {
        "a": one.version,
        "b": other.version,
        **msgspec.to_builtins(found),
        "answers": msgspec.to_builtins(answers),
    }
    if emit(json_to, value):
        rows = [
            ("state", found.a_state[:16], found.b_state[:16]),
            ("pickled bytes", found.a_bytes, found.b_bytes),
            ("values", found.a_leaves, found.b_leaves),
        ]
        show("", ("", one.version, other.version), rows)
        if found.different:
            leaves = [(leaf.path, leaf.a, leaf.b, leaf.by) for leaf in found.first]
            show(f"{found.different:,} values differ", ("where", one.version, other.version, "by"), leaves)
        say(
            f"{answers.asked:,} answers: largest difference {answers.largest:.6g}, mean {answers.mean:.6g}, "
            f"another label {answers.other_label:,} times"
        )


@click.command(name="export", cls=Headrace)
@click.argument("version", metavar=_VERSION)
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE")
@click.option("--pickle", "plain", is_flag=True, help="A plain pickle of the River model, for use without Headrace.")
@kafka_options
@json_option
@click.pass_context
def export(ctx: click.Context, version: str, file: Path, plain: bool, json_to: str | None) -> None:
    """Write a published version to a file: the signed snapshot as it is, or with --pickle the River model alone."""
    opened = _open(ctx)
    wanted, one = _find(opened, version)
    model = _usable(wanted)
    assert one is not None
    data = on_deep_stack(lambda: pickle.dumps(model, protocol=5)) if plain else one.data()
    try:
        file.write_bytes(data)
    except OSError as error:
        raise UsageError(f"{file} cannot be written: {error.strerror}.") from error
    what = "pickle" if plain else "signed snapshot"
    value = {"version": wanted.version, "file": str(file), "what": what, "bytes": len(data)}
    if emit(json_to, value | {"sha256": hashlib.sha256(data).hexdigest()}):
        say(f"{wanted.version}: {what}, {len(data):,} bytes in {file}")
        if plain:
            say("Reading a pickle runs it, and nothing in it says who made it: load only files that you wrote.")


def _opened(opened: _Opened, text: str) -> Wanted:
    wanted, _ = _find(opened, text)
    _usable(wanted)
    return wanted


def _usable(wanted: Wanted) -> Any:
    """The model of a version that is published and not refused."""
    if wanted.model is None:
        why = f"is refused ({wanted.refused})" if wanted.refused else "is not published"
        rebuild = f"`headrace models {given()} rebuild {wanted.version} --publish`"
        raise UsageError(f"The snapshot of {wanted.version} {why}: see {rebuild}.")
    return wanted.model


VERSION_COMMANDS = (versions, rebuild_, diff, export)
