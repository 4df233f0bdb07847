"""River in order: what its models keep by a set's order or an object's address goes by neither, whatever its history.

A set's own order depends on Python's hash seed and on how its table came about. Of three names with colliding hashes,
a set that was restored may have another than the one that was saved, and with it go the order of probabilities or
features, the order in which they are added up (so the last bits), and which of two equal ones is the best. So
importing this makes the classes below put what they assign to these attributes into `Classes`, in whatever ensemble
they are made anew. Where there are no collisions nothing changes; elsewhere River by itself answers differently from
one hash seed to the next.

Addresses are others in every process, and given anew. Two classes look things up by them: a `RandomTreesEmbedding` its
leaves, which it could not find after a restore, and `AMRules` its rules, of which a new one could take the place of a
living one. What is saved has neither: leaves are counted anew, and rules are numbered. And one class draws numbers
that nobody can seed, for the shape of its tree: `KolmogorovSmirnov`'s go by how many it has drawn. One keeps notes for
all of its kind in the process, which an error leaves for the next: a `SWINN` begins without them.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator
from typing import Any

from river.compose import Select
from river.dummy import NoChangeClassifier
from river.feature_extraction import RandomTreesEmbedding
from river.forest import AMFClassifier
from river.multiclass import OneVsOneClassifier
from river.neighbors import SWINN, KNNClassifier
from river.neighbors.ann.nn_vertex import Vertex
from river.preprocessing import OneHotEncoder
from river.rules import AMRules
from river.rules.base import HoeffdingRule
from river.stats import KolmogorovSmirnov, kolmogorov_smirnov
from river.tree import HoeffdingTreeClassifier
from river.tree.splitter.nominal_splitter_classif import NominalSplitterClassif

__all__ = ["Classes"]


class Classes(set[Any]):
    """A set that is iterated in the order of its elements; by type and text where they have none.

    >>> list(Classes(["b", "a"]) - {"b"}), list(Classes(["b", 2, 1]))
    (['a'], [1, 2, 'b'])
    """

    __slots__ = ()

    def __iter__(self) -> Iterator[Any]:
        try:
            return iter(sorted(super().__iter__()))
        except TypeError:
            return iter(sorted(super().__iter__(), key=lambda label: (type(label).__name__, str(label))))

    def __sub__(self, other: Any) -> Any:
        left = super().__sub__(other)
        return left if left is NotImplemented else Classes(left)


def _in_order(value: Any) -> Any:
    """A set in order, also as a value of a dict; anything else as it is."""
    if type(value) is dict:
        return {name: _in_order(inner) for name, inner in value.items()}
    return Classes(value) if type(value) is set else value


class _InOrder:
    """An attribute that is kept in the instance as ever; only what is assigned to it is put in order."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __set__(self, model: Any, value: Any) -> None:
        model.__dict__[self._name] = _in_order(value)

    def restoring(self) -> Callable[[Any, dict[str, Any]], None]:
        """A `__setstate__` that does as none would, for models that were pickled without this, too."""

        def restore(model: Any, state: dict[str, Any]) -> None:
            model.__dict__.update(state)
            if self._name in state:
                self.__set__(model, state[self._name])

        return restore


_KINDS: tuple[tuple[Any, str], ...] = (
    (AMFClassifier, "_classes"),
    (HoeffdingTreeClassifier, "classes"),
    (KNNClassifier, "classes"),
    (OneVsOneClassifier, "classes"),
    (NoChangeClassifier, "classes"),
    (NominalSplitterClassif, "_att_values"),
    (OneHotEncoder, "categories"),
    (Select, "keys"),
)
for _kind, _name in _KINDS:
    _attribute = _InOrder(_name)
    setattr(_kind, _name, _attribute)
    _kind.__setstate__ = _attribute.restoring()


def _without_leaves(model: Any) -> dict[str, Any]:
    return {name: value for name, value in vars(model).items() if name != "_leaf_indices"}


def _with_leaves(model: Any, state: dict[str, Any]) -> None:
    model.__dict__.update(state)
    model._leaf_indices = [{id(leaf): i for i, leaf in enumerate(tree.iter_leaves())} for tree in model.trees]


def _numbered(model: Any) -> dict[str, Any]:
    return {**vars(model), "_rules": {~i: rule for i, rule in enumerate(model._rules.values())}}


_numbers = itertools.count()


def _next(rule: Any) -> int:
    """Asked once a rule, for its key beside the saved ones, which are all below 0."""
    return next(_numbers)


_chance = random.Random()
_unseeded_update = KolmogorovSmirnov.update


def _drawing(statistic: Any, x: float, y: float) -> None:
    """Its own `update`, whose draws go by the number of updates before it."""
    statistic.drawn = getattr(statistic, "drawn", statistic.n_samples) + 1
    _chance.seed(statistic.drawn)
    _unseeded_update(statistic, x, y)


_append = SWINN.append


def _alone(engine: Any, item: Any, **more: Any) -> None:
    """Its own `append`, whatever has become of another's."""
    Vertex._isolated.clear()
    _append(engine, item, **more)


kolmogorov_smirnov._random = _chance.random

_METHODS: tuple[tuple[Any, str, Callable[..., Any]], ...] = (
    (RandomTreesEmbedding, "__getstate__", _without_leaves),
    (RandomTreesEmbedding, "__setstate__", _with_leaves),
    (AMRules, "__getstate__", _numbered),
    (HoeffdingRule, "__hash__", _next),
    (KolmogorovSmirnov, "update", _drawing),
    (SWINN, "append", _alone),
)
for _kind, _name, _method in _METHODS:
    setattr(_kind, _name, _method)
