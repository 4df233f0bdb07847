"""`headrace alerts` and `headrace drift`, over records that are handed to them."""

import json

import msgspec
import pytest
from click.testing import CliRunner
from river.drift import ADWIN

from headrace import watch_error
from headrace.examples.flights import flights
from headrace.schemas.records import Alert, Fact
from headrace.streams.cli import main
from headrace.streams.commands import alerts as command
from headrace.streams.errors import UsageError

PIPELINE = "headrace.examples.flights:flights"


def alert(alert_id, status, time_ms, signal="error"):
    """A record of an alert."""
    return Alert(
        alert_id, "error_drift", signal, "warning", status, f"{signal} moved", "ADWIN()", {"after": 0.5}, 1.0,
        32, "flights.events", 0, 10, 41, 1_000, time_ms, 1, ["e1"],
    )  # fmt: skip


@pytest.fixture
def told(monkeypatch):
    """Run a command over three matters: one resolved, one updated, one opened."""
    records = [
        alert("aa1", "opened", 1_000),
        alert("ab2", "opened", 2_000, "prediction"),
        alert("aa1", "resolved", 3_000),
    ]
    records += [alert("ab2", "updated", 4_000, "prediction"), alert("ac3", "opened", 5_000)]
    led = [
        Fact(version, kind, model, status, champion, 0, 9, 5, {}, by, "", evidence)
        for version, kind, model, status, champion, by, evidence in (
            (3, "promoted", "hat", "champion", "hat", "drift", {"alert": "aa1"}),
            (4, "promoted", "logreg", "champion", "logreg", "gate", {}),
            (5, "retraining", "hat-1", "retraining", "logreg", "drift", {"alert": "ab2"}),
            (6, "rolled_back", "hat", "champion", "hat", "me", {}),
            (7, "promoted", "hat-1", "champion", "hat-1", "gate", {}),
        )
    ]
    monkeypatch.setattr(command, "_read", lambda ctx, pipeline: records)
    monkeypatch.setattr(command, "_facts", lambda ctx, pipeline: led)
    return lambda *arguments: CliRunner().invoke(main, arguments, standalone_mode=False, catch_exceptions=True)


def test_each_matter_is_listed_once_as_it_stands(told):
    """The last record of an id counts."""
    rows = json.loads(told("alerts", "--json", PIPELINE).output)
    assert [(row["alert_id"], row["status"]) for row in rows["alerts"]] == [
        ("aa1", "resolved"), ("ab2", "updated"), ("ac3", "opened"),
    ]  # fmt: skip
    assert rows["open"] == 2


def test_open_ones_and_signals_are_chosen(told):
    """--open leaves out the resolved, --signal all others."""
    rows = json.loads(told("alerts", PIPELINE, "--open", "--signal", "error", "--json").output)["alerts"]
    assert [row["alert_id"] for row in rows] == ["ac3"]


def test_times_that_no_calendar_has_are_told_in_milliseconds(told, monkeypatch):
    """An event's time is any number of 64 bits, and so is an alert's."""
    monkeypatch.setattr(command, "_read", lambda ctx, pipeline: [alert("aa1", "opened", -(2**62))])
    for arguments in (["alerts", PIPELINE], ["alerts", PIPELINE, "show", "aa"]):
        result = told(*arguments)
        assert result.exception is None
        assert "-4611686018427387904 ms" in result.output


def test_one_is_shown_with_its_evidence(told):
    """By the beginning of its id: its records, offsets, statistic and examples."""
    text = told("alerts", PIPELINE, "show", "aa").output
    assert "resolved" in text
    assert "flights.events/0 10 to 41, 32 values" in text
    assert "after 0.5" in text
    assert text.count("led to") == 1
    assert "led to    promoted of hat (version 3 of the registry, shard 0)" in text


def test_what_became_of_a_model_that_an_alert_retrained_is_led_to_as_well(told):
    """By whomever it was decided; not what became of others."""
    facts = json.loads(told("alerts", PIPELINE, "show", "ab", "--json").output)["facts"]
    assert [(fact["kind"], fact["version"]) for fact in facts] == [("retraining", 5), ("promoted", 7)]


@pytest.mark.parametrize("arguments", [("show", "a"), ("show", "zz"), ("show",), ("tell", "aa")])
def test_wrong_use_is_told(told, arguments):
    """An id that is not one alert's, or another word, is an error."""
    assert isinstance(told("alerts", PIPELINE, *arguments).exception, UsageError)


def test_every_watch_has_a_line(told):
    """What it has raised, and what is open."""
    rows = json.loads(told("drift", PIPELINE, "--json").output)["watches"]
    assert [(row["signal"], row["alerts"], row["open"]) for row in rows][:2] == [("error", 2, 1), ("prediction", 1, 1)]


def test_a_budget_is_told_or_unknown(told, monkeypatch):
    """A detector as it comes has an unknown budget; a calibrated one has its own, and the parameter that was chosen."""
    rows = json.loads(told("drift", PIPELINE, "--json").output)["watches"]
    assert {row["false_alarms_every"] for row in rows} == {None}
    assert "unknown" in told("drift", PIPELINE).output
    watched = [watch_error(ADWIN(), false_alarms_every=50_000).calibrated("binary")]
    monkeypatch.setattr(flights, "drift", watched)
    (row,) = json.loads(told("drift", PIPELINE, "--json").output)["watches"]
    assert row["false_alarms_every"] == 50_000
    assert row["detector"].startswith(f"ADWIN(delta={watched[0].detector.delta}")


def test_segments_are_shown_with_an_alert(told, monkeypatch):
    """By how much the mean has changed in each."""
    one = alert("aa1", "opened", 1).broken_down({"origin=JFK": 0.25})
    monkeypatch.setattr(command, "_read", lambda ctx, pipeline: [one])
    assert "segments  origin=JFK +0.25" in told("alerts", PIPELINE, "show", "aa1").output


def test_the_records_are_read_as_they_were_written():
    """Every field survives JSON."""
    one = alert("aa1", "opened", 1)
    assert msgspec.json.decode(msgspec.json.encode(one), type=Alert) == one
