"""Featurize: what a model is given for an event, computed once, from the event and from what was known before it.

Windows are asked before the event itself is added to them. Events and outcomes later than the grace change no window.
An update is atomic: every feature and every value is computed and checked first. Afterwards each store holds exactly
what some window can still see of each key, at any moment, so what it holds is a function of the input alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from typing import Any

from headrace.processors import unrolled
from headrace.processors.base import State, StoreSpec
from headrace.processors.binding import Bound, Fed, Plan, Reader, key_of, outcome
from headrace.processors.metrics import check_task

__all__ = ["Featurize"]


class Featurize:
    """Computes the features of an event and keeps the windows they need.

    Parameters
    ----------
    features
        Name → `field`, an aggregate, or a plain function of the event.
    columns
        Event column → Avro primitive type.
    nullable
        The columns that may be null.
    task
        ``binary``, ``multiclass`` or ``regression``: what `label()` is.
    grace_ms
        How far behind stream time an event or outcome may be and still change windows.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> from headrace.processors.features import count
    >>> featurize = Featurize({"flights": count(by="carrier", over="3h")}, {"carrier": "string"}, (), "binary", 0)
    >>> featurize.fields()
    [{'name': 'flights', 'type': 'long'}]
    """

    def __init__(
        self,
        features: Mapping[str, Any],
        columns: Mapping[str, str],
        nullable: Collection[str],
        task: str,
        grace_ms: int,
    ) -> None:
        if grace_ms < 0:
            raise ValueError(f"grace_ms must be 0 or more, not {grace_ms}")
        for name in features:
            if not re.fullmatch("[A-Za-z_][A-Za-z0-9_]*", name):
                raise ValueError(f"feature {name!r}: a name has letters, digits and _, and does not begin with a digit")
        self.features, self.columns, self.nullable = features, columns, nullable
        self.task, self.grace_ms = check_task(task), grace_ms
        self._plan = Plan(columns, nullable, task).bind(features)
        self._bys = tuple(dict.fromkeys(fed.group.by for fed in self._plan.groups if fed.outcomes))

    @property
    def plan(self) -> Plan:
        """Answer the features resolved against the columns."""
        return self._plan

    @property
    def outcome_bys(self) -> tuple[tuple[str, ...] | None, ...]:
        """Answer what outcomes are grouped by, in the order of `outcome_keys`."""
        return self._bys

    def stores(self) -> tuple[StoreSpec, ...]:
        """A keyed store for the windows by the same columns."""
        return tuple(StoreSpec(table.name, "keyed", index=table.idle) for table in self._plan.tables)

    def fields(self) -> list[dict[str, Any]]:
        """The features as Avro fields, in the order of their declaration."""
        return [{"name": b.name, "type": ["null", b.type] if b.nullable else b.type} for b in self._plan.bound]

    def process(self, event: Any, time_ms: int, stream_time_ms: int, state: State) -> dict[str, Any]:
        """Answer the features of `event` that are not missing, then add it to the windows; raises `Rejected`."""
        keys = [key_of(fed.group.by, event) for fed in self._plan.groups]
        x = {}
        for bound in self._plan.bound:
            value = self._value(bound, event, keys, time_ms, stream_time_ms, state)
            if value is not None:
                x[bound.name] = value
        values = [reader.read(event) for reader in self._plan.readers]
        self._sweep(stream_time_ms, state)
        if time_ms >= stream_time_ms - self.grace_ms:
            for fed, key in zip(self._plan.groups, keys, strict=True):
                if not fed.outcomes:
                    self._add(fed, key, tuple(values[i] for i in fed.feeds), time_ms, stream_time_ms, state)
        return x

    def compile_keys(self) -> Callable[[Any], tuple[Any, ...]]:
        """Answer ``outcome_keys(event)``, unrolled."""
        return unrolled.keys(self._plan, self._bys)

    def outcome_keys(self, event: Any) -> tuple[Any, ...]:
        """Answer what to keep until the event's outcome is known: its key in each grouping of outcomes, () if none."""
        return tuple(key_of(by, event) for by in self._bys)

    def update(self, keys: tuple[Any, ...], y: Any, time_ms: int, stream_time_ms: int, state: State) -> None:
        """Add an outcome that became known at `time_ms` to the windows of its event's `keys`."""
        fed = [fed for fed in self._plan.groups if fed.outcomes]
        values = [tuple(outcome(of, self.task, y) for of in one.feeds) for one in fed]
        self._sweep(stream_time_ms, state)
        if time_ms >= stream_time_ms - self.grace_ms:
            known = dict(zip(self._bys, keys, strict=True))
            for one, row in zip(fed, values, strict=True):
                self._add(one, known[one.group.by], row, time_ms, stream_time_ms, state)

    def compile(self, state: State) -> Callable[[Any, int, int], dict[str, Any]]:
        """Answer ``process(event, time_ms, stream_time_ms)`` on this state: the same results and state, unrolled."""
        return unrolled.process(self._plan, self.grace_ms, state)

    def compile_update(self, state: State) -> Callable[[tuple[Any, ...], Any, int, int], None]:
        """Answer ``update(keys, y, time_ms, stream_time_ms)`` on this state: the same, unrolled."""
        return unrolled.update(self._plan, self._bys, self.grace_ms, state)

    def _value(self, bound: Bound, event: Any, keys: list[Any], time_ms: int, stream_time_ms: int, state: State) -> Any:
        if isinstance(bound.source, Reader):
            return bound.source.read(event)
        asked = bound.source
        fed = self._plan.groups[asked.group]
        group, key = fed.group, keys[asked.group]
        row = None if key is None else state[self._plan.tables[fed.table].name].get(key)
        held = None if row is None else row[fed.place]
        slots = group.ask(held, asked.span, time_ms // group.tile_ms, self._floor(group.tile_ms, stream_time_ms))
        return bound.checked(asked.answer(slots, time_ms))

    def _floor(self, tile_ms: int, stream_time_ms: int) -> int:
        return (stream_time_ms - self.grace_ms) // tile_ms

    def _add(
        self, fed: Fed, key: Any, values: tuple[Any, ...], time_ms: int, stream_time_ms: int, state: State
    ) -> None:
        if key is not None:
            group = fed.group
            tile, floor = time_ms // group.tile_ms, self._floor(group.tile_ms, stream_time_ms)
            table = self._plan.tables[fed.table]
            stores = state[table.name], state[table.name + ".index"]
            table.change(*stores, fed.place, key, tile, time_ms, floor, values)

    def _sweep(self, stream_time_ms: int, state: State) -> None:
        for table in self._plan.tables:
            stores = state[table.name], state[table.name + ".index"]
            for place, group in enumerate(table.groups):
                table.sweep(*stores, place, self._floor(group.tile_ms, stream_time_ms))
