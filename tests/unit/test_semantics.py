"""Readable records in every order and combination that hurts: each case has the outcome that the docs promise."""

from __future__ import annotations

from typing import Any

import pytest

from headrace.schemas.avro import single_object
from headrace.streams import memory
from headrace.streams.errors import DeclarationError
from tests.lawful import lawful, letters
from tests.poison import EVOLVED, HOUR_MS, VISIT, WRITERS, event, framed, visits_avro
from tests.semantics import CASES, Case, outcomes, played
from tests.small import NOW_MS, small

LEAST = 20


def test_the_cases_do_not_shrink() -> None:
    """At least twenty, each under a name of its own."""
    assert len({case.name for case in CASES}) == len(CASES) >= LEAST


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_case_has_its_outcomes(case: Case) -> None:
    """Whether its records come one at a time or all at once."""
    whole, single = played(case), played(case, batch=1)
    found = outcomes(whole)
    assert {name: found[name] for name in case.expected} == case.expected
    assert whole.outputs == single.outputs
    assert lawful(whole)


# -- a schema that changes in mid-batch ----------------------------------------------------------------------------


def later(name: str, hour: float, number: int | None = 2) -> tuple[bytes, bytes]:
    """An event of the evolved producer, under a registry id, or (None) as a single object."""
    row = {"channel": "web", "spent": 2.5, "id": name, "till": 4, "at": int(hour * HOUR_MS), "shop": "a"}
    return b"a", framed(EVOLVED, row, single_object(EVOLVED) if number is None else b"\0" + number.to_bytes(4, "big"))


def ran(events: list[Any]) -> memory.Backtest:
    return memory.run(visits_avro, [[], events], now_ms=NOW_MS)


def test_a_compatible_schema_in_mid_batch() -> None:
    """Old and new producers side by side, framed either way: every event is read by the declared schema."""
    result = ran([event("avro", "1", 0), later("2", 1), event("avro", "3", 1.5), later("4", 2, None)])
    assert list(result.features["spent"]) == [1.5, 2.5, 1.5, 2.5]
    assert list(result.features["visits_3h"]) == [0, 1, 2, 3]
    assert [row["note"] for row in result.predictions["columns"]] == ["n", None, "n", None]
    assert letters(result) == []
    assert lawful(result)


def test_a_schema_nobody_declared_in_mid_batch() -> None:
    """Its records are dead letters naming the id; those before, after and between are processed."""
    result = ran([event("avro", "1", 0), later("2", 1, 4), event("avro", "3", 1.5), later("4", 2, 4), later("5", 2)])
    assert list(result.predictions["event_id"]) == ["1", "3", "5"]
    assert [(h["reason"], h["detail"], h["offset"]) for _, _, h in letters(result)] == [
        ("unknown_schema", "no schema with the registry id 4 is known", "1"),
        ("unknown_schema", "no schema with the registry id 4 is known", "3"),
    ]
    assert lawful(result)


def test_an_incompatible_schema_is_refused_when_it_is_declared() -> None:
    """Before the first record: an event time that became text cannot be read as the time it was."""
    fields = [{"name": f["name"], "type": "string" if f["name"] == "at" else f["type"]} for f in VISIT["fields"]]
    with pytest.raises(DeclarationError, match="id 4 cannot be read as Visit: at: the writer's string"):
        small(events={"schema": VISIT, "format": "avro", "schemas": {**WRITERS, 4: {**VISIT, "fields": fields}}})
