"""Baselines against River's dummies."""

import msgspec
import pytest
from river import dummy, stats

from headrace.processors.baselines import Baselines
from tests.states import fresh_state

BITS = [True, True, False, True, False, False, False, True, False, False]
ONES = [False, False, False]
WORDS = ["b", "a", "b", "c", "c", "a", "a", "a", "b", "d"]
NUMBERS = [3.5, 2, -1.25, 1e6, 0.1, 0.2, 0.3]


@pytest.mark.parametrize(("task", "labels"), [("binary", BITS), ("binary", ONES), ("multiclass", WORDS)])
def test_classes_are_answered_as_river_does(task, labels):
    """Before each label the probabilities are those of NoChangeClassifier and PriorClassifier, None for nothing."""
    baselines, no_change, prior = Baselines(task), dummy.NoChangeClassifier(), dummy.PriorClassifier()
    state = fresh_state(baselines)
    for y in labels:
        expected = (no_change.predict_proba_one({}) or None, prior.predict_proba_one({}) or None)
        assert baselines.answer(state) == expected
        baselines.update(y, state)
        no_change.learn_one({}, y)
        prior.learn_one({}, y)


@pytest.mark.parametrize(("task", "labels"), [("binary", BITS), ("multiclass", WORDS)])
def test_the_prior_s_ties_are_river_s(task, labels):
    """The classes come in the order of their first occurrence, which decides ties."""
    baselines, prior = Baselines(task), dummy.PriorClassifier()
    state = fresh_state(baselines)
    for y in labels:
        baselines.update(y, state)
        prior.learn_one({}, y)
        assert list(baselines.answer(state)[1]) == list(prior.predict_proba_one({}))


def test_numbers_are_answered_as_river_does():
    """For regression the prior is StatisticRegressor(Mean()) to the last bit, and no-change the last value."""
    baselines, prior = Baselines("regression"), dummy.StatisticRegressor(stats.Mean())
    state, last = fresh_state(baselines), None
    for y in NUMBERS:
        assert baselines.answer(state) == (last, prior.predict_one({}))
        baselines.update(y, state)
        prior.learn_one({}, y)
        last = y


@pytest.mark.parametrize(("task", "labels"), [("binary", BITS), ("multiclass", WORDS), ("regression", NUMBERS)])
def test_a_checkpoint_changes_nothing(task, labels):
    """State that was written and read back goes on as if it had not been."""
    baselines = Baselines(task)
    kept, restored = fresh_state(baselines), fresh_state(baselines)
    for y in labels:
        baselines.update(y, kept)
        baselines.update(y, restored)
        for cell in restored.values():
            cell.value = msgspec.msgpack.decode(msgspec.msgpack.encode(cell.value))
        assert repr(baselines.answer(kept)) == repr(baselines.answer(restored))


@pytest.mark.parametrize(("task", "labels"), [("binary", BITS), ("multiclass", WORDS)])
def test_an_answer_stays_as_it_was_given(task, labels):
    """Later labels do not reach into answers that wait for theirs."""
    baselines = Baselines(task)
    state = fresh_state(baselines)
    baselines.update(labels[0], state)
    answer = baselines.answer(state)
    before = repr(answer)
    for y in labels:
        baselines.update(y, state)
    assert repr(answer) == before


def test_an_unknown_task_is_refused():
    """The error names the legal tasks."""
    with pytest.raises(ValueError, match="binary, multiclass, regression"):
        Baselines("ranking")
