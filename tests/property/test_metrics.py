"""Metrics against River's own, on streams of any kind."""

import math
from collections import Counter

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from river import metrics

from headrace.processors.metrics import BinaryScores, MulticlassScores, RegressionScores

THRESHOLDS = [i / 9 for i in range(10)]
EDGES = [*THRESHOLDS, *(math.nextafter(t, 1) for t in THRESHOLDS[:-1]), *(math.nextafter(t, 0) for t in THRESHOLDS[1:])]
PROBABILITIES = st.sampled_from(EDGES) | st.floats(0, 1)
BINARY = st.one_of(
    st.builds(lambda p: {False: 1 - p, True: p}, PROBABILITIES),
    st.builds(lambda p: {True: p, False: 1 - p}, PROBABILITIES),
    st.dictionaries(st.booleans(), PROBABILITIES),
    st.builds(Counter, st.dictionaries(st.booleans(), PROBABILITIES)),
    st.none(),
)
BINARY_STREAMS = st.lists(st.tuples(st.booleans(), BINARY)) | st.lists(st.tuples(st.just(True), BINARY))
LABELS = st.integers(0, 4)
MULTICLASS = st.none() | LABELS | st.dictionaries(LABELS, st.sampled_from([0.0, 0.2, 0.5, 1.0]))
NUMBERS = st.integers(-1000, 1000) | st.floats(-1e6, 1e6)


def rivers(named, pairs, labels=()):
    """Score the pairs as `progressive_val_score` does; metrics in `labels` see the label, the others the answer."""
    for y, answer in pairs:
        if answer is None or answer == {}:
            continue
        for name, metric in named.items():
            as_label = name in labels and isinstance(answer, dict)
            metric.update(y, max(answer, key=answer.get) if as_label else answer)
    return {name: metric.get() for name, metric in named.items()}


def ours(scores, pairs, split=0):
    """Score the pairs; after `split` of them the cells are written and read back, and the window starts anew."""
    overall, window = scores.fresh(), scores.fresh()
    for i, (y, answer) in enumerate(pairs):
        if i == split:
            overall, window = msgspec.msgpack.decode(msgspec.msgpack.encode(overall)), scores.fresh()
        scores.update(overall, window, y, answer)
    return overall, window


def is_scored(pairs):
    """Say whether River would score any of these."""
    return any(answer is not None and answer != {} for _, answer in pairs)


def binary_of_river():
    """Return fresh metrics of River's."""
    return {"ROCAUC": metrics.ROCAUC(), "Accuracy": metrics.Accuracy(), "MacroF1": metrics.MacroF1(),
            "LogLoss": metrics.LogLoss()}  # fmt: skip


@given(pairs=BINARY_STREAMS, split=st.integers(0, 20))
def test_binary_metrics_equal_rivers_to_the_last_bit(pairs, split):
    """ROC AUC of two classes, accuracy, macro F1 and log loss are River's, across a checkpoint and in a new window."""
    split = min(split, len(pairs) - 1) if pairs else 0
    scores = BinaryScores()
    overall, window = ours(scores, pairs, split)
    for cell, part in ((overall, pairs), (window, pairs[split:])):
        expected = rivers(binary_of_river(), part, labels=("Accuracy", "MacroF1"))
        if len({y for y, answer in part if answer}) < 2:
            expected["ROCAUC"] = None
        assert scores.values(cell) == (expected if is_scored(part) else dict.fromkeys(expected))


@given(pairs=BINARY_STREAMS)
def test_binary_answers_are_counted_and_left_as_they_were(pairs):
    """`scored` counts exactly what River scores, and no answer is changed by being scored."""
    before = [(y, None if answer is None else dict(answer)) for y, answer in pairs]
    scores = BinaryScores()
    overall, _ = ours(scores, pairs)
    assert scores.scored(overall) == sum(bool(answer) for _, answer in pairs)
    assert before == [(y, None if answer is None else dict(answer)) for y, answer in pairs]


@given(pairs=st.lists(st.tuples(st.booleans(), st.none() | st.booleans())))
def test_bare_labels_get_label_metrics_only(pairs):
    """A binary model without probabilities has River's accuracy and macro F1, and no ROC AUC or log loss."""
    scores = BinaryScores()
    overall, _ = ours(scores, pairs)
    expected = rivers({"Accuracy": metrics.Accuracy(), "MacroF1": metrics.MacroF1()}, pairs)
    expected = expected if is_scored(pairs) else dict.fromkeys(expected)
    assert scores.values(overall) == {"ROCAUC": None, "LogLoss": None, **expected}


@given(pairs=st.lists(st.tuples(LABELS, MULTICLASS)), split=st.integers(0, 20))
def test_multiclass_metrics_equal_rivers_to_the_last_bit(pairs, split):
    """Accuracy, macro F1 and kappa are River's where River's order of classes is fixed (small integers)."""
    split = min(split, len(pairs) - 1) if pairs else 0
    scores = MulticlassScores()
    overall, window = ours(scores, pairs, split)
    for cell, part in ((overall, pairs), (window, pairs[split:])):
        named = {"Accuracy": metrics.Accuracy(), "MacroF1": metrics.MacroF1(), "CohenKappa": metrics.CohenKappa()}
        expected = rivers(named, part, labels=named)
        assert scores.values(cell) == (expected if is_scored(part) else dict.fromkeys(expected))


@given(pairs=st.lists(st.tuples(st.sampled_from("abcdef"), st.sampled_from("abcdef")), min_size=1), data=st.data())
def test_multiclass_metrics_do_not_depend_on_the_order_of_arrival(pairs, data):
    """The same counts give the same double, in whatever order the classes came."""
    scores = MulticlassScores()
    shuffled = data.draw(st.permutations(pairs))
    assert scores.values(ours(scores, pairs)[0]) == scores.values(ours(scores, shuffled)[0])


@given(pairs=st.lists(st.tuples(NUMBERS, st.none() | st.floats(-1e6, 1e6))), split=st.integers(0, 20))
def test_regression_metrics_equal_rivers_to_the_last_bit(pairs, split):
    """MAE, RMSE and R2 are River's, overall across a checkpoint and in a new window."""
    split = min(split, len(pairs) - 1) if pairs else 0
    scores = RegressionScores()
    overall, window = ours(scores, pairs, split)
    for cell, part in ((overall, pairs), (window, pairs[split:])):
        expected = rivers({"MAE": metrics.MAE(), "RMSE": metrics.RMSE(), "R2": metrics.R2()}, part)
        finite = {name: value if math.isfinite(value) else None for name, value in expected.items()}
        assert scores.values(cell) == (finite if is_scored(part) else dict.fromkeys(expected))
        assert scores.scored(cell) == sum(answer is not None for _, answer in part)
