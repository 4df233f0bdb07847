"""The front of a chain: validate and featurize events, and keep windows over outcomes."""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from typing import Any

from headrace.processors.base import Rejected
from headrace.processors.validate import Validate
from headrace.schemas.published import FeaturesWire
from headrace.schemas.records import Input
from headrace.schemas.wire import BadRecord
from headrace.streams.context import Context

__all__ = ["Forward", "front"]

Forward = Callable[[Any, Input, Any, tuple[Any, ...], dict[str, Any], Any], None]
"""Called for each featurized event: id, record, key, outcome keys, features, the event itself."""


def front(
    context: Context, wire: FeaturesWire, advance: Callable[[int], None], forward: Forward
) -> tuple[Callable[[Input], None], Callable[..., None]]:
    """Two functions: one that takes an event, one that takes an outcome (keys, y, time) into the windows."""
    p, counts, clock = context.pipeline, context.counts, context.clock
    featurize, states = p.featurize, context.states
    features = featurize.compile(states["featurize"])
    update = featurize.compile_update(states["featurize"])
    outcome_keys = featurize.compile_keys()
    is_new = Validate(p.horizon_ms).compile(states["validate"])
    seen = states["validate"]["seen"]
    id_of, key_of = attrgetter(p.events.id), attrgetter(p.events.key)
    encode, publish, dead = wire.encode, context.outputs.append, context.dead

    def on_event(item: Input) -> None:
        time_ms, partition, offset, key, _, _, event = item
        counts["events"] += 1
        if type(event) is BadRecord:
            dead("validate", "events", event.reason, event.detail, item)
            return
        if time_ms > clock[0]:
            advance(time_ms)
        stream_ms = clock[0]
        event_id = id_of(event)
        if not is_new(event_id, stream_ms):
            counts["duplicates"] += 1
            return
        try:
            x = features(event, time_ms, stream_ms)
        except Rejected as rejected:
            seen.pop(event_id)  # once the feature is mended, the event may come again
            dead("featurize", "events", rejected.reason, rejected.detail, item)
            return
        counts["features"] += 1
        if key is None:
            key = str(key_of(event)).encode()
        publish(("features", key, encode(event_id, time_ms, partition, offset, event, x), None))
        forward(event_id, item, key, outcome_keys(event), x, event)

    def on_outcome(keys: tuple[Any, ...], y: Any, time_ms: int) -> None:
        update(keys, y, time_ms, clock[0])

    return on_event, on_outcome
