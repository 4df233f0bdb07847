"""Hashes: the same for the same state and the same code, in every process, and no others."""

from __future__ import annotations

import collections
import functools
import json
import math
import pickle
import random
import re
import subprocess
import sys
import textwrap
import types
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from river import linear_model, preprocessing

from headrace.streams.identity import pickling
from headrace.streams.identity.hashing import environment, environment_hash, function_hash, state_hash
from tests.river_zoo import EXAMPLES, ZOO, step


@dataclass
class Node:
    """A thing with attributes, to make graphs of."""

    value: Any = None
    others: list[Any] = field(default_factory=list)


class Slotted:
    """A thing with slots and no dict."""

    __slots__ = ("a", "b")


class Colours(set):  # type: ignore[type-arg]
    """A set by another name."""


@pytest.mark.parametrize("name", ZOO)
def test_a_models_hash_survives_the_round_trip_and_sees_one_more_example(name: str):
    """Equal after restoring and after going on, in mid-stream; different after one more example."""
    model = ZOO[name]()
    for x, y in EXAMPLES[:200]:
        step(model, x, y)
    again = pickling.loads(pickling.dumps(model))
    assert state_hash(again) == state_hash(model)
    for x, y in EXAMPLES[200:320]:
        step(model, x, y)
        step(again, x, y)
    before = state_hash(model)
    assert state_hash(again) == before
    for x, y in EXAMPLES[320:]:
        step(model, x, y)
        if state_hash(model) != before:
            return
    pytest.fail("the hash never changes")


@pytest.mark.parametrize("name", ["logistic", "adaptive", "forest", "random-patches", "mondrian", "leveraging"])
def test_two_runs_of_a_model_have_one_hash_and_each_example_another(name: str):
    """The fold of the same examples is the same state, and every example changes it."""
    one, two = ZOO[name](), ZOO[name]()
    seen = set()
    for x, y in EXAMPLES[:60]:
        step(one, x, y)
        step(two, x, y)
        assert state_hash(one) == state_hash(two)
        seen.add(state_hash(one))
    assert len(seen) == 60


def _variants() -> list[Any]:
    """Values of which no two are the same."""
    slotted, other = Slotted(), Slotted()
    slotted.a, other.b = 1, 1
    cycle, longer = Node(), Node(others=[Node()])
    cycle.others.append(cycle)
    longer.others[0].others.append(longer)
    advanced = random.Random(1)
    advanced.random()
    return [
        None, ..., True, False, 0, 1, -1, 255, 256, -256, 2**70, 0.0, -0.0, 1.0, math.nan, math.inf, 1j,
        "", "1", "a", b"", b"1", b"a", bytearray(b"a"), (), [], {}, set(), frozenset(), (1,), [1], {1}, frozenset({1}),
        [[1], 2], [1, [2]], [[1, 2]], ["ab", "c"], ["a", "bc"], {"a": 1, "b": 2}, {"b": 2, "a": 1}, {"a": "b"},
        [1] * 20, [1] * 21, (1,) * 20, [1.0] * 20, [True] * 20, [2**70] * 20,
        collections.OrderedDict(a=1), collections.defaultdict(list, a=1), collections.defaultdict(set, a=1),
        collections.Counter(a=1), collections.deque([1, 2]), collections.deque([1, 2], maxlen=2), Colours({1}),
        np.zeros(2), np.zeros((2, 1)), np.zeros(2, "f4"), np.zeros(2, "i8"), np.float64(0), np.float32(0), np.int64(0),
        np.array(0.0), np.array(["a"]), np.array(["a"], object), np.zeros(1, [("a", "f8")]), np.zeros(1, [("b", "f8")]),
        random.Random(1), random.Random(2), advanced, np.random.RandomState(1), np.random.default_rng(1),
        Node(), Node(1), Node(others=[1]), Node(others=[Node()]), slotted, other, cycle, longer,
        len, max, str.lower, "a".lower, "b".lower, Node, Slotted, state_hash, functools.partial(max, 1),
        functools.partial(max, 2), re.compile("a"), re.compile("b"), range(3), range(4), slice(1), iter([1]), iter([2]),
    ]  # fmt: skip


def test_different_values_have_different_hashes():
    """Some ninety values that differ in kind, type, order, shape or bits have as many hashes."""
    hashes: dict[str, Any] = {}
    for value in _variants():
        key = state_hash(value)
        assert key not in hashes, (value, hashes.get(key))
        hashes[key] = value


def test_identity_sharing_and_interning_do_not_count():
    """Whether equal values are one object or two is a matter of memory, not of state."""
    text = "".join(["a", "b c"])
    shared = [text]
    assert state_hash([shared, shared, text]) == state_hash([["ab c"], ["ab c"], "ab c"])
    node = Node(1)
    assert state_hash((node, node)) == state_hash((Node(1), Node(1)))


def test_the_order_of_sets_and_attributes_does_not_count():
    """A set has no order; attributes are found by name."""
    one, two = Node(), Node()
    one.__dict__.update(x=1, y=2)
    two.__dict__.update(y=2, x=1)
    assert state_hash(one) == state_hash(two)
    forward, backward = [0, 8, 16, 24], [24, 16, 8, 0]  # they collide, so a set keeps the order of insertion
    assert list(set(forward)) != list(dict.fromkeys(set(backward)))
    assert state_hash(set(forward)) == state_hash(set(backward))
    assert state_hash(Colours(forward)) == state_hash(Colours(backward))


def test_an_array_counts_by_content_not_by_layout():
    """A view and its copy are one value."""
    array = np.arange(12.0).reshape(3, 4)
    assert state_hash(array[:, ::2]) == state_hash(array[:, ::2].copy())
    assert state_hash(np.asfortranarray(array)) == state_hash(array)


def test_cycles_end_and_survive_the_round_trip():
    """A ring of nodes, a dense graph and a list in itself are hashed, and again after pickling."""
    nodes = [Node(i) for i in range(60)]
    for node in nodes:
        node.others = list(nodes)
    itself: list[Any] = [1]
    itself.append(itself)
    for graph in (nodes[0], nodes, itself):
        assert state_hash(pickle.loads(pickle.dumps(graph))) == state_hash(graph)
    before = state_hash(nodes[0])
    nodes[59].value = -1
    assert state_hash(nodes[0]) != before


def test_a_state_deeper_than_the_stack_is_hashed():
    """Depth is no limit of the hash."""
    deep: list[Any] = []
    for _ in range(5_000):
        deep = [deep]
    assert state_hash(deep) != state_hash(deep[0])


def test_what_has_no_state_to_show_is_refused():
    """A generator or an open file cannot be hashed, rather than hash to nothing."""
    with pytest.raises(TypeError):
        state_hash([(i for i in range(3))])
    with pytest.raises(TypeError), Path(__file__).open() as file:
        state_hash(file)


def _in_process(code: str, seed: str) -> str:
    command = [sys.executable, "-c", textwrap.dedent(code)]
    environ = {"PYTHONHASHSEED": seed, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    return subprocess.run(command, env=environ, check=True, capture_output=True, text=True).stdout


def test_hashes_do_not_depend_on_the_process_or_its_hash_seed():
    """States with sets of words, and functions with such constants, hash alike in two processes."""
    code = """
        from headrace.streams.identity.hashing import state_hash, function_hash, environment_hash
        WORDS = {"red", "green", "blue", "grey"}
        def known(x):
            return x in {"a", "b", "c", "d"} or x in WORDS
        print(state_hash({"a": {"red", "green", "blue"}}), function_hash(known), environment_hash())
    """
    assert _in_process(code, "1") == _in_process(code, "2")


BASE = """
    LIMIT = 3
    TABLE = {"a": 1}
    def helper(x):
        return x + LIMIT
    class Shift:
        offset = 5
    class Rule(Shift):
        factor = 2
        def apply(self, x):
            return x * self.factor
    def f(x, scale=2.0, *, base=1):
        "What it does."
        inner = [helper(v) for v in x["values"]]
        return sum(inner) * scale + base + Rule.offset + TABLE["a"] + Rule().apply(1)
"""


def load(source: str, name: str = "f", filename: str = "one.py") -> Callable[..., Any]:
    """Run `source` as a module of its own and give what it calls `name`."""
    module = types.ModuleType("pipeline_file")
    exec(compile(textwrap.dedent(source), filename, "exec"), vars(module))
    return vars(module)[name]  # type: ignore[no-any-return]


def test_place_comments_and_docstrings_of_a_function_do_not_count():
    """The same code further down in another file, with another docstring, has the same hash."""
    moved = "\n\n\n    # A comment.\n" + BASE.replace("What it does.", "What it does, in other words.")
    assert function_hash(load(moved, filename="two.py")) == function_hash(load(BASE))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("* scale", "/ scale"),
        ("+ base", "+ 2 * base"),
        ("scale=2.0", "scale=2.5"),
        ("base=1)", "base=2)"),
        ('x["values"]', 'x["value"]'),
        ("return x + LIMIT", "return x - LIMIT"),
        ("LIMIT = 3", "LIMIT = 4"),
        ("LIMIT = 3", "LIMIT = 3.0"),
        ('TABLE = {"a": 1}', 'TABLE = {"a": 2}'),
        ("sum(inner)", "max(inner)"),
        ("helper(v)", "helper(v + 1)"),
        ("factor = 2", "factor = 3"),
        ("offset = 5", "offset = 6"),
        ("return x * self.factor", "return x + self.factor"),
    ],
)
def test_whatever_a_function_computes_with_counts(old: str, new: str):
    """Code, constants, defaults, and what it refers to in its own module, at any remove."""
    assert BASE.count(old) == 1
    assert function_hash(load(BASE.replace(old, new))) != function_hash(load(BASE))


def test_a_constant_that_is_also_the_docstring_counts():
    """A docstring is left out only as far as the code does not use it."""
    source = "def f(x):\n    'a'\n    return 'a'\n"
    assert function_hash(load(source)) != function_hash(load(source.replace("'a'", "'b'")))


def test_closures_partials_methods_and_callables_count_by_their_values():
    """What is bound to a function is part of it."""

    def over(limit: Any) -> Callable[[Any], bool]:
        return lambda x: x > limit

    @dataclass
    class Above:
        limit: int

        def __call__(self, x: int) -> bool:
            return x > self.limit

        def check(self, x: int) -> bool:
            return x > self.limit

    makers: list[Callable[[int], Callable[..., Any]]] = [
        over,
        lambda limit: over(over(limit)),
        lambda limit: functools.partial(max, limit),
        Above,
        lambda limit: Above(limit).check,
    ]
    for make in makers:
        assert function_hash(make(1)) == function_hash(make(1))
        assert function_hash(make(1)) != function_hash(make(2))


def test_recursion_and_mutual_recursion_end():
    """Functions that call each other are followed once, and a change in either counts."""
    source = """
        def even(n):
            return n == 0 or odd(n - 1)
        def odd(n):
            return n != 0 and even(n - 1)
    """
    assert function_hash(load(source, "even")) == function_hash(load(source, "even"))
    assert function_hash(load(source, "even")) != function_hash(load(source.replace("n != 0", "n > 0"), "even"))


def test_a_function_that_has_run_hot_keeps_its_hash():
    """The interpreter's specialised bytecode does not show."""
    function = load(BASE)
    cold = function_hash(function)
    for i in range(2_000):
        function({"values": [i, i + 0.5]})
    assert function_hash(function) == cold


def test_what_cannot_be_called_is_refused():
    """Only callables have a function hash."""
    with pytest.raises(TypeError, match="not callable"):
        function_hash(3)  # type: ignore[arg-type]


def test_a_pipeline_that_was_used_has_the_state_of_one_that_was_not():
    """What it notes about its steps at its first use is no state; what a step learns is."""
    used, fresh = (preprocessing.StandardScaler() | linear_model.LogisticRegression() for _ in range(2))
    used.predict_one({})
    assert vars(used)["_plan"] is not None
    assert state_hash(used) == state_hash(fresh)
    used.learn_one({"a": 1.0}, True)
    assert state_hash(used) != state_hash(fresh)


def test_the_environment_names_versions_and_nothing_of_the_machine():
    """Python's minor version and the libraries that compute; its hash is that of this mapping."""
    found = environment()
    assert set(found) == {"python", "google-re2", "headrace", "msgspec", "numpy", "river"}
    assert found["python"] == f"cpython 3.{sys.version_info.minor}"
    assert found["numpy"] == np.__version__
    assert len(environment_hash()) == 32
    assert json.loads(json.dumps(found)) == found
