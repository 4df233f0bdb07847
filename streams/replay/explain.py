"""Explain: one event's way from its raw record to the first version that learned from it, made again and compared.

The events asked for are followed through one replay (`recompute`): what was read, what was made of it, in which state
the model was that answered, and what became of the label. Each record made is compared with the published one, byte for
byte. The replay begins at the newest savepoint before the events' predictions, where they have one.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Iterable
from operator import attrgetter, itemgetter
from typing import Any

import msgspec

from headrace.processors.join import EXPIRED
from headrace.schemas.faults import RANGES
from headrace.schemas.records import Input, Prediction
from headrace.schemas.wire import BadRecord
from headrace.streams.errors import Lost, UsageError
from headrace.streams.models.snapshots import SnapshotError
from headrace.streams.pipeline import Pipeline
from headrace.streams.replay.near import find
from headrace.streams.replay.recompute import Pair, Recomputation, Step, recomputations
from headrace.streams.replay.story import Compared, Explained, Learned, RawRecord
from headrace.streams.savepoints import Savepoint
from headrace.streams.stages.context import Output
from headrace.streams.stores import ObjectCodec
from headrace.streams.topology import Group

__all__ = ["event_id_of", "explain"]

_LAST = 5
_UNREAD = "not predicted yet: the stages that predict have not read it"
_REFUSED = ("dead letter of validate", "dead letter of featurize")
_UNLEARNED = "dead letter of train"  # by a model: it is an example nevertheless
_BEYOND = "what came of it is not among what was replayed"


def event_id_of(pipeline: Pipeline, text: str) -> Any:
    """An event id as it stands in records; UsageError if it cannot be one."""
    if pipeline.event_schema.field(pipeline.events.id).kind not in RANGES:
        return text
    try:
        return int(text)
    except ValueError as error:
        raise UsageError(f"{text!r} is no event id: {pipeline.events.id} is a whole number.") from error


def explain(
    pipeline: Pipeline,
    event_ids: Iterable[Any],
    new_reader: Callable[[], Any],
    topics: Callable[[str], str],
    *,
    codec: ObjectCodec,
    whole: bool = False,
    progress: Callable[[int], None] = lambda done: None,
) -> dict[Any, Explained]:
    """Explain these events in one replay; it ends as soon as there is nothing more to tell of any of them.

    It begins at savepoints shortly before them, in their partitions, and is repeated over everything where those do not
    do or something differs. With `whole` it is over everything at once: so is found what came of an id before, and what
    became of labels that went to another partition.
    """
    ids = list(dict.fromkeys(event_ids))

    def follow(begins: dict[int, dict[Group, Savepoint]] | None) -> dict[Any, Explained] | None:
        made = recomputations(pipeline, new_reader, topics, codec, begins)
        return _follow(pipeline, ids, made, topics, progress, whole=begins is None)

    if not whole:
        with contextlib.suppress(SnapshotError, Lost):
            begins = find(pipeline, ids, new_reader, topics, lambda: progress(0))
            found = None if begins is None else follow(begins)
            if found is not None:
                return found
    return follow(None) or {}


def _follow(
    pipeline: Pipeline,
    event_ids: list[Any],
    made: Iterable[Recomputation],
    topics: Callable[[str], str],
    progress: Callable[[int], None],
    *,
    whole: bool,
) -> dict[Any, Explained] | None:
    """Follow the events through these tasks; None where these are not `whole`, and more is to be found out."""
    wanted = {event_id: Explained(event_id, whole=whole) for event_id in event_ids}
    for each in made:
        if not whole and each.knows(event_ids):
            return None
        if each.task.group.front or each.task.group.back:
            _Following(pipeline, wanted, each, topics).run(progress)
    if not whole and any(explained.different or not explained.events for explained in wanted.values()):
        return None
    for explained in wanted.values():
        if explained.features is not None and (explained.status, explained.why) == ("unknown", ""):
            explained.status, explained.why = "pending", _UNREAD  # no group that predicts has ever run
    return wanted


class _Following:
    """The events asked for, followed through one task."""

    def __init__(
        self, pipeline: Pipeline, wanted: dict[Any, Explained], made: Recomputation, topics: Callable[[str], str]
    ) -> None:
        self._pipeline, self._wanted, self._made, self._topics = pipeline, wanted, made, topics
        chain = made.task.chain
        self._features, self._examples = chain.features_wire.decode, chain.examples_wire.decode
        self._prediction = msgspec.json.Decoder(Prediction).decode
        self._places: dict[tuple[str, int, int], tuple[Explained, RawRecord | None]] = {}
        self._last: deque[dict[str, Any]] = deque(maxlen=_LAST)
        self._unanswered: list[tuple[Explained, int]] = []
        self._here: set[Any] = set()

    def run(self, progress: Callable[[int], None]) -> None:
        """Follow them to the end of the journal, or of their stories."""
        group = self._made.task.group
        covered: dict[str, list[int]] = {}
        roles = group.inputs
        for step in self._made:
            for role, start, end in zip(roles, step.entry.starts, step.entry.ends, strict=True):
                span = covered.setdefault(f"{self._topics(role)}/{self._made.task.shard}", [start, end])
                span[1] = end
            touched = self._inputs(step, roles)
            for pair in step.pairs:
                touched |= self._output(pair)
            if not step.sound:
                self._unsound(step, touched)
            progress(len(step.batch))
            if self._told():
                break
        for explained in self._wanted.values():
            explained.covered |= covered
            explained.begun = explained.begun or self._made.begun
            explained.ended = explained.ended or self._made.ended
        if group.back:
            self._conclude()

    # -- what was read -------------------------------------------------------------------------------------------

    def _inputs(self, step: Step, roles: tuple[str, ...]) -> set[Any]:
        p, touched = self._pipeline, set()
        id_of: dict[str, Callable[[Any], Any]] = {
            "events": attrgetter(p.events.id),
            "labels": attrgetter(p.labels.id),
            "features": itemgetter("event_id"),
        }
        for rank, item in step.batch:
            role, bad = roles[rank], isinstance(item.payload, BadRecord)
            if role not in id_of or (bad and role == "features"):
                continue
            event_id = _id_in(item.value, (p.labels if role == "labels" else p.events).id) if bad else None
            explained = self._wanted.get(event_id if bad else id_of[role](item.payload))
            if explained is None:
                continue
            touched.add(explained.event_id)
            if role != "labels" and not bad:
                self._here.add(explained.event_id)
            place = at = (self._topics(role), item.partition, item.offset)
            if role == "features":  # a dead letter of them is about the event that they were made of
                at = (self._topics("events"), item.payload["partition"], item.payload["offset"])
            known = explained.labels if role == "labels" else explained.events
            record = next((r for r in known if (r.topic, r.partition, r.offset) == at), None)
            if record is None and role != "features":  # a cut chain reads labels twice
                record = RawRecord(*place, item.key, item.value, item.time_ms, y=self._y(role, item))
                known.append(record)
            self._places[place] = explained, record
        return touched

    def _y(self, role: str, item: Input) -> Any:
        if role != "labels":
            return None
        try:
            return self._pipeline.legal_label(self._pipeline.label_of(item.payload))
        except Exception:
            return None  # a dead letter says why

    # -- what was made -------------------------------------------------------------------------------------------

    def _output(self, pair: Pair) -> set[Any]:
        """Take in one pair; returns the id of the event that it is about, if that was asked for."""
        take = _TAKES.get(pair.role)
        if take is None or pair.made is None:
            return set()
        explained = take(self, pair.made)
        if explained is None:
            return set()
        found = pair.found
        explained.compared.append(
            Compared(self._topics(pair.role), None if found is None else found.offset, pair.difference)
        )
        explained.different += pair.difference is not None
        return {explained.event_id}

    def _featurized(self, made: Output) -> Explained | None:
        record = self._features(made[2])
        explained = self._wanted.get(record["event_id"])
        if explained is not None:
            explained.features = record["features"]
            self._became("events", record, "features")
        return explained

    def _predicted(self, made: Output) -> Explained | None:
        value = made[2] or b""
        record = self._prediction(value)
        for waiting, _ in self._unanswered:
            waiting.first = {"version": record.model, "event_id": record.event_id, "offset": record.offset}
        self._unanswered.clear()
        explained = self._wanted.get(record.event_id)
        if explained is not None:
            explained.prediction = msgspec.json.decode(value)
            n = int(record.model.rpartition("@")[2])
            explained.learned = Learned(record.model, n, record.learned_until_ms, list(self._last))
        return explained

    def _learned(self, made: Output) -> Explained | None:
        record = self._examples(made[2])
        self._last.append({name: record[name] for name in ("n", "event_id", "label", "label_time_ms")})
        explained = self._wanted.get(record["event_id"])
        if explained is not None:
            explained.example = record
            self._unanswered.append((explained, record["n"]))
        return explained

    def _refused(self, made: Output) -> Explained | None:
        headers = {name: text.decode(errors="replace") for name, text in made[3] or []}
        place = (headers["topic"], int(headers["partition"]), int(headers["offset"]))
        explained, record = self._places.get(place, (None, None))
        if explained is None:
            return None
        said = f"dead letter of {headers['stage']}: {headers['reason']} ({headers['detail']})"
        learned = said.startswith(_UNLEARNED)
        if record is not None:
            record.became = _also(record.became, said) if learned else said
        if not learned and (record is None or record.topic == self._topics("events")):
            explained.status, explained.why = "dead letter", said
        return explained

    def _became(self, role: str, record: dict[str, Any], what: str) -> None:
        _, raw = self._places.get((self._topics(role), record["partition"], record["offset"]), (None, None))
        if raw is not None:
            raw.became = what

    def _unsound(self, step: Step, touched: set[Any]) -> None:
        """The journal says other bytes than came out: that is about every event of the batch."""
        for event_id in touched:
            explained = self._wanted[event_id]
            what = f"record {step.entry.seq} of {self._made.name} says other bytes"
            explained.compared.append(Compared(self._topics("journal"), None, what))
            explained.different += 1

    # -- what came of it -----------------------------------------------------------------------------------------

    def _told(self) -> bool:
        """Whether nothing more can be told of any event by going on."""
        if not self._made.task.group.back:
            return all(explained.features is not None for explained in self._wanted.values())
        return all(explained.first is not None for explained in self._wanted.values())

    def _conclude(self) -> None:
        """Say how each story stands now that the replay is over."""
        task, live_from_ms = self._made.task, self._pipeline.live_from_ms
        for explained in self._wanted.values():
            if explained.why.startswith(_REFUSED) and any(not r.became.startswith(_REFUSED) for r in explained.events):
                explained.status, explained.why = "unknown", ""  # the same id came once more, and was taken
            if not explained.events or explained.events[0].partition != task.shard:
                if explained.labels and not explained.events:
                    explained.why = "there are labels for it, but no event"
                self._labels(explained)
                continue
            if explained.example is not None:
                explained.status = "labelled" if self._labels(explained) else "expired"
                if explained.status == "expired":
                    explained.why = f"no label in time: it counts as {explained.example['label']!r}"
            elif explained.status != "dead letter":
                explained.status, explained.why = self._waits(explained)
                self._labels(explained)
            else:
                self._labels(explained)
            self._events(explained)
            history = live_from_ms is not None and explained.events[0].time_ms < live_from_ms
            if history and explained.status != "dead letter":
                explained.why = explained.why or "no prediction of it is published: it is from before live_from"

    def _waits(self, explained: Explained) -> tuple[str, str]:
        """How an event stands that was not refused and has no example, and why."""
        task, event_id = self._made.task, explained.event_id
        pending, done = (task.chain.stores.states["join"][name] for name in ("pending", "done"))
        known = done.get(event_id)
        if pending.get(event_id) is not None:
            return "pending", ""
        if known is not None and known[1] != EXPIRED:
            return "labelled", "examples are not published" if event_id in self._here else _BEYOND
        if known is not None or event_id in self._here:
            return "expired", "no label came within its time to live"
        read = dict(zip(task.group.inputs, task.positions, strict=True)).get("features", 0)
        made = [c.offset for c in explained.compared if c.topic == self._topics("features") and c.offset is not None]
        if self._made.ended or not made or made[-1] < read:
            return "unknown", _BEYOND
        return "pending", _UNREAD

    def _events(self, explained: Explained) -> None:
        """Say what became of each event of which nothing was published: one was the first, the others came again."""
        known = any(record.became and not record.became.startswith(_REFUSED) for record in explained.events)
        for record in explained.events:
            if not record.became:
                first = not known and "features" not in self._pipeline.publish
                record.became = "features, which are not published" if first else "a duplicate: the id was seen before"
                known = True

    def _labels(self, explained: Explained) -> bool:
        """Say what became of each label; whether one of them made the example."""
        example, used = explained.example, None
        for record in explained.labels:
            free = used is None and (not record.became or record.became.startswith(_UNLEARNED))
            if free and example is not None and record.time_ms == example["label_time_ms"]:
                used, record.became = record, _also(f"example {example['n']}", record.became)
            elif record.became:
                continue
            elif used is not None:
                record.became = "a duplicate" if record.y == used.y else "a correction: the first label has trained"
            elif self._made.task.chain.stores.states["join"]["early"].get(explained.event_id) is not None:
                record.became = "waits for its event"
            else:
                refused = explained.status == "dead letter"
                record.became = "not learned: the event was refused" if refused else "not used"
        return used is not None


def _id_in(value: bytes | None, field: str) -> Any:
    """The id that a JSON record names which was refused for something else; None where none can be told."""
    try:
        named = msgspec.json.decode(msgspec.json.decode(value or b"", type=dict[str, msgspec.Raw])[field])
    except (msgspec.MsgspecError, KeyError, ValueError, RecursionError):
        return None
    return named if type(named) in (int, str) else None


def _also(became: str, more: str) -> str:
    return f"{became}; {more}" if became and more else became or more


_TAKES: dict[str, Callable[[_Following, Output], Explained | None]] = {
    "features": _Following._featurized,
    "predictions": _Following._predicted,
    "examples": _Following._learned,
    "dead-letter": _Following._refused,
}
