"""The gate: what a challenger has to show before it may serve, as an author declares it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from headrace.processors.evidence import FEWEST_BATCHES
from headrace.processors.losses import LOSSES

__all__ = ["Gate"]


@dataclass(frozen=True, slots=True)
class Gate:
    """What a challenger has to show, on the very examples on which the champion answered too, before it may serve.

    A challenger is promoted when all of this holds at once: the e-process of `evidence` against the champion, and
    those against both baselines, are above their thresholds; and it was compared on `minimum` examples; and no segment
    is worse by more than `margin`; and its calibration is not much worse than the champion's. By Ville's inequality
    the chance that anything that is no better than the champion is *ever* promoted during that champion's time is at
    most `alpha`, although every example is looked at.

    Parameters
    ----------
    alpha
        That chance. It is shared among the challengers, with a share kept for those that come later.
    minimum
        Examples on which a challenger has to be compared.
    segments
        Features or event columns; every value is a segment, with its metrics on `P.evaluations`.
    margin
        How much larger than the champion's a challenger's mean loss may be in a segment.
    segment_minimum
        Examples below which a segment is not judged.
    most_segments
        Values of a column that are told apart, the first to come; all others are one segment.
    calibration
        How much larger than the champion's a challenger's expected calibration error may be; None: not asked for.
    loss
        ``brier`` or ``error`` for classes, ``absolute`` for numbers; None: the first that fits (see `losses`).
    scale
        For ``absolute``: the error that counts as 1, in units of the label; None: from the labels so far.
    every
        Examples between two decisions. All examples count; only what takes effect has to wait for the next of these.
    renew
        A challenger that is not ahead after so many examples starts anew, with a smaller share of alpha each time: one
        that was poor for long and is good now need not make up for the past.
    approve
        Propose a promotion, and leave it to a person.
    """

    alpha: float = 0.05
    minimum: int = 1_000
    segments: Sequence[str] = ()
    margin: float = 0.02
    segment_minimum: int = 200
    most_segments: int = 50
    calibration: float | None = 0.05
    loss: str | None = None
    scale: float | None = None
    every: int = 50
    renew: int = 10_000
    approve: bool = False

    def __post_init__(self) -> None:
        _legal("alpha", self.alpha, _between(self.alpha, 0.0, 1.0), "a number above 0 and below 1")
        _legal("margin", self.margin, _share(self.margin), "a number from 0 to 1")
        for name in ("minimum", "segment_minimum", "most_segments", "every", "renew"):
            value = getattr(self, name)
            _legal(name, value, type(value) is int and value >= 1, "a whole number, 1 or more")
        asked = self.calibration
        _legal("calibration", asked, asked is None or _share(asked), "None, or a number from 0 to 1")
        _legal("scale", self.scale, self.scale is None or _between(self.scale, 0.0, math.inf), "None, or above 0")
        _legal("approve", self.approve, type(self.approve) is bool, "True, False")
        losses = tuple(dict.fromkeys(name for names in LOSSES.values() for name in names))
        _legal("loss", self.loss, self.loss is None or self.loss in losses, "None, " + ", ".join(losses))
        named = not isinstance(self.segments, str) and all(isinstance(name, str) for name in self.segments)
        _legal("segments", self.segments, named, "a sequence of features or event columns")
        object.__setattr__(self, "segments", tuple(self.segments))

    @property
    def batch(self) -> int:
        """Examples in the first batches (see `evidence.spread`): parts of `every`; eight fit into `minimum`."""
        most = max(1, min(self.every, self.minimum // FEWEST_BATCHES))
        return next(size for size in range(most, 0, -1) if not self.every % size)

    def loss_of(self, task: str) -> str:
        """The loss for this task; ValueError names the legal ones."""
        loss = LOSSES[task][0] if self.loss is None else self.loss
        _legal("loss", loss, loss in LOSSES[task], f"of a {task} task: {', '.join(LOSSES[task])}")
        _legal("scale", self.scale, self.scale is None or loss == "absolute", "None, but for the loss `absolute`")
        return loss


def _between(value: Any, low: float, high: float) -> bool:
    return type(value) in (int, float) and low < value < high


def _share(value: Any) -> bool:
    return type(value) in (int, float) and 0.0 <= value <= 1.0


def _legal(name: str, value: Any, ok: bool, legal: str) -> None:
    if not ok:
        raise ValueError(f"{name} is {value!r}; legal: {legal}")
