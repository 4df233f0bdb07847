"""Everything about a pipeline at a glance, gathered from outside: what `headrace status` and the page show.

Nothing is asked of a worker: the topics and the consumer groups say it all. Figures of conservation, freshness and
counts are those of the last checkpoint, the others are of now.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from headrace.streams.pipeline import Pipeline
from headrace.streams.status.findings import (
    baselines,
    champions,
    conservation,
    dead_letters,
    freshness,
    last_prediction,
    models,
    open_alerts,
)
from headrace.streams.status.seen import Seen
from headrace.streams.topics import group_name, topic_name, topic_specs, worker_groups
from headrace.streams.topology import STAGES, Group, groups

__all__ = ["Seen", "gather"]

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
    committed = {group.name: _committed(cluster, group_name(pipeline, group), timeout_s) for group in groups()}
    ends = {
        (role, shard): reader.stable(topic_name(pipeline, role), shard)
        for role in roles
        for shard in range(pipeline.partitions)
    }
    seen.look(reader, pipeline, ends, [name for name, offsets in committed.items() if offsets])
    pace = _Pace(seen, now_s)
    members = cluster.members(worker_groups(pipeline))
    found = [_group(reader, pipeline, group, committed[group.name], members, ends, pace) for group in groups()]
    live = [group for group in found if group["members"] or group["journal"] or _started(group)]
    value = {
        "pipeline": pipeline.name,
        "task": pipeline.task,
        "taken_ms": round(now_s * 1000),
        "missing": [spec.name for spec in specs if spec.name not in existing],
        "groups": live,
        "stages": [_stage(stage, live, ends, pace) for stage in STAGES],
        "topics": [_topic(pipeline, role, ends, pace) for role in roles],
        "last_prediction": last_prediction(seen, now_s),
        "champions": champions(seen),
        "models": models(seen),
        "baselines": baselines(seen),
        "freshness": freshness(seen, now_s),
        "alerts": open_alerts(seen),
        "dead_letters": dead_letters(seen),
        "counts": None,
        "laws": [],
    }
    value["counts"], value["laws"] = conservation(seen)
    pace.remember(ends)
    return value


def _committed(cluster: Any, group: str, timeout_s: float) -> dict[tuple[str, int], int]:
    """What a group has committed; where that is nothing, it is not because nobody answers any more."""
    found: dict[tuple[str, int], int] = cluster.committed(group)
    if not found:
        cluster.topics(timeout_s)
    return found


class _Pace:
    """Records a second, from what the last look saw and this one sees."""

    def __init__(self, seen: Seen, now_s: float) -> None:
        self.seen, self._now_s = seen, now_s
        self._before, self._committed = dict(seen.ends), dict(seen.committed)
        self._seconds = None if seen.at_s is None else now_s - seen.at_s

    def of_topic(self, role: str, ends: dict[tuple[str, int], int]) -> float | None:
        """How fast a topic grows."""
        places = {where: end for where, end in ends.items() if where[0] == role}
        return self._rate(places, self._before)

    def of_group(self, group: str, role: str, places: dict[int, int]) -> float | None:
        """How fast a group commits one of its inputs."""
        mine = {(group, role, shard): place for shard, place in places.items()}
        self.seen.committed.update(mine)
        return self._rate(mine, self._committed)

    def remember(self, ends: dict[tuple[str, int], int]) -> None:
        """Let the next look begin here."""
        self.seen.at_s, self.seen.ends = self._now_s, dict(ends)

    def _rate(self, now: dict[Any, int], before: dict[Any, int]) -> float | None:
        if not self._seconds or self._seconds <= 0 or not now or not now.keys() <= before.keys():
            return None
        grown = sum(max(0, place - before[where]) for where, place in now.items())
        return round(grown / self._seconds, 1)


def _group(
    reader: Any,
    pipeline: Pipeline,
    group: Group,
    committed: dict[tuple[str, int], int],
    members: dict[str, list[dict[str, Any]]],
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
                "lag": ends[role, p]
                if place is None
                else pace.seen.waiting(reader, group.name, topic, p, place, ends[role, p]),
            }
            for p, place in places.items()
        ]
    name = group_name(pipeline, group)
    journals = [entry for (of, _), entry in sorted(pace.seen.journals.items()) if of == group.name]
    return {
        "group": name,
        "name": group.name,
        "stages": list(group.stages),
        "members": len(members[name]),
        "workers": members[name],
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
