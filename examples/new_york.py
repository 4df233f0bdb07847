"""New York's clocks, which say more about a departure than UTC does."""

from __future__ import annotations

import functools
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

__all__ = ["hour_of", "weekday_of"]

_NEW_YORK = ZoneInfo("America/New_York")
_DAY_MIN = 24 * 60
_MINUTE_MS = 60_000
_HOUR_MS = 60 * _MINUTE_MS


def hour_of(event: Any) -> float:
    """The hour of the scheduled departure on New York's clocks, 0 to 24, the minutes as its fraction."""
    return _new_york_minutes(event.scheduled_departure) % _DAY_MIN / 60


def weekday_of(event: Any) -> int:
    """The weekday of the scheduled departure in New York: 0 is Monday, 6 is Sunday."""
    return (_new_york_minutes(event.scheduled_departure) // _DAY_MIN + 3) % 7  # 1970-01-01 was a Thursday


def _new_york_minutes(time_ms: int) -> int:
    return time_ms // _MINUTE_MS + _new_york_offset_min(time_ms // _HOUR_MS)


@functools.lru_cache(maxsize=4096)
def _new_york_offset_min(hour: int) -> int:
    """Minutes from UTC to New York in this hour since 1970 (clocks change on whole hours there)."""
    offset = datetime.fromtimestamp(hour * 3600, UTC).astimezone(_NEW_YORK).utcoffset()
    return (offset or timedelta()) // timedelta(minutes=1)
