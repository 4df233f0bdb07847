"""Models of several classes answer the same, whether they were restored in between or not."""

from __future__ import annotations

import pickle
import random
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from river import drift, dummy, ensemble, forest, linear_model, multiclass, neighbors, preprocessing, tree

from headrace.processors.compiled import compile_model
from headrace.processors.ordered import Classes
from headrace.streams import pickling
from headrace.streams.plain import clone, unmeasured

LABELS = ("red", "green", "blue", "cyan", "white", "grey", "black")
"""As a set they have another order after a restore, under the hash seed of the tests."""


def hat(**more: Any) -> tree.HoeffdingAdaptiveTreeClassifier:
    return tree.HoeffdingAdaptiveTreeClassifier(seed=1, grace_period=20, delta=0.2, tau=0.2, **more)


MODELS: dict[str, Callable[[], Any]] = {
    "adaptive tree": hat,
    "tree": lambda: tree.HoeffdingTreeClassifier(grace_period=20),
    "Mondrian forest": lambda: forest.AMFClassifier(n_estimators=2, seed=1),
    "Mondrian tree": lambda: tree.mondrian.MondrianTreeClassifier(seed=1),
    "neighbours": lambda: neighbors.KNNClassifier(engine=neighbors.LazySearch(window_size=50)),
    "one against one": lambda: multiclass.OneVsOneClassifier(linear_model.LogisticRegression()),
    "one against the rest": lambda: multiclass.OneVsRestClassifier(linear_model.LogisticRegression()),
    "the last one": dummy.NoChangeClassifier,
    "an ensemble that makes adaptive trees anew": lambda: ensemble.ADWINBaggingClassifier(hat(), 3, seed=1),
    "a random forest": lambda: forest.ARFClassifier(3, seed=1, drift_detector=drift.ADWIN(0.1, clock=4)),
    "behind a scaler": lambda: preprocessing.StandardScaler() | hat(),
    "softmax": linear_model.SoftmaxRegression,
}


def outcome(function: Callable[..., Any], *arguments: Any) -> str:
    """What a call answers or raises, as text, in which every bit of a double and every order shows."""
    try:
        return repr(function(*arguments))
    except Exception as error:
        return repr(error)


@pytest.mark.parametrize("name", MODELS)
def test_a_restore_changes_no_answer(name: str) -> None:
    """Not its order, not its last bits, not the choice between equals; labels come one after the other."""
    chance = random.Random(7)
    whole, restored = (unmeasured(clone(MODELS[name]())) for _ in range(2))
    asked, again = (compile_model("multiclass", model, ("a", "b")) for model in (whole, restored))
    for i in range(400):
        turned = 1 if i > 200 else 0
        x = {"a": chance.gauss(0, 1), "b": chance.gauss(0, 1)}
        y = LABELS[(int(abs(x["a"]) * 3) + turned) % min(len(LABELS), 2 + i // 20)]
        assert outcome(asked.predict, x) == outcome(again.predict, x), i
        asked.learn(x, y)
        again.learn(x, y)
        if i % 25 == 24:
            again.sync()
            restored = pickling.loads(pickling.dumps(restored))
            again = compile_model("multiclass", restored, ("a", "b"))


def test_the_labels_would_show_it() -> None:
    """Else the tests above would hold nothing: as plain sets these labels come back in another order."""
    plain = [set(LABELS[:count]) for count in range(2, len(LABELS) + 1)]
    assert any(list(pickle.loads(pickle.dumps(labels))) != list(labels) for labels in plain)


def test_answers_do_not_depend_on_the_hash_seed() -> None:
    """River's own do."""
    program = (
        "from headrace.processors.ordered import Classes; from river import tree;"
        "model = tree.HoeffdingAdaptiveTreeClassifier(seed=1);"
        f"[model.learn_one({{'a': i % 5}}, {LABELS}[i % 7]) for i in range(100)];"
        "print(model.predict_proba_one({'a': 1}))"
    )
    said = {
        subprocess.run(
            [sys.executable, "-c", program], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        ).stdout
        for seed in ("0", "1", "2", "3")
    }
    assert len(said) == 1


def test_classes_are_a_set() -> None:
    """But for the order of iteration, also of what is left of them."""
    found = Classes(("b", "a"))
    found.add("c")
    assert (list(found), len(found), found == {"a", "b", "c"}) == (["a", "b", "c"], 3, True)
    assert list(found - {"b"}) == ["a", "c"]
    assert list(Classes(("b", 2, 1, True))) == [True, 2, "b"]
    assert list(pickling.loads(pickling.dumps(found))) == ["a", "b", "c"]
