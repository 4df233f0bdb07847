"""The front of a chain: validate and featurize events, and keep windows over outcomes."""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from typing import Any

from headrace.processors.base import Rejected
from headrace.processors.validate import Validate
from headrace.schemas.published import FeaturesWire
from headrace.schemas.records import Input
from headrace.schemas.rows import key_of
from headrace.schemas.wire import BadRecord
from headrace.streams.stages.context import Context
from headrace.streams.stages.outputs import featurized

__all__ = ["Forward", "Front"]

Forward = Callable[[Any, Input, Any, tuple[Any, ...], dict[str, Any], Any], None]
"""Called for each featurized event: id, record, key, outcome keys, features, the event itself."""


class Front:
    """Events in, features out, and windows over outcomes. `outcome(keys, y, time_ms)` takes an outcome into them."""

    def __init__(self, context: Context, wire: FeaturesWire, advance: Callable[[int], None]) -> None:
        self.context, self.advance = context, advance
        self.featurize = context.pipeline.featurize
        self.outcome = self._outcomes()
        examples = context.group.back and "examples" in context.pipeline.publish
        self._line = context.outbox.line(featurized(wire, context.packed if examples else None))

    def _outcomes(self) -> Callable[[tuple[Any, ...], Any, int], None]:
        clock = self.context.clock
        update = self.featurize.compile_update(self.context.states["featurize"])

        def outcome(keys: tuple[Any, ...], y: Any, time_ms: int) -> None:
            update(keys, y, time_ms, clock[0])

        return outcome

    def events(self, forward: Forward) -> Callable[[Input], None]:
        """A function that takes an event and hands it on, featurized."""
        context, advance, featurize = self.context, self.advance, self.featurize
        p, counts, clock, states = context.pipeline, context.counts, context.clock, context.states
        features = featurize.compile(states["featurize"])
        outcome_keys = featurize.compile_keys()
        is_new = Validate(p.horizon_ms).compile(states["validate"])
        seen = states["validate"]["seen"]
        id_of, entity_of = attrgetter(p.events.id), attrgetter(p.events.key)
        key_field = p.event_schema.field(p.events.key)
        dead, mark = context.dead, context.outbox.mark
        published, publish = self._line
        publishes = "features" in p.publish

        def on_event(item: Input) -> None:
            time_ms, partition, offset, key, _, _, event = item
            counts["events"] += 1
            if event.__class__ is BadRecord:
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
                key = key_of(key_field, entity_of(event))
            if publishes:
                mark(published)
                publish((key, event_id, time_ms, partition, offset, event, x))
            forward(event_id, item, key, outcome_keys(event), x, event)

        return on_event
