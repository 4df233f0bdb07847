"""Times as people read them, in UTC; one that no calendar has a date for is told in milliseconds."""

from __future__ import annotations

from datetime import UTC, datetime

__all__ = ["moment", "stamp"]


def stamp(time_ms: float, form: str = "%Y-%m-%d %H:%M") -> str:
    """A time in this form.

    >>> stamp(1_357_100_000_000), stamp(-(2**62))
    ('2013-01-02 04:13', '-4611686018427387904 ms')
    """
    found = _date(time_ms)
    return f"{time_ms} ms" if found is None else found.strftime(form)


def moment(time_ms: float) -> str:
    """A time to the millisecond, as ISO-8601 has it.

    >>> moment(1_357_100_000_001), moment(2**62)
    ('2013-01-02T04:13:20.001Z', '4611686018427387904 ms')
    """
    found = _date(time_ms)
    return f"{time_ms} ms" if found is None else found.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _date(time_ms: float) -> datetime | None:
    """Years 1 to 9999 only."""
    try:
        return datetime.fromtimestamp(time_ms / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        return None
