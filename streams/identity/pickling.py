"""Pickles that can only name what is on a list: River's classes, a few of Python's and numpy's, and the caller's.

A name is looked up in a table, or checked to be exactly a class that River defines, under its own module and qualified
name. Nothing is ever reached *through* a module, so a dotted name (pickle protocol 4) leads nowhere. This is the second
wall: the first is the signature, checked before a byte of the pickle is read (`snapshots`).
"""

from __future__ import annotations

import collections
import copy
import copyreg
import datetime
import functools
import importlib
import inspect
import io
import operator
import pickle
import random
import re
import statistics
import sys
import types
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import numpy as np
from river import proba
from river.proba.base import Distribution

from headrace.processors.ordered import Classes

__all__ = ["Extra", "ForbiddenGlobal", "dumps", "forbidden_globals", "is_unseeded", "loads"]

Extra = Iterable[tuple[str, str]] | Mapping[tuple[str, str], Any]
"""What else a pickle may name: (module, name) pairs, or a mapping from these to the objects themselves."""


class ForbiddenGlobal(pickle.UnpicklingError):
    """A pickle names something that is not on the list."""


def dumps(obj: Any) -> bytes:
    """Pickle `obj` (protocol 5, everything in one byte string).

    River's trees and naive Bayes keep a distribution per feature, class and leaf, each with 2.5 kB of a random
    generator that nobody seeded and only `sample` uses. These are left out: most of a tree's pickle would be noise.
    """
    file = io.BytesIO()
    _Pickler(file, protocol=5).dump(obj)
    return file.getvalue()


def loads(payload: bytes, extra: Extra = ()) -> Any:
    """Unpickle what names nothing off the list; raises `ForbiddenGlobal` at the first such name.

    Other damage raises whatever it raises, Rust's panics included (a `BaseException`).
    """
    return _Unpickler(io.BytesIO(payload), extra).load()


def forbidden_globals(obj: Any, extra: Extra = ()) -> list[str]:
    """List what `loads` would refuse in the pickle of `obj`: empty when it can be restored. Trusts `obj`."""
    recorder = _Recorder(io.BytesIO(dumps(obj)), extra)
    recorder.load()
    return sorted(recorder.names)


def is_unseeded(kind: type, state: Any) -> bool:
    """Say whether an object's `_rng` is one of those that nobody seeded and that decide nothing."""
    return type(state) is dict and state.get("seed", 0) is None and "_rng" in state and issubclass(kind, Distribution)


class _Pickler(pickle.Pickler):
    """Leaves out unseeded generators of distributions."""

    def __init__(self, file: io.BytesIO, protocol: int) -> None:
        super().__init__(file, protocol)
        self.dispatch_table: dict[Any, Any] = {**copyreg.dispatch_table, **_REDUCERS}


def _reduced(distribution: Distribution) -> Any:
    kind = type(distribution)
    state: Any = distribution.__getstate__()
    if not is_unseeded(kind, state):
        return distribution.__reduce_ex__(4)
    return _unseeded, (kind, {name: value for name, value in state.items() if name != "_rng"})


def _unseeded(kind: type[Distribution], state: dict[str, Any]) -> Distribution:
    """Restore a distribution without its generator; all of them share one, unseeded as theirs were."""
    found = kind.__new__(kind)
    found.__dict__.update(state, _rng=_SHARED)
    return found


class _Unpickler(pickle.Unpickler):
    """Resolves names by the list; `builtins.getattr`, by which pickle writes bound methods, becomes `_method`."""

    def __init__(self, file: io.BytesIO, extra: Extra) -> None:
        super().__init__(file)
        self._extra = _resolved(extra)
        self._extra_types = {found for found in self._extra.values() if isinstance(found, type)}

    def find_class(self, module: str, name: str) -> Any:
        key = (module, name)
        if key == ("builtins", "getattr"):
            return self._method
        if key in self._extra:
            return self._extra[key]
        found = _listed(module, name)
        if found is None:
            return self._refuse(f"{module}.{name}", functools.partial(super().find_class, module, name))
        return found

    def persistent_load(self, pid: Any) -> Any:
        raise ForbiddenGlobal("a persistent id")

    def _method(self, owner: Any, name: str) -> Any:
        if type(name) is str and not name.startswith("__"):
            kind = type(owner)
            if owner is str and name in _STR_METHODS:
                return getattr(str, name)
            if kind is random.Random and name in _RANDOM_METHODS:
                return getattr(owner, name)
            function = inspect.getattr_static(kind, name, None)
            if isinstance(function, types.FunctionType) and (
                kind in self._extra_types or _river(kind.__module__, kind.__qualname__) is kind
            ):
                return types.MethodType(function, owner)
        return self._refuse(f"method {type(owner).__qualname__}.{name}", lambda: getattr(owner, name))

    def _refuse(self, name: str, real: Callable[[], Any]) -> Any:
        raise ForbiddenGlobal(name)


class _Recorder(_Unpickler):
    """Notes what is refused, and resolves it all the same: for pickles made a moment ago in this process."""

    def __init__(self, file: io.BytesIO, extra: Extra) -> None:
        super().__init__(file, extra)
        self.names: set[str] = set()

    def _refuse(self, name: str, real: Callable[[], Any]) -> Any:
        self.names.add(name)
        return real()


def _resolved(extra: Extra) -> dict[tuple[str, str], Any]:
    if isinstance(extra, Mapping):
        return dict(extra)
    found = {}
    for module, name in extra:
        if "." in name:
            raise ValueError(f"extra class {module}.{name}: the name must be a top-level one, without dots")
        found[module, name] = getattr(importlib.import_module(module), name)
    return found


def _listed(module: str, name: str) -> Any | None:
    """Give the object of that exact name when it is on the list, else None."""
    found = _TABLE.get((module, name))
    return _river(module, name) if found is None else found


@functools.lru_cache(maxsize=4096)
def _river(module: str, name: str) -> Any | None:
    """Give a class that River defines in `module`, or one of its nested classes and static methods.

    Each step looks into a class body, and what is found must itself say that this is its module and name.
    """
    if not _RIVER_MODULE.fullmatch(module) or module.startswith(_RIVER_EXCLUDED):
        return None
    try:
        space: Mapping[str, Any] = vars(importlib.import_module(module))
    except ImportError:
        return None
    outer, dot, inner = name.partition(".")
    found = space.get(outer)
    if not isinstance(found, type) or (found.__module__, found.__qualname__) != (module, outer):
        return None
    if dot:
        held = vars(found).get(inner)
        found = held.__func__ if isinstance(held, staticmethod) else held if isinstance(held, type) else None
        if found is not None and (found.__module__, found.__qualname__) != (module, name):
            return None
    return found


def _numpy_constructors() -> dict[tuple[str, str], Any]:
    """Ask numpy itself: its reconstructors move between versions, and the pickles name them by their place."""
    samples = (np.arange(2.0), np.arange(4)[::2], np.float64(1), np.random.RandomState(0), np.random.default_rng(0))
    found: dict[tuple[str, str], Any] = {}

    class Collector(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            found[module, name] = super().find_class(module, name)
            return found[module, name]

    for sample in samples:
        for protocol in (2, 5):
            Collector(io.BytesIO(pickle.dumps(sample, protocol=protocol))).load()
    return {key: value for key, value in found.items() if key[0].startswith("numpy.") or key[0] == "numpy"}


def _river_functions() -> dict[tuple[str, str], Any]:
    """Give the few functions of River's that its objects hold on to: distances, averages, and steps over text."""
    text = ("find_all_ngrams", "remove_stop_words", "strip_accents_unicode", "tokenize_using_regex_pattern")
    names = (
        ("river._river_rust.vectordict", "euclidean_distance_dict"),
        ("river._river_rust.vectordict", "euclidean_distance_tuple"),
        ("river.utils.math", "minkowski_distance"),
        *(("river.feature_extraction.vectorize", name) for name in text),
        *(("river.metrics.mutual_info", f"_average_{kind}") for kind in ("arithmetic", "geometric", "max", "min")),
    )
    importlib.import_module("river.neighbors")  # River's Rust modules are importable by name only after the package
    importlib.import_module("river.metrics")
    importlib.import_module("river.feature_extraction")
    return {(module, name): found for module, name in names if (found := vars(sys.modules[module]).get(name))}


_RIVER_MODULE: Final = re.compile(r"river(\.[A-Za-z_][A-Za-z0-9_]*)+")
_RIVER_EXCLUDED: Final = (  # what reads files, downloads, or runs other code
    "river.datasets", "river.stream", "river.evaluate", "river.checks", "river.compat", "river.api",
    "river.bandit.envs", "river.bandit.datasets", "river.bandit.evaluate", "river.misc.zstd_classifier",
)  # fmt: skip
_RANDOM_METHODS: Final = frozenset(
    {"betavariate", "choice", "choices", "expovariate", "gammavariate", "gauss", "lognormvariate", "normalvariate",
     "randint", "random", "randrange", "sample", "shuffle", "triangular", "uniform"}
)  # fmt: skip
_STR_METHODS: Final = frozenset({"casefold", "lower", "strip", "upper"})
# Not numpy.array and the like: they believe any object's __array_interface__, a raw address.
_PLAIN: Final[tuple[Any, ...]] = (
    bool, bytearray, bytes, complex, dict, float, frozenset, int, iter, list, object, range, set, slice, str, tuple,
    collections.Counter, collections.OrderedDict, collections.defaultdict, collections.deque,
    copy.deepcopy, functools.partial, random.Random, statistics.NormalDist,
    datetime.date, datetime.datetime, datetime.timedelta, datetime.timezone, operator.itemgetter,
)  # fmt: skip
_SHARED: Final = random.Random()
_BEFORE: Final = ("headrace.streams.pickling",)
"""Where this module was when snapshots that may still be there were written."""
_REDUCERS: Final[dict[type, Callable[[Any], Any]]] = {
    kind: _reduced for kind in vars(proba).values() if isinstance(kind, type) and issubclass(kind, Distribution)
}
_TABLE: Final[dict[tuple[str, str], Any]] = {
    **{(found.__module__, found.__qualname__): found for found in _PLAIN},
    ("copyreg", "_reconstructor"): vars(copyreg)["_reconstructor"],
    **{(module, "_unseeded"): _unseeded for module in (__name__, *_BEFORE)},
    (Classes.__module__, Classes.__qualname__): Classes,
    **_numpy_constructors(),
    **_river_functions(),
}
