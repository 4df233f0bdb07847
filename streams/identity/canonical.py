"""Hashes of states that say "the same" when replay would go on the same way.

A state's hash is a walk over its values, not over its pickle: the pickle's bytes change when a state was restored
(which strings are one object, how often something is shared), its values do not. What counts:

- floats by their IEEE bits, so that -0.0 is not 0.0; ints, bools and numpy scalars are different kinds;
- dicts in insertion order, because linear models add up their weights in that order; sets have none, and are sorted;
- objects by class and state, attributes by name; what `__reduce_ex__` gives, for classes that have their own way;
- not: generators that River seeds from the operating system and that decide nothing (`pickling.is_unseeded`);
- not: what River's `Pipeline` notes about its steps when it is first used;
- not: whether equal values are one object or two. A cycle is a reference to how many levels up it closes.
"""

from __future__ import annotations

import copyreg
import hashlib
import struct
import types
from collections.abc import Callable, Iterable
from typing import Any, Final

import numpy as np
from river.compose import Pipeline

from headrace.processors.ordered import Classes
from headrace.streams.identity.deepstack import on_deep_stack
from headrace.streams.identity.pickling import is_unseeded

__all__ = ["canonical_bytes", "meaningful", "state_hash"]

_BYTES: Final = 16
_NEW: Final = vars(copyreg)["__newobj__"]
_UNUSED: Final = {"_plan": None, "_inference_transformers": (), "_last_step_cached": None}
_NOTED: Final = "_last_step_params"


def state_hash(obj: Any) -> str:
    """Hash the values that `obj` is made of: 32 hex digits, equal before and after a pickle round trip.

    Raises `TypeError` for what has no state of its own to show (an open file, a generator).
    """
    return hashlib.blake2b(canonical_bytes(obj), digest_size=_BYTES).hexdigest()


def canonical_bytes(obj: Any) -> bytes:
    """Give bytes that are equal for equal values and delimit themselves: an atom itself, of all else a digest."""
    return on_deep_stack(lambda: _Walk().part(obj))


def meaningful(kind: Any, state: Any) -> Any:
    """A `__getstate__` without what decides nothing: as it is in an object that was just made."""
    if is_unseeded(kind, state):
        return {**state, "_rng": None}
    if kind is not Pipeline or type(state) is not dict:
        return state
    return {name: _UNUSED.get(name, value) for name, value in state.items() if name != _NOTED}


class _Walk:
    """One walk: remembers what it has hashed, and knows what it is inside of."""

    def __init__(self) -> None:
        self._known: dict[int, bytes] = {}
        self._open: dict[int, int] = {}
        self._keep: list[Any] = []

    def part(self, obj: Any) -> bytes:
        """Give canonical bytes that delimit themselves: an atom's value, or a digest of what is inside."""
        atom = _ATOMS.get(type(obj))
        if atom is not None:
            return atom(obj)
        identity = id(obj)
        known = self._known.get(identity)
        if known is not None:
            return known
        level = self._open.get(identity)
        if level is not None:
            return b"^" + _length(len(self._open) - level)
        self._open[identity] = len(self._open)
        self._keep.append(obj)  # a temporary's id must not come back as another's
        found = b"#" + hashlib.blake2b(self._content(obj), digest_size=_BYTES).digest()
        del self._open[identity]
        self._known[identity] = found
        return found

    def _content(self, obj: Any) -> bytes:
        kind = type(obj)
        if kind is list or kind is tuple:
            return _homogeneous(obj) or self._join(b"L" if kind is list else b"T", obj)
        if kind is dict:
            return self._join(b"D", (part for item in obj.items() for part in item))
        if kind is set or kind is frozenset or kind is Classes:
            return _frame(b"Z" if kind is frozenset else b"S", sorted(map(self.part, obj)))
        if kind is np.ndarray or isinstance(obj, np.generic):
            return self._array(obj)
        if kind is types.MethodType:
            return self._join(b"M", (obj.__func__.__qualname__, obj.__self__))
        if kind is types.BuiltinMethodType and not isinstance(obj.__self__, types.ModuleType | type(None)):
            return self._join(b"M", (obj.__name__, obj.__self__))
        if isinstance(obj, type | types.FunctionType | types.BuiltinFunctionType):
            return self._join(b"G", (obj.__module__, obj.__qualname__))
        return self._object(obj, kind)

    def _array(self, obj: Any) -> bytes:
        head = (type(obj).__qualname__, repr(obj.dtype.descr), obj.shape)
        return self._join(b"A", (*head, obj.tolist() if obj.dtype.hasobject else obj.tobytes()))

    def _object(self, obj: Any, kind: Any) -> bytes:
        name = (kind.__module__, kind.__qualname__)
        if isinstance(obj, set | frozenset):  # a subclass, whose own way is a list without order
            return self._join(b"Y", (*name, b"".join(sorted(map(self.part, obj))), *_flat(obj.__getstate__())))
        reducer = copyreg.dispatch_table.get(kind)
        reduced = obj.__reduce_ex__(4) if reducer is None else reducer(obj)
        if isinstance(reduced, str):
            return self._join(b"R", (*name, reduced))
        make, arguments, state, items, pairs = (*reduced, None, None, None)[:5]
        state = meaningful(kind, state)
        ordinary = make is _NEW and len(arguments) == 1 and arguments[0] is kind
        how = () if ordinary else (make, arguments)
        inside = (*_flat(state), list(items or ()), [part for pair in pairs or () for part in pair])
        return self._join(b"O" if ordinary else b"R", (*name, *how, *inside))

    def _join(self, tag: bytes, items: Iterable[Any]) -> bytes:
        return _frame(tag, [self.part(item) for item in items])


def _flat(state: Any) -> Iterable[Any]:
    """Flatten a `__getstate__` into parts, attributes sorted by name: they are found by name, so order is nothing."""
    slots = None
    if type(state) is tuple and len(state) == 2 and isinstance(state[1], dict):
        state, slots = state
    for part in (state, slots):
        if type(part) is dict and all(type(name) is str for name in part):
            yield len(part)
            for name in sorted(part):
                yield name
                yield part[name]
        else:
            yield part


def _frame(tag: bytes, parts: list[bytes]) -> bytes:
    """Join parts that delimit themselves."""
    return tag + _length(len(parts)) + b"".join(parts)


def _length(n: int) -> bytes:
    return n.to_bytes(8, "big")


def _text(value: str) -> bytes:
    encoded = value.encode("utf-8", "surrogatepass")
    return b"s" + _length(len(encoded)) + encoded


def _integer(value: int) -> bytes:
    encoded = value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True)
    return b"i" + _length(len(encoded)) + encoded


def _homogeneous(items: list[Any] | tuple[Any, ...]) -> bytes | None:
    """Pack a long run of small ints or of floats at once (a random generator's state, a window)."""
    if len(items) < 16:
        return None
    kinds = set(map(type, items))
    tag = b"l" if type(items) is list else b"t"
    if kinds == {float}:
        return tag + b"d" + struct.pack(f">{len(items)}d", *items)
    if kinds == {int} and min(items) >= -(2**63) and max(items) < 2**63:
        return tag + b"q" + struct.pack(f">{len(items)}q", *items)
    return None


_ATOMS: Final[dict[type, Callable[[Any], bytes]]] = {
    type(None): lambda value: b"N",
    type(...): lambda value: b"E",
    bool: lambda value: b"1" if value else b"0",
    int: _integer,
    float: lambda value: b"f" + struct.pack(">d", value),
    complex: lambda value: b"c" + struct.pack(">dd", value.real, value.imag),
    str: _text,
    bytes: lambda value: b"b" + _length(len(value)) + value,
    bytearray: lambda value: b"B" + _length(len(value)) + bytes(value),
}
