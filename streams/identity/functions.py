"""Hashes of functions: equal as long as what a function does is written the same way.

Bytecode, names, constants, defaults, closure, and what it refers to in its own module: constants, functions and
classes, followed to the end. Line numbers, file names, comments, docstrings and the process's hash seed do not count.
What lies in other modules counts by name only: their versions are in the environment's hash, but an edit of another
file of one's own goes unseen. Bytecode belongs to a Python version, so the hash does too.
"""

from __future__ import annotations

import builtins
import dis
import functools
import hashlib
import types
from collections.abc import Callable, Iterator
from typing import Any, Final

from headrace.streams.identity.canonical import canonical_bytes

__all__ = ["function_hash"]

_BYTES: Final = 16
_PLAIN: Final = (type(None), type(...), bool, int, float, complex, str, bytes)
_CLASS_PARTS: Final = (*_PLAIN, tuple, list, dict, set, frozenset, property, staticmethod, classmethod)
_MISSING: Final = object()


def function_hash(function: Callable[..., Any]) -> str:
    """Hash what `function` does: 32 hex digits, the same in every process with this Python version.

    Takes plain functions, lambdas, methods, partials, builtins, classes, and objects with `__call__`
    (their values count). Raises `TypeError` for what cannot be called.
    """
    if not callable(function):
        raise TypeError(f"{function!r} is not callable")
    return hashlib.blake2b(_Description().of(function), digest_size=_BYTES).hexdigest()


class _Description:
    """One description: functions and classes met again are named by the order in which they were met."""

    def __init__(self) -> None:
        self._met: dict[int, int] = {}
        self._keep: list[Any] = []

    def of(self, value: Any) -> bytes:
        """Describe a value in bytes that delimit themselves."""
        if isinstance(value, _PLAIN) and type(value) in _PLAIN:
            return canonical_bytes(value)
        if type(value) in (tuple, list):
            return self._frame(type(value).__name__, [self.of(item) for item in value])
        if type(value) in (set, frozenset):
            return self._frame(type(value).__name__, sorted(self.of(item) for item in value))
        if type(value) is dict:
            return self._frame("dict", [self.of(part) for item in value.items() for part in item])
        if isinstance(value, types.ModuleType):
            return self._name("module", value.__name__)
        met = self._met.get(id(value))
        if met is not None:
            return self._name("met", str(met))
        self._met[id(value)] = len(self._met)
        self._keep.append(value)
        return self._callable_or_object(value)

    def _callable_or_object(self, value: Any) -> bytes:
        if isinstance(value, types.CodeType):
            return self._code(value)
        if isinstance(value, types.FunctionType):
            return self._function(value)
        if isinstance(value, types.MethodType):
            return self._frame("method", [self.of(value.__func__), self.of(value.__self__)])
        if isinstance(value, staticmethod | classmethod):
            return self._frame(type(value).__name__, [self.of(value.__func__)])
        if isinstance(value, property):
            return self._frame("property", [self.of(part) for part in (value.fget, value.fset, value.fdel)])
        if isinstance(value, functools.partial):
            return self._frame("partial", [self.of(part) for part in (value.func, value.args, value.keywords)])
        if isinstance(value, types.BuiltinFunctionType | types.MethodWrapperType | types.WrapperDescriptorType):
            return self._name("builtin", f"{getattr(value, '__module__', None)}.{value.__qualname__}")
        if isinstance(value, type):
            return self._name("class", f"{value.__module__}.{value.__qualname__}")
        inner = getattr(value, "__wrapped__", None)
        if isinstance(inner, types.FunctionType):
            return self._frame("wrapper", [self._name("class", type(value).__qualname__), self.of(inner)])
        return self._instance(value)

    def _instance(self, value: Any) -> bytes:
        call = vars(type(value)).get("__call__")
        how = [self.of(call)] if isinstance(call, types.FunctionType) else []
        return self._frame("object", [*how, canonical_bytes(value)])

    def _function(self, function: types.FunctionType) -> bytes:
        code = function.__code__
        cells = []
        for cell in function.__closure__ or ():
            try:
                cells.append(self.of(cell.cell_contents))
            except ValueError:  # not filled yet
                cells.append(self._name("empty", ""))
        globals_ = []
        for name in sorted(set(_global_names(code))):
            globals_ += [canonical_bytes(name), self._global(function, name)]
        defaults = [self.of(function.__defaults__), self.of(function.__kwdefaults__)]
        return self._frame("function", [self._code(code), *defaults, *cells, *globals_])

    def _global(self, function: types.FunctionType, name: str) -> bytes:
        """Describe what a global name stands for: by value if it is of the same module, else by its own name."""
        value = function.__globals__.get(name, _MISSING)
        if value is _MISSING:
            return self._name("builtin" if hasattr(builtins, name) else "undefined", name)
        own_class = isinstance(value, type) and value.__module__ == function.__module__
        home = getattr(value, "__module__", None) or getattr(type(value), "__module__", None)
        foreign = isinstance(value, types.FunctionType | type) and home != function.__module__
        if foreign:
            return self._name("foreign", f"{value.__module__}.{value.__qualname__}")
        try:
            return self._class(value) if own_class else self.of(value)
        except TypeError:  # an open connection, a generator: nothing to describe but what it is
            return self._name("opaque", f"{type(value).__module__}.{type(value).__qualname__}")

    def _class(self, kind: type) -> bytes:
        met = self._met.get(id(kind))
        if met is not None:
            return self._name("met", str(met))
        self._met[id(kind)] = len(self._met)
        self._keep.append(kind)
        parts = [self._name("class", kind.__qualname__)]
        for base in kind.__bases__:
            own = base.__module__ == kind.__module__
            parts.append(self._class(base) if own else self._name("base", f"{base.__module__}.{base.__qualname__}"))
        for name, value in sorted(vars(kind).items()):
            if name not in _CLASS_NOISE and isinstance(value, (*_CLASS_PARTS, types.FunctionType)):
                parts += [canonical_bytes(name), self.of(value)]
        return self._frame("class", parts)

    def _code(self, code: types.CodeType) -> bytes:
        used = {step.arg for step in dis.get_instructions(code) if step.opcode in dis.hasconst}
        constants = [self.of(value) for i, value in enumerate(code.co_consts) if i in used]
        facts = (
            code.co_code, code.co_exceptiontable, code.co_flags, code.co_names, code.co_varnames, code.co_freevars,
            code.co_cellvars, code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount,
        )  # fmt: skip
        return self._frame("code", [*map(canonical_bytes, facts), *constants])

    def _name(self, kind: str, name: str) -> bytes:
        return canonical_bytes((kind, name))

    def _frame(self, kind: str, parts: list[bytes]) -> bytes:
        return canonical_bytes((kind, *parts))


def _global_names(code: types.CodeType) -> Iterator[str]:
    """Give the global names that a function and the functions inside it load."""
    for step in dis.get_instructions(code):
        if step.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
            yield str(step.argval)
    for value in code.co_consts:
        if isinstance(value, types.CodeType):
            yield from _global_names(value)


_CLASS_NOISE: Final = frozenset(
    {"__doc__", "__module__", "__qualname__", "__firstlineno__", "__static_attributes__", "__dict__", "__weakref__"}
)
