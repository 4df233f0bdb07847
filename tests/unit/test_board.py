"""The board: a pure, bounded fold of records into what the page shows."""

from __future__ import annotations

import json
import time
from typing import Any

import msgspec
import pytest

from headrace.examples.contest import contest
from headrace.examples.flights import flights
from headrace.schemas.records import Acknowledgement, Alert, Command, Evaluation, Fact
from headrace.streams.control.board import SECTIONS, Board
from headrace.streams.control.measures import Series


def encoded(record: Any) -> bytes:
    """As it is published."""
    return msgspec.json.encode(record)


def fact(version: int, kind: str, model: str, status: str, champion: str, **more: Any) -> Fact:
    """A fact of shard 0."""
    return Fact(version, kind, model, status, champion, 0, 10 * version, 1000, {}, "declaration", "", {}, **more)


def evaluation(n: int, model: str = "poor", **more: Any) -> Evaluation:
    """Metrics after n examples, in a window of a hundred."""
    told = {"role": "champion", "shard": 0, "segment": None, "window": "last-100", "metrics": {"Accuracy": n / 1e6}}
    span = {"n": 100, "scored": 100, "first_n": n - 99, "last_n": n, "first_time_ms": 0, "last_time_ms": 60_000 * n}
    return Evaluation(model=model, **(told | span | more))


def alert(name: str, status: str = "opened", signal: str = "error", **more: Any) -> Alert:
    """An alert of drift."""
    told = {
        "kind": "error_drift", "severity": "warning", "message": "the error rose", "detector": "ADWIN()",
        "statistic": {"score": 2.0}, "strength": 2.0, "n": 100, "topic": "t", "partition": 0, "first_offset": 1,
        "last_offset": 2, "opened_ms": 1, "time_ms": 2, "findings": 1, "examples": ["a"],
    }  # fmt: skip
    return Alert(alert_id=name, status=status, signal=signal, **(told | more))


def taken(role: str, *records: Any, board: Board | None = None) -> Board:
    """A board that has taken these records of one topic."""
    board = board or Board(contest)
    for offset, record in enumerate(records):
        board.take(role, 0, offset, getattr(record, "alert_id", "k").encode(), encoded(record))
    return board


def test_an_empty_board_has_every_section_as_json():
    """Before anything was published each section is there, and is plain."""
    board = Board(contest)
    assert {name: json.loads(msgspec.json.encode(board.section(name))) != {} for name in SECTIONS} == dict.fromkeys(
        SECTIONS, True
    )


def test_the_declaration_names_models_watches_and_topics():
    """What is declared is known before anything runs."""
    told = Board(flights).section("pipeline")
    assert (told["name"], told["champion"], told["task"]) == ("flights", "logreg", "binary")
    assert "feature:origin_late_1h" in [watch["signal"] for watch in told["watches"]]
    assert told["topics"]["events"] == "flights.events"


@pytest.mark.parametrize(
    ("given", "shown"), [(None, None), ("f.py:flights", "f.py:flights"), ("my f.py:flights", "'my f.py:flights'")]
)
def test_the_declaration_says_how_commands_name_the_pipeline(given: str | None, shown: str | None):
    """As the control plane was told, for a shell; its bare name says nothing to a command."""
    assert Board(flights, given).section("pipeline")["reference"] == shown


def test_facts_become_the_registry():
    """Promotion makes one champion, and the history tells it, the latest first."""
    shard = taken(
        "registry",
        fact(1, "registered", "poor", "champion", "poor"),
        fact(2, "registered", "logreg", "challenger", "poor"),
        Command("c", "promote", 0, "me", "logreg"),
        fact(3, "promoted", "logreg", "champion", "logreg", command="c"),
    ).section("models")["shards"][0]
    assert (shard["version"], shard["champion"], shard["past"]) == (3, "logreg", ["poor"])
    assert {m["model"]: m["status"] for m in shard["models"]} == {"poor": "challenger", "logreg": "champion"}
    assert [f["version"] for f in shard["facts"]] == [3, 2, 1]


def test_a_fact_that_does_not_follow_is_odd():
    """It changes nothing, and is counted."""
    board = taken(
        "registry", fact(1, "registered", "poor", "champion", "poor"), fact(7, "retired", "x", "retired", "y")
    )
    assert (board.section("models")["odd"], board.section("models")["shards"][0]["version"]) == (1, 1)


def test_a_fact_of_a_shard_that_is_not_declared_is_odd():
    """A partition beyond the declared ones does not break the board."""
    board = Board(contest)
    board.take("registry", 5, 0, b"poor", encoded(fact(1, "registered", "poor", "champion", "poor")))
    assert board.section("models")["odd"] == 1


def test_evaluations_become_series():
    """Windows and overall are series of their own, in columns."""
    board = taken("evaluations", evaluation(100), evaluation(200), evaluation(200, window="overall"))
    series = {s["kind"]: s for s in board.section("metrics")["series"]}
    assert series["window"]["n"] == [100, 200]
    assert series["overall"]["metrics"] == {"Accuracy": [0.0002]}


def test_a_series_is_bounded_and_spans_everything():
    """A hundred thousand points leave at most the bound, from the first to the newest."""
    series = Series(most=100)
    for n in range(1, 100_001):
        series.add(n, n, {"Accuracy": 0.5})
    told = series.view()["n"]
    assert (told[0], told[-1]) == (1, 100_000)
    assert 50 <= len(told) <= 101


def test_a_series_whose_numbers_begin_anew_begins_anew():
    """After a reset the chart does not go back in time."""
    series = Series()
    for n in (100, 200, 100, 200):
        series.add(n, n, {})
    assert series.view()["n"] == [100, 200]


def test_segments_and_features_have_their_latest():
    """Only how they stand now is kept."""
    board = taken(
        "evaluations",
        evaluation(100, segment="origin=JFK", window="overall"),
        evaluation(200, segment="origin=JFK", window="overall"),
        evaluation(200, model="served", segment="feature=distance", window="proxy-100", metrics={"Missing": 0.5}),
    )
    assert [s["n"] for s in board.section("metrics")["segments"]] == [100]
    assert board.section("drift")["features"] == {"distance": {"Missing": 0.5}}


def test_models_without_end_do_not_fill_the_memory():
    """Ten thousand model names leave a bounded number of series, and the rest is counted."""
    board = taken("evaluations", *[evaluation(100, model=f"m{i}") for i in range(10_000)])
    told = board.section("metrics")
    assert len(told["series"]) <= 64
    assert told["left_out"] == 10_000 - len(told["series"])


def test_alerts_are_one_matter_each():
    """Records with one id are one row, as it stands now."""
    board = taken("alerts", alert("a"), alert("b"), alert("a", "resolved"))
    told = board.section("alerts")
    assert [(a["alert_id"], a["status"]) for a in told["alerts"]] == [("b", "opened"), ("a", "resolved")]
    assert (told["open"], told["waiting"]) == (1, 1)


def test_an_acknowledged_alert_is_open_but_waits_for_nobody():
    """Acknowledgement says who, and a null takes it back."""
    board = taken("alerts", alert("a"))
    board.take("control", 0, 0, b"a", encoded(Acknowledgement("a", "ada", "seen")), (), 7)
    told = board.section("alerts")
    assert (told["open"], told["waiting"]) == (1, 0)
    assert told["alerts"][0]["acknowledged"] == {"by": "ada", "note": "seen", "at_ms": 7}
    board.take("control", 0, 1, b"a", None)
    assert board.section("alerts")["waiting"] == 1


def test_an_acknowledgement_may_come_before_its_alert():
    """Topics are read side by side: the order between them does not matter."""
    board = Board(contest)
    board.take("control", 0, 0, b"a", encoded(Acknowledgement("a", "ada")))
    assert taken("alerts", alert("a"), board=board).section("alerts")["waiting"] == 0


def test_a_flood_of_alerts_is_bounded_and_quick():
    """Ten thousand alerts fold within a second; the newest are kept, the rest is counted."""
    records = [encoded(alert(f"id-{i}")) for i in range(10_000)]
    board = Board(contest)
    began = time.process_time()
    for offset, record in enumerate(records):
        board.take("alerts", 0, offset, f"id-{offset}".encode(), record)
    told = board.section("alerts")
    assert time.process_time() - began < 1
    assert told["alerts"][0]["alert_id"] == "id-9999"
    assert told["open"] + told["forgotten"] == 10_000
    assert (told["full"], told["open"] <= 400, len(told["alerts"]) <= 100) == (True, True, True)


def test_open_alerts_outlive_resolved_ones():
    """A flood of resolved alerts does not push an open one out."""
    board = taken("alerts", alert("open"), *[alert(f"r{i}", "resolved") for i in range(1_000)])
    assert board.section("alerts")["alerts"][0]["alert_id"] == "open"


def test_drift_tells_of_each_declared_signal():
    """What is quiet is there as well, and what has shown something says how strongly."""
    board = taken("alerts", alert("a", signal="prediction"), alert("b", signal="feature:new"), board=Board(flights))
    rows = {row["signal"]: row for row in board.section("drift")["signals"]}
    assert (rows["error"]["alerts"], rows["prediction"]["open"], rows["feature:new"]["declared"]) == (0, 1, False)
    assert rows["prediction"]["findings"] == [[2, 2.0, "opened"]]


def test_dead_letters_by_reason_with_the_newest_samples():
    """Counted whole, shown in part."""
    board = Board(contest)
    for offset in range(12):
        headers = [("reason", b"malformed"), ("stage", b"validate"), ("topic", b"flights.events"), ("detail", b"x")]
        board.take("dead-letter", 0, offset, None, b"<b>%d</b>" % offset, headers, 1000 + offset)
    (kind,) = board.section("letters")["kinds"]
    assert (kind["n"], kind["first"], kind["last"], kind["reason"]) == (12, "0:0", "0:11", "malformed")
    assert [sample["place"] for sample in kind["samples"]] == ["0:11", "0:10", "0:9", "0:8", "0:7"]
    assert kind["samples"][0]["value"] == "<b>11</b>"


def test_a_header_without_a_value_is_an_empty_one():
    """Kafka allows it, and so anybody may have written it."""
    board = Board(contest)
    board.take("dead-letter", 0, 0, None, None, [("reason", b"null"), ("stage", None), ("detail", None)], 1)
    (kind,) = board.section("letters")["kinds"]
    assert (kind["reason"], kind["stage"], kind["samples"][0]["detail"]) == ("null", "", "")


def test_dead_letters_of_any_bytes_become_bounded_text():
    """Neither bytes that are no text, nor long ones, nor reasons without end get through."""
    board = Board(contest)
    for offset in range(1_000):
        board.take("dead-letter", 0, offset, b"\xff", b"\x00\xfe" * 100_000, [("reason", b"r%d" % offset)], 1)
    told = board.section("letters")
    assert len(told["kinds"]) <= 201
    assert told["n"] == 1_000
    sample = told["kinds"][0]["samples"][0]
    assert sample["value"].startswith("\\x00\\xfe")
    assert len(sample["value"]) < 5_000


@pytest.mark.parametrize("value", [b"", b"{", b"[]", b"\xff\xfe", b'{"record": "fact"}', b"[" * 100_000, None])
@pytest.mark.parametrize("role", ["registry", "evaluations", "alerts"])
def test_what_cannot_be_read_is_counted(role: str, value: bytes | None):
    """It changes nothing else."""
    board = Board(contest)
    before = [board.section(name) for name in SECTIONS if name != "link"]
    board.take(role, 0, 0, b"k", value)
    assert board.section("link")["unreadable"] == {role: 1}
    assert [board.section(name) for name in SECTIONS if name != "link"] == before


@pytest.mark.parametrize(
    ("key", "value"),
    [(None, b"{}"), (b"\xff", b"{}"), (b"a", b"[]"), (b"a", b"\xff"), (b"b", encoded(Acknowledgement("a", "x")))],
)
def test_a_bad_acknowledgement_is_counted(key: bytes | None, value: bytes):
    """It acknowledges nothing."""
    board = Board(contest)
    board.take("control", 0, 0, key, value)
    assert board.section("link")["unreadable"] == {"control": 1}


def test_versions_say_what_has_changed():
    """Only the sections that a record is about."""
    board = Board(contest)
    before = dict(board.versions)
    taken("evaluations", evaluation(100), board=board)
    assert [name for name in SECTIONS if board.versions[name] != before[name]] == ["metrics"]


def test_the_link_changes_only_when_something_is_new():
    """Saying the same twice wakes nobody."""
    board = Board(contest)
    board.link("away", "Kafka does not answer.")
    version = board.versions["link"]
    board.link("away", "Kafka does not answer.")
    assert board.versions["link"] == version


def test_folding_twice_is_the_same():
    """The board is a function of the records."""
    records = [alert("a"), alert("b"), alert("a", "resolved")]
    assert taken("alerts", *records).section("alerts") == taken("alerts", *records).section("alerts")


def test_forgetting_leaves_nothing():
    """A board that forgets is as a new one."""
    board = taken("alerts", alert("a"))
    board.forget()
    assert [board.section(n) for n in SECTIONS] == [Board(contest).section(n) for n in SECTIONS]
