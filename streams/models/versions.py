"""Versions: snapshots of the models on `P.models`, published at checkpoints, beside the cycle.

A version is a model as it was after n examples: `name/shard@n`. It is the fold of the examples, so a snapshot is never
the truth, only a shortcut: whatever is wrong with one, the model is rebuilt from the log (`rebuild`). No worker reads
a snapshot back; people's commands do. What is published is not part of any digest, and no output depends on it.

A snapshot is cut into chunks with the key `name/shard@n#chunk`; all chunks of a version, and the tombstones of those
that no longer stay, are one transaction. See `Publisher.publish` for what a death after each step leaves behind.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import msgspec

from headrace.schemas.records import Alert, version_of
from headrace.streams import failpoints
from headrace.streams.errors import UNREADABLE, HeadraceError
from headrace.streams.identity.hashing import code_revision, environment_hash, state_hash
from headrace.streams.leftovers import beside, follow
from headrace.streams.models.keys import VerifyKey
from headrace.streams.models.snapshots import (
    Header,
    Sealed,
    SnapshotError,
    chunk,
    join_chunks,
    open_sealed,
    relabelled,
    seal,
    verified,
)
from headrace.streams.pipeline import Pipeline
from headrace.streams.task import Task, Version
from headrace.streams.topics import side_id

__all__ = ["Frozen", "Published", "Publisher", "alert_of", "published"]

log = logging.getLogger("headrace.versions")

_KEY: Final = re.compile(r"(?P<name>[A-Za-z0-9._-]+)/(?P<shard>\d{1,10})@(?P<n>\d{1,18})#(?P<chunk>\d{1,10})", re.ASCII)
_CROWNED = ("promoted", "rolled_back")
_json = msgspec.json.Encoder().encode


class Frozen(NamedTuple):
    """A model as a checkpoint has it: what it learned (all but the first `since` of `n`), where, and its snapshot."""

    name: str
    n: int
    since: int
    at: dict[str, Any]
    sealed: bytes


@dataclass(slots=True)
class Published:
    """A version as it lies on the topic: its chunks as they came, nothing verified yet."""

    name: str
    shard: int
    n: int
    pieces: dict[int, bytes] = field(default_factory=dict)
    offsets: list[int] = field(default_factory=list)

    @property
    def version(self) -> str:
        """What predictions are stamped with: name/shard@n."""
        return version_of(self.name, self.shard, self.n)

    @property
    def size(self) -> int:
        """Bytes of its chunks."""
        return sum(map(len, self.pieces.values()))

    def data(self) -> bytes:
        """The whole snapshot; raises `SnapshotError` unless all chunks are there and belong together."""
        return join_chunks([self.pieces[i] for i in sorted(self.pieces)])

    def verified(self, trusted: Mapping[bytes, VerifyKey]) -> Header:
        """Its header, once all of it is what a trusted key signed for this very version."""
        header = verified(self.data(), trusted=trusted)
        if header.version != self.version or header.n != self.n:
            raise SnapshotError("wrong_name", f"{header.version!r} under the key of {self.version!r}")
        return header

    def open(self, codec: Sealed) -> tuple[Any, Header]:
        """Its model and header; raises `SnapshotError`."""
        self.verified(codec.trusted)
        model, header = open_sealed(self.data(), expect_name=self.name, trusted=codec.trusted, extra=codec.extra)
        if state_hash(model) != header.state:
            raise SnapshotError("corrupt", f"{self.version}: the model has another state than its header says")
        return model, header


def published(topic: str, shard: int, reader: Any) -> dict[str, Published]:
    """All versions on the topic, by name/shard@n, in the order in which they were first published.

    A version that was published twice (by a successor, say) is the same model; the last chunks are taken, and what an
    earlier and longer publication left behind them is not.
    """
    found: dict[str, Published] = {}
    for record in reader.read(topic, shard):
        match = _KEY.fullmatch((record.key or b"").decode(errors="replace"))
        if match is None:
            continue
        version, number = version_of(match["name"], int(match["shard"]), int(match["n"])), int(match["chunk"])
        if record.value is None:
            if version in found:
                found[version].pieces.pop(number, None)
            continue
        one = found.setdefault(version, Published(match["name"], int(match["shard"]), int(match["n"])))
        if number == 0:
            one.pieces.clear()
            one.offsets.clear()
        one.pieces[number] = record.value
        one.offsets.append(record.offset)
    return {version: one for version, one in found.items() if one.pieces}


class Publisher:
    """Publishes versions for one worker.

    `due` and `frozen` are asked from the cycle and cost nothing between checkpoints; `publish` runs beside it.
    """

    def __init__(self, pipeline: Pipeline, cluster: Any, topics: Callable[[str], str], codec: Sealed) -> None:
        self._pipeline, self._cluster, self._topics, self._codec = pipeline, cluster, topics, codec
        self._policy = pipeline.versions
        self._spec = Version.of(pipeline).hash
        self._code = code_revision(pipeline.folder)
        self._environment = environment_hash()
        self._seen: dict[int, tuple[int, int]] = {}
        self._frozen: dict[int, tuple[int, int]] = {}
        self._busy: set[int] = set()
        self._producers: dict[int, Any] = {}
        self._told: set[str] = set()

    def due(self, task: Task) -> bool:
        """Whether the checkpoint that begins now should be followed by versions."""
        if not task.group.back or not self._policy.every or task.shard in self._busy:
            return False
        n, crowned = self._progress(task)
        last_n, last_crowned = self._seen.get(task.shard, (0, 0))
        return n > last_n and (n >= last_n + self._policy.every or crowned != last_crowned or not last_n)

    def frozen(self, task: Task) -> list[Frozen]:
        """The models as they stand; their snapshots are still to be put in, from the checkpoint."""
        self._frozen[task.shard] = self._progress(task)
        at = {
            "seq": task.seq,
            "epoch": task.epoch,
            "positions": {source.topic: p for source, p in zip(task.chain.sources, task.positions, strict=True)},
            "until_ms": task.chain.context.progress[1],
        }
        bases = dict(task.chain.stores.states["chain"]["retrained"].value)
        return [
            Frozen(name, n, since, at | {"base": bases.get(name, name)}, b"") for name, n, since in task.chain.learned()
        ]

    def begin(self, shard: int) -> None:
        """The checkpoint is whole: `publish` follows. Until it has ended, no other is due."""
        self._seen[shard] = self._frozen.pop(shard)
        self._busy.add(shard)

    def publish(self, group: str, shard: int, models: list[Frozen]) -> None:
        """Publish those of these that are due; trouble is only reported, as a version can always be rebuilt.

        1. fence      a producer under the id of this shard, new unless the last one did well: nobody who had it before
                      can commit any more, and we cannot once somebody else has it
        2. read       what is published, and which versions were promoted
        3. begin      the transaction
        4. chunks     of the new versions, and tombstones of those that no longer stay
        5. commit

        A death up to 4 leaves an open transaction, which the next publisher's 1 aborts: nothing of it is ever read. A
        zombie that goes on after somebody else's 1 cannot commit; before it, what it publishes is the same model.
        """
        reader, producer = self._cluster.reader(), self._producers.pop(shard, None)
        try:
            if producer is None:
                places = [(self._topics(role), shard) for role in ("models", "alerts")]
                producer, _ = follow(self._cluster, reader, side_id(self._pipeline.name, "models", shard), places)
            failpoints.hit("version.fenced")
            self._publish(shard, models, reader, producer)
            if not producer.suspicious:
                producer, self._producers[shard] = None, producer
        except HeadraceError as error:
            log.warning("no versions of %s/%s: %s", group, shard, error)
        finally:
            self._busy.discard(shard)
            reader.close()
            if producer is not None:
                producer.drop()

    def close(self) -> None:
        """Release the producers, but for those that `publish` has now."""
        for shard in list(self._producers):
            if (producer := self._producers.pop(shard, None)) is not None:
                producer.drop()

    def restore(self, name: str, shard: int, n: int, since: int, base: str, model: Any) -> None:
        """Publish a version that was rebuilt from the log, in place of one that is refused or absent."""
        sealed = seal(
            model,
            name=name,
            version=version_of(name, shard, n),
            n=n,
            since=since,
            at={"base": base},
            state=state_hash(model),
            spec=self._spec,
            code=self._code,
            environment=self._environment,
            key=self._codec.key,
        )
        topic = self._topics("models")
        with beside(self._cluster, side_id(self._pipeline.name, "models", shard), [(topic, shard)]) as (_, producer):
            producer.begin()
            for i, piece in enumerate(chunk(sealed)):
                key = f"{version_of(name, shard, n)}#{i}".encode()
                producer.send(topic, shard, key, piece)
            producer.commit()

    def alert(self, group: str, shard: int, alert: Alert) -> None:
        """Publish an alert that no replay makes, once in this process."""
        if alert.alert_id in self._told:
            return
        self._told.add(alert.alert_id)
        place = self._topics("alerts"), shard
        try:
            with beside(self._cluster, side_id(group, "alerts", shard), [place]) as (_, producer):
                producer.begin()
                self._send_alert(producer, shard, alert)
                producer.commit()
        except HeadraceError as error:
            log.warning("an alert could not be published (%s): %s", error, alert.message)

    # -- one publication -----------------------------------------------------------------------------------------

    def _publish(self, shard: int, models: list[Frozen], reader: Any, producer: Any) -> None:
        topic = self._topics("models")
        there = published(topic, shard, reader)
        crowned = self._crowned(shard, reader)
        refused = {version: alert for version, one in there.items() if (alert := self._refused(one, models[0].at))}
        sound = [one for version, one in there.items() if version not in refused and one.shard == shard]
        due = [model for model in models if self._is_due(model, sound, crowned)]
        new = {version_of(m.name, shard, m.n): (m, chunk(self._sealed(m, shard))) for m in due}
        stay = self._staying([*sound, *(Published(m.name, shard, m.n) for m, _ in new.values())], crowned)
        gone = [one for one in sound if one.version not in stay]
        untold = [alert for alert in refused.values() if alert.alert_id not in self._told]
        if not (new or gone or untold):
            return
        producer.begin()
        failpoints.hit("version.begun")
        for version, (_, pieces) in new.items():
            for i, piece in enumerate(pieces):
                producer.send(topic, shard, f"{version}#{i}".encode(), piece)
                failpoints.hit("version.chunk")
        for one in gone:
            for i in one.pieces:
                producer.send(topic, shard, f"{one.version}#{i}".encode(), None)
        for alert in untold:
            self._told.add(alert.alert_id)
            self._send_alert(producer, shard, alert)
        failpoints.hit("version.sent")
        producer.commit()
        failpoints.hit("version.done")
        if new:
            log.info("published %s", ", ".join(new))

    def _sealed(self, model: Frozen, shard: int) -> bytes:
        """The snapshot as it is published, made of the one in the checkpoint: it is opened once, and surely opens."""
        codec, inside = self._codec, f"models.{model.name}"
        opened, _ = open_sealed(model.sealed, expect_name=inside, trusted=codec.trusted, extra=codec.extra)
        return relabelled(
            model.sealed,
            trusted=codec.trusted,
            key=codec.key,
            name=model.name,
            version=version_of(model.name, shard, model.n),
            n=model.n,
            since=model.since,
            at=model.at,
            state=state_hash(opened),
            spec=self._spec,
            code=self._code,
            environment=self._environment,
        )

    def _is_due(self, model: Frozen, sound: Iterable[Published], crowned: dict[str, list[int]]) -> bool:
        last = max((one.n for one in sound if one.name == model.name), default=0)
        promoted = any(last < n <= model.n for n in crowned.get(model.name, ()))
        return model.n > last and (model.n >= last + self._policy.every or promoted or not last)

    def _staying(self, versions: Iterable[Published], crowned: dict[str, list[int]]) -> set[str]:
        """The newest of each model, and the first after each promotion."""
        by_name: dict[str, list[Published]] = {}
        for one in sorted(versions, key=lambda one: one.n):
            by_name.setdefault(one.name, []).append(one)
        stay: set[str] = set()
        for name, known in by_name.items():
            stay.update(one.version for one in known[-self._policy.keep :])
            for n in crowned.get(name, ()):
                stay.update(one.version for one in [one for one in known if one.n >= n][:1])
        return stay

    def _crowned(self, shard: int, reader: Any) -> dict[str, list[int]]:
        """How many examples each model had learned when it was made the champion, as the registry's facts say."""
        found: dict[str, list[int]] = {}
        for record in reader.read(self._topics("registry"), shard):
            try:
                fact = msgspec.json.decode(record.value or b"")
            except UNREADABLE:
                continue
            if isinstance(fact, dict) and fact.get("kind") in _CROWNED and type(fact.get("n")) is int:
                found.setdefault(str(fact.get("model")), []).append(fact["n"])
        return found

    def _refused(self, one: Published, at: dict[str, Any]) -> Alert | None:
        """What is to be told of a version that is not what was signed; None if it is.

        Such a one neither counts nor goes: else whoever may write to the topic could have no version published any more
        by naming one far ahead, and the others taken away.
        """
        try:
            one.verified(self._codec.trusted)
        except SnapshotError as error:
            place = (self._topics("models"), one.shard, one.offsets[0], one.offsets[-1])
            return alert_of(one.version, str(error), place, at["until_ms"] or 0)
        return None

    def _send_alert(self, producer: Any, shard: int, alert: Alert) -> None:
        key = alert.alert_id.encode()
        producer.send(self._topics("alerts"), shard, key, _json(alert), [("stage", b"operations")])

    @staticmethod
    def _progress(task: Task) -> tuple[int, int]:
        """Examples learned, and how often the champion has changed."""
        counts = task.chain.counts
        return task.chain.context.progress[0], sum(counts.get(f"facts.{kind}", 0) for kind in _CROWNED)


def alert_of(what: str, why: str, place: tuple[str, int, int, int], time_ms: int) -> Alert:
    """The alert that a snapshot was refused; `place` is topic, partition, first and last offset."""
    identity = hashlib.blake2b(f"{what} {why} {place}".encode(), digest_size=16).hexdigest()
    return Alert(
        alert_id=identity,
        kind="snapshot_refused",
        signal=f"model:{what}",
        severity="critical",
        status="opened",
        message=f"The snapshot of {what} is refused ({why}); the model itself is rebuilt from the log.",
        detector="signature",
        statistic={},
        strength=1.0,
        n=place[3] - place[2] + 1,
        topic=place[0],
        partition=place[1],
        first_offset=place[2],
        last_offset=place[3],
        opened_ms=time_ms,
        time_ms=time_ms,
        findings=1,
        examples=[],
    )
