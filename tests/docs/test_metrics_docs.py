"""docs/operations.md names every metric and every setting, and none that there is not."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from headrace.examples.flights import flights
from headrace.streams import data
from headrace.streams.metrics import MetricsObserver
from headrace.streams.series import METRICS
from headrace.streams.task import Task
from headrace.streams.topology import group_of
from headrace.streams.worker.tuning import Settings

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "operations.md").read_text(encoding="utf-8")
ROWS = {
    name: (kind, re.findall(r"`(\w+)`", labels))
    for name, kind, labels in re.findall(r"^\| `(headrace_\w+)` \| (\w+) \| ([^|]*)\|", TEXT, re.MULTILINE)
}


@pytest.mark.parametrize("name", METRICS)
def test_every_metric_is_documented(name: str):
    """Each has a row with its type and its own labels."""
    kind = METRICS[name]
    assert ROWS[name] == (
        kind.kind,
        [label for label in kind.labels if label not in ("pipeline", "group", "partition")],
    )


def test_no_other_metric_is_documented():
    """Every name on the page, in tables and queries, is exported."""
    named = {re.sub(r"_bucket$", "", name) for name in re.findall(r"\bheadrace_\w+", TEXT)}
    assert named == set(METRICS)


def test_what_is_exported_is_declared():
    """A worker that did something exports no headrace_ family that is not in the list."""
    observer = MetricsObserver(flights, group_of(), process=False)
    task = Task(flights, group_of(), 0, topics=lambda role: f"flights.{role}")
    events, _ = data.records(flights, data.load(None, flights, 20))
    for offset, record in enumerate(events):
        task.feed(2, offset, record.key, record.value, 0)
    task.merge.end(0)
    task.merge.end(1)
    processed = task.run(100)
    assert processed is not None
    observer.committed([(task, processed)], 0.01, 0)
    exported = re.findall(r"^# TYPE (\w+) ", observer.exposition()[0].decode(), re.MULTILINE)
    assert len(exported) > 15
    assert set(exported) <= set(METRICS)


@pytest.mark.parametrize("field", dataclasses.fields(Settings), ids=lambda field: field.name)
def test_every_setting_is_documented(field: dataclasses.Field[object]):
    """Each setting of a worker has a row with its default."""
    (default,) = re.findall(rf"^\| `{field.name}` \|[^|]*\| ([^|]*) \|", TEXT, re.MULTILINE)
    number, unit = re.fullmatch(r"([\d,]+)(?: (ms|s|h))?", default).groups()  # type: ignore[union-attr]
    factor = {None: 1, "ms": 0.001, "s": 1, "h": 3600}[unit]
    assert int(number.replace(",", "")) * factor == pytest.approx(field.default)


def test_every_exit_code_is_documented():
    """The codes that errors end with are in the table."""
    from headrace.streams import errors
    from headrace.streams.worker.watchdog import STALLED

    known = [value for value in vars(errors).values() if isinstance(value, type)]
    codes = {error.exit_code for error in known if issubclass(error, errors.HeadraceError)} | {0, STALLED}
    assert len(codes) > 3
    assert codes <= {int(code) for code in re.findall(r"^\| (\d+) \| ", TEXT, re.MULTILINE)}
