"""Calibrated detectors: River's, with the parameter that keeps to a declared budget of false alarms."""

import numpy as np
import pytest
from river import drift

import headrace as h
from headrace.processors.calibrated import calibrated
from headrace.processors.drift import Detector
from headrace.processors.scan import Scan
from headrace.processors.watches import Watch

BUDGET = 3_000
DETECTORS = {
    "ADWIN": drift.ADWIN(),
    "PageHinkley": drift.PageHinkley(),
    "FHDDM": drift.binary.FHDDM(),
    "HDDMA": drift.binary.HDDMA(),
    "HDDMA, both sides": drift.binary.HDDMA(two_sided_test=True),
    "HDDMW": drift.binary.HDDMW(),
}


def stable(signal, seed, n):
    """Two streams of n values each, of which nothing in the calibration's are copies."""
    rng = np.random.default_rng(seed)
    if signal == "bits":
        return [(rng.random(n) < rate).astype(float).tolist() for rate in (0.08, 0.4)]
    if signal == "probabilities":
        return [rng.beta(0.7, 1.2, n).tolist(), rng.beta(3, 1, n).tolist()]
    return [rng.gamma(2.0, 50.0, n).tolist(), rng.standard_t(3, n).tolist()]


def alarms(detector, streams):
    """How often the detector fires."""
    finder = Detector(detector)
    return sum(len(finder.run([(v, i, 0, i, None) for i, v in enumerate(s)], finder.fresh())) for s in streams)


@pytest.mark.parametrize(
    ("name", "signal"),
    [(name, "bits") for name in DETECTORS] + [("ADWIN", "probabilities"), ("PageHinkley", "probabilities")],
)
def test_a_calibrated_detector_keeps_to_its_budget(name, signal):
    """On stable streams of other seeds and shapes it raises at most 1.5 times the false alarms that are declared."""
    streams = stable(signal, seed=77, n=30_000)
    found = alarms(calibrated(DETECTORS[name], signal, BUDGET), streams)
    assert found <= 1.5 * 60_000 / BUDGET


@pytest.mark.parametrize(
    ("detector", "signal", "budget", "n"),
    [(drift.KSWIN(seed=3), "numbers", 3_000, 2_500), (drift.binary.HDDMW(), "bits", 10_000, 30_000)],
)
def test_an_uncalibrated_detector_does_not(detector, signal, budget, n):
    """So the tests above can fail: with River's own parameter there are more, with the calibrated one there are not."""
    streams = stable(signal, seed=5, n=n)
    assert alarms(calibrated(detector, signal, budget), streams) <= 1.5 * 2 * n / budget < alarms(detector, streams)


@pytest.mark.parametrize("name", DETECTORS)
def test_a_larger_budget_is_a_quieter_detector(name):
    """False alarms become fewer as more events between them are declared, and calibrating again changes nothing."""
    detector, streams = DETECTORS[name], stable("bits", seed=8, n=20_000)
    often, seldom = (calibrated(detector, "bits", budget) for budget in (1_000, 200_000))
    assert alarms(seldom, streams) < alarms(often, streams)
    assert calibrated(often, "bits", 1_000)._get_params() == often._get_params()
    assert detector._get_params() == type(detector)(**detector._get_params())._get_params()


def test_a_watch_is_calibrated_by_what_it_sees():
    """Errors of classes are bits, answers are probabilities; the author's detector stays as it is."""
    mine = drift.ADWIN()
    error = h.watch_error(mine, false_alarms_every=100_000).calibrated("binary")
    answer = h.watch_prediction(mine, false_alarms_every=100_000).calibrated("binary")
    assert error.detector.delta == calibrated(mine, "bits", 100_000).delta
    assert answer.detector.delta == calibrated(mine, "probabilities", 100_000).delta
    assert mine.delta == drift.ADWIN().delta
    assert error.calibrated("binary").detector._get_params() == error.detector._get_params()


def test_without_a_budget_a_detector_stays_as_it_is():
    """And its budget is unknown; a comparison with a reference has one by default."""
    mine = drift.ADWIN(delta=0.03)
    watch = h.watch_error(mine).calibrated("binary")
    assert watch.detector is mine
    assert watch.false_alarms_every is None
    assert h.watch_error().false_alarms_every == 100_000
    assert Watch("error", (), Scan(every=16, false_alarms_every=20_000)).false_alarms_every == 20_000


def test_numbers_are_no_errors_of_classes():
    """The absolute error of a regression has no bounds that ADWIN could rely on."""
    with pytest.raises(ValueError, match=r"ADWIN .* on numbers; legal: KSWIN, or no detector"):
        h.watch_error(drift.ADWIN(), false_alarms_every=10_000).calibrated("regression")
