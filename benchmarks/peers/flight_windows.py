"""The features of the flights pipeline in plain Python over JSON values: what both peers keep in their state.

One value per entity, so that an event costs one read and one write of state for each of its entities. Standard library
alone: it runs in the peers' environments.
"""

from __future__ import annotations

import functools
from datetime import datetime, timezone
from typing import Any
from zoneinfo import ZoneInfo

MINUTE_MS = 60_000
HOUR_MS = 3_600_000
TILES = 12
SINCE_TILE_MS = 14 * HOUR_MS
"""Seven days, the window of the latest event, in twelve tiles."""

TILE_MS = {"carrier": HOUR_MS // 4, "origin": HOUR_MS // 12, "tailnum": 2 * HOUR_MS, "dest": HOUR_MS // 4}
COUNTED = {"carrier": "carrier_flights_3h", "origin": "origin_flights_1h", "tailnum": "tail_flights_24h"}
LATE = {
    "carrier": "carrier_late_3h",
    "origin": "origin_late_1h",
    "tailnum": "tail_late_24h",
    "dest": "dest_late_3h",
}
NAMES = (
    "distance", "hour", "weekday", "carrier_flights_3h", "origin_flights_1h", "tail_flights_24h", "carrier_late_3h",
    "origin_late_1h", "tail_late_24h", "dest_late_3h", "since_tail_s",
)  # fmt: skip

_NEW_YORK = ZoneInfo("America/New_York")


def empty() -> dict[str, Any]:
    """What is known of an entity that was never seen: tiles of events, tiles of outcomes, its latest event."""
    return {"events": [], "outcomes": [], "latest": None}


def features(event: dict[str, Any], held: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The features of an event, given what is held of its entities, by column."""
    now = event["scheduled_departure"]
    x = {"distance": event["distance"], "hour": _minutes(now) % 1440 / 60, "weekday": (_minutes(now) // 1440 + 3) % 7}
    for column, name in COUNTED.items():
        tile = now // TILE_MS[column]
        entity = held.get(column)
        x[name] = sum(n for at, n in entity["events"] if tile - TILES < at <= tile) if entity else 0
    for column, name in LATE.items():
        tile = now // TILE_MS[column]
        entity = held.get(column)
        parts = [part for part in entity["outcomes"] if tile - TILES < part[0] <= tile] if entity else ()
        known = sum(part[1] for part in parts)
        x[name] = sum(part[2] for part in parts) / known if known else 0.0
    latest = held["tailnum"]["latest"] if "tailnum" in held else None
    seen = latest is not None and latest // SINCE_TILE_MS > now // SINCE_TILE_MS - TILES
    x["since_tail_s"] = (now - latest) / 1000 if seen else 0.0
    return {name: x[name] for name in NAMES}


def add_event(column: str, entity: dict[str, Any], now: int) -> None:
    """Count an event of this entity."""
    if column in COUNTED:
        _tile(entity["events"], now // TILE_MS[column], 1)[1] += 1
    if column == "tailnum":
        entity["latest"] = now


def add_outcome(column: str, entity: dict[str, Any], now: int, late: bool) -> None:
    """Take an outcome that became known `now` into account."""
    part = _tile(entity["outcomes"], now // TILE_MS[column], 2)
    part[1] += 1
    part[2] += late


def _tile(tiles: list[list[int]], index: int, width: int) -> list[int]:
    """The tile of this index, made if it is not there; those that no window sees any more are dropped."""
    if not tiles or tiles[-1][0] < index:
        tiles.append([index, *[0] * width])
        while tiles[0][0] <= index - TILES:
            del tiles[0]
        return tiles[-1]
    for part in reversed(tiles):
        if part[0] == index:
            return part
    tiles.insert(0, [index, *[0] * width])
    tiles.sort()
    return next(part for part in tiles if part[0] == index)


def entities(event: dict[str, Any]) -> dict[str, str]:
    """Column to value, where there is one."""
    return {column: event[column] for column in TILE_MS if event[column] is not None}


def _minutes(time_ms: int) -> int:
    return time_ms // MINUTE_MS + _offset(time_ms // HOUR_MS)


@functools.lru_cache(maxsize=4096)
def _offset(hour: int) -> int:
    moment = datetime.fromtimestamp(hour * 3600, timezone.utc).astimezone(_NEW_YORK)  # noqa: UP017 - Python of a peer
    offset = moment.utcoffset()
    return int(offset.total_seconds()) // 60 if offset else 0
