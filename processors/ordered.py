"""Classes in order: the sets of labels that River's classifiers keep go by their order, whatever their history.

A set's own order depends on Python's hash seed and on how its table came about. Of three labels with colliding hashes,
a set that was restored may have another than the one that was saved, and with it go the order of probabilities, the
order in which they are added up (so the last bits), and which of two equal ones is the best. So importing this makes
the classes below put what they assign to these attributes into `Classes`, in whatever ensemble they are made anew.
Where there are no collisions, as with the labels of binary models, nothing changes; elsewhere River by itself answers
differently from one hash seed to the next.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from river.dummy import NoChangeClassifier
from river.forest import AMFClassifier
from river.multiclass import OneVsOneClassifier
from river.neighbors import KNNClassifier
from river.tree import HoeffdingTreeClassifier

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


class _InOrder:
    """An attribute that is kept in the instance as ever; only what is assigned to it is put in order."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __set__(self, model: Any, value: Any) -> None:
        model.__dict__[self._name] = Classes(value) if type(value) is set else value

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
)
for _kind, _name in _KINDS:
    _in_order = _InOrder(_name)
    setattr(_kind, _name, _in_order)
    _kind.__setstate__ = _in_order.restoring()
