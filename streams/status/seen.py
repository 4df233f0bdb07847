"""What somebody who looks at a pipeline again and again remembers of its topics: each look reads only what is new.

The registry, alerts, dead letters and the counts of checkpoints are folds over their topics. What is remembered grows
with what is open or different, not with what happened.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import msgspec

from headrace.processors.registry import fold, fresh
from headrace.schemas.records import Alert, Evaluation, Fact, Prediction
from headrace.streams.checkpoint import MARKER, key_of
from headrace.streams.errors import UNREADABLE, Lost
from headrace.streams.journal import Epoch
from headrace.streams.journal import read as read_entry
from headrace.streams.log import Record
from headrace.streams.packing import unpack
from headrace.streams.pipeline import Pipeline
from headrace.streams.reading import last
from headrace.streams.stores import part_of
from headrace.streams.topics import topic_name
from headrace.streams.topology import group_known

__all__ = ["Seen"]

_EVALUATIONS = 500
_JOURNAL = 200
_STATE = 2_000
_FEW = 50
"""Offsets that are looked at one by one: whether records are there, or transaction markers only."""
_COUNTED: dict[str, Any] = {
    "counts": dict[str, int],
    "clock": tuple[int, tuple[int, ...]],
    "progress": tuple[int, int | None],
}
"""What is looked at in a checkpoint, and what it is there."""

_WHOLE = {MARKER, *_COUNTED}

_alert: Callable[[bytes], Alert] = msgspec.json.Decoder(Alert).decode
_evaluation: Callable[[bytes], Evaluation] = msgspec.json.Decoder(Evaluation).decode
_fact: Callable[[bytes], Fact] = msgspec.json.Decoder(Fact).decode
_prediction: Callable[[bytes], Prediction] = msgspec.json.Decoder(Prediction).decode


class Seen:
    """A memory of one pipeline's topics, for `headrace.streams.status.overview.gather`.

    Attributes
    ----------
    registries
        Shard → the fold of its facts.
    alerts
        The last record of each alert that is not resolved, with Kafka's time of it, by id.
    dead
        (topic, stage, reason) → how many, and the place, time and detail of the last.
    scores
        (model, shard, window) → its last evaluation, whole stream only.
    journals
        (group, shard) → batches and epochs so far.
    predictions
        Shard → its last prediction, with Kafka's time of it.
    checkpoints
        (group, shard) → counts, clock and progress of its last checkpoint, and Kafka's time of that.
    """

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Begin anew, as when topics were made anew."""
        self.at_s: float | None = None
        self.ends: dict[tuple[str, int], int] = {}
        self.committed: dict[tuple[str, str, int], int] = {}
        self.registries: dict[int, dict[str, Any]] = {}
        self.alerts: dict[str, tuple[Alert, int]] = {}
        self.dead: dict[tuple[str, str, str], dict[str, Any]] = {}
        self.scores: dict[tuple[str, int, str], Evaluation] = {}
        self.journals: dict[tuple[str, int], dict[str, int]] = {}
        self.predictions: dict[int, tuple[Prediction, int]] = {}
        self.checkpoints: dict[tuple[str, int], dict[str, Any]] = {}
        self._places: dict[tuple[str, int], int] = {}
        self._waiting: dict[tuple[str, str, int], tuple[int, int, int]] = {}

    def waiting(self, reader: Any, group: str, topic: str, shard: int, start: int, end: int) -> int:
        """How many records wait for a group between what it has committed and the last stable offset.

        Transaction markers have offsets, too, and count where there are many offsets; few are looked at, once.
        """
        if not 0 < end - start <= _FEW:
            return end - start
        known = self._waiting.get((group, topic, shard))
        if known is None or known[:2] != (start, end):
            known = (start, end, sum(1 for _ in _between(reader, topic, shard, start, end)))
            self._waiting[group, topic, shard] = known
        return known[2]

    def look(self, reader: Any, pipeline: Pipeline, ends: dict[tuple[str, int], int], running: Iterable[str]) -> None:
        """Take what is new up to `ends`, last stable offsets by role and shard; roles that are not there are left out.

        `running` are the groups of stages that a checkpoint is looked for of.
        """
        if any(place > ends.get(where, place) for where, place in self._places.items()):
            self.forget()  # a topic was made anew: nothing that was seen is true any more
        groups = set(running)
        for (role, shard), end in ends.items():
            take = getattr(self, f"_take_{role.replace('-', '_')}", None)
            if take is None or self._places.get((role, shard), 0) >= end:
                continue
            topic = topic_name(pipeline, role)
            if role == "state":
                self._look_for_checkpoints(reader, topic, shard, end, groups)
            else:
                for record in self._fresh(reader, role, topic, shard, end):
                    take(shard, record)
            self._places[role, shard] = end

    def _fresh(self, reader: Any, role: str, topic: str, shard: int, end: int) -> Iterable[Record]:
        """What was not seen yet; of topics whose past does not matter, no more than the newest."""
        most = {"evaluations": _EVALUATIONS, "journal": _JOURNAL, "predictions": 1}.get(role)
        place = self._places.get((role, shard))
        if most is not None and (place is None or end - place > most):
            return last(reader, topic, shard, most)
        return _between(reader, topic, shard, place or 0, end)

    def _look_for_checkpoints(self, reader: Any, topic: str, shard: int, end: int, groups: set[str]) -> None:
        """New entries; the first time backwards, until each group's last counts were found."""
        place = self._places.get(("state", shard))
        if place is not None:
            for record in _between(reader, topic, shard, place, end):
                self._take_state(shard, record)
            return
        low, reach = reader.watermarks(topic, shard)[0], _STATE
        while True:
            for record in _between(reader, topic, shard, end - reach, end):
                self._take_state(shard, record)
            known = {group for (group, of), found in self.checkpoints.items() if of == shard and found.keys() >= _WHOLE}
            if groups <= known or end - reach <= low:
                return
            reach *= 4

    # -- one record of each role -----------------------------------------------------------------------------------

    def _take_registry(self, shard: int, record: Record) -> None:
        try:
            fold(self.registries.setdefault(shard, fresh()), _fact(record.value or b""))
        except UNREADABLE:
            return  # a command, or nobody's fact

    def _take_alerts(self, shard: int, record: Record) -> None:
        try:
            alert = _alert(record.value or b"")
        except UNREADABLE:
            return
        self.alerts.pop(alert.alert_id, None)
        if alert.status != "resolved":
            self.alerts[alert.alert_id] = (alert, record.timestamp_ms)

    def _take_dead_letter(self, shard: int, record: Record) -> None:
        said = {name: (text or b"").decode("utf-8", "replace") for name, text in record.headers or []}
        where = (said.get("topic", "?"), said.get("stage", "?"), said.get("reason", "?"))
        entry = self.dead.setdefault(where, {"n": 0})
        entry["n"] += 1
        entry["last"], entry["last_ms"] = f"{record.partition}:{record.offset}", record.timestamp_ms
        entry["detail"] = said.get("detail", "")[:300]

    def _take_evaluations(self, shard: int, record: Record) -> None:
        try:
            found = _evaluation(record.value or b"")
        except UNREADABLE:
            return
        if found.segment is None:
            self.scores[found.model, found.shard, found.window] = found

    def _take_predictions(self, shard: int, record: Record) -> None:
        try:
            self.predictions[shard] = (_prediction(record.value or b""), record.timestamp_ms)
        except UNREADABLE:
            return

    def _take_journal(self, shard: int, record: Record) -> None:
        group = group_known(record.key)
        try:
            entry = read_entry(record.value or b"")
        except Lost:
            return
        if group is None:
            return
        # Records count from 0, and so do epochs, each of which opens with a record that is no batch.
        found = {"partition": shard, "batches": entry.seq - entry.epoch, "epoch": entry.epoch}
        if not isinstance(entry, Epoch):
            found["last_ms"] = record.timestamp_ms
        self.journals[group.name, shard] = self.journals.get((group.name, shard), {}) | found

    def _take_state(self, shard: int, record: Record) -> None:
        group, *name = key_of(record.key) or ("",)
        if record.value is None or group_known(group.encode()) is None:
            return
        if name == [MARKER]:
            self.checkpoints.setdefault((group, shard), {})[MARKER] = record.timestamp_ms
        elif name[0] == "chain" and name[1] in _COUNTED and name[2] == 0:  # small: one chunk
            with contextlib.suppress(TypeError, LookupError, *UNREADABLE):
                value = msgspec.convert(unpack(part_of(record.value)), _COUNTED[name[1]])
                self.checkpoints.setdefault((group, shard), {})[name[1]] = value


def _between(reader: Any, topic: str, shard: int, start: int, end: int) -> Iterator[Record]:
    """Committed records of this range, as far as they are still there."""
    start = max(start, reader.watermarks(topic, shard)[0])
    if start < end:
        yield from reader.read(topic, shard, start, end)
