"""Drift: detectors over a signal, and their alerts."""

import math
import pickle
import random
from decimal import Decimal
from types import SimpleNamespace

import numpy as np
import pytest
from river import drift

from headrace.processors.drift import Detector, Drift, error_of
from headrace.processors.references import previous
from headrace.processors.scan import Scan
from headrace.processors.watches import Watch, rollback, watch_error, watch_feature, watch_label, watch_prediction
from headrace.streams.stages.watch import SKIPPED, _answer
from tests.states import fresh_state

DAY_MS = 86_400_000
DETECTORS = {
    "ADWIN": lambda: drift.ADWIN(),
    "PageHinkley": lambda: drift.PageHinkley(threshold=20),
    "KSWIN": lambda: drift.KSWIN(seed=1),
    "DDM": lambda: drift.binary.DDM(),
    "EDDM": lambda: drift.binary.EDDM(),
    "FHDDM": lambda: drift.binary.FHDDM(short_window_size=20),
    "HDDMA": lambda: drift.binary.HDDMA(),
    "HDDMW": lambda: drift.binary.HDDMW(),
    "DummyDriftDetector": lambda: drift.DummyDriftDetector("random", t_0=200, w=50, seed=1),
}


def errors(*rates, each=500):
    """Return 0.0 and 1.0, `each` of them at every rate."""
    rng = random.Random(7)
    return [float(rng.random() < rate) for rate in rates for _ in range(each)]


def fed(processor, values, state=None, first=0):
    """Feed the values at offsets from `first` on, a day apart; return the alerts that were opened."""
    state = fresh_state(processor) if state is None else state
    alerts = [a for o, v in enumerate(values, first) for a in processor.process(v, DAY_MS * o, 2, o, state, f"e{o}")]
    return [alert for alert in alerts if alert.status == "opened"]


@pytest.mark.parametrize("name", [name for name in DETECTORS if name != "FHDDM"])
def test_alerts_come_where_the_detector_fires(name):
    """The offsets of the alerts are those at which the bare detector detects drift, restarts included."""
    values, bare, fired = errors(0.1, 0.6, 0.2, 0.7), DETECTORS[name](), []
    for offset, value in enumerate(values):
        bare.update(value)
        if bare.drift_detected:
            fired.append(offset)
    assert fired
    detector = Detector(DETECTORS[name]())
    found = detector.run([(v, 0, 0, o, None) for o, v in enumerate(values)], detector.fresh())
    assert [finding.last_offset for _, finding in found] == [at for at, _ in found] == fired


@pytest.mark.parametrize("name", DETECTORS)
def test_every_detector_goes_on_after_a_pickle(name):
    """Pickled and restored in mid-stream, after any number of values, a detector gives the same alerts."""
    values = errors(0.1, 0.6, 0.2)
    processor = Drift("error", DETECTORS[name](), topic="t")
    expected = fed(processor, values)
    for split in (1, 333, 777):
        state = fresh_state(processor)
        alerts = fed(processor, values[:split], state)
        state = {key: SimpleNamespace(value=pickle.loads(pickle.dumps(cell.value))) for key, cell in state.items()}
        assert alerts + fed(processor, values[split:], state, first=split) == expected
    assert expected


def test_an_alert_carries_its_evidence():
    """Range, count, means before and after, detector and its parameters are in the alert; the range starts anew."""
    values = errors(0.1, 0.6, 0.1)
    processor = Drift("error", drift.ADWIN(delta=0.01), topic="labels")
    first, second = fed(processor, values, first=100)
    width = int(first.statistic["width"])
    seen = values[: first.last_offset - 99]
    assert (first.kind, first.signal, first.status, first.topic, first.partition) == (
        *("error_drift", "error", "opened", "labels", 2),
    )
    assert (first.first_offset, first.n, first.time_ms) == (100, len(seen), DAY_MS * first.last_offset)
    assert first.statistic["after"] == pytest.approx(sum(seen[-width:]) / width)
    assert first.statistic["before"] == pytest.approx(sum(seen[:-width]) / (len(seen) - width))
    assert first.detector == "ADWIN(delta=0.01, clock=32, max_buckets=5, min_window_length=5, grace_period=10)"
    assert first.examples == [f"e{first.last_offset - i}" for i in (2, 1, 0)]
    assert second.first_offset == first.last_offset + 1
    assert second.n == second.last_offset - first.last_offset


def test_a_detector_without_a_window_compares_the_last_30():
    """Without a window of the detector's own, "after" is the mean of the last 30 values and "before" of the rest."""
    values = errors(0.1, 0.9)
    alert, *_ = fed(Drift("error", drift.PageHinkley(threshold=20), topic="t"), values)
    seen = values[: alert.last_offset + 1]
    assert alert.statistic["after"] == pytest.approx(sum(seen[-30:]) / 30)
    assert alert.statistic["before"] == pytest.approx(sum(seen[:-30]) / (len(seen) - 30))


def test_a_detection_on_the_first_value_has_an_after_only():
    """Where nothing came before, nothing is claimed about it."""
    alert, *_ = fed(Drift("error", drift.DummyDriftDetector("fixed", t_0=1, seed=1), topic="t"), [1.0])
    assert alert.statistic == {"after": 1.0, "width": 1.0, "skipped": 0.0}


def test_values_before_an_alert_are_no_evidence_for_the_next():
    """Two alerts close together: the second tells of the values since the first only."""
    detector = drift.DummyDriftDetector("fixed", t_0=5, seed=1)
    first, second = fed(Drift("error", detector, topic="t"), [1.0] * 5 + [0.0] * 5)
    assert (first.statistic["after"], second.statistic["after"], second.n) == (1.0, 0.0, 5)


@pytest.mark.parametrize("detector", [drift.ADWIN(), Scan(every=16, false_alarms_every=2_000)])
@pytest.mark.parametrize("portion", [1, 7, 10_000])
def test_an_alert_says_in_which_segments_it_changed(detector, portion):
    """Where errors rise in one of three airports, that one comes first; however values come in batches."""
    rng = random.Random(3)
    where = [rng.choice(["JFK", "EWR", "LGA"]) for _ in range(3_000)]
    rates = [0.7 if i >= 2_000 and airport == "JFK" else 0.1 for i, airport in enumerate(where)]
    rows = [(float(rng.random() < rate), DAY_MS * i, 0, i, None) for i, rate in enumerate(rates)]
    processor = Drift("error", detector, topic="t", columns=("origin",))
    state, alerts = fresh_state(processor), []
    for i in range(0, 3_000, portion):
        part = slice(i, i + portion)
        alerts += [a for _, a in processor.process_many(rows[part], state, [(name,) for name in where[part]])]
    alert = next(a for a in alerts if a.status == "opened" and a.last_offset >= 2_000)
    (first, change), *rest = alert.segments.items()
    assert first == "origin=JFK"
    assert change > 0.2
    assert all(abs(other) < change / 2 for _, other in rest)


def test_missing_values_are_no_part_of_a_change():
    """Where half of the values are missing, a segment's change is still that of the values in the window."""
    rng = random.Random(1)
    rows = [(rng.gauss(2.0 * (i >= 2_000), 1) if i % 2 else None, i, 0, i, None) for i in range(2_200)]
    detector = Scan(every=16, false_alarms_every=10_000)
    processor = Drift("feature:f", detector, topic="t", kind="feature", columns=("shop",))
    (_, alert), *_ = processor.process_many(rows, fresh_state(processor), [("ab"[row[3] // 2 % 2],) for row in rows])

    def mean(shop, start, end):
        found = [row[0] for row in rows[start:end] if row[0] is not None and "ab"[row[3] // 2 % 2] == shop]
        return sum(found) / len(found)

    start, end = alert.first_offset, alert.last_offset + 1
    assert end > 2_000
    assert alert.segments == {f"shop={s}": pytest.approx(mean(s, start, end) - mean(s, 0, start)) for s in "ab"}


def test_changes_of_the_largest_numbers_are_no_numbers():
    """Sums that overflow say nothing of a segment: an alert has numbers only, so that every reader can read it."""
    detector = drift.DummyDriftDetector("fixed", t_0=50, seed=1)
    processor = Drift("error", detector, topic="t", cooldown_ms=0, columns=("shop", "town"))
    values = [1e308 if i % 100 < 50 else 1e307 for i in range(200)]
    rows = [(value, i, 0, i, None) for i, value in enumerate(values)]
    towns = [("a", "x" if value > 1e307 else "y") for value in values]
    alerts = [alert for _, alert in processor.process_many(rows, fresh_state(processor), towns)]
    assert len(alerts) > 3
    assert [alert.segments for alert in alerts if not all(map(math.isfinite, alert.segments.values()))] == []


def test_without_segments_there_is_nothing_to_say_of_them():
    """Nothing is kept for what is not declared."""
    processor = Drift("error", drift.ADWIN(), topic="t")
    assert set(fresh_state(processor)["detector"].value) == {"finder", "alert"}
    assert [alert.segments for alert in fed(processor, errors(0.1, 0.6))] == [{}]


def test_fewer_errors_are_good_news():
    """An error that went down is "info", one that went up has the declared severity; a feature has no direction."""
    values = errors(0.1, 0.6, 0.1)
    alerts = fed(Drift("error", drift.ADWIN(), topic="t", severity="critical"), values)
    assert [alert.severity for alert in alerts] == ["critical", "info"]
    alerts = fed(Drift("feature:x", drift.ADWIN(), topic="t", kind="feature"), values)
    assert [(alert.kind, alert.severity) for alert in alerts] == [("feature_drift", "warning")] * 2


@pytest.mark.parametrize("short", [None, 20])
def test_fhddm_fires_when_errors_become_more_frequent(short):
    """River's FHDDM looks for fewer ones, so it is fed successes: worse fires soon, better does not."""
    detector = drift.binary.FHDDM(short_window_size=short)
    alerts = fed(Drift("error", detector, topic="t"), errors(0.1, 0.6, each=300))
    assert alerts
    assert 300 <= alerts[0].last_offset < 380
    assert alerts[0].statistic["after"] > alerts[0].statistic["before"]
    assert not fed(Drift("error", detector, topic="t"), [1.0, 0.0] * 150 + [0.0] * 300)


def test_alert_ids_are_names_of_the_evidence():
    """The same evidence gives the same id; another signal, detector, partition or range another one."""
    values = errors(0.1, 0.6)

    def first_id(signal="error", delta=0.002, first=0, topic="t"):
        return fed(Drift(signal, drift.ADWIN(delta=delta), topic=topic), values, first=first)[0].alert_id

    assert first_id() == first_id() == first_id(topic="renamed")
    assert len({first_id(), first_id(signal="prediction"), first_id(delta=0.0021), first_id(first=1)}) == 4


@pytest.mark.parametrize(
    "missing", [None, "x", "1", math.nan, math.inf, -math.inf, 10**400, Decimal("1.5"), [1.0], np.float64("nan")]
)
def test_what_is_no_number_is_skipped_and_counted(missing):
    """Such values never reach the detector; the next alert says how many there were, then the count starts anew."""
    processor, values = Drift("feature:x", drift.ADWIN(), topic="t", kind="feature"), errors(0.1, 0.6)
    state = fresh_state(processor)
    assert fed(processor, [missing] * 3, state) == []
    alert, *_ = fed(processor, values, state)
    bare, *_ = fed(processor, values)
    assert alert.statistic == bare.statistic | {"skipped": 3.0}
    assert alert.first_offset == 0
    assert state["detector"].value["finder"]["skipped"] == 0


@pytest.mark.parametrize("kind", [bool, int, np.float32, np.int64, np.float64])
def test_numbers_of_any_kind_are_fed(kind):
    """Bools, integers and NumPy's numbers are the floats that they equal."""
    values = errors(0.1, 0.6)
    processor = Drift("feature:x", drift.ADWIN(), topic="t", kind="feature")
    assert fed(processor, [kind(v) for v in values]) == fed(processor, values)


def test_the_detector_handed_in_is_never_fed():
    """The processor is configuration: its state starts from a clone, again and again."""
    detector = drift.ADWIN()
    processor = Drift("error", detector, topic="t")
    assert fed(processor, errors(0.1, 0.6)) == fed(processor, errors(0.1, 0.6))
    assert detector.width == 0


@pytest.mark.parametrize(
    ("detector", "options", "why"),
    [
        (drift.KSWIN(), {}, "needs a seed"),
        (drift.DummyDriftDetector("random", w=10), {}, "needs a seed"),
        (drift.DummyDriftDetector("random", w=10, seed=1, dynamic_cloning=True), {}, "dynamic_cloning=False"),
        (drift.binary.DDM(), {"kind": "feature"}, "take ADWIN"),
        (drift.binary.DDM(), {"task": "regression"}, "take ADWIN"),
        ("ADWIN", {}, "one of river.drift"),
        (drift.ADWIN, {}, "one of river.drift"),
        (drift.ADWIN(), {"kind": "model"}, "error, feature, features, label, prediction"),
        (drift.ADWIN(), {"severity": "high"}, "info, warning, critical"),
        (drift.ADWIN(), {"task": "ranking"}, "binary, multiclass, regression"),
        (drift.ADWIN(), {"topic": ""}, "must be names"),
    ],
)
def test_bad_arguments_are_refused(detector, options, why):
    """The error says what is legal."""
    with pytest.raises(ValueError, match=why):
        Drift("error", detector, **{"topic": "t", **options})


def test_watches_name_their_signal():
    """The author's three words give error, feature:<name> and prediction."""
    detector = drift.ADWIN()
    watches = [watch_error(detector), watch_feature("distance", detector), watch_prediction(detector)]
    assert [watch.signal for watch in watches] == ["error", "feature:distance", "prediction"]


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: Watch("model", (), drift.ADWIN()), "error, feature, features, label, prediction"),
        (lambda: watch_feature("", drift.ADWIN()), "takes 1 to 1 features"),
        (lambda: Watch("error", ("x",), drift.ADWIN()), "takes 0 to 0 features"),
        (lambda: watch_error(drift.KSWIN()), "needs a seed"),
        (lambda: watch_prediction(drift.binary.DDM()), "take ADWIN"),
        (lambda: watch_error(drift.ADWIN(), statistic="js", every=16), "statistic, every: for a watch without"),
        (lambda: watch_error(drift.ADWIN(), only_worse=True), "only_worse: for a watch without a detector"),
        (lambda: watch_label(drift.ADWIN(), reference=previous()), "reference: for a watch without a detector"),
        (lambda: watch_error(drift.binary.DDM(), false_alarms_every=10_000), "of DDM .* legal: ADWIN, PageHinkley"),
        (lambda: watch_error(drift.ADWIN(), severity="info", react=rollback()), "warning or critical beside react="),
        (lambda: watch_error(drift.ADWIN(), false_alarms_every=10), "from 1000 to 1000000 for ADWIN; got 10"),
        (
            lambda: watch_error(drift.binary.HDDMA(two_sided_test=True), false_alarms_every=600_000),
            "from 1000 to 500000 for HDDMA",
        ),
    ],
)
def test_bad_watches_are_refused(make, why):
    """A wrong wish fails where it is written."""
    with pytest.raises(ValueError, match=why):
        make()


@pytest.mark.parametrize(
    ("task", "answer", "y", "error"),
    [
        ("binary", {False: 0.4, True: 0.6}, True, 0.0),
        ("binary", {False: 0.4, True: 0.6}, False, 1.0),
        ("binary", {False: 0.5, True: 0.5}, True, 1.0),
        ("binary", {}, True, None),
        ("binary", None, True, None),
        ("binary", False, False, 0.0),
        ("multiclass", {"a": 0.2, "b": 0.8}, "b", 0.0),
        ("multiclass", "a", "b", 1.0),
        ("regression", 2.5, 4, 1.5),
        ("regression", None, 4, None),
    ],
)
def test_errors(task, answer, y, error):
    """Classes are right (0) or wrong (1) by `predict_one`, numbers are off by so much, no answer is no error."""
    assert error_of(task, answer, y) == error


@pytest.mark.parametrize(
    ("task", "served", "signal"),
    [
        ("binary", (True, 0.6, None), 0.6),
        ("binary", (False, 0.0, None), 0.0),
        ("binary", (True, None, None), SKIPPED),
        ("multiclass", ("b", None, {"a": 0.2, "b": 0.8}), 0.8),
        ("multiclass", ("b", None, {}), SKIPPED),
        ("multiclass", ("b", None, None), SKIPPED),
        ("multiclass", (3, None, None), SKIPPED),
        ("regression", (2.5, None, None), 2.5),
        ("regression", (None, None, None), SKIPPED),
    ],
)
def test_signals_of_predictions(task, served, signal):
    """P(True), the largest probability, or the number; nothing where there is none."""
    assert _answer(task, served) == signal
