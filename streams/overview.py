"""Everything about a pipeline at a glance, gathered from outside: what `headrace status` and the page show.

Nothing is asked of a worker: the topics and the consumer groups say it all. Figures of conservation, freshness and
counts are those of the last checkpoint, the others are of now.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import msgspec

from headrace.processors.baselines import BASELINES
from headrace.streams.checkpoint import MARKER
from headrace.streams.pipeline import Pipeline
from headrace.streams.runtime import group_name, topic_lag
from headrace.streams.seen import Seen
from headrace.streams.summary import counted
from headrace.streams.topics import topic_name, topic_specs
from headrace.streams.topology import STAGES, Group, group_named, groups

__all__ = ["Seen", "gather"]

_SEVERITIES = ("critical", "warning", "info")
_NEWEST = 20
_SCORED = ("models", "baselines")
_READS = {
    "validate": "events",
    "featurize": "events",
    "predict": "features",
    "join": "labels",
    "train": "examples",
    "evaluate": "examples",
    "drift": "examples",
}
"""Stage → the topic whose pace is the stage's."""


def gather(
    cluster: Any,
    reader: Any,
    pipeline: Pipeline,
    seen: Seen | None = None,
    *,
    timeout_s: float = 10.0,
    wall: Callable[[], float] = time.time,
) -> dict[str, Any]:
    """How the pipeline stands, as plain values that JSON can hold.

    Parameters
    ----------
    cluster, reader
        A `Cluster` and a reader of it.
    seen
        The same one each time: then rates are known from the second time on, and only what is new is read.
    timeout_s
        After this long without a broker's answer: `Unreachable`. Any trouble after that is a `HeadraceError` too.
    wall
        Seconds since 1970.
    """
    seen = Seen() if seen is None else seen
    existing = cluster.topics(timeout_s)
    specs = topic_specs(pipeline)
    roles = [spec.role for spec in specs if spec.name in existing]
    now_s = wall()
    # Where groups are comes first: the other way round, one that is quick would be ahead of the end.
    committed = {group.name: cluster.committed(group_name(pipeline, group)) for group in groups()}
    ends = {
        (role, shard): reader.stable(topic_name(pipeline, role), shard)
        for role in roles
        for shard in range(pipeline.partitions)
    }
    seen.look(reader, pipeline, ends, [name for name, offsets in committed.items() if offsets])
    pace = _Pace(seen, now_s)
    found = [_group(cluster, pipeline, group, committed[group.name], ends, pace) for group in groups()]
    live = [group for group in found if group["members"] or group["journal"] or _started(group)]
    value = {
        "pipeline": pipeline.name,
        "task": pipeline.task,
        "taken_ms": round(now_s * 1000),
        "missing": [spec.name for spec in specs if spec.name not in existing],
        "groups": live,
        "stages": [_stage(stage, live, ends, pace) for stage in STAGES],
        "topics": [_topic(pipeline, role, ends, pace) for role in roles],
        "last_prediction": _last_prediction(seen, now_s),
        "champions": _champions(seen),
        "models": _models(pipeline, seen),
        "baselines": _baselines(seen),
        "freshness": _freshness(seen, now_s),
        "alerts": _alerts(seen),
        "dead_letters": _dead_letters(seen),
        "counts": None,
        "laws": [],
    }
    value["counts"], value["laws"] = _conservation(seen)
    pace.remember(ends)
    return value


class _Pace:
    """Records a second, from what the last look saw and this one sees."""

    def __init__(self, seen: Seen, now_s: float) -> None:
        self._seen, self._now_s = seen, now_s
        self._before, self._committed = dict(seen.ends), dict(seen.committed)
        self._seconds = None if seen.at_s is None else now_s - seen.at_s

    def of_topic(self, role: str, ends: dict[tuple[str, int], int]) -> float | None:
        """How fast a topic grows."""
        places = {where: end for where, end in ends.items() if where[0] == role}
        return self._rate(places, self._before)

    def of_group(self, group: str, role: str, places: dict[int, int]) -> float | None:
        """How fast a group commits one of its inputs."""
        mine = {(group, role, shard): place for shard, place in places.items()}
        self._seen.committed.update(mine)
        return self._rate(mine, self._committed)

    def remember(self, ends: dict[tuple[str, int], int]) -> None:
        """Let the next look begin here."""
        self._seen.at_s, self._seen.ends = self._now_s, dict(ends)

    def _rate(self, now: dict[Any, int], before: dict[Any, int]) -> float | None:
        if not self._seconds or self._seconds <= 0 or not now or not now.keys() <= before.keys():
            return None
        grown = sum(max(0, place - before[where]) for where, place in now.items())
        return round(grown / self._seconds, 1)


def _group(
    cluster: Any,
    pipeline: Pipeline,
    group: Group,
    committed: dict[tuple[str, int], int],
    ends: dict[tuple[str, int], int],
    pace: _Pace,
) -> dict[str, Any]:
    """A group of stages that runs chained: who runs it, how far each input is, and what its journal says."""
    inputs, rates = [], {}
    for role in group.inputs[group.leading :]:
        topic = topic_name(pipeline, role)
        places = {p: committed.get((topic, p)) for p in range(pipeline.partitions) if (role, p) in ends}
        rates[role] = pace.of_group(group.name, role, {p: place for p, place in places.items() if place is not None})
        inputs += [
            {
                "topic": topic,
                "role": role,
                "partition": p,
                "committed": place,
                "stable": ends[role, p],
                "lag": topic_lag(ends[role, p], place),
            }
            for p, place in places.items()
        ]
    name = group_name(pipeline, group)
    workers = cluster.members(name)
    journals = [entry for (of, _), entry in sorted(pace._seen.journals.items()) if of == group.name]
    return {
        "group": name,
        "name": group.name,
        "stages": list(group.stages),
        "members": len(workers),
        "workers": workers,
        "inputs": inputs,
        "rates": rates,
        "lag": sum(place["lag"] for place in inputs),
        "journal": journals,
    }


def _started(group: dict[str, Any]) -> bool:
    return any(place["committed"] is not None for place in group["inputs"])


def _stage(stage: str, live: list[dict[str, Any]], ends: dict[tuple[str, int], int], pace: _Pace) -> dict[str, Any]:
    """A stage: the group that runs it, its pace, and what waits for it; lag is None where a stage before it has it."""
    running = next((group for group in live if stage in group["stages"]), None)
    role = _READS[stage]
    found: dict[str, Any] = {"stage": stage, "group": running and running["group"], "reads": role}
    if running is None:
        return found | {"rate_per_s": None, "lag": None}
    own = {place["role"] for place in running["inputs"]}
    rate = running["rates"][role] if role in own else pace.of_topic(role, ends)
    waiting = [place["lag"] for place in running["inputs"] if _taker(running["stages"], place["role"]) == stage]
    lag = sum(waiting) if waiting else None
    return found | {"rate_per_s": rate, "lag": lag}


def _taker(stages: list[str], role: str) -> str:
    """Which of these stages, which run chained, an input is for."""
    return next((stage for stage in stages if _READS[stage] == role), stages[0])


def _topic(pipeline: Pipeline, role: str, ends: dict[tuple[str, int], int], pace: _Pace) -> dict[str, Any]:
    total = sum(end for (of, _), end in ends.items() if of == role)
    return {
        "role": role,
        "topic": topic_name(pipeline, role),
        "offsets": total,
        "rate_per_s": pace.of_topic(role, ends),
    }


def _last_prediction(seen: Seen, now_s: float) -> dict[str, Any] | None:
    if not seen.predictions:
        return None
    newest, at_ms = max(seen.predictions.values(), key=lambda found: found[1])
    return {
        "published_ms": at_ms,
        "age_s": round(now_s - at_ms / 1000, 3),
        "event_time_ms": newest.time_ms,
        "event_id": newest.event_id,
        "model": newest.model,
        "behind_ms": newest.behind_ms,
    }


def _champions(seen: Seen) -> list[dict[str, Any]]:
    return [
        {"shard": shard, "model": registry["champion"], "version": registry["version"], "last": registry["last"]}
        for shard, registry in sorted(seen.registries.items())
    ]


def _models(pipeline: Pipeline, seen: Seen) -> list[dict[str, Any]]:
    """Every model of every shard as the registry has it, the champion first, with its newest figures."""
    rows = []
    for shard, registry in sorted(seen.registries.items()):
        tried = registry["canary"]
        for name, entry in registry["models"].items():
            rows.append(
                {
                    "model": name,
                    "shard": shard,
                    "status": entry["status"],
                    "share": float(tried[1]) if tried is not None and tried[0] == name else None,
                    "since": entry["since"],
                    "proposed": name in registry["proposals"],
                    **_scores(seen, name, shard),
                }
            )
    order = ("champion", "canary", "challenger", "retraining", "retired")
    return sorted(rows, key=lambda row: (row["shard"], order.index(row["status"]), row["model"]))


def _baselines(seen: Seen) -> list[dict[str, Any]]:
    shards = sorted({shard for model, shard, _ in seen.scores if model in BASELINES})
    return [
        {"model": name, "shard": shard, **_scores(seen, name, shard)}
        for shard in shards
        for name in BASELINES
        if (name, shard, "overall") in seen.scores
    ]


def _scores(seen: Seen, model: str, shard: int) -> dict[str, Any]:
    """Metrics since the start, and over the last window that was full."""
    whole = seen.scores.get((model, shard, "overall"))
    recent = next(
        (e for (m, s, window), e in seen.scores.items() if m == model and s == shard and window.startswith("last-")),
        None,
    )
    return {
        "n": None if whole is None else whole.n,
        "overall": None if whole is None else dict(whole.metrics),
        "window": None if recent is None else recent.window,
        "recent": None if recent is None else dict(recent.metrics),
    }


def _freshness(seen: Seen, now_s: float) -> dict[str, Any] | None:
    """Of the shard whose models are oldest: stream time, until when they have learned, and how far that is behind."""
    known = []
    for (group, shard), state in seen.checkpoints.items():
        if state.keys() >= {MARKER, "clock", "progress"} and group_named(group).back:
            stream_ms, (learned, until_ms) = state["clock"][0], state["progress"]
            age_s = None if until_ms is None else max(0, stream_ms - until_ms) / 1000
            known.append(
                {
                    "shard": shard,
                    "learned": learned,
                    "learned_until_ms": until_ms,
                    "stream_time_ms": stream_ms if stream_ms > 0 else None,
                    "model_age_s": age_s,
                    "checkpoint_ms": state[MARKER],
                    "checkpoint_age_s": round(now_s - state[MARKER] / 1000, 3),
                }
            )
    if not known:
        return None
    return max(known, key=lambda row: (row["model_age_s"] or 0.0, -row["shard"])) | {"shards": len(known)}


def _alerts(seen: Seen) -> dict[str, Any]:
    opened = [alert for alert, _ in seen.alerts.values()]
    by = Counter(alert.severity for alert in opened)
    newest = sorted(opened, key=lambda alert: (alert.time_ms, alert.alert_id), reverse=True)[:_NEWEST]
    return {
        "open": len(opened),
        "severities": {name: by[name] for name in _SEVERITIES},
        "newest": [msgspec.to_builtins(alert) for alert in newest],
    }


def _dead_letters(seen: Seen) -> dict[str, Any]:
    rows = [
        {"topic": topic, "stage": stage, "reason": reason, **entry}
        for (topic, stage, reason), entry in sorted(seen.dead.items(), key=lambda item: (-item[1]["n"], item[0]))
    ]
    return {"n": sum(row["n"] for row in rows), "reasons": rows}


def _conservation(seen: Seen) -> tuple[dict[str, Any] | None, list[dict[str, Any]]]:
    """Counts of all checkpoints, and each law by group. What is pending is what the sum leaves: it must not be < 0."""
    sums: dict[str, Counter[str]] = {}
    for (group, _), state in sorted(seen.checkpoints.items()):
        if MARKER in state and "counts" in state:
            sums.setdefault(group, Counter()).update(state["counts"])
    if not sums:
        return None, []
    laws, whole = [], Counter[str]()
    for group, counts in sums.items():
        of = group_named(group)
        whole.update({name: n for name, n in counts.items() if _made_by(of, name)})
        waits = counts["predictions"] - counts["labelled"] - counts["expired"]
        for law, holds in counted(counts, waits).laws.items():
            if (law.startswith("events") and of.front) or (law.startswith("features") and of.back):
                laws.append({"group": group, "law": law, "holds": holds})
        if of.back:
            laws.append({"group": group, "law": "predictions ≥ labelled + expired", "holds": waits >= 0})
    summary = counted(whole, whole["predictions"] - whole["labelled"] - whole["expired"])
    return {name: value for name, value in msgspec.to_builtins(summary).items() if name not in _SCORED}, laws


def _made_by(group: Group, count: str) -> bool:
    """Whether a count is told by this group, where stages run apart and several know of it."""
    if count == "alerts":
        return group.watches
    return group.front if count in ("events", "features", "duplicates") else group.back or "." in count
