"""Models answer the same, whether they were restored in between or not, and are the same wherever they are made."""

from __future__ import annotations

import pickle
import random
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from river import (
    compose,
    drift,
    dummy,
    ensemble,
    forest,
    linear_model,
    multiclass,
    neighbors,
    preprocessing,
    rules,
    tree,
)
from river.neighbors.ann.nn_vertex import Vertex

from headrace.processors.compiled import compile_model
from headrace.processors.ordered import Classes
from headrace.streams.declaration.plain import clone, unmeasured
from headrace.streams.identity import pickling
from headrace.streams.identity.canonical import state_hash

LABELS = ("red", "green", "blue", "cyan", "white", "grey", "black")
"""As a set they have another order after a restore, under the hash seed of the tests."""

WORDS = ("carrier", "origin", "dest")
"""So have these."""


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
    assert list(pickle.loads(pickle.dumps(set(WORDS)))) != list(set(WORDS))
    assert any(list(pickle.loads(pickle.dumps(labels))) != list(labels) for labels in plain)


def colours(count: int, chance: random.Random) -> list[tuple[dict[str, str], bool]]:
    """Examples of one word, of which every third comes late."""
    names = [chance.choice(("blue", "green", "red") if i > 100 else ("blue", "green")) for i in range(count)]
    return [({"colour": name}, (name == "blue") != (chance.random() < 0.1)) for name in names]


def test_a_restore_changes_no_split_by_words() -> None:
    """Of two splits that are worth the same, the tree takes the same one."""
    model = tree.HoeffdingTreeClassifier(grace_period=50, binary_split=True)
    examples = colours(220, random.Random(1))
    for x, y in examples[:49]:
        model.learn_one(x, y)
    restored = pickling.loads(pickling.dumps(model))
    for x, y in examples[49:]:
        assert model.predict_proba_one(x) == restored.predict_proba_one(x)
        model.learn_one(x, y)
        restored.learn_one(x, y)


def test_a_restore_changes_no_order_of_selected_features() -> None:
    """Weights are added up in the order in which `Select` hands the features on."""
    chance = random.Random(1)
    numbers = compose.Select("amount") | preprocessing.StandardScaler()
    words = compose.Select(*WORDS) | preprocessing.OneHotEncoder(drop_zeros=True)
    model = restored = clone((numbers + words) | linear_model.LogisticRegression())
    for i in range(1_500):
        x = {"amount": chance.random() * 10, **{name: chance.choice("ABCDEFG") for name in WORDS}}
        assert model.predict_proba_one(x) == restored.predict_proba_one(x), i
        y = (ord(x["carrier"]) + ord(x["dest"]) + chance.random() * 9) % 9 < 4
        model.learn_one(x, y)
        if restored is not model:
            restored.learn_one(x, y)
        if i == 500:
            restored = pickling.loads(pickling.dumps(model))


def test_a_restore_changes_no_order_of_declared_categories() -> None:
    """Encoders that are made anew for a class that comes late have their columns as the first one."""
    encoder = preprocessing.OneHotEncoder(categories={"word": set(WORDS)})
    model = clone(multiclass.OneVsRestClassifier(encoder | linear_model.LogisticRegression()))
    model.learn_one({"word": "dest"}, "a")
    restored = pickling.loads(pickling.dumps(model))
    for one in (model, restored):
        one.learn_one({"word": "origin"}, "b")
    assert state_hash(model) == state_hash(restored)


def rule_model(restored: bool) -> rules.AMRules:
    """Several rules, learned in one life or two."""
    chance, model = random.Random(3), rules.AMRules(n_min=50, delta=0.05)
    for i in range(3_000):
        x = {"a": chance.random(), "b": chance.random()}
        model.learn_one(x, 10 * (x["a"] > 0.5) + 5 * (x["b"] > 0.3) + chance.random() / 10)
        if restored and i in (500, 1_500):
            model = pickling.loads(pickling.dumps(model))
    return model


def test_rules_are_the_same_whatever_their_addresses() -> None:
    """Two models of the same examples have one hash, also when one of them was restored while it had rules."""
    one, two, third = rule_model(False), rule_model(False), rule_model(True)
    assert len(one) > 3
    assert len(one) == len(third)
    assert state_hash(one) == state_hash(two) == state_hash(third)


def searched(examples: list[tuple[dict[str, Any], str]]) -> str:
    """The state of nearest neighbours that learned these; some of the examples are refused."""
    model = neighbors.KNNClassifier(engine=neighbors.SWINN(graph_k=2, maxlen=12, warm_up=8, seed=1))
    for x, y in examples:
        outcome(model.learn_one, x, y)
    return state_hash(model)


def test_neighbours_are_not_anothers() -> None:
    """What is left of an error in one search engine does not reach the next."""
    chance = random.Random(1)
    plain = [({"a": chance.random()}, chance.choice("ab")) for _ in range(60)]
    alone = searched(plain)
    Vertex._isolated.add(30)
    assert searched(plain) == alone


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
