"""overhead: bytes that the broker stores for an event, by topic; journal and state beside what is published.

Measured in the broker's own files, so batches, compression and transaction markers count. Once catching up, with
transactions of thousands, and again with the topics of features and examples switched off; once in the small
transactions of a live lane.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.table import Table

from benchmarks import declared
from benchmarks.place import Place, place

__all__ = ["run"]

SEED = 1
INPUTS = ("events", "labels")
PUBLISHED = ("features", "predictions", "examples", "evaluations", "alerts", "dead-letter")
OURS = ("journal", "state", "savepoints")
_WAYS = {"catching_up": "catching up", "predictions_only": "without features and examples", "live": "live"}
_KAFKA = ("__consumer_offsets", "__transaction_state")


def run(
    report: Callable[[Any], None], events: int = 50_000, live_events: int = 5_000, live_batch: int = 20
) -> dict[str, Any]:
    """Stored bytes an event; `live_batch` inputs a transaction are what a lane takes at about 1,000 events a second."""
    found: dict[str, Any] = {"seed": SEED, "live_batch": live_batch}
    with place() as here:
        found["catching_up"] = _stored(here, events, {})
        found["predictions_only"] = _stored(here, events, {}, publish=[])
        found["live"] = _stored(here, live_events, {"batch": live_batch})
    report(_table(found))
    for way in _WAYS:
        found[way]["journal_and_state_share"] = _share(found[way])
    report(
        f"journal and state are {found['catching_up']['journal_and_state_share']:.1%} of the published bytes when "
        f"catching up, {found['live']['journal_and_state_share']:.1%} at {live_batch} inputs a transaction."
    )
    return found


def _stored(here: Place, events: int, settings: dict[str, Any], **options: Any) -> dict[str, Any]:
    site = here.site("flights", drift=True, **options)
    site.publish(declared.flight_records(events))
    before = {topic: _size(here.data, topic) for topic in _KAFKA}
    ended = site.worker(**settings).await_("ended")
    kafka = {topic: _size(here.data, topic) - size for topic, size in before.items()}
    roles = {role: _size(here.data, site.topic(role), exact=True) for role in (*INPUTS, *PUBLISHED, *OURS)}
    site.drop()
    return {
        "events": events,
        "transactions": ended["transactions"],
        "checkpoints": len(ended["checkpoints"]),
        "bytes_per_event": {name: size / events for name, size in (roles | kafka).items()},
    }


def _size(data: Path, topic: str, exact: bool = False) -> int:
    """Bytes of the topic's log segments. No other folder is looked into: the broker may be deleting it."""
    folders = [f for f in (data / "kafka").glob(f"{topic}-*") if f.name[len(topic) + 1 :].isdigit()]
    if exact and not folders:
        raise FileNotFoundError(f"{topic} has no folder under {data}")
    return sum(segment.stat().st_size for folder in folders for segment in folder.glob("*.log"))


def _share(found: dict[str, Any]) -> float:
    size = found["bytes_per_event"]
    return float((size["journal"] + size["state"]) / sum(size[role] for role in PUBLISHED))


def _table(found: dict[str, Any]) -> Table:
    table = Table(title="overhead: stored bytes an event, compressed, in the broker's files")
    columns = [
        f"{title} ({found[way]['events']:,} events in {found[way]['transactions']:,} transactions)"
        for way, title in _WAYS.items()
    ]
    for column in ("topic", "", *columns):
        table.add_column(column, justify="left" if column in ("topic", "") else "right")
    for title, names in (("input", INPUTS), ("published", PUBLISHED), ("ours", OURS), ("Kafka's own", _KAFKA)):
        for name in names:
            sizes = [f"{found[way]['bytes_per_event'][name]:.1f}" for way in _WAYS]
            table.add_row(name, title, *sizes)
    return table
