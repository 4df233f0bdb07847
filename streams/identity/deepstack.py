"""Runs what recurses deeply: a tree that grew as a list is thousands of levels deep."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import TypeVar

__all__ = ["on_deep_stack"]

T = TypeVar("T")

_DEPTH = 200_000
_STACK_BYTES = 512 * 1024 * 1024
_lock = threading.Lock()


def on_deep_stack(function: Callable[[], T]) -> T:
    """Call `function`; when it recurses too deeply, call it once more in a thread with a large stack.

    So `function` must be safe to call twice. The stack is address space: only the pages used become memory.
    """
    try:
        return function()
    except RecursionError:
        pass
    outcome: list[T] = []
    trouble: list[BaseException] = []

    def run() -> None:
        try:
            outcome.append(function())
        except BaseException as error:
            trouble.append(error)

    with _lock:
        depth, stack = sys.getrecursionlimit(), threading.stack_size()
        threading.stack_size(_STACK_BYTES)
        sys.setrecursionlimit(max(depth, _DEPTH))
        try:
            thread = threading.Thread(target=run, name="headrace-deep-stack")
            thread.start()
            thread.join()
        finally:
            sys.setrecursionlimit(depth)
            threading.stack_size(stack)
    if trouble:
        raise trouble[0]
    return outcome[0]
