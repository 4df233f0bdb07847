"""The tests of a new pipeline: what must hold before it runs."""

from __future__ import annotations

from headrace.streams.scaffold.plan import Plan

__all__ = ["checks"]


def checks(plan: Plan, name: str, module: str) -> str:
    """The module of tests."""
    return f'''"""What must hold of `{name}` before it runs: run by `python -m pytest {name}`."""

import pandas as pd
import pytest

from {module} import {module} as pipeline
from {module}loader import SAMPLE, frame


@pytest.fixture(scope="module")
def rows():
    """The first rows of the data."""
    return frame(SAMPLE)


@pytest.fixture(scope="module")
def result(rows):
    """The whole pipeline in memory over them."""
    return pipeline.backtest(rows)


def test_every_row_fits_the_schemas(result):
    """No event and no label of the sample is refused."""
    assert result.dead_letters.empty, result.dead_letters[["stage", "reason", "detail"]].head()


def test_every_event_is_predicted(rows, result):
    """Each is answered once, duplicates aside."""
    assert result.summary.predictions + result.summary.duplicates == len(rows)


def test_nothing_vanishes(result):
    """The conservation laws hold."""
    assert all(result.summary.laws.values()), result.summary.laws


def test_it_learns(result):
    """Labels find their events."""
    assert result.summary.labelled > 0


def test_the_same_again_is_the_same(rows, result):
    """A second run makes the same predictions, to the last bit."""
    pd.testing.assert_frame_equal(pipeline.backtest(rows).predictions, result.predictions, check_exact=True)


def test_the_label_is_no_feature():
    """What is to be predicted is not in the event."""
    assert "{plan.label_field}" not in pipeline.event_schema.names


def test_a_damaged_event_is_set_aside(rows):
    """An event without a time is a dead letter; all others are predicted."""
    damaged = rows.head(20).copy()
    damaged.loc[damaged.index[0], "{plan.time}"] = pd.NaT
    result = pipeline.backtest(damaged)
    assert (result.dead_letters["stage"] == "validate").sum() >= 1
    assert result.summary.events == result.summary.features + 1 + result.summary.duplicates
'''
