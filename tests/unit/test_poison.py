"""The poison corpus in memory: each bad input is a dead letter with its bytes, and nothing else notices it."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from headrace.schemas.records import REASONS
from headrace.streams import memory
from tests.lawful import lawful, letters
from tests.poison import CORPUS, Bad, event, known, visits, visits_avro
from tests.small import NOW_MS

LEAST = 60
KEY = b"k\xff"


def around(format: Any) -> dict[str, list[Any]]:
    """Three good events and the labels of two; the second of each is a duplicate, which leaves a gap to fill."""
    events = [event(format, "1", 1), event(format, "1", 1), event(format, "2", 2), event(format, "3", 30)]
    labels = [known(format, "1", 1.5), known(format, "1", 1.5), known(format, "2", 2.5)]
    return {"labels": labels, "events": events}


def ran(format: Any, records: dict[str, list[Any]], batch: int = 1_000) -> memory.Backtest:
    pipeline = visits if format == "json" else visits_avro
    return memory.run(pipeline, [records["labels"], records["events"]], now_ms=NOW_MS, batch=batch)


def others(result: memory.Backtest) -> dict[str, list[Any]]:
    return {role: made for role, made in result.outputs.items() if role != "dead-letter"}


def test_the_corpus_does_not_shrink() -> None:
    """At least sixty, all distinct, each with a name of its own, for both inputs and both formats."""
    assert len({(bad.role, bad.format, bad.value) for bad in CORPUS}) == len(CORPUS) >= LEAST
    assert len({str(bad) for bad in CORPUS}) == len(CORPUS)
    assert min(Counter((bad.role, bad.format) for bad in CORPUS).values()) >= 9


def test_the_corpus_has_every_reason_that_reading_can_have() -> None:
    """Both formats together; the other reasons are about what could be read."""
    read = {bad.reason for bad in CORPUS}
    beyond = ("feature_error", "feature_nan", "feature_type", "predict_error", "train_error", "bad_label", "orphan")
    assert read == set(REASONS) - {*beyond, "late_label"}


@pytest.mark.parametrize("bad", CORPUS, ids=str)
def test_a_bad_input_is_a_dead_letter_and_nothing_else(bad: Bad) -> None:
    """Its key, bytes, reason and place are kept; all other outputs, and stream time, are as if it had not come."""
    records = around(bad.format)
    without = ran(bad.format, records)
    records[bad.role][1] = (KEY, bad.value)
    result = ran(bad.format, records)
    ((key, value, headers),) = letters(result)
    assert (key, value) == (KEY, bad.value)
    assert list(headers) == ["reason", "detail", "stage", "topic", "partition", "offset"]
    topic = result.task.chain.topic(bad.role)
    stage = "validate" if bad.role == "events" else "join"
    assert list(headers.values()) == [bad.reason, headers["detail"], stage, topic, "0", "1"]
    assert headers["detail"]
    assert others(result) == others(without)
    assert {"features", "predictions", "examples"} <= others(result).keys()
    assert result.task.chain.stream_time_ms == without.task.chain.stream_time_ms
    assert lawful(result)


def test_a_bad_input_first_or_last_moves_no_time() -> None:
    """Alone in its topic, it leaves stream time where it was before any record."""
    nothing = ran("json", {"labels": [], "events": []}).task.chain.stream_time_ms
    for bad in CORPUS:
        result = ran(bad.format, {"labels": [], "events": []} | {bad.role: [(None, bad.value)]})
        assert result.task.chain.stream_time_ms == nothing
        assert [value for _, value, _ in letters(result)] == [bad.value]
        assert lawful(result)


@pytest.mark.parametrize("format", ["json", "avro"])
def test_the_whole_corpus_among_good_records(format: str) -> None:
    """All of it, the same bytes whatever the batch, each letter once and in the order of its topic."""
    records: dict[str, list[Any]] = {"events": [], "labels": []}
    for i, bad in enumerate(bad for bad in CORPUS if bad.format == format):
        records["events"].append(event(format, str(i), i / 10))
        records["labels"].append(known(format, str(i), i / 10 + 0.5))
        records[bad.role].append((None, bad.value))
    result = ran(format, records)
    assert ran(format, records, batch=1).outputs == result.outputs == ran(format, records, batch=7).outputs
    for role in ("events", "labels"):
        topic = result.task.chain.topic(role)
        found = [(v, h["reason"]) for _, v, h in letters(result) if h["topic"] == topic]
        assert found == [(bad.value, bad.reason) for bad in CORPUS if (bad.role, bad.format) == (role, format)]
    assert result.summary.labelled == result.summary.predictions == sum(bad.format == format for bad in CORPUS)
    assert lawful(result)
