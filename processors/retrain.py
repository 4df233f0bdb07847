"""Retrain: when a model is to be learned anew from the training log, as an author declares it."""

from __future__ import annotations

from dataclasses import dataclass

from headrace.processors.features import duration

__all__ = ["Retrain"]


@dataclass(frozen=True, slots=True)
class Retrain:
    """A fresh copy of a declared model is made every so often; it catches up, and challenges the champion.

    The copy before it retires, unless it has become the champion or a canary meanwhile.

    Parameters
    ----------
    model
        A declared model.
    every
        How often in stream time, as ``"7d"``.
    examples
        After how many new examples.
    last
        How many of the newest examples it learns from; None: all.
    """

    model: str
    every: str | None = None
    examples: int | None = None
    last: int | None = None

    def __post_init__(self) -> None:
        if self.every is None and self.examples is None:
            raise ValueError(f"retrain of {self.model} never happens: give every= or examples=")
        for name in ("examples", "last"):
            value = getattr(self, name)
            if value is not None and (type(value) is not int or value < 1):
                raise ValueError(f"retrain of {self.model}: {name} is {value!r}; legal: a whole number, 1 or more")
        if self.every is not None:
            duration(self.every)

    @property
    def every_ms(self) -> int | None:
        """`every` in milliseconds."""
        return None if self.every is None else duration(self.every)
