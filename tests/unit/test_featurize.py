"""The author's vocabulary, and what becomes of an event and of an outcome."""

from __future__ import annotations

import copy
import functools
import math
import re
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pytest

from headrace.processors.base import Rejected
from headrace.processors.features import (
    count,
    field,
    label,
    last,
    max_,
    mean,
    min_,
    sum_,
    time_since_last,
    variance,
)
from headrace.processors.featurize import Featurize
from headrace.streams.stores import KeyedStore
from tests.states import fresh_state

COLUMNS = {"key": "string", "side": "string", "v": "float", "n": "int", "ok": "boolean", "raw": "bytes"}
S = 1_000


class Event(msgspec.Struct):
    key: str | None = "a"
    side: str = "x"
    v: float = 1.0
    n: int | None = 1
    ok: bool = True
    raw: bytes = b""


class Lane:
    """A processor on a fresh state; stream time follows the events. `unrolled` says which form runs."""

    def __init__(self, unrolled: bool, task: str = "binary", grace_ms: int = 0, **features: Any) -> None:
        self.processor = Featurize(features, COLUMNS, {"key", "n"}, task, grace_ms)
        self.state = fresh_state(self.processor)
        self.stream = 0
        p, state = self.processor, self.state
        self._process = p.compile(state) if unrolled else functools.partial(_last(p.process), state)
        self._update = p.compile_update(state) if unrolled else functools.partial(_last(p.update), state)

    def event(self, t: int, **columns: Any) -> dict[str, Any]:
        self.stream = max(self.stream, t)
        return self._process(Event(**columns), t, self.stream)

    def content(self) -> dict[str, Any]:
        return {
            name: store.data if isinstance(store, KeyedStore) else [idle.tiles for idle in store]
            for name, store in self.state.items()
        }

    def outcome(self, t: int, y: Any, **columns: Any) -> None:
        self.stream = max(self.stream, t)
        self._update(self.processor.outcome_keys(Event(**columns)), y, t, self.stream)


def _last(method: Callable[..., Any]) -> Callable[..., Any]:
    return lambda state, *arguments: method(*arguments, state)


@pytest.fixture(params=[False, True], ids=["plain", "unrolled"])
def lane(request: pytest.FixtureRequest) -> Callable[..., Lane]:
    """Makes a lane, once in each form of the processor."""
    return functools.partial(Lane, request.param)


def hour(event: Event) -> float:
    return event.v


def missing(event: Event) -> int | None:
    return event.n


def bare(event):  # type: ignore[no-untyped-def]
    return 1.0


def returning(value: Any, kind: Any) -> Callable[[Any], Any]:
    def function(event: Any) -> Any:
        return value

    function.__annotations__["return"] = kind
    return function


def test_fields_are_avro_in_the_order_of_declaration() -> None:
    """Types follow columns, annotations and aggregates; what can be missing is a union with null."""
    processor = Featurize(
        {
            "v": field("v"),
            "n": field("n"),
            "filled": field("n", default=0),
            "hour": hour,
            "missing": missing,
            "lambda": lambda event: event.v,
            "count": count(by="key", over="1h"),
            "sum": sum_("v", by="key", over="1h"),
            "mean": mean("v", by="key", over="1h"),
            "mean0": mean("v", by="key", over="1h", default=0),
            "side": last("side", by="key", over="1h"),
            "since": time_since_last(by="key"),
        },
        COLUMNS, {"key", "n"}, "binary", 0,
    )  # fmt: skip
    assert {f["name"]: f["type"] for f in processor.fields()} == {
        "v": "double", "n": ["null", "long"], "filled": "long", "hour": "double", "missing": ["null", "long"],
        "lambda": ["null", "double"], "count": "long", "sum": "double", "mean": ["null", "double"], "mean0": "double",
        "side": ["null", "string"], "since": ["null", "double"],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("feature", "task", "remedy"),
    [
        (field("w"), "binary", "legal: key, side, v"),
        (field("raw"), "binary", "of type bytes; legal: key, side, v, n, ok$"),
        (field("v", default="x"), "binary", "default must be a finite double or None"),
        (field("v", default=math.nan), "binary", "default must be a finite double or None"),
        (count(by="w", over="1h"), "binary", "'w' is not a column"),
        (mean("side", by="key", over="1h"), "binary", "mean is of numbers"),
        (mean(label(), by="key", over="1h"), "multiclass", r'label\(of="..."\)'),
        (mean(label(of="x"), by="key", over="1h"), "binary", r"in binary say label\(\)"),
        (bare, "binary", r"'f': annotate what its function returns: .*def bare\(event\) -> float"),
        (returning(1, list), "binary", "annotate"),
        (returning(1, "Nowhere"), "binary", "annotate"),
        (returning(1, int | float), "binary", "annotate"),
        (mean(bare, by="key", over="1h"), "binary", "annotate"),
        (5, "binary", "not 5"),
        (hour, "ranking", "binary, multiclass, regression"),
    ],
)
def test_a_wrong_feature_is_refused_with_what_is_legal(feature: Any, task: str, remedy: str) -> None:
    """Declarations fail at construction, naming the remedy."""
    with pytest.raises(ValueError, match=remedy):
        Featurize({"f": feature}, COLUMNS, {"key", "n"}, task, 0)


@pytest.mark.parametrize("name", ["", "1st", "a-b", "a b", "é", "a\n"])
def test_a_feature_name_is_an_avro_name(name: str) -> None:
    """Anything else is refused."""
    with pytest.raises(ValueError, match="letters, digits and _"):
        Featurize({name: hour}, COLUMNS, (), "binary", 0)


@pytest.mark.parametrize("by", [(), ("key", "key"), (1,)])
def test_by_is_a_column_or_different_columns_or_none(by: Any) -> None:
    """Anything else is refused when the aggregate is declared."""
    with pytest.raises(ValueError, match="by must be"):
        count(by=by, over="1h")


def test_a_negative_grace_is_refused() -> None:
    """A grace is 0 or more."""
    with pytest.raises(ValueError, match="grace_ms"):
        Featurize({}, COLUMNS, (), "binary", -1)


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        (float, 3, 3.0), (float, True, 1.0), (float, np.float32(0.5), 0.5), (float, np.int64(4), 4.0),
        (int, np.int32(7), 7), (int, True, 1), (bool, np.bool_(False), False), (str, np.str_("é"), "é"),
        (float | None, np.float64(2), 2.0),
    ],
)  # fmt: skip
def test_values_become_plain_python_of_the_declared_type(lane: Any, kind: Any, value: Any, expected: Any) -> None:
    """A feature is the same before and after an Avro round trip."""
    (answer,) = lane(f=returning(value, kind)).event(0).values()
    assert (type(answer), answer) == (type(expected), expected)


@pytest.mark.parametrize(
    ("kind", "value", "reason"),
    [
        (float, math.nan, "feature_nan"), (float, -math.inf, "feature_nan"), (float, 10**400, "feature_nan"),
        (float | None, math.nan, "feature_nan"), (float, np.float64("nan"), "feature_nan"),
        (float, "1", "feature_type"), (float, None, "feature_type"), (float, 1j, "feature_type"),
        (int, 1.0, "feature_type"), (int, 2**63, "feature_type"), (bool, 1, "feature_type"),
        (str, 1, "feature_type"), (str, "\ud800", "feature_type"), (str, b"x", "feature_type"),
    ],
)  # fmt: skip
def test_a_value_of_another_type_or_not_finite_rejects_the_event(lane: Any, kind: Any, value: Any, reason: str) -> None:
    """The reason is from the closed list, and the detail begins with the feature's name."""
    with pytest.raises(Rejected) as rejected:
        lane(f=returning(value, kind)).event(0)
    assert (rejected.value.reason, rejected.value.detail[:1]) == (reason, "f")


def test_a_feature_that_raises_rejects_the_event_with_a_short_stable_detail(lane: Any) -> None:
    """Name, type and message, without addresses, 200 characters at most."""

    def broken(event: Event) -> float:
        raise KeyError(f"{object()} {'long ' * 100}")

    with pytest.raises(Rejected) as rejected:
        lane(f=broken).event(0)
    assert rejected.value.reason == "feature_error"
    assert rejected.value.detail.startswith("f: KeyError: '<object object> long")
    assert len(rejected.value.detail) == 200


def test_a_value_that_is_counted_and_fails_rejects_the_event(lane: Any) -> None:
    """Also where it is never missing, so that only the events would have to be counted."""
    with pytest.raises(Rejected, match="feature_type"):
        lane(f=count(returning("1", int), by="key", over="1h")).event(0)


def test_missing_values_are_absent(lane: Any) -> None:
    """None is left out of what a model is given; the order stays that of the declaration."""
    made = lane(n=field("n"), v=field("v"), m=missing, filled=field("n", default=-1))
    assert list(made.event(0, n=None).items()) == [("v", 1.0), ("filled", -1)]
    assert list(made.event(0, n=3)) == ["n", "v", "m", "filled"]


def test_an_event_sees_what_was_known_before_it(lane: Any) -> None:
    """The first sees nothing, the second the first."""
    made = lane(c=count(by="key", over="1h"), m=mean("v", by="key", over="1h"))
    assert made.event(0, v=4.0) == {"c": 0}
    assert made.event(0, v=8.0) == {"c": 1, "m": 4.0}
    assert made.event(1, v=0.0) == {"c": 2, "m": 6.0}


def test_a_window_covers_the_tiles_up_to_its_own(lane: Any) -> None:
    """Sixty seconds in tiles of ten: a row of second 9 is seen until second 59."""
    made = lane(c=count(by="side", over="60s", tile="10s"))
    made.event(9 * S)
    assert [made.event(59 * S, side="y")["c"], made.event(59 * S)["c"], made.event(60 * S)["c"]] == [0, 1, 1]


def test_every_aggregate_over_two_tiles(lane: Any) -> None:
    """Each aggregate of 1, 2 and 6 in two tiles."""
    window = {"by": "key", "over": "60s", "tile": "10s"}
    made = lane(
        count=count(**window), sum=sum_("v", **window), mean=mean("v", **window), least=min_("v", **window),
        most=max_("v", **window), spread=variance("v", **window), ok=last("ok", **window),
        since=time_since_last(**window), share=mean("ok", **window),
    )  # fmt: skip
    made.event(1 * S, v=1.0)
    made.event(2 * S, v=2.0)
    made.event(12 * S, v=6.0, ok=False)
    assert made.event(15 * S) == {
        "count": 3, "sum": 9.0, "mean": 3.0, "least": 1.0, "most": 6.0, "spread": 7.0, "ok": False, "since": 3.0,
        "share": 2 / 3,
    }  # fmt: skip


def test_a_null_key_yields_the_default_and_changes_nothing(lane: Any) -> None:
    """Neither a count of null keys nor a store entry."""
    made = lane(
        c=count(by="key", over="1h"),
        p=count(by=("key", "side"), over="1h"),
        m=mean("v", by="key", over="1h", default=7),
    )
    assert [made.event(0, key=None) for _ in range(2)] == [{"c": 0, "p": 0, "m": 7.0}] * 2
    assert not any(len(made.state[spec.name]) for spec in made.processor.stores())


def test_missing_values_do_not_count(lane: Any) -> None:
    """A mean is over the values that are there; a count without a value is of rows."""
    made = lane(
        rows=count(by="key", over="1h"), n=count("n", by="key", over="1h"), m=mean(missing, by="key", over="1h")
    )
    for n in (None, 4, None):
        made.event(0, n=n)
    assert made.event(0) == {"rows": 3, "n": 1, "m": 4.0}


def test_late_events_count_within_the_grace_only(lane: Any) -> None:
    """At the grace exactly a row still counts; one millisecond later it is predicted and forgotten."""
    made = lane(grace_ms=5 * S, c=count(by=None, over="60s", tile="10s"))
    made.event(20 * S)
    made.event(15 * S)
    assert made.event(15 * S - 1) == {"c": 1}
    assert made.event(20 * S) == {"c": 2}


def test_an_event_beyond_the_grace_sees_no_tile_that_may_have_been_dropped(lane: Any) -> None:
    """What it sees begins where the window at the edge of the grace begins, evicted or not."""
    made = lane(c=count(by="key", over="60s", tile="10s"))
    made.event(5 * S)
    made.event(35 * S)
    assert made.event(36 * S)["c"] == 2
    made.event(65 * S, key="b")
    assert made.event(36 * S)["c"] == 2
    made.event(95 * S, key="b")
    assert made.event(36 * S)["c"] == 0


def test_a_rejected_event_leaves_the_state_as_it_was(lane: Any) -> None:
    """A value that only a window needs is checked before any window is changed."""

    def risky(event: Event) -> float:
        return 1 / event.v

    made = lane(c=count(by="key", over="60s"), m=mean(risky, by="side", over="60s"))
    made.event(0)
    before = copy.deepcopy(made.content())
    with pytest.raises(Rejected, match="m: ZeroDivisionError"):
        made.event(1_000 * S, v=0.0)
    assert made.content() == before


@pytest.mark.parametrize("before", [False, True])
def test_a_window_keeps_no_long_text(lane: Any, before: bool) -> None:
    """All tiles of a key are one record of a topic, which takes so much; what no window keeps may be longer."""
    counted = {"n": count("side", by="key", over="60s")}
    kept = {"side": last("side", by="key", over="60s"), "f": field("side")}
    made = lane(**(counted | kept if before else kept | counted))
    made.event(0, side="é" * 1_000)
    held = copy.deepcopy(made.content())
    with pytest.raises(Rejected, match="feature_type: side: text of more than 1,000 characters") as rejected:
        made.event(1, side="x" * 1_001)
    assert rejected.value.reason == "feature_type"
    assert made.content() == held
    assert made.event(2)["side"] == "é" * 1_000
    free = lane(f=field("side"), **counted)
    assert free.event(0, side="x" * 1_001)["f"] == "x" * 1_001


@pytest.mark.parametrize("order", [1, -1])
def test_text_that_may_be_missing_is_counted_and_kept(lane: Any, order: int) -> None:
    """Both are fed by one reading of it, whichever is declared first."""

    def text(event: Event) -> str | None:
        return None if event.n is None else event.side

    features = [("n", count(text, by="side", over="60s")), ("last", last(text, by="side", over="60s"))][::order]
    made = lane(**dict(features))
    assert len(made.processor.plan.readers) == 1
    made.event(0, n=None)
    made.event(0)
    assert made.event(1) == {"n": 1, "last": "x"}
    with pytest.raises(Rejected, match="last: text of more than"):
        made.event(2, side="x" * 1_001)


def test_a_sum_that_overflows_rejects_the_event(lane: Any) -> None:
    """Infinity is not a feature."""
    made = lane(s=sum_(returning(1.5e308, float), by=None, over="60s"))
    made.event(0)
    made.event(0)
    with pytest.raises(Rejected, match="feature_nan: s"):
        made.event(0)


def test_outcomes_change_windows_when_they_become_known(lane: Any) -> None:
    """The rate of late ones by key is over the tile in which labels arrived."""
    made = lane(
        rate=mean(label(), by="key", over="60s", tile="10s"), known=count(label(), by=None, over="60s", tile="10s")
    )
    assert made.event(0) == {"known": 0}
    made.outcome(30 * S, True)
    made.outcome(30 * S, False)
    made.outcome(31 * S, False, key=None)
    assert made.event(80 * S) == {"rate": 0.5, "known": 3}
    assert made.event(90 * S) == {"known": 0}


def test_outcome_keys_are_one_for_each_grouping() -> None:
    """Two windows by the same column need it once; without outcome features nothing is kept."""
    made = Lane(
        False, a=mean(label(), by="key", over="1h"), b=mean(label(), by="key", over="2h"),
        c=count(label(), by=None, over="1h"), d=count(label(), by=("key", "side"), over="1h"),
    )  # fmt: skip
    assert made.processor.outcome_keys(Event()) == ("a", "", ("a", "x"))
    assert made.processor.outcome_keys(Event(key=None)) == (None, "", None)
    assert Lane(False, a=count(by="key", over="1h")).processor.outcome_keys(Event()) == ()


def test_a_multiclass_label_is_whether_it_is_that_class(lane: Any) -> None:
    """One share for each class that is named."""
    made = lane(task="multiclass", a=mean(label(of="a"), by=None, over="1h"), b=mean(label(of="b"), by=None, over="1h"))
    for y in ("a", "b", "c", "a"):
        made.outcome(0, y)
    assert made.event(0) == {"a": 0.5, "b": 0.25}


def test_a_regression_label_is_its_number_and_must_be_finite(lane: Any) -> None:
    """A label that is not a finite number is rejected, and no window is changed."""
    made = lane(task="regression", m=max_(label(), by=None, over="1h"))
    made.outcome(0, 3)
    for y in (math.nan, math.inf, "x", None):
        with pytest.raises(Rejected, match="bad_label"):
            made.outcome(0, y)
    assert made.event(0) == {"m": 3.0}


def test_windows_by_the_same_columns_share_a_store() -> None:
    """Those over one source and tile share a place in it; its name says what it holds, in the order of the places."""
    processor = Lane(
        False, a=count(by="key", over="1h"), b=mean("v", by="key", over="30m", tile="5m"), c=count(by="key", over="2h"),
        d=count(by=("key", "side"), over="1h"), e=mean(label(), by="key", over="1h"), f=count(by=None, over="1h"),
    ).processor  # fmt: skip
    assert [re.sub("-[0-9a-f]{8}", "", spec.name) for spec in processor.stores()] == [
        "key/events-300s/events-600s/outcomes-300s", "key+side/events-300s", "/events-300s",
    ]  # fmt: skip


def test_another_layout_has_another_store() -> None:
    """Tuples that an older declaration wrote are never read as if they had today's layout."""
    names = {
        Lane(False, a=how("v", by="key", over="1h")).processor.stores()[0].name for how in (sum_, min_, variance, last)
    }
    assert len(names) == 4


def test_columns_may_be_named_like_python_keywords() -> None:
    """The unrolled source reads them all the same."""
    processor = Featurize(
        {"f": field("class"), "c": count(by=("from", "class"), over="1h")},
        {"class": "long", "from": "string"},
        (),
        "binary",
        0,
    )
    state = fresh_state(processor)
    event = type("Event", (), {"class": 3, "from": "x"})()
    assert processor.compile(state)(event, 0, 0) == {"f": 3, "c": 0}
    assert list(state[processor.stores()[0].name].data) == [("x", 3)]
