"""Evaluation of several models side by side."""

import msgspec
import pytest
from river import datasets, dummy, evaluate, linear_model, metrics, naive_bayes, preprocessing, stats

from headrace.processors.evaluate import Evaluate
from tests.states import fresh_state

ROLES = {"a": "champion", "b": "baseline"}


def logistic():
    """Return a fresh classifier."""
    return preprocessing.StandardScaler() | linear_model.LogisticRegression()


def linear():
    """Return a fresh regressor."""
    return preprocessing.StandardScaler() | linear_model.LinearRegression(intercept_lr=0.1)


CASES = {
    "binary": (datasets.Phishing, logistic, dummy.PriorClassifier, (metrics.ROCAUC, metrics.Accuracy, metrics.LogLoss)),
    "multiclass": (
        datasets.ImageSegments,
        naive_bayes.GaussianNB,
        dummy.NoChangeClassifier,
        (metrics.Accuracy,),
    ),
    "regression": (
        datasets.TrumpApproval,
        linear,
        lambda: dummy.StatisticRegressor(stats.Mean()),
        (metrics.MAE, metrics.RMSE, metrics.R2),
    ),
}


@pytest.mark.parametrize("task", CASES)
def test_overall_metrics_are_river_s_progressive_validation(task):
    """After a real stream the summary equals `progressive_val_score`, metric by metric, for two models at once."""
    dataset, make, make_baseline, compared = CASES[task]
    rows = list(dataset().take(400))
    processor = Evaluate(task, ("a", "b"), ROLES, every=150)
    state, models = fresh_state(processor), (make(), make_baseline())
    for n, (x, y) in enumerate(rows, 1):
        asked = [m.predict_one(x) if task == "regression" else m.predict_proba_one(x) for m in models]
        processor.process(y, asked, n, n, state)
        for model in models:
            model.learn_one(x, y)
    summary = processor.summary(state)
    for metric in compared:
        for name, fresh in (("a", make), ("b", make_baseline)):
            assert summary[name][metric.__name__] == evaluate.progressive_val_score(rows, fresh(), metric()).get()


def test_a_full_window_gives_two_records_a_model():
    """A window closes with its own record and the overall one for each model; examples nobody answered count too."""
    processor = Evaluate("binary", ("a", "b"), ROLES, every=2, shard=3)
    state, records = fresh_state(processor), []
    answers = [
        (None, True),
        ({}, False),
        ({True: 0.9, False: 0.1}, True),
        ({True: 0.2, False: 0.8}, None),
        (None, None),
    ]
    for i, pair in enumerate(answers):
        records += processor.process(True, pair, n=11 + i, time_ms=1000 + i, state=state)
    told = [(r.model, r.role, r.shard, r.window, r.n, r.scored, r.first_n, r.last_n, r.first_time_ms, r.last_time_ms)
            for r in records]  # fmt: skip
    assert told == [
        ("a", "champion", 3, "last-2", 2, 0, 11, 12, 1000, 1001),
        ("a", "champion", 3, "overall", 2, 0, 11, 12, 1000, 1001),
        ("b", "baseline", 3, "last-2", 2, 2, 11, 12, 1000, 1001),
        ("b", "baseline", 3, "overall", 2, 2, 11, 12, 1000, 1001),
        ("a", "champion", 3, "last-2", 2, 2, 13, 14, 1002, 1003),
        ("a", "champion", 3, "overall", 4, 2, 11, 14, 1000, 1003),
        ("b", "baseline", 3, "last-2", 2, 1, 13, 14, 1002, 1003),
        ("b", "baseline", 3, "overall", 4, 3, 11, 14, 1000, 1003),
    ]


def test_a_window_forgets_the_one_before():
    """Window metrics are those of its examples alone, overall metrics those of all."""
    processor = Evaluate("multiclass", ("a",), {"a": "champion"}, every=2)
    state, records = fresh_state(processor), []
    for n, (y, answer) in enumerate([("x", "x"), ("y", "y"), ("x", "y"), ("y", "x")], 1):
        records += processor.process(y, [answer], n, n, state)
    assert [(r.window, r.metrics["Accuracy"]) for r in records] == [
        ("last-2", 1.0),
        ("overall", 1.0),
        ("last-2", 0.0),
        ("overall", 0.5),
    ]


@pytest.mark.parametrize("task", CASES)
def test_a_checkpoint_changes_nothing(task):
    """State written and read back after every example leads to the same records, byte by byte."""
    dataset, make, *_ = CASES[task]
    processor = Evaluate(task, ("a",), {"a": "champion"}, every=20)
    kept, restored, model = fresh_state(processor), fresh_state(processor), make()
    seen = []
    for n, (x, y) in enumerate(dataset().take(70), 1):
        answer = model.predict_one(x) if task == "regression" else model.predict_proba_one(x)
        records = [processor.process(y, [answer], n, n, state) for state in (kept, restored)]
        for cell in restored.values():
            cell.value = msgspec.msgpack.decode(msgspec.msgpack.encode(cell.value))
        model.learn_one(x, y)
        seen += records[0]
        assert msgspec.json.encode(records[0]) == msgspec.json.encode(records[1])
    assert len(seen) == 6


def test_summary_before_any_example_is_none():
    """Nothing scored means no number, not zero."""
    processor = Evaluate("regression", ("a", "b"), ROLES)
    nothing = {"MAE": None, "RMSE": None, "R2": None}
    assert processor.summary(fresh_state(processor)) == {"a": nothing, "b": nothing}


def test_as_many_answers_as_models_are_needed():
    """An answer too few is a mistake of the caller's, not an answer of None."""
    processor = Evaluate("binary", ("a", "b"), ROLES)
    with pytest.raises(ValueError, match="shorter"):
        processor.process(True, [True], 1, 1, fresh_state(processor))


@pytest.mark.parametrize(
    ("arguments", "legal"),
    [
        (("ranking", ("a",), {"a": "champion"}), "binary, multiclass, regression"),
        (("binary", (), {}), "one or more"),
        (("binary", ("a", "a"), {"a": "champion"}), "different"),
        (("binary", ("a",), {}), "champion, challenger, baseline"),
        (("binary", ("a",), {"a": "chief"}), "champion, challenger, baseline"),
        (("binary", ("a",), {"a": "champion"}, 0), "at least 1"),
    ],
)
def test_bad_arguments_are_refused(arguments, legal):
    """The error names what is legal."""
    with pytest.raises(ValueError, match=legal):
        Evaluate(*arguments)
