"""The scan: two-sample statistics, references, thresholds, and columns that misbehave."""

import math
import pickle
import random

import numpy as np
import pytest
from scipy import stats

from headrace.processors import bins
from headrace.processors.references import fixed, previous, same_hour
from headrace.processors.scan import WARM_UP, Scan
from headrace.processors.thresholds import threshold
from headrace.processors.twosample import STATISTICS, distance
from headrace.streams.identity import pickling

HOUR_MS = 3_600_000


def run(scan, values, *, chunk=512, step_ms=1000, state=None):
    """What the scan finds in the values, fed in chunks: (place, finding)."""
    state = scan.fresh() if state is None else state
    rows = [(value, i * step_ms, 0, i, f"e{i}") for i, value in enumerate(values)]
    found = []
    for start in range(0, len(rows), chunk):
        found += [(start + at, finding) for at, finding in scan.run(rows[start : start + chunk], state)]
    return found


def numbers(n, seed=1, mean=0.0, spread=1.0):
    """Normal numbers."""
    rng = random.Random(seed)
    return [rng.gauss(mean, spread) for _ in range(n)]


def test_g_is_the_likelihood_ratio():
    """The weighted Jensen-Shannon statistic is the G of a contingency table, Kolmogorov-Smirnov's D is SciPy's."""
    window, reference = np.array([12.0, 30.0, 8.0]), np.array([300.0, 420.0, 280.0])
    g = stats.chi2_contingency(np.array([window, reference]), correction=False, lambda_="log-likelihood").statistic
    assert STATISTICS["js"](window, reference) == pytest.approx(g)
    a, b = (np.repeat([0, 1, 2], counts.astype(int)) for counts in (window, reference))
    assert distance("ks", window, reference) == pytest.approx(stats.ks_2samp(a, b).statistic)
    assert distance("psi", window, window * 20) == pytest.approx(0.0, abs=1e-3)


@pytest.mark.parametrize("statistic", STATISTICS)
def test_a_bin_that_is_empty_in_both_samples_is_no_distance(statistic):
    """That of missing values, where none is missing, adds nothing."""
    window, reference = np.array([3.0, 5.0, 0.0]), np.array([300.0, 500.0, 200.0])
    bare = STATISTICS[statistic](window, reference)
    assert STATISTICS[statistic](np.append(window, 0.0), np.append(reference, 0.0)) == pytest.approx(bare)


@pytest.mark.parametrize("statistic", ["js", "ks", "psi"])
@pytest.mark.parametrize(
    "reference", [previous(), previous(4000), previous("20m"), fixed(1000), fixed(end="1970-01-01T00:20:00")]
)
def test_a_shift_is_found_soon_and_nothing_before_it(statistic, reference):
    """A shift by one standard deviation shows within 150 values, whatever the statistic and the reference."""
    scan = Scan(statistic, false_alarms_every=1_000_000, reference=reference)
    (place, finding), *_ = run(scan, numbers(3000) + numbers(400, 2, mean=1.0))
    assert 3000 <= place < 3150
    assert finding.last_offset == place
    assert finding.first_offset == place + 1 - finding.n
    assert finding.strength >= 1
    assert finding.statistic["score"] >= finding.statistic["threshold"]
    assert finding.statistic["threshold"] == pytest.approx(threshold(statistic, reference.grows, 10, 1_000_000 / 32))
    assert finding.statistic["after"] > 0.4


def test_a_finding_tells_the_mean_of_its_window_and_of_all_that_it_is_compared_with():
    """Of numbers that are there; after one, of those only that it was found in and that came since."""
    rng, scan = random.Random(1), Scan(false_alarms_every=100_000)
    values = [rng.choice([0, 1, 1, 1, None] if 1000 <= i < 2000 else [0, 0, 1, 1, None]) for i in range(2500)]
    (_, first), (_, second) = run(scan, values)
    assert first.n >= 64
    for since, finding in ((0, first), (first.first_offset, second)):
        at, end = finding.first_offset, finding.last_offset + 1
        for name, part in (("before", values[since:at]), ("after", values[at:end])):
            there = [value for value in part if value is not None]
            assert finding.statistic[name] == pytest.approx(sum(there) / len(there))


def test_a_change_of_spread_is_found_where_the_mean_stays():
    """What only mean-based detectors would miss."""
    (place, _), *_ = run(Scan(false_alarms_every=100_000), numbers(2000) + numbers(400, 2, spread=2.5))
    assert 2000 <= place < 2200


def test_a_change_of_how_features_go_together_is_found():
    """Correlation that turns around, each feature by itself as before."""
    pairs = [(x, x + 0.3 * e) for x, e in zip(numbers(2000), numbers(2000, 2), strict=True)]
    turned = [(x, -x + 0.3 * e) for x, e in zip(numbers(600, 3), numbers(600, 4), strict=True)]
    (place, finding), *_ = run(Scan(false_alarms_every=100_000, size=15), pairs + turned)
    assert 2000 <= place < 2300
    assert "region" in finding.said


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize(
    "changed", [lambda x: (x + 1.0, 7.0), lambda x: (x, 8.0), lambda x: (x, 6.0)], ids=["the other", "up", "down"]
)
def test_a_feature_that_is_constant_at_first_blinds_no_other(order, changed):
    """Beside it the others have their regions, and anything else than the constant is news."""
    stable = [(x, 7.0)[::order] for x in numbers(2000)]
    (place, _), *_ = run(
        Scan(false_alarms_every=100_000, size=15), stable + [changed(x)[::order] for x in numbers(400, 2)]
    )
    assert 2000 <= place < 2200


def test_regions_are_small_where_many_share_a_value():
    """A flag that is seldom set, counts, and a day of the week leave regions of at most twice their share, or few."""
    rng = random.Random(1)
    for other in (lambda: float(rng.random() < 0.1), lambda: float(int(rng.expovariate(0.5))), lambda: 3.0):
        values = [(rng.gauss(0, 1), other(), rng.gauss(0, 1)) for _ in range(WARM_UP)]
        place = bins.reader(bins.fit(values, 10))
        counts = [0] * 12
        for value in values:
            counts[place(value)] += 1
        assert max(counts) <= 50


def test_a_new_category_is_found_and_named_as_an_example():
    """Text is counted by value; the ids are of events with what there is more of."""
    rng = random.Random(1)
    values = [rng.choice("aabbc") for _ in range(1500)] + [rng.choice("aabbz") for _ in range(300)]
    (place, finding), *_ = run(Scan(false_alarms_every=100_000), values)
    assert place < 1600
    assert values[int(finding.examples[0][1:])] == "z"
    assert "other values went from 0.0%" in finding.said


@pytest.mark.parametrize("chunk", [1, 7, 512, 5000])
def test_chunks_change_nothing(chunk):
    """However values come in batches, and with a restore in the middle, the findings are the same."""
    values = numbers(2500) + numbers(500, 2, mean=1)
    for reference in (previous(700), fixed(500), same_hour(2)):
        scan = Scan("ks", false_alarms_every=20_000, every=16, reference=reference)
        steps = {"step_ms": HOUR_MS // 10 * 3}
        whole = run(scan, values, **steps)
        assert run(scan, values, chunk=chunk, **steps) == whole
        state = scan.fresh()
        rows = [(value, i * steps["step_ms"], 0, i, f"e{i}") for i, value in enumerate(values)]
        first = scan.run(rows[:1111], state)
        state = pickling.loads(pickle.dumps(state))
        assert first + [(1111 + at, finding) for at, finding in scan.run(rows[1111:], state)] == whole


def test_the_same_hour_knows_the_time_of_day():
    """A daily rhythm is no drift against the same hour, but it is one against what came before."""
    rng = random.Random(1)
    minutes = 5 * 7 * 24 * 60
    values = [rng.gauss(3 * math.sin(i / (24 * 60) * 2 * math.pi), 1.0) for i in range(0, minutes, 1)]
    changed = [value + 2.0 for value in values[:3000]]
    settings = {"false_alarms_every": 1_000_000}
    seasonal = run(Scan("ks", reference=same_hour(), **settings), values + changed, step_ms=60_000)
    assert run(Scan("ks", reference=previous(), **settings), values, step_ms=60_000)
    assert len(values) <= seasonal[0][0] < len(values) + 200


@pytest.mark.parametrize(
    ("statistic", "make"),
    [
        ("js", lambda rng, n: (rng.random(n) < 0.1).astype(float).tolist()),
        ("ks", lambda rng, n: rng.normal(size=n).tolist()),
        ("psi", lambda rng, n: rng.exponential(size=n).tolist()),
    ],
)
def test_the_budget_is_kept(statistic, make):
    """On stable streams there are not more than 1.5 times the false alarms that were declared."""
    rng, budget, streams = np.random.default_rng(3), 5_000, 30
    found = sum(len(run(Scan(statistic, false_alarms_every=budget), make(rng, 10_000))) for _ in range(streams))
    assert found <= 1.5 * streams * 10_000 / budget


def test_the_budget_is_kept_where_a_bin_is_never_used():
    """The population stability index of numbers of which none is missing, beside a large reference."""
    rng, budget, streams, n = np.random.default_rng(4), 3_200, 20, 16_000
    scan = Scan("psi", false_alarms_every=budget, reference=fixed(5_000))
    found = sum(len(run(scan, rng.normal(size=5_000 + n).tolist())) for _ in range(streams))
    assert found <= 1.3 * streams * n / budget


@pytest.mark.parametrize(
    "values",
    {
        "constant": [3.0] * 3000,
        "all missing": [None] * 3000,
        "new text every time": [f"id-{i}" for i in range(3000)],
        "heavy tails": [math.tan(math.pi * (random.Random(i).random() - 0.5)) * 1e3 for i in range(3000)],
        "huge": [1.7e308, -1.7e308] * 1500,
        "bits": [True, False, False] * 1000,
        "nothing but zeros": [0] * 3000,
    }.items(),
    ids=lambda item: item[0],
)
def test_columns_that_misbehave_raise_no_alarm_and_stay_bounded(values):
    """No crash, no alarm where nothing changes, and no more than some kilobytes kept."""
    scan = Scan(false_alarms_every=1_000_000)
    state = scan.fresh()
    assert run(scan, values[1], state=state) == []
    assert len(pickling.dumps(state)) < 40_000


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ([3.0], [3.0, 4.0]),
        ([None], [None, 1.0]),
        ([None], ["a"]),
        ([1.0, 2.0], [None, 1.0]),
        (["a"], [None]),
        (["a", "b"], [str(i) for i in range(300)]),
        ([(1.0, 2.0)], [(1.0, None)]),
    ],
)
def test_a_column_that_begins_to_misbehave_is_found(before, after):
    """A constant that varies, values that go missing or come, categories that explode."""
    scan = Scan(false_alarms_every=100_000)
    values = (before * 1000)[:1000] + (after * 300)[:300]
    (place, _), *_ = run(scan, values)
    assert 1000 <= place < 1160


def test_values_of_another_kind_count_as_missing():
    """A number among text, or text among numbers, is no crash."""
    assert run(Scan(false_alarms_every=100_000), [1.0, 2.0] * 200 + ["x"] * 100)
    assert run(Scan(false_alarms_every=100_000), ["a", "b"] * 200 + [1.0] * 100)


def test_bins_hold_equal_shares():
    """Quantiles for numbers; a QuantTree's cuts for vectors."""
    rng = random.Random(1)
    for values in (numbers(WARM_UP), [(rng.random(), rng.random(), rng.random()) for _ in range(WARM_UP)]):
        binned = bins.fit(values, 10)
        place = bins.reader(binned)
        counts = [0] * bins.size(binned)
        for value in values:
            counts[place(value)] += 1
        assert counts == [20] * 10 + [0]


def test_thresholds_grow_with_the_budget_and_the_bins():
    """Also between the table's entries and beyond its ends."""
    for name in STATISTICS:
        for grows in (True, False):
            by_budget = [threshold(name, grows, 11, blocks) for blocks in (50, 200, 2_000, 20_000, 200_000)]
            assert by_budget == sorted(by_budget)
    assert threshold("js", True, 4, 1000.0) < threshold("js", True, 9, 1000.0) < threshold("js", True, 17, 1000.0)


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: Scan("chi2", false_alarms_every=100_000), "js, psi, ks"),
        (lambda: Scan(every=8, false_alarms_every=100_000), "at least 16"),
        (lambda: Scan(every=32, false_alarms_every=1000), "at least 100 times every"),
        (lambda: Scan(size=1, false_alarms_every=100_000), "from 2 to 15"),
        (lambda: previous(0), "1 or more"),
        (lambda: previous("soon"), "duration"),
        (lambda: fixed(), "n, or start and end"),
        (lambda: fixed(start="2013-02-01", end="2013-01-01"), "before end"),
        (lambda: same_hour(0), "1 or more"),
    ],
)
def test_bad_arguments_are_refused(make, why):
    """The error says what is legal."""
    with pytest.raises(ValueError, match=why):
        make()


class Nan(float):
    """A NaN with a hash of its own, as NaNs have by their address."""

    def __new__(cls, hashed):
        made = super().__new__(cls, math.nan)
        made.hashed = hashed
        return made

    def __hash__(self):
        return self.hashed


@pytest.mark.parametrize("vectors", [False, True])
def test_bins_do_not_depend_on_where_a_nan_lies(vectors):
    """What is no number has no say in them, and counts as missing."""
    fitted = set()
    for seed in range(20):
        rng = random.Random(seed)
        values = [float(i % 7) if i % 5 else Nan(rng.getrandbits(60)) for i in range(WARM_UP)]
        fitted.add(bins.fit([(v, 1.0) for v in values] if vectors else values, 10))
    (binned,) = fitted
    if not vectors:
        assert binned[1] == (0.5, 1.5, 2.5, 3.5, 4.5, 5.5)
        assert bins.reader(binned)(math.nan) == bins.size(binned) - 1


def test_a_scan_goes_on_after_numbers_that_are_none():
    """They count as missing: sums are of the others."""
    scan = Scan(false_alarms_every=10_000)
    state = scan.fresh()
    run(scan, [math.nan if i % 3 == 0 else 1.0 + i % 2 for i in range(3 * WARM_UP)], state=state)
    assert math.isfinite(state["sum"])
    assert math.isfinite(state["total"])
    assert bins.fit([math.nan, math.inf, None], 10) == ("any", ())
