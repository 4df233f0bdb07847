"""The water stream is River's, and its labels are what the gauge really showed six hours later."""

from __future__ import annotations

import json
from pathlib import Path

import fastavro
import pytest
from river.datasets import WaterFlow

from headrace.examples import water_data

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_labels_are_the_later_measurements() -> None:
    """Each label is the flow of the event six hours after its own, and known at that event's time."""
    frame = water_data.frame()
    events = {event["event_id"]: event for event in water_data.events(frame)}
    flow_at = {event["measured_at"]: event["flow"] for event in events.values()}
    labels = water_data.labels(frame)
    assert all(label["known_at"] == events[label["event_id"]]["measured_at"] + 6 * 3_600_000 for label in labels)
    assert all(label["flow_ahead"] == flow_at[label["known_at"]] for label in labels)
    assert (len(events), len(labels)) == (1268, 1234)


def test_events_are_rivers_rows() -> None:
    """Flows are those of River's dataset in its order, and times go forward."""
    events = water_data.events(water_data.frame())
    assert [event["flow"] for event in events] == [y for _, y in WaterFlow()]
    times = [event["measured_at"] for event in events]
    assert times == sorted(set(times))
    assert events[0]["event_id"] == "main-2022-03-20T10:00Z"


def test_records_obey_the_schemas() -> None:
    """Events and labels can be written with their schemas, which have their fields in their order."""
    frame = water_data.frame()
    for name, columns, records in (
        ("water_reading.avsc", water_data.EVENT_COLUMNS, water_data.events(frame)),
        ("water_outcome.avsc", water_data.LABEL_COLUMNS, water_data.labels(frame)),
    ):
        schema = json.loads((EXAMPLES / name).read_text())
        assert tuple(field["name"] for field in schema["fields"]) == columns
        assert fastavro.validation.validate_many(records, fastavro.parse_schema(schema), strict=True)


def test_a_limit_takes_the_first_rows_as_they_are() -> None:
    """A limited frame is the head of the whole one, labels included."""
    assert water_data.frame(10).equals(water_data.frame().head(10))


def test_a_negative_limit_is_refused() -> None:
    """A limit below zero is a mistake, not a count from the end."""
    with pytest.raises(ValueError, match="at least 0"):
        water_data.frame(-1)
