"""The outbox: what a chain makes, in its order.

What feeds back into nothing (encoding, scoring, watching for drift) is only noted while records are processed, and done
afterwards, kind by kind: each then runs over many rows with its own code and data at hand, which is about twice as fast
as doing it in between. The order in which things were noted is the order of the outputs, whatever was done when.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

__all__ = ["Outbox", "Output"]

Output = tuple[str, bytes | None, bytes | None, list[tuple[str, bytes]] | None]
Settle = Callable[[list[Any]], Sequence[Any]]
"""Of the rows of a kind, in order, what each came to."""


class Outbox:
    """Outputs of the records processed so far, and rows that are still to become outputs.

    A kind of rows is opened by `line`. To note a row: ``mark(number)``, then append to the line's rows.
    """

    def __init__(self) -> None:
        self._finished: list[Output] = []
        self._order: list[int] = []
        self._lines: list[tuple[list[Any], Settle]] = []
        self._asides: set[int] = set()
        self.mark = self._order.append
        number, add = self.line(list)
        mark = self.mark

        def put(output: Output) -> None:
            """An output that is ready."""
            mark(number)
            add(output)

        self.put = put

    def line(self, settle: Settle, *, aside: bool = False) -> tuple[int, Callable[[Any], None]]:
        """A new kind of rows: its number, and what appends a row. Lines are settled in the order of their opening.

        Every row comes to an output or None; with `aside` to a list of them, or to () as nearly all do.
        """
        rows: list[Any] = []
        if aside:
            self._asides.add(len(self._lines))
        self._lines.append((rows, settle))
        return len(self._lines) - 1, rows.append

    def settle(self) -> None:
        """Turn all rows into outputs."""
        order, finished = self._order, self._finished
        results = [settle(rows) if rows else () for rows, settle in self._lines]
        came = map(next, map([iter(each) for each in results].__getitem__, order))
        if any(number in self._asides and any(each) for number, each in enumerate(results)):
            for found in came:
                if found.__class__ is list:
                    finished += found
                elif found:
                    finished.append(found)
        else:
            finished += filter(None, came)
        order.clear()
        for rows, _ in self._lines:
            rows.clear()

    def resume(self, outputs: list[Output]) -> None:
        """These were made before, by another outbox."""
        self._finished += outputs

    def take(self) -> list[Output]:
        """The outputs since the last call."""
        self.settle()
        taken = self._finished[:]
        self._finished.clear()
        return taken
