"""Semantic cases by name: records that are all readable, and what must become of them.

Each case is a few events and labels of the pipeline in tests/small.py (time to live and duplicate horizon two days,
grace 15 minutes, far future 10 minutes), what is declared otherwise, and the outcomes it is about.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from headrace import count, field
from headrace.streams.memory import Backtest
from headrace.streams.task import Task
from headrace.streams.topology import group_of
from tests.lawful import letters
from tests.small import EVENT, HOUR_MS, NOW_MS, event, known, small

__all__ = ["CASES", "Case", "outcomes", "played"]

Record = tuple[Any, ...]
"""Key and value, and the Kafka time of the record where it is not `NOW_MS`."""


class Case(NamedTuple):
    """Records, and the outcomes that they must have; outcomes that are not named are not looked at."""

    name: str
    events: list[Record]
    labels: list[Record]
    expected: Mapping[str, Any]
    declared: Mapping[str, Any] = {}

    def __str__(self) -> str:
        return self.name.replace(" ", "-").replace(",", "")


def played(case: Case, batch: int = 1_000) -> Backtest:
    """Run the case in memory."""
    task = Task(small(**case.declared), group_of(), 0, topics=lambda role: role)
    given = {"labels": case.labels, "events": case.events}
    for rank, role in enumerate(task.group.inputs):
        for offset, (key, value, *at_ms) in enumerate(given.get(role, ())):
            task.feed(rank, offset, key, value, *(at_ms or [NOW_MS]))
        task.merge.end(rank)
    outputs: dict[str, list[Any]] = {}
    while (processed := task.run(batch)) is not None:
        for output in processed.outputs:
            outputs.setdefault(output[0], []).append(output)
    return Backtest(task, outputs, 0.0)


def outcomes(result: Backtest) -> dict[str, Any]:
    """What became of the records, by name."""
    features, examples = result.features, result.examples
    chain = result.task.chain
    return {
        "predicted": list(result.predictions.get("event_id", ())),
        "keys": [key for _, key, _, _ in result.outputs.get("predictions", [])],
        "spent": list(features.get("spent", ())),
        "visits": list(features.get("visits", ())),
        "learned": list(zip(examples.get("event_id", ()), map(bool, examples.get("label", ())), strict=True)),
        "letters": [(h["topic"], int(h["offset"]), h["reason"]) for _, _, h in letters(result)],
        "duplicates": result.summary.duplicates,
        "labels": result.summary.labels,
        "pending": result.summary.pending,
        "expired": result.summary.expired,
        "hours": chain.stream_time_ms / HOUR_MS,
    }


def _at(record: Record, hour: float) -> Record:
    """The record with this Kafka time."""
    return (*record, int(hour * HOUR_MS))


_TEXT_OR_NULL = ["null", "string"]
NULLABLE = EVENT | {"fields": [f | ({"type": _TEXT_OR_NULL} if f["name"] == "shop" else {}) for f in EVENT["fields"]]}
_E = event("1", spent=1.0)

CASES: tuple[Case, ...] = (
    # the same id again
    Case("a duplicate of the same bytes", [_E, _E], [], {"predicted": ["1"], "duplicates": 1, "letters": []}),
    Case(
        "a duplicate with other content, the first counts",
        [_E, event("1", 1, spent=9.0), event("2", 1)],
        [],
        {"predicted": ["1", "2"], "spent": [1.0, 1.0], "visits": [0, 1], "duplicates": 1},
    ),
    Case(
        "a duplicate under another key",
        [_E, event("1", 1, shop="b"), event("2", 1.5, shop="b")],
        [known("1", 2, shop="b")],
        {"predicted": ["1", "2"], "keys": [b"a", b"b"], "visits": [0, 0], "duplicates": 1, "learned": [("1", True)]},
    ),
    Case(
        "a duplicate after its label",
        [_E, event("1", 2), event("2", 3)],
        [known("1", 1)],
        {"predicted": ["1", "2"], "duplicates": 1, "learned": [("1", True)]},
    ),
    Case(
        "the same id after it was refused unread",
        [(b"a", b'{"id": "1"}'), _E],
        [],
        {"predicted": ["1"], "duplicates": 0, "letters": [("events", 0, "missing_field")]},
    ),
    Case(
        "the same id after a feature refused it",
        [event("1", spent=0.0), event("1", spent=4.0)],
        [],
        {"predicted": ["1"], "duplicates": 0, "letters": [("events", 0, "feature_error")]},
        {"features": {"spent": field("spent"), "visits": count(by="shop", over="3h"), "per": lambda e: 1.0 / e.spent}},
    ),
    Case(
        "a duplicate at the end of the horizon",
        [_E, event("1", 48)],
        [],
        {"predicted": ["1"], "duplicates": 1},
    ),
    Case(
        "the same id beyond the horizon is new",
        [_E, event("1", 48.01)],
        [],
        {"predicted": ["1", "1"], "duplicates": 0, "expired": 1, "pending": 1},
    ),
    # order
    Case(
        "out of order within the grace changes windows",
        [event("1", 2), event("2", 1.9), event("3", 2)],
        [],
        {"predicted": ["1", "2", "3"], "visits": [0, 0, 2], "hours": 2},
    ),
    Case(
        "out of order beyond the grace is only predicted",
        [event("1", 2), event("2", 1), event("3", 2)],
        [],
        {"predicted": ["1", "2", "3"], "visits": [0, 0, 1], "hours": 2},
    ),
    Case(
        "an event older than everything remembered",
        [event("1", 100), event("2", 0), event("3", 100)],
        [],
        {"predicted": ["1", "2", "3"], "expired": 0, "pending": 3, "hours": 100},
    ),
    Case(
        "equal times, in the order of offsets",
        [event("2", 1), event("1", 1), event("3", 1)],
        [],
        {"predicted": ["2", "1", "3"], "visits": [0, 1, 2]},
    ),
    Case(
        "equal times, the label before the event",
        [_E, event("2", 1)],
        [known("1", 1)],
        {"predicted": ["1", "2"], "learned": [("1", True)], "pending": 1},
    ),
    # labels
    Case(
        "the label first",
        [event("1", 1)],
        [known("1", 0)],
        {"predicted": ["1"], "learned": [("1", True)], "labels": {"early": 1}, "pending": 0},
    ),
    Case(
        "two labels first, that conflict",
        [event("1", 1)],
        [known("1", 0, False), known("1", 0.5, True)],
        {"learned": [("1", False)], "labels": {"early": 1, "corrected": 1}},
    ),
    Case(
        "an orphan label",
        [_E, event("2", 49)],
        [known("nobody", 0.5)],
        {"learned": [], "labels": {"early": 1, "orphan": 1}, "letters": [("labels", 0, "orphan")]},
    ),
    Case(
        "an event after its label was given up",
        [_E, event("2", 49), event("nobody", 49)],
        [known("nobody", 0.5)],
        {"predicted": ["1", "2", "nobody"], "learned": [], "pending": 2, "letters": [("labels", 0, "orphan")]},
    ),
    Case(
        "the same label twice",
        [_E],
        [known("1", 1), known("1", 1)],
        {"learned": [("1", True)], "labels": {"duplicate": 1}, "letters": []},
    ),
    Case(
        "conflicting labels at one time, the first counts",
        [_E],
        [known("1", 1, False), known("1", 1, True)],
        {"learned": [("1", False)], "labels": {"corrected": 1}, "letters": []},
    ),
    Case(
        "a corrected label later on",
        [_E, event("2", 3)],
        [known("1", 1), known("1", 2, False), known("1", 2.5)],
        {"learned": [("1", True)], "labels": {"corrected": 1, "duplicate": 1}, "pending": 1},
    ),
    Case(
        "a correction that is forgotten waits for an event",
        [_E, event("2", 50)],
        [known("1", 1), known("1", 50.5, False)],
        {"learned": [("1", True)], "labels": {"early": 1}, "pending": 1},
    ),
    Case(
        "a label at the last moment",
        [_E],
        [known("1", 48)],
        {"learned": [("1", True)], "expired": 0, "letters": []},
    ),
    Case(
        "a late label after expiry",
        [_E, event("2", 49)],
        [known("1", 50)],
        {"learned": [], "expired": 1, "labels": {"late": 1}, "letters": [("labels", 0, "late_label")]},
    ),
    Case(
        "an expired event that is dropped",
        [_E, event("2", 49)],
        [],
        {"learned": [], "expired": 1, "pending": 1},
    ),
    Case(
        "an expired event that counts as a constant, and its late label",
        [_E, event("2", 49)],
        [known("1", 50, True)],
        {"learned": [("1", False)], "expired": 1, "letters": [("labels", 0, "late_label")]},
        {"labels": {"on_expiry": False}},
    ),
    Case(
        "a label of an event that was refused",
        [(b"a", b"{"), event("2", 60)],
        [known("1", 1)],
        {"predicted": ["2"], "letters": [("events", 0, "malformed"), ("labels", 0, "orphan")]},
    ),
    # tombstones
    Case(
        "a tombstone forgets no event",
        [_E, (b"a", None), event("1", 1)],
        [known("1", 2)],
        {"predicted": ["1"], "duplicates": 1, "learned": [("1", True)], "letters": [("events", 1, "null")]},
    ),
    Case(
        "a tombstone takes back no label",
        [_E],
        [known("1", 1), (b"a", None), known("1", 2)],
        {"learned": [("1", True)], "labels": {"duplicate": 1}, "letters": [("labels", 1, "null")]},
    ),
    # clocks
    Case(
        "event time jumps forward within what Kafka's time allows",
        [_E, event("2", 90), event("3", 1)],
        [],
        {"predicted": ["1", "2", "3"], "expired": 1, "hours": 90, "visits": [0, 0, 0]},
    ),
    Case(
        "event time jumps further than Kafka's time allows",
        [_at(_E, 0), _at(event("2", 90), 0.1), _at(event("3", 0.1), 0.1)],
        [],
        {"predicted": ["1", "3"], "expired": 0, "hours": 0.1, "letters": [("events", 1, "far_future")]},
    ),
    Case(
        "a label's time jumps further than Kafka's time allows",
        [_at(_E, 0)],
        [_at(known("1", 90), 0.1), _at(known("1", 1), 1)],
        {"learned": [("1", True)], "expired": 0, "letters": [("labels", 0, "far_future")]},
    ),
    Case(
        "event time jumps back and stays behind",
        [event("1", 90), event("2", 60), event("3", 61)],
        [known("2", 62), known("3", 91)],
        {"predicted": ["1", "2", "3"], "learned": [("2", True), ("3", True)], "hours": 91, "visits": [0, 0, 0]},
    ),
    Case(
        "event time jumps back beyond the time to live",
        [event("1", 90), event("2", 1)],
        [known("2", 91)],
        {"predicted": ["1", "2"], "learned": [], "expired": 1, "letters": [("labels", 0, "late_label")]},
    ),
    Case(
        "Kafka's time jumps back, and what was fine is far ahead",
        [_at(event("1", 5), 5), _at(event("2", 5.1), 2), _at(event("3", 5.2), 5.2)],
        [],
        {"predicted": ["1", "3"], "hours": 5.2, "letters": [("events", 1, "far_future")]},
    ),
    Case(
        "Kafka's time jumps forward and changes nothing",
        [_at(_E, 0), _at(event("2", 1), 10**6), _at(event("3", 1), 1)],
        [known("1", 1.5)],
        {"predicted": ["1", "2", "3"], "learned": [("1", True)], "hours": 1.5, "letters": []},
    ),
    Case(
        "a record without a Kafka time counts as of 1970",
        [(*_E, -1), (*event("2", 1), -1)],
        [],
        {"predicted": ["1"], "letters": [("events", 1, "far_future")]},
    ),
    # keys
    Case(
        "a key that changes for the same entity",
        [(b"x", event("1", 0)[1]), (b"y", event("2", 1)[1])],
        [(b"z", known("1", 2)[1])],
        {"keys": [b"x", b"y"], "visits": [0, 1], "learned": [("1", True)]},
    ),
    Case(
        "keyless records go out under their entity",
        [(None, _E[1])],
        [(None, known("1", 1)[1])],
        {"keys": [b"a"], "learned": [("1", True)], "letters": []},
    ),
    Case(
        "an empty key is a key",
        [(b"", _E[1])],
        [],
        {"keys": [b""]},
    ),
    Case(
        "an entity that is null, twice: no window remembers it as one entity",
        [(None, event("1", 0, spent=1.0)[1].replace(b'"a"', b"null")),
         (None, event("2", 1, spent=1.0)[1].replace(b'"a"', b"null")), event("3", 1)],
        [known("1", 2)],
        {"predicted": ["1", "2", "3"], "keys": [None, None, b"a"], "visits": [0, 0, 0], "learned": [("1", True)]},
        {"events": {"schema": NULLABLE}},
    ),
)  # fmt: skip
"""Every case, those of schemas and code apart."""
