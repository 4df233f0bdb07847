"""The garbage collector of a worker: between two cycles, and seldom as long as there is nothing to find.

Python counts containers and looks for cycles of references whenever there are 700 more of them, in the middle of
whatever runs. A worker makes and drops dozens a record and next to no cycles, and each look goes through what it keeps
(windows, pending events), most of which is in no processor cache: with a million keys a fifth of the time. So a look is
taken by `Calm.step`, between two cycles, when many containers have come to stay, and less often after each that finds
nothing. What a look has seen, or was not taken at, is frozen until the next `Calm.sweep`, which looks at everything:
when twice as much was frozen since the last one as lived then, when a look finds so much that those left out may have
missed some, and after tasks were given up, which are in cycles, before their successors are recovered. Measured in
docs/performance.md.
"""

from __future__ import annotations

import gc

__all__ = ["Calm", "Collector"]

_MANY = 50_000
"""Containers that have come to stay since the last turn: then it is time for another."""
_STRAY = _MANY // 1_000
"""So many of them in cycles are no reason to look more often; the sweep has them."""
_SELDOM = 16
"""At least every so many turns is a look."""
_SWEEP = 100
"""So many turns after a sweep comes the next, or later:"""
_GROWTH = 2
"""when so many times the containers have come to stay that lived after the last one. Garbage is bounded by that."""
_NET = 40 * _MANY
"""So many new ones within one cycle (a large restore, a model that leaves cycles while it is retrained) are looked at
there and then."""


class Collector:
    """Python's own, left as it is."""

    def start(self) -> None:
        """Everything is imported, and work begins."""

    def step(self) -> None:
        """Between two cycles."""

    def sweep(self) -> None:
        """Something large was given up, perhaps in cycles."""


class Calm(Collector):
    """The process's collector, kept from interrupting, and its work done when there is time for it."""

    def __init__(self) -> None:
        self._every = self._due = 1
        self._sweep_due = 0

    def start(self) -> None:
        """From here on; what is there stays."""
        gc.set_threshold(_NET, 1_000, 1_000)
        self.sweep()

    def step(self) -> None:
        """Look at what is new, if there is much of it and a look is due."""
        if gc.get_count()[0] < _MANY:
            return
        self._due -= 1
        self._sweep_due -= 1
        if self._sweep_due <= 0:
            self.sweep()
        elif self._due > 0:
            gc.freeze()
        else:
            self._look()

    def sweep(self) -> None:
        """Look at everything: a second with some millions of containers."""
        gc.unfreeze()
        gc.collect()
        gc.freeze()
        self._sweep_due = max(_SWEEP, _GROWTH * gc.get_freeze_count() // _MANY)

    def _look(self) -> None:
        found = gc.collect(0)
        gc.freeze()
        if found <= _STRAY:
            self._every = min(2 * self._every, _SELDOM)
        else:
            if self._every > 1:
                self.sweep()
            self._every = 1
        self._due = self._every
