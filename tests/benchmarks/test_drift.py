"""A fixed small part of `make bench SCENARIO=drift`."""

import pytest

from benchmarks.calibrate import simulate
from benchmarks.drift_loop import compare
from benchmarks.drift_streams import BEFORE, DRIFTS, HORIZON, drifting, stable
from headrace.processors.scan import Scan
from headrace.processors.thresholds import threshold

BUDGET = 10_000


def alarms(scan, stream):
    """Where the scan finds something."""
    rows = [(value, i, 0, i, None) for i, value in enumerate(stream.values)]
    return [at for at, _ in scan.run(rows, scan.fresh())]


def scan_for(kind):
    """As the benchmark has it."""
    return Scan("ks" if kind == "feature" else "js", every=16, false_alarms_every=BUDGET)


def test_false_alarms_keep_to_the_budget():
    """On forty stable streams of errors, features and labels not more than 1.5 times as many as declared."""
    streams = [stable(i) for i in range(40) if i % 4]
    found = sum(len(alarms(scan_for(s.kind), s)) for s in streams)
    assert 0 < found <= 1.5 * sum(len(s.values) for s in streams) / BUDGET


@pytest.mark.parametrize("kind", DRIFTS)
def test_every_kind_of_drift_is_found(kind):
    """In each of three streams, within the horizon."""
    for number in range(3):
        stream = drifting(kind, number)
        found = alarms(scan_for(stream.kind), stream)
        assert any(BEFORE <= at < BEFORE + HORIZON for at in found), number


def test_the_loop_closes_by_itself():
    """After a change: alert, retraining that names it, promotion by the gate, and most of the accuracy is back."""
    found = compare(0)
    assert found["share"]["loop"] > 0.8
    assert found["share"]["nothing"] < 0.5


@pytest.mark.parametrize("bins", [3, 11])
def test_thresholds_hold_beside_a_large_fixed_reference(bins):
    """In 300 blocks a budget of as many is exceeded with a chance of 1 - 1/e, or less, on other seeds."""
    largest = simulate([1 / bins] * bins, grows=False, seed=99, every=32, more=5_000, streams=60)
    for statistic, found in largest.items():
        above = found.reshape(5, 300, 60).max(1) > threshold(statistic, False, bins, 300.0)
        assert above.mean() <= 0.70, statistic
