"""References: what the newest values of a watched signal are compared with. All of them go by stream time."""

from __future__ import annotations

from dataclasses import dataclass

from headrace.processors.features import duration
from headrace.schemas.wire import moment_ms

__all__ = ["Reference", "fixed", "previous", "same_hour"]


@dataclass(frozen=True, slots=True)
class Reference:
    """What `previous`, `fixed` and `same_hour` make; `n` is in values, or in weeks for the last."""

    kind: str
    n: int = 0
    period_ms: int | None = None
    start_ms: int | None = None
    end_ms: int | None = None

    def __str__(self) -> str:
        given = ((name, getattr(self, name)) for name in ("n", "period_ms", "start_ms", "end_ms"))
        return f"{self.kind}({', '.join(f'{name}={value}' for name, value in given if value)})"

    @property
    def grows(self) -> bool:
        """Whether the newest values become part of it as time goes on."""
        return self.kind == "previous"


def previous(period: str | int | None = None) -> Reference:
    """What came before, since the last change: all of it, or one to two periods (a duration, or a number of values).

    After a detection the reference starts anew: what is found is changes, each once.
    """
    if period is None:
        return Reference("previous")
    if isinstance(period, str):
        return Reference("previous", period_ms=duration(period))
    return Reference("previous", n=_whole(period, "previous: period"))


def fixed(n: int | None = None, *, start: str | None = None, end: str | None = None) -> Reference:
    """The first `n` values, or those from `start` to `end` (ISO-8601), for ever.

    What is found is that the signal is not as it was then; the alert stays open as long as that is so.
    """
    if (n is None) == (end is None) or (n is not None and start is not None):
        raise ValueError("fixed takes n, or start and end")
    if n is not None:
        return Reference("fixed", n=_whole(n, "fixed: n"))
    begins, ends = None if start is None else moment_ms(start), moment_ms(str(end))
    if begins is not None and begins >= ends:
        raise ValueError(f"fixed: start {start!r} must be before end {end!r}")
    return Reference("fixed", start_ms=begins, end_ms=ends)


def same_hour(weeks: int = 4) -> Reference:
    """The same hour of the same weekday (UTC) in the weeks before, of which each counts 1 - 1/weeks of the next.

    The trap: an hour with fewer values than a block has (`every`) is never looked at.
    """
    return Reference("same_hour", n=_whole(weeks, "same_hour: weeks"))


def _whole(value: int, what: str) -> int:
    if type(value) is not int or value < 1:
        raise ValueError(f"{what} must be a whole number, 1 or more; got {value!r}")
    return value
