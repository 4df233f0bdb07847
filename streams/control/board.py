"""The live state that the page shows: a pure fold of records into plain values, bounded, without I/O or clock.

`take` folds one record; `section` gives a part of the state; `versions` says which parts have changed since one looked.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from headrace.schemas.records import Acknowledgement, Alert, Command, Evaluation, Fact
from headrace.streams.control.letters import Letters
from headrace.streams.control.matters import Matters
from headrace.streams.control.measures import Measures
from headrace.streams.control.shards import Shards
from headrace.streams.errors import UNREADABLE
from headrace.streams.pipeline import Pipeline
from headrace.streams.topics import ROLES, topic_name

__all__ = ["FOLLOWED", "SECTIONS", "Board"]

FOLLOWED = ("registry", "evaluations", "alerts", "dead-letter", "control")
"""Roles of the topics that the board is a fold of."""
SECTIONS = ("pipeline", "link", "models", "metrics", "drift", "alerts", "letters")

_fact: Callable[[bytes], Fact | Command] = msgspec.json.Decoder(Fact | Command).decode
_evaluation = msgspec.json.Decoder(Evaluation).decode
_alert = msgspec.json.Decoder(Alert).decode
_acknowledgement = msgspec.json.Decoder(Acknowledgement).decode


class Board:
    """The fold. A record that cannot be read is counted under its role in `unreadable`, and changes nothing else.

    `reference` is how the command line names the pipeline, for the commands that the page shows.
    """

    def __init__(self, pipeline: Pipeline, reference: str | None = None) -> None:
        self.pipeline = pipeline
        self.versions: dict[str, int] = dict.fromkeys(SECTIONS, 0)
        self._declared = _declaration(pipeline) | {"reference": reference and shlex.quote(reference)}
        self._link: dict[str, Any] = {"state": "starting", "why": "", "missing": [], "records": 0, "unreadable": {}}
        self._takes = {
            "registry": self._take_fact,
            "evaluations": self._take_evaluation,
            "alerts": self._take_alert,
        }
        self.forget()

    def forget(self) -> None:
        """Start anew, as when topics were made anew; what is declared and the link stay."""
        self._shards = Shards(self.pipeline.partitions)
        self._measures, self._matters, self._letters = Measures(), Matters(), Letters()
        self._link["records"], self._link["unreadable"] = 0, {}
        self._touch(*SECTIONS)

    def take(
        self,
        role: str,
        partition: int,
        offset: int,
        key: bytes | None,
        value: bytes | None,
        headers: Iterable[tuple[str, bytes | None]] = (),
        timestamp_ms: int = 0,
    ) -> None:
        """Fold one committed record of the topic with this role, in the order of its partition."""
        self._link["records"] += 1
        try:
            if role == "dead-letter":
                self._letters.take(partition, offset, key, value, headers, timestamp_ms)
                self._touch("letters")
            elif role == "control":
                self._take_acknowledgement(key, value, timestamp_ms)
            else:
                self._takes[role](partition, value)
        except UNREADABLE:
            unreadable = self._link["unreadable"]
            unreadable[role] = unreadable.get(role, 0) + 1
            self._touch("link")

    def link(self, state: str, why: str = "", missing: Iterable[str] = ()) -> None:
        """Say how the following goes: starting, reading, following or away, with one sentence why."""
        now = {"state": state, "why": why, "missing": list(missing)}
        if any(self._link[name] != value for name, value in now.items()):
            self._link.update(now)
            self._touch("link")

    def alert(self, alert_id: str) -> Alert | None:
        """An alert as it stands now; None when it is not known."""
        return self._matters.get(alert_id)

    def section(self, name: str) -> dict[str, Any]:
        """One part of the state as plain values; KeyError unless it is one of `SECTIONS`."""
        views: dict[str, Callable[[], dict[str, Any]]] = {
            "pipeline": lambda: self._declared,
            "link": lambda: {**self._link, "unreadable": dict(self._link["unreadable"])},
            "models": self._shards.view,
            "metrics": self._measures.view,
            "drift": self._drift,
            "alerts": self._matters.view,
            "letters": self._letters.view,
        }
        return views[name]()

    # -- records by role -------------------------------------------------------------------------------------------

    def _take_fact(self, partition: int, value: bytes | None) -> None:
        found = _fact(value or b"")
        if isinstance(found, Fact):
            self._shards.take(partition, found)
            self._touch("models")

    def _take_evaluation(self, partition: int, value: bytes | None) -> None:
        record = _evaluation(value or b"")
        self._measures.take(record)
        self._touch("metrics")
        if record.segment is not None and record.segment.startswith("feature="):
            self._touch("drift")

    def _take_alert(self, partition: int, value: bytes | None) -> None:
        self._matters.take(_alert(value or b""))
        self._touch("alerts", "drift")

    def _take_acknowledgement(self, key: bytes | None, value: bytes | None, timestamp_ms: int) -> None:
        if key is None:
            raise ValueError("an acknowledgement has its alert's id as key")
        said = None if value is None else _acknowledgement(value)
        if said is not None and said.alert_id != key.decode():
            raise ValueError("an acknowledgement is of the alert that its key names")
        told = None if said is None else {"by": said.by, "note": said.note, "at_ms": timestamp_ms}
        self._matters.acknowledge(key.decode(), told)
        self._touch("alerts")

    # -- views -----------------------------------------------------------------------------------------------------

    def _drift(self) -> dict[str, Any]:
        """What is watched, with what each signal has shown, and how features look where proxies are declared."""
        shown, rows = self._matters.signals(), []
        nothing: dict[str, Any] = {"alerts": 0, "open": 0, "last_ms": None, "message": "", "findings": []}
        for watch in self._declared["watches"]:
            rows.append({**watch, "declared": True, **shown.pop(watch["signal"], nothing)})
        rows += [{"signal": name, "declared": False, **found} for name, found in shown.items()]
        return {"signals": rows, "features": self._measures.features()}

    def _touch(self, *names: str) -> None:
        for name in names:
            self.versions[name] += 1


def _declaration(pipeline: Pipeline) -> dict[str, Any]:
    """What the page says of a pipeline before anything has been published."""
    watches = [
        {
            "signal": watch.signal,
            "detector": type(watch.detector).__name__,
            "false_alarms_every": watch.false_alarms_every,
        }
        for watch in pipeline.drift
    ]
    return {
        "name": pipeline.name,
        "partitions": pipeline.partitions,
        "task": pipeline.task,
        "models": list(pipeline.models),
        "champion": pipeline.champion,
        "gate": pipeline.gate is not None,
        "approve": pipeline.gate is not None and pipeline.gate.approve,
        "watches": watches,
        "topics": {role: topic_name(pipeline, role) for role in ROLES},
    }
