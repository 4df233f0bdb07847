"""The flights are the package's, told in UTC, and an event never knows its outcome."""

from __future__ import annotations

import json
import zipfile
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from zoneinfo import ZoneInfo

import fastavro
import pandas as pd
import pytest

from headrace.examples import flights_data, new_york

ROOT = Path(__file__).parents[2]
NEW_YORK = ZoneInfo("America/New_York")
MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS


@pytest.fixture(scope="module")
def year() -> pd.DataFrame:
    """All flights of 2013."""
    return flights_data.flights()


@pytest.fixture(scope="module")
def package() -> pd.DataFrame:
    """The package's own table, by our event id, which is put together from its local columns here."""
    raw = pd.read_csv(flights_data._package_data() / "flights.csv.zip")
    rows = zip(
        *(raw[name].tolist() for name in ("month", "day", "carrier", "flight", "origin", "dest", "sched_dep_time")),
        strict=True,
    )
    raw.index = pd.Index([f"2013-{m:02d}-{d:02d}-{c}{f}-{o}-{to}-{t:04d}" for m, d, c, f, o, to, t in rows])
    return raw


def schema(name: str) -> dict[str, Any]:
    """A parsed schema of the example."""
    return json.loads((ROOT / "examples" / name).read_text())


def test_every_flight_has_an_id_of_its_own(year: pd.DataFrame, package: pd.DataFrame) -> None:
    """The ids are unique, and are those of the package's flights."""
    assert year["event_id"].is_unique
    assert set(year["event_id"]) == set(package.index)


def test_columns_are_those_of_the_schemas(year: pd.DataFrame) -> None:
    """The frame has exactly the fields of flight.avsc, then those of arrival.avsc, and each has a description."""
    fields = schema("flight.avsc")["fields"] + schema("arrival.avsc")["fields"]
    assert list(year.columns) == list(dict.fromkeys(field["name"] for field in fields))
    assert all(field["doc"] for field in fields)


def test_records_obey_the_schemas(year: pd.DataFrame) -> None:
    """Events and labels, null values included, can be written with the schemas."""
    sample = pd.concat([year[year["tailnum"].isna()].head(50), year.head(50)])
    assert any(event["tailnum"] is None for event in flights_data.events(sample))
    flight, arrival = (fastavro.parse_schema(schema(name)) for name in ("flight.avsc", "arrival.avsc"))
    assert fastavro.validation.validate_many(flights_data.events(sample), flight, strict=True)
    assert fastavro.validation.validate_many(flights_data.labels(sample), arrival, strict=True)


def test_events_are_in_the_order_of_departure(year: pd.DataFrame) -> None:
    """Scheduled departures never go back, and a limit takes the first of them."""
    assert year["scheduled_departure"].is_monotonic_increasing
    pd.testing.assert_frame_equal(flights_data.flights(1000), year.head(1000))


def test_labels_are_in_the_order_of_arrival(year: pd.DataFrame) -> None:
    """Labels come as they become known, each after its event, one for each flight that arrived."""
    departures = dict(zip(year["event_id"], year["scheduled_departure"], strict=True))
    labels = flights_data.labels(year.head(20_000))
    times = [label["arrived_at"] for label in labels]
    assert times == sorted(times)
    assert all(label["arrived_at"] > departures[label["event_id"]] for label in labels)
    assert len(labels) == year["arr_delay"].head(20_000).notna().sum()


def test_departures_are_what_new_york_clocks_said(year: pd.DataFrame) -> None:
    """The instant of departure, on New York's clocks, is the local date and time in the id, on every day of 2013."""
    local = pd.to_datetime(year["scheduled_departure"], unit="ms", utc=True).dt.tz_convert(NEW_YORK)
    ids = year["event_id"]
    assert (local.dt.strftime("%Y-%m-%d") == ids.str[:10]).all()
    assert (local.dt.strftime("%H%M") == ids.str[-4:]).all()


def test_arrivals_are_what_clocks_at_the_destination_said(year: pd.DataFrame, package: pd.DataFrame) -> None:
    """Scheduled and actual arrivals show the package's local clock times; one arrived in an hour that did not exist."""
    source = package.loc[year["event_id"]]
    zones = year["dest"].map(flights_data._zones(flights_data._package_data()))
    wrong = []
    for ours, theirs in (("scheduled_arrival", "sched_arr_time"), ("arrived_at", "arr_time")):
        for name, rows in year[year[ours].notna()].groupby(zones):
            local = pd.to_datetime(rows[ours].astype("int64"), unit="ms", utc=True).dt.tz_convert(name)
            clock = source[theirs].loc[rows["event_id"]] % 2400
            wrong += rows["event_id"][(local.dt.hour * 100 + local.dt.minute).to_numpy() != clock.to_numpy()].tolist()
    assert wrong == ["2013-03-09-B635-JFK-PBI-2145"]  # 02:03 by the package, in the night in which 02:00 became 03:00


def test_arrivals_agree_with_departure_and_time_in_the_air(year: pd.DataFrame, package: pd.DataFrame) -> None:
    """Between leaving and arriving lie the time in the air and 5 to 235 minutes on the ground, on the right day."""
    source = package.loc[year["event_id"]].reset_index()
    left = year["scheduled_departure"] // MINUTE_MS + source["dep_delay"]
    ground = (year["arrived_at"] // MINUTE_MS - left - source["air_time"])[year["arrived_at"].notna()]
    assert (ground.min(), ground.max()) == (5, 235)


@pytest.mark.parametrize(
    ("event_id", "departure", "arrival"),
    [
        ("2013-01-09-HA51-JFK-HNL-0900", "2013-01-09T14:00Z", "2013-01-10T01:30Z"),
        ("2013-07-06-UA887-EWR-ANC-1615", "2013-07-06T20:15Z", "2013-07-07T03:53Z"),
        ("2013-07-27-US1632-EWR-LGA-0106", "2013-07-27T05:06Z", "2013-07-27T06:45Z"),
    ],
)
def test_known_schedules(year: pd.DataFrame, event_id: str, departure: str, arrival: str) -> None:
    """Schedules converted by hand: Hawaii without, Alaska with daylight saving, the shortest hop."""
    row = year.set_index("event_id").loc[event_id]
    times = [pd.Timestamp(row[name], unit="ms") for name in ("scheduled_departure", "scheduled_arrival")]
    assert [f"{time:%Y-%m-%dT%H:%MZ}" for time in times] == [departure, arrival]


def test_an_event_never_knows_its_outcome(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Events are the same, in the same order, if all outcomes are deleted and the package's rows are turned round."""
    source = flights_data._package_data()
    with zipfile.ZipFile(source / "flights.csv.zip") as archive, archive.open("flights.csv") as table:
        raw = pd.read_csv(table, nrows=5000)
    expected = None
    for number, rows in enumerate((raw, raw[::-1].assign(dep_delay=None, arr_time=None, arr_delay=float("nan")))):
        folder = tmp_path / str(number)
        folder.mkdir()
        rows.to_csv(folder / "flights.csv.zip", index=False)
        (folder / "airports.csv").write_bytes((source / "airports.csv").read_bytes())
        monkeypatch.setattr(flights_data, "_package_data", lambda folder=folder: folder)
        events = flights_data.events(flights_data.flights())
        expected = expected or events
        assert len(events) == 5000
        assert events == expected


@pytest.mark.parametrize("start", ["1995-04-02", "2013-03-10", "2013-07-01", "2013-11-03", "2031-03-09"])
def test_hour_and_weekday_are_new_yorks(start: str) -> None:
    """Hour and weekday follow New York's clocks through both changes of the year, and in other years."""
    first = int(pd.Timestamp(start, tz=NEW_YORK).timestamp()) * 1000
    for time_ms in range(first - 3 * HOUR_MS, first + 30 * HOUR_MS, 29 * MINUTE_MS):
        event = SimpleNamespace(scheduled_departure=time_ms)
        local = datetime.fromtimestamp(time_ms / 1000, NEW_YORK)
        assert new_york.hour_of(event) == (local.hour * 60 + local.minute) / 60
        assert new_york.weekday_of(event) == local.weekday()


def test_figures_of_the_page(year: pd.DataFrame) -> None:
    """docs/flights.md states the figures of this data."""
    page = (ROOT / "docs" / "flights.md").read_text()
    delay_min = (year["arrived_at"] - year["scheduled_departure"]).dropna() // MINUTE_MS
    first = year.head(60_000)
    late = [(rows["arr_delay"].dropna() > 15).mean() for rows in (year, first)]
    figures = {
        "flights": [len(year), len(first)],
        "labelled": [rows["arr_delay"].notna().sum() for rows in (year, first)],
        "without a label": [rows["arr_delay"].isna().sum() for rows in (year, first)],
        "without a tail number": [rows["tailnum"].isna().sum() for rows in (year, first)],
    }
    for name, (whole, part) in figures.items():
        assert f"| {name} | {whole:,} | {part:,} |" in page
    assert f"| late by more than 15 minutes | {late[0]:.2%} | {late[1]:.2%} |" in page
    minutes = [int(delay_min.quantile(q)) for q in (0, 0.5, 0.99, 1)]
    assert "| after the event, minutes | {} | {} | {} | {:,} |".format(*minutes) in page


def test_a_negative_limit_is_refused() -> None:
    """A limit below zero is a mistake, not a count from the end."""
    with pytest.raises(ValueError, match="at least 0"):
        flights_data.flights(-1)
