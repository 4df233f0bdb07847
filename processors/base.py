"""What the runtime hands to a processor: stores to keep state in, and how a processor asks for them.

A processor is configuration. Its state lives in stores that the runtime owns, hands in at each call,
writes at checkpoints and rebuilds from the log. Three kinds suffice:

``keyed``  a value per key. Values are immutable (tuples, numbers, strings); replacing one is `put`.
``log``    entries that are added, read and removed, mostly in time order (pending joins, seen ids). Values
           are immutable. Iteration is in insertion order, live and restored alike.
``cell``   one mutable value (a model, a metric, counters), written whole at every checkpoint.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

__all__ = ["DETAIL_CHARACTERS", "Keyed", "Log", "Rejected", "State", "StoreSpec", "described"]


class Keyed(Protocol):
    """A value per key; `put` marks it for the next checkpoint.

    What `put` does may be written out where a call would cost too much: ``save(key)`` if the key is in `frozen`, then
    ``data[key] = value`` and ``dirty.add(key)``. The containers stay the same objects.
    """

    data: dict[Any, Any]
    dirty: set[Any]
    frozen: set[Any]

    def save(self, key: Any) -> None: ...
    def get(self, key: Any, default: Any = None) -> Any: ...
    def put(self, key: Any, value: Any) -> None: ...
    def pop(self, key: Any, default: Any = None) -> Any: ...
    def __len__(self) -> int: ...


class Log(Protocol):
    """Entries in insertion order; a key that is put again moves to the end."""

    def get(self, key: Any, default: Any = None) -> Any: ...
    def put(self, key: Any, value: Any) -> None: ...
    def pop(self, key: Any, default: Any = None) -> Any: ...
    def items(self) -> Iterator[tuple[Any, Any]]: ...
    def __len__(self) -> int: ...


DETAIL_CHARACTERS = 200
"""Of what a dead letter says was wrong, at most."""

State = Mapping[str, Any]
"""A processor's own stores, by the names it gave them."""


@dataclass(frozen=True, slots=True)
class StoreSpec:
    """A store that a processor asks for.

    `codec` says how its values are written: ``plain`` (None, bool, int, float, str, bytes, and tuples of
    these; cells also lists and dicts of these) or ``object`` (a Python object: pickled and signed; cells only).
    `index` is for logs and keyed stores: called with the restored store, it returns what is derived from it
    (a heap of deadlines, say), kept under the store's name + ``.index`` in the state.
    """

    name: str
    kind: Literal["keyed", "log", "cell"]
    initial: Callable[[], Any] | None = None
    codec: Literal["plain", "object"] = "plain"
    index: Callable[[Any], Any] | None = None


class Rejected(Exception):
    """This record cannot be processed: it becomes a dead letter with this reason (a closed list) and detail."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail


def described(error: Exception) -> str:
    """Answer an error of the author's code in one line, the same at every replay: addresses in memory are left out.

    A MemoryError is raised again: that is the machine's, not the record's.
    """
    if isinstance(error, MemoryError):
        raise error
    try:
        message = str(error)
    except Exception:
        message = ""
    plain = message.encode(errors="backslashreplace").decode()
    return re.sub(r" at 0x[0-9a-fA-F]+", "", f"{type(error).__name__}: {plain}")[:DETAIL_CHARACTERS]
