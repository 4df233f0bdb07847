"""Carrying over: what a checkpoint's state still means under a declaration that has changed since.

`run --accept-change` keeps the state. What is kept by the name of a store stays where it is; here is the rest: what is
kept by the place of a window, a model or a watch, and what waits for a label in a shape that was declared before.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from headrace.streams.packing import pack, unpack
from headrace.streams.stages.chain import Chain

__all__ = ["carry", "still"]

_SEGMENTED = 10
"""Where in a pending entry the values of the gate's segments are."""

Saved = dict[tuple[str, str, Any], bytes]
Spec = Mapping[str, Any]


def still(entries: Saved, before: Spec, after: Spec) -> Saved:
    """The entries that mean what they meant; models, watches, segments and proxies that are others begin anew."""
    gone = {("models", name) for name in changed(before, after)}
    proxied = ("proxies", *(("features",) if (after.get("proxies") or {}).get("features") is None else ()))
    others = {"segments": _segments(before) != _segments(after), "proxies": _differ(before, after, *proxied)}
    watches = zip(unpack(pack(before["drift"])), unpack(pack(after["drift"])), strict=False)
    others |= {f"drift.{i}": old != new for i, (old, new) in enumerate(watches)}
    kept = {key: value for key, value in entries.items() if key[:2] not in gone and not others.get(key[0], False)}
    edited = _edited(before, after)
    return _without(kept, edited) if edited else kept


def _edited(before: Spec, after: Spec) -> set[str]:
    """The groups of windows over functions that are others than before; another Python writes all of them otherwise."""
    old, new = (unpack(pack(spec.get("order", {}).get("feeds", {}))) for spec in (before, after))
    return {name for name, feeds in new.items() if name in old and old[name] != feeds and old[name][0] == feeds[0]}


def _without(entries: Saved, groups: set[str]) -> Saved:
    """The entries, in which these groups of windows hold nothing."""
    kept: Saved = {}
    for key, data in entries.items():
        names = key[1].split("/")[1:] if key[0] == "featurize" else []
        if groups.isdisjoint(names):
            kept[key] = data
            continue
        row = tuple([None if name in groups else held for name, held in zip(names, unpack(data), strict=True)])
        if any(row):
            kept[key] = pack(row)
    return kept


def changed(before: Spec, after: Spec) -> set[str]:
    """The declared models that are new, or others than before."""
    return {name for name, model in after["models"].items() if before["models"].get(name) != model}


def carry(chain: Chain, entries: Saved, before: Spec, after: Spec) -> None:
    """Bring a chain that was restored from these entries into the shape of its declaration."""
    was = before.get("order", {"models": list(before["models"]), "outcomes": []})  # an older version's has none
    if chain.group.front:
        _rows(chain, entries)
        _outcomes(chain, was["outcomes"], after["order"]["outcomes"])
    if chain.group.back:
        models = changed(before, after)
        if models:
            chain.anew(models)
        old, new = list(was["models"]), list(after["order"]["models"])
        if models or old != new:
            old += list(chain.pipeline.models)[len(new) :]
            kept = {name: rank for rank, name in enumerate(old) if name not in models}
            chain.rank([kept.get(name) for name in chain.pipeline.models])
        segments = _segments(before) != _segments(after)
        features = _differ(before, after, "features") or list(was.get("features", ())) != after["order"]["features"]
        if segments or features:
            _refit(chain, segments=segments, features=features)
    chain.stores.derive()
    chain.bind()


def _rows(chain: Chain, entries: Saved) -> None:
    """Windows that are declared as before keep what they hold, whatever else is by the same columns now."""
    state, tables = chain.stores.states["featurize"], chain.pipeline.featurize.plan.tables
    places: dict[str, Any] = {}
    for (processor, name, key), data in entries.items():
        if processor != "featurize" or name in state:
            continue
        if name not in places:
            found = ((state[table.name].put, table.places_in(name)) for table in tables)
            places[name] = next((it for it in found if it[1] is not None), None)
        if places[name] is not None:
            put, kept = places[name]
            old = unpack(data)
            row = tuple([None if place is None else old[place] for place in kept])
            if any(row):
                put(key, row)


def _outcomes(chain: Chain, before: Any, after: Any) -> None:
    """What waits for its outcome has its keys in the order in which outcomes are grouped; new groupings do without."""
    old, new = unpack(pack(before)), unpack(pack(after))
    if old == new or "join" not in chain.stores.states:
        return
    places = [old.index(by) if by in old else None for by in new]

    def keyed(entry: tuple[Any, ...]) -> tuple[Any, ...]:
        keys = tuple([None if place is None or not entry[4] else entry[4][place] for place in places])
        return (*entry[:4], keys, *entry[5:])

    chain.stores.states["join"]["pending"].change(keyed)


def _refit(chain: Chain, *, segments: bool, features: bool) -> None:
    """Forget the segments of what waits for a label, and features that are none any more; the others in their order.

    What lacks a feature is no example any more, and has expired.
    """
    told, counts, lost = chain.examples_wire.told, chain.counts, 0

    def refitted(entry: tuple[Any, ...]) -> tuple[Any, ...]:
        nonlocal lost
        if segments:
            entry = entry[:_SEGMENTED]
        if features and entry[5] is not None:
            try:
                entry = (*entry[:5], told(entry[5]), *entry[6:])
            except Exception:
                lost += 1
                return (*entry[:5], None, (), None, None, None)
        return entry

    chain.stores.states["join"]["pending"].change(refitted)
    for name in ("expired", "refused_pending") if lost else ():
        counts[name] = counts.get(name, 0) + lost


def _segments(spec: Spec) -> tuple[Any, Any]:
    """What tells the segments apart."""
    gate = spec["gate"] or {}
    return tuple(gate.get("segments", ())), gate.get("most_segments")


def _differ(before: Spec, after: Spec, *names: str) -> bool:
    return any(unpack(pack(before.get(name))) != unpack(pack(after.get(name))) for name in names)
