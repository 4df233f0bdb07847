"""Proxies: what is said before labels come, and how right it was."""

import math
import random

import pytest

from headrace.processors.estimates import area
from headrace.processors.health import distinct
from headrace.processors.proxies import Proxies, Proxy
from headrace.streams.state import Stores

DAY_MS = 86_400_000


def proxy(task="binary", every=100, features=(), **options):
    """A processor, and its state."""
    made = Proxy(task, Proxies(every=every, **options), features, 2 * DAY_MS)
    return made, Stores({"checked": tuple(made.stores())}, None).states["checked"]


def run(made, state, rows, chunk=10**9):
    """The records of these rows, fed in chunks."""
    found = []
    for start in range(0, len(rows), chunk):
        found += [record for _, record in made.process_many(rows[start : start + chunk], state)]
    return found


def served(p, offset, time_ms=None):
    """A binary answer."""
    return ("p", (p > 0.5, p, None), offset if time_ms is None else time_ms, offset)


def turned_out(p, y, offset, delay_ms=5_000, time_ms=None):
    """Its label."""
    asked = offset if time_ms is None else time_ms
    return ("y", p > 0.5, y, p, asked, asked + delay_ms, offset)


def stream(n, seed=1, drift=1.0):
    """Probabilities, and labels that come true as often as they say (or `drift` times as often)."""
    rng = random.Random(seed)
    out = []
    for _ in range(n):
        p = rng.random()
        out.append((p, rng.random() < p * drift))
    return out


def test_what_probabilities_promise_is_kept_when_they_are_calibrated():
    """The estimate made before any label of the window came is close to what came: accuracy, F1, ROC AUC, cost."""
    made, state = proxy(every=2000, costs={(True, False): 5.0, (False, True): 1.0})
    pairs = stream(2000)
    rows = [served(p, i) for i, (p, _) in enumerate(pairs)]
    (estimate,) = run(made, state, rows)
    assert (estimate.window, estimate.n, estimate.scored) == ("proxy-2000", 2000, 2000)
    (scored,) = run(made, state, [turned_out(p, y, i) for i, (p, y) in enumerate(pairs)])
    assert scored.window == "proxy-scored-2000"
    assert scored.metrics["Coverage"] == 1.0
    for name in ("Accuracy", "F1", "ROCAUC"):
        assert scored.metrics["Estimated" + name] == estimate.metrics["Estimated" + name]
        assert scored.metrics[name] == pytest.approx(estimate.metrics["Estimated" + name], abs=0.03)
    assert scored.metrics["Cost"] == pytest.approx(estimate.metrics["EstimatedCost"], abs=0.1)


def test_sums_that_are_nothing_are_no_divisors():
    """Models may state probabilities below 0, and as small as floats go."""
    assert area([5e-324], [5e-324]) is None
    made, state = proxy(every=20)
    (estimate,) = run(made, state, [served(p, i) for i, p in enumerate([-1.0] * 20)])
    assert "EstimatedF1" in estimate.metrics


def test_calibration_is_told_with_the_labels():
    """The expected calibration error is small where probabilities come true, large where half of them do not."""
    told = []
    for drift in (1.0, 0.5):
        made, state = proxy(every=2000)
        pairs = stream(2000, drift=drift)
        rows = [served(p, i) for i, (p, _) in enumerate(pairs)]
        rows += [turned_out(p, y, i) for i, (p, y) in enumerate(pairs)]
        told.append(run(made, state, rows)[-1].metrics["ECE"])
    assert told[0] < 0.05
    assert told[1] == pytest.approx(0.25, abs=0.03)


def test_estimates_learn_from_labels_that_probabilities_lie():
    """A model that is too sure is found out: after 3,000 labels the estimate is near the truth, before it was not."""
    made, state = proxy(every=1000)
    errors = []
    for window in range(4):
        pairs = stream(1000, seed=window, drift=0.5)
        base = window * 1000
        records = run(made, state, [served(p, base + i) for i, (p, _) in enumerate(pairs)])
        records += run(made, state, [turned_out(p, y, base + i) for i, (p, y) in enumerate(pairs)])
        (scored,) = [record for record in records if "scored" in record.window]
        errors.append(abs(scored.metrics["Accuracy"] - scored.metrics["EstimatedAccuracy"]))
    assert errors[0] > 0.1
    assert errors[3] < 0.05


def test_labels_that_come_later_and_later_are_told():
    """Delay and coverage of each window; one whose labels never come is scored when they cannot any more."""
    made, state = proxy(every=100)
    rows = []
    for window in range(3):
        at = window * DAY_MS
        rows += [served(0.9, window * 100 + i, at) for i in range(100)]
        came = 100 if window < 2 else 40
        rows += [turned_out(0.9, True, window * 100 + i, 10_000 * 100**window, at) for i in range(came)]
    rows += [served(0.9, 300, 9 * DAY_MS)]
    scored = [record.metrics for record in run(made, state, rows) if "scored" in record.window]
    assert [metrics["Coverage"] for metrics in scored] == [1.0, 1.0, 0.4]
    delays = [metrics["DelayP50_s"] for metrics in scored]
    assert delays[0] < delays[1] < delays[2]
    assert 10 <= delays[0] < 20


def test_times_before_1970_are_times_like_others():
    """A window waits for its labels as long there: none is scored before they can come."""
    found = []
    for start in (0, -10 * DAY_MS):
        made, state = proxy()
        rows = [served(0.9, i, start + i) for i in range(100)]
        rows += [turned_out(0.9, True, i, time_ms=start + i) for i in range(100)]
        found.append([record.metrics["Coverage"] for record in run(made, state, rows) if "scored" in record.window])
    assert found == [[1.0], [1.0]]


@pytest.mark.parametrize("chunk", [1, 13, 512])
def test_chunks_change_nothing(chunk):
    """The records are the same however rows come in batches."""
    rows = []
    for i, (p, y) in enumerate(stream(1000)):
        rows += [served(p, i), ("x", {"a": p, "b": str(i)}, i, i)]
        if i > 50:
            rows.append(turned_out(p, y, i - 50))
    made, state = proxy(features=("a", "b"))
    other, fresh = proxy(features=("a", "b"))
    assert run(made, state, rows, chunk) == run(other, fresh, rows)


def test_the_health_of_features():
    """Constant, missing, exploding and new values are told of each feature, in bounded memory."""
    made, state = proxy(every=1000, features=("constant", "missing", "id", "colour"))
    colours = ["red", "green"]
    rows = [("x", {"constant": 7, "id": f"id{i}", "colour": colours[i % 2]}, i, i) for i in range(1000)]
    rows += [("x", {"constant": 7, "id": f"id{i}", "colour": "blue"}, i, i) for i in range(1000, 2000)]
    records = run(made, state, rows)
    told = {record.segment: record.metrics for record in records[4:]}
    assert told["feature=constant"] == {"Missing": 0.0, "Constant": 1.0, "Distinct": 1.0, "New": 0.0}
    assert told["feature=missing"]["Missing"] == 1.0
    assert told["feature=id"]["Distinct"] == pytest.approx(1000, rel=0.35)
    assert told["feature=colour"]["New"] == 0.001
    assert len(str(state["proxies"].value)) < 60_000


def test_other_tasks():
    """Multiclass has confidence, diversity and accuracy; regression the spread of predictions and the error."""
    made, state = proxy("multiclass")
    rows = [("p", ("ab"[i % 2], None, {"a": 0.2, "b": 0.8}), i, i) for i in range(100)]
    rows += [("y", "ab"[i % 2], "a", None, i, i + 1000, i) for i in range(100)]
    estimate, scored = run(made, state, rows)
    assert estimate.metrics["Diversity"] == pytest.approx(1.0)
    shares = {name: told for name, told in estimate.metrics.items() if name.startswith("Predicted=")}
    assert sum(shares.values()) == pytest.approx(1.0)
    assert estimate.metrics["Confidence"] == pytest.approx(0.8)
    assert scored.metrics["Accuracy"] == 0.5
    made, state = proxy("regression")
    rows = [("p", (float(i), None, None), i, i) for i in range(100)] + [
        ("y", float(i), i + 2.0, None, i, i + 1000, i) for i in range(100)
    ]
    estimate, scored = run(made, state, rows)
    assert estimate.metrics["MeanPrediction"] == 49.5
    assert scored.metrics["MAE"] == 2.0


@pytest.mark.parametrize("offset", [0.0, 1.7e9, -1e12])
def test_the_spread_of_predictions_is_theirs_wherever_they_lie(offset):
    """Moments in seconds or milliseconds are large beside what they differ by."""
    made, state = proxy("regression")
    (record,) = run(made, state, [("p", (offset + i, None, None), i, i) for i in range(100)])
    assert record.metrics["MeanPrediction"] == pytest.approx(offset + 49.5, rel=1e-8)
    assert record.metrics["Spread"] == pytest.approx(math.sqrt((100**2 - 1) / 12))


def test_many_and_long_labels():
    """Beyond 256 different answers the others are counted as one; of a label's text only the beginning is told."""
    made, state = proxy("multiclass", every=600)
    labels = ["x" * 10_000] * 10 + [f"c{i}" for i in range(295)] * 2
    (record,) = run(made, state, [("p", (label, None, {label: 1.0}), i, i) for i, label in enumerate(labels)])
    shares = [10, *[2] * 255, 600 - 10 - 2 * 255]
    even = -sum(n / 600 * math.log(n / 600) for n in shares) / math.log(len(shares))
    assert record.metrics["Diversity"] == pytest.approx(even)
    assert record.metrics["Predicted=" + "x" * 60] == pytest.approx(10 / 600, rel=1e-6)
    assert max(map(len, record.metrics)) == 70


def test_what_was_not_answered_is_counted():
    """An untrained model's silence is no answer."""
    made, state = proxy(every=10)
    (record,) = run(made, state, [("p", (None, None, None), i, i) for i in range(10)])
    assert (record.scored, record.metrics["Answered"]) == (0, 0.0)


def test_a_label_for_a_window_that_was_scored_is_left_out():
    """Too late to count, and no crash."""
    made, state = proxy(every=10)
    rows = [served(0.9, i) for i in range(10)] + [turned_out(0.9, True, i) for i in range(10)]
    assert len(run(made, state, rows)) == 2
    assert run(made, state, [turned_out(0.9, True, 3), served(0.9, 10), turned_out(0.9, True, 4)]) == []
    assert state["proxies"].value["window"]["y"]["labelled"] == 0


def test_many_open_windows_are_bounded():
    """At most 64 wait for labels."""
    made, state = proxy(every=10)
    records = run(made, state, [served(0.9, i, 0) for i in range(1000)])
    assert len(state["proxies"].value["waiting"]) == 64
    assert sum("scored" in record.window for record in records) == 36


def test_few_values_are_counted_exactly():
    """Below 64 the sketch is exact."""
    assert distinct([1, 5, 9]) == 3.0
    assert math.isclose(distinct(list(range(1, 65))), 63 * 2**32 / 64)


@pytest.mark.parametrize(
    "options", [{"every": 5}, {"costs": {"a": 1.0}}, {"costs": {(True, False): "high"}}, {"features": "distance"}]
)
def test_bad_wishes_are_refused(options):
    """Where they are written."""
    with pytest.raises(ValueError, match="must"):
        Proxies(**options)
