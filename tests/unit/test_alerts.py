"""Alerts: opened, updated, resolved, and never a flood."""

import pytest

from headrace.processors.alerts import Lifecycle
from headrace.processors.findings import Finding
from headrace.streams.identity import pickling

HOUR = 3_600_000
MINUTE = 60_000


def finding(time_ms, offset, strength=1.0):
    """A detection."""
    return Finding(time_ms, 0, offset - 10, offset, 11, strength, {"score": strength}, (f"e{offset}",), "moved")


def told(found_at, minutes, *, batch=10**9, strengths=None, step=1):
    """(status, minute, findings) of the alerts, one value each `step` minutes, detections at those places."""
    lifecycle, out = Lifecycle("error_drift", "error", "d", "t"), []
    state = lifecycle.fresh()
    rows = [(0.0, i * step * MINUTE, 0, i, None) for i in range(minutes // step)]
    found = {i: finding(rows[i][1], i, (strengths or {}).get(i, 1.0)) for i in found_at}
    for start in range(0, len(rows), batch):
        part = rows[start : start + batch]
        here = [(i, found[start + i]) for i in range(len(part)) if start + i in found]
        for at, alert in lifecycle.run(part, here, state):
            assert alert.time_ms == rows[start + at][1]
            out.append((alert.status, start + at, alert.findings))
        state = pickling.loads(pickling.dumps(state))
    return out


def test_a_matter_is_opened_and_resolved():
    """One detection: opened at once, resolved after a cool-down without another, under one id."""
    assert told([5], 200) == [("opened", 5, 1), ("resolved", 65, 1)]


@pytest.mark.parametrize(("n", "since"), [(1, "1 finding"), (3, "3 findings")])
def test_a_resolution_says_what_was_found(n, since):
    """Who reads only the last record of a matter sees what the last finding was."""
    lifecycle = Lifecycle("error_drift", "error", "d", "t")
    rows = [(0.0, i * MINUTE, 0, i, None) for i in range(200)]
    found = [(i, finding(rows[i][1], i)) for i in range(n)]
    alerts = [alert for _, alert in lifecycle.run(rows, found, lifecycle.fresh())]
    assert [alert.message for alert in alerts] == ["error: moved", f"error: moved; nothing new since {since}"]


def test_what_goes_on_is_updated_once_in_a_cool_down():
    """Detections every minute for five hours make one record an hour."""
    records = told(range(10, 310), 500)
    assert [status for status, _, _ in records] == ["opened"] + ["updated"] * 4 + ["resolved"]
    assert records[-1] == ("resolved", 369, 300)


def test_twice_as_strong_is_told_at_once():
    """Strength that doubles is news; the same again is not."""
    records = told([5, 6, 7, 8], 30, strengths={6: 1.5, 7: 2.5, 8: 2.6})
    assert records == [("opened", 5, 1), ("updated", 7, 3)]


def test_what_comes_in_the_cool_down_is_held_back_and_not_lost():
    """After it was resolved at 65, detections at 70 and 80 open the next at 125."""
    records = told([5, 70, 80], 400)
    assert records == [("opened", 5, 1), ("resolved", 65, 1), ("opened", 125, 2), ("resolved", 185, 2)]


@pytest.mark.parametrize("batch", [1, 3, 64])
def test_batches_change_nothing(batch):
    """The records are the same however values come in batches, each restored from a pickle."""
    found = [5, 6, 70, 80, 200, 290, 291, 500]
    assert told(found, 800, batch=batch) == told(found, 800)


def test_ten_thousand_alarms_in_a_second_are_one_alert():
    """All at the same moment: opened once, and the count is kept."""
    lifecycle = Lifecycle("feature_drift", "feature:x", "d", "t")
    state = lifecycle.fresh()
    rows = [(0.0, 1000 + i // 10, 0, i, None) for i in range(10_000)] + [(0.0, 1000 + HOUR * 2, 0, 10_000, None)]
    alerts = lifecycle.run(rows, [(i, finding(rows[i][1], i)) for i in range(10_000)], state)
    assert [(alert.status, alert.findings) for _, alert in alerts] == [("opened", 1), ("resolved", 10_000)]
    assert len({alert.alert_id for _, alert in alerts}) == 1
    assert len(pickling.dumps(state)) < 2_000


def test_time_that_goes_back_changes_nothing():
    """Stream time is the largest so far."""
    lifecycle = Lifecycle("error_drift", "error", "d", "t")
    state = lifecycle.fresh()
    rows = [(0.0, t * MINUTE, 0, i, None) for i, t in enumerate([10, 60, 5, 69, 70, 3])]
    alerts = lifecycle.run(rows, [(0, finding(rows[0][1], 0))], state)
    assert [(alert.status, at) for at, alert in alerts] == [("opened", 0), ("resolved", 4)]


def test_errors_that_became_fewer_are_information():
    """Good news does not wake anybody."""
    lifecycle = Lifecycle("error_drift", "error", "d", "t", "critical")
    better = finding(0, 10)._replace(statistic={"before": 0.4, "after": 0.1})
    ((_, alert),) = lifecycle.run([(0.0, 0, 0, 0, None)], [(0, better)], lifecycle.fresh())
    assert alert.severity == "info"


def test_bad_arguments_are_refused():
    """The error says what is legal."""
    with pytest.raises(ValueError, match="info, warning, critical"):
        Lifecycle("error_drift", "error", "d", "t", "high")
    with pytest.raises(ValueError, match="negative"):
        Lifecycle("error_drift", "error", "d", "t", cooldown_ms=-1)
