"""The oracle does what its rules say, on streams small enough to check by hand, and agrees with River on real ones."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from river import compose, datasets, dummy, linear_model, metrics, optim, preprocessing

from headrace.examples import flights_data
from tests import oracle

MINUTE = 60_000
HOUR = 60 * MINUTE
DAY = 24 * HOUR
NOON = int(datetime(2013, 7, 1, 16, tzinfo=UTC).timestamp() * 1000)  # 12:00 in New York, a Monday


def flight(event_id: str, at: int, tailnum: str | None = "N1", dest: str = "BOS") -> dict[str, Any]:
    """A flight `at` milliseconds after noon."""
    names = {"event_id": event_id, "carrier": "UA", "tailnum": tailnum, "origin": "EWR", "dest": dest}
    return names | {"distance": 200, "scheduled_departure": NOON + at}


def arrival(event_id: str, at: int, delay: int = 60) -> dict[str, Any]:
    """A label known `at` milliseconds after noon, late unless told otherwise."""
    return {"event_id": event_id, "arrived_at": NOON + at, "arr_delay": delay}


def run(events: list[dict[str, Any]], labels: list[dict[str, Any]], **spec: Any) -> dict[str, Any]:
    """The oracle with a model that answers with the share of late flights it has learned."""
    return oracle.run(events, labels, oracle.Spec({"prior": dummy.PriorClassifier()}, **spec))


def test_first_flight_has_only_its_own_values() -> None:
    """Nothing is known before the first event: counts are 0 and means and gaps have their defaults."""
    x = run([flight("a", 90_000)], [])["features"][0]
    assert list(x.items()) == [
        ("distance", 200.0),
        ("hour", 12 + 1 / 60),
        ("weekday", 0),
        ("carrier_flights_3h", 0),
        ("origin_flights_1h", 0),
        ("tail_flights_24h", 0),
        ("carrier_late_3h", 0.0),
        ("origin_late_1h", 0.0),
        ("tail_late_24h", 0.0),
        ("dest_late_3h", 0.0),
        ("since_tail_s", 0.0),
    ]


def test_an_event_is_counted_after_it_is_described() -> None:
    """The second of two simultaneous events sees the first, and no event sees itself."""
    features = run([flight("a", 0), flight("b", 0)], [])["features"]
    assert [x["carrier_flights_3h"] for x in features] == [0, 1]


def test_a_window_drops_whole_tiles() -> None:
    """A window of an hour in tiles of five minutes holds the last twelve tiles, the one that has begun included."""
    last_in = run([flight("a", 0), flight("b", HOUR - 1)], [])["features"][1]
    first_out = run([flight("a", 4 * MINUTE), flight("b", HOUR)], [])["features"][1]
    assert (last_in["origin_flights_1h"], first_out["origin_flights_1h"]) == (1, 0)


def test_a_label_goes_before_an_event_of_the_same_time() -> None:
    """An outcome that becomes known at an event's very time is part of what that event sees."""
    features = run([flight("a", 0), flight("b", HOUR)], [arrival("a", HOUR)])["features"]
    assert features[1]["carrier_late_3h"] == 1.0


def test_outcomes_are_counted_in_the_tile_of_the_label() -> None:
    """A mean over labels counts when they became known, not when their events were."""
    events = [flight("a", 0), flight("b", 2 * HOUR), flight("c", 4 * HOUR), flight("d", 7 * HOUR)]
    labels = [arrival("a", 2 * HOUR + 1), arrival("b", 3 * HOUR, delay=15)]
    assert [x["carrier_late_3h"] for x in run(events, labels)["features"]] == [0.0, 0.0, 0.5, 0.0]


def test_no_tail_number_no_memory() -> None:
    """Flights without a tail number are not taken for flights of one aircraft."""
    x = run([flight("a", 0, tailnum=None), flight("b", HOUR, tailnum=None)], [arrival("a", MINUTE)])["features"][1]
    assert (x["tail_flights_24h"], x["tail_late_24h"], x["since_tail_s"], x["carrier_late_3h"]) == (0, 0.0, 0.0, 1.0)


def test_since_counts_seconds() -> None:
    """The gap to the aircraft's last flight is in seconds."""
    assert run([flight("a", 0), flight("b", 3 * DAY + 500)], [])["features"][1]["since_tail_s"] == 3 * 86_400 + 0.5


def test_since_forgets_after_seven_days_in_tiles() -> None:
    """The last flight is forgotten when its tile of 14 hours is no longer among the last twelve."""
    tile = 14 * HOUR
    start = -NOON % tile
    last_in = run([flight("a", start), flight("b", start + 12 * tile - 1)], [])["features"][1]
    first_out = run([flight("a", start + tile - 1), flight("b", start + 12 * tile)], [])["features"][1]
    assert (last_in["since_tail_s"], first_out["since_tail_s"]) == (7 * 86_400 - 0.001, 0.0)


def test_models_answer_before_they_learn() -> None:
    """An answer is made of the labels known at its time, and an empty answer is None and not scored."""
    result = run([flight("a", 0), flight("b", 1), flight("c", 2 * HOUR)], [arrival("a", HOUR), arrival("b", 3 * HOUR)])
    assert result["predictions"]["prior"] == [None, None, 1.0]
    assert result["learned"] == [("a", True), ("b", True)]
    assert result["metrics"]["prior"]["scored"] == 0


def test_a_label_at_exactly_its_ttl_trains() -> None:
    """A label `ttl_ms` after its event is in time; a millisecond more, and the event has expired."""
    in_time = run([flight("a", 0)], [arrival("a", HOUR)], ttl_ms=HOUR)["counts"]
    too_late = run([flight("a", 0)], [arrival("a", HOUR + 1)], ttl_ms=HOUR)["counts"]
    assert (in_time["labelled"], in_time["expired"], in_time["late"]) == (1, 0, 0)
    assert (too_late["labelled"], too_late["expired"], too_late["late"]) == (0, 1, 1)


def test_an_early_label_waits_for_its_event() -> None:
    """A label that comes before its event trains when the event comes, after the answer."""
    result = run([flight("a", HOUR), flight("b", HOUR + 1)], [arrival("a", 0)])
    assert result["predictions"]["prior"] == [None, 1.0]
    assert (result["counts"]["early"], result["counts"]["labelled"]) == (1, 1)


def test_a_label_without_an_event_is_an_orphan() -> None:
    """A label whose event has not come within `ttl_ms` expires, and its event is then an event without a label."""
    counts = run([flight("a", HOUR + 1)], [arrival("a", 0)], ttl_ms=HOUR)["counts"]
    assert (counts["orphan"], counts["labelled"], counts["pending"]) == (1, 0, 1)


def test_only_the_first_label_trains() -> None:
    """Further labels of an event are counted, as duplicates or as corrections."""
    labels = [arrival("a", 1), arrival("a", 2), arrival("a", 3, delay=0)]
    result = run([flight("a", 0)], labels)
    assert result["learned"] == [("a", True)]
    assert (result["counts"]["duplicate"], result["counts"]["corrected"]) == (1, 1)


def test_a_repeated_event_is_ignored_within_the_horizon() -> None:
    """The same id again is a duplicate up to the horizon, and a new event after it."""
    events = [flight("a", 0), flight("a", DAY), flight("a", DAY + 1)]
    result = run(events, [], ttl_ms=DAY, horizon_ms=DAY)
    assert (result["counts"]["duplicates"], result["counts"]["predictions"]) == (1, 2)
    assert result["features"][1]["since_tail_s"] == 86_400.001


def test_a_horizon_below_the_ttl_is_refused() -> None:
    """Two pending events of one id cannot be told apart."""
    with pytest.raises(ValueError, match="at least ttl_ms"):
        oracle.Spec({}, ttl_ms=2, horizon_ms=1)


@given(st.lists(st.integers(0, 400), max_size=30), st.integers(0, 400), st.integers(1, 9), st.integers(1, 7))
def test_windows_equal_their_definition(times: list[int], at: int, tile: int, tiles: int) -> None:
    """Counting in a sorted list is counting the entries whose tile is among the last ones."""
    history = oracle.Times()
    for time in times:
        history.add("k", time)
    wanted = range(at // tile - tiles + 1, at // tile + 1)
    assert history.count("k", at, tiles * tile, tile) == sum(time // tile in wanted for time in times)


steps = st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(0, 40), st.booleans()), max_size=40)


@given(steps, steps, st.integers(0, 20))
def test_every_record_has_one_outcome(asked: list[Any], told: list[Any], ttl: int) -> None:
    """Nothing is lost: events and labels add up, whatever comes in whatever order."""
    events = [flight(event_id, at) for event_id, at, _ in sorted(asked, key=lambda step: step[1])]
    labels = [arrival(event_id, at, 60 * late) for event_id, at, late in sorted(told, key=lambda step: step[1])]
    result = run(events, labels, ttl_ms=ttl, horizon_ms=ttl + 5)
    counts = Counter(result["counts"])
    assert counts["events"] == len(events) == counts["predictions"] + counts["duplicates"]
    assert counts["predictions"] == counts["labelled"] + counts["expired"] + counts["pending"]
    outcomes = ("labelled", "duplicate", "corrected", "late", "orphan", "waiting")
    assert counts["labels"] == len(labels) == sum(counts[name] for name in outcomes)


def test_equals_river_on_real_flights() -> None:
    """With the same features and delays, River's own delayed evaluation gives the same answers, bit for bit."""
    frame = flights_data.flights(3000)
    events, labels = flights_data.events(frame), flights_data.labels(frame)
    model = preprocessing.StandardScaler() | linear_model.LogisticRegression()
    result = oracle.run(events, labels, oracle.Spec({"logreg": model}))
    known = {label["event_id"]: label for label in labels}
    rows, expected = [], []
    answers = zip(events, result["features"], result["predictions"]["logreg"], strict=True)
    for event, x, p in ((event, x, p) for event, x, p in answers if event["event_id"] in known):
        label, at = known[event["event_id"]], event["scheduled_departure"]
        rows.append((x | {"at": at, "delay": label["arrived_at"] - at}, label["arr_delay"] > 15))
        expected.append(p)
    both = metrics.ROCAUC() + metrics.Accuracy()
    river = oracle.river_delayed(rows, compose.Discard("at", "delay") | model, both, lambda x, _: x["delay"], "at")
    assert [answer[True] for answer in river["predictions"]] == expected
    assert river["metric"].get() == [result["metrics"]["logreg"]["ROCAUC"], result["metrics"]["logreg"]["Accuracy"]]


def test_river_reproduces_its_published_figure() -> None:
    """Scaler and logistic regression on Phishing: 88.72 % on River's benchmark page."""
    model = preprocessing.StandardScaler() | linear_model.LogisticRegression(optim.SGD(0.005))
    result = oracle.river_delayed(datasets.Phishing(), model, metrics.Accuracy())
    assert result["metric"].get() == pytest.approx(0.8872, abs=2e-3)


def test_river_delayed_answers_are_the_scored_ones() -> None:
    """The listed predictions, scored in order, give the metric that River reports; labels come as late as asked."""
    model = preprocessing.StandardScaler() | linear_model.LinearRegression()
    result = oracle.river_delayed(datasets.TrumpApproval(), model, metrics.MAE(), delay=7)
    score = metrics.MAE()
    for (_, y), prediction in zip(datasets.TrumpApproval(), result["predictions"], strict=True):
        score.update(y, prediction)
    assert score.get() == result["metric"].get()
    assert [bool(prediction) for prediction in result["predictions"][:9]] == [False] * 7 + [True] * 2
