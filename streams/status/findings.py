"""What a memory of the topics says: models, freshness, alerts, dead letters, conservation, as plain values."""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec

from headrace.processors.baselines import BASELINES
from headrace.processors.registry import STATUSES, standing
from headrace.streams.checkpoint import MARKER
from headrace.streams.status.seen import Seen
from headrace.streams.summary import counted, tells
from headrace.streams.topology import group_named

__all__ = [
    "baselines",
    "champions",
    "conservation",
    "dead_letters",
    "freshness",
    "last_prediction",
    "models",
    "open_alerts",
]

_SEVERITIES = ("critical", "warning", "info")
_NEWEST = 20
_SCORED = ("models", "baselines")


def last_prediction(seen: Seen, now_s: float) -> dict[str, Any] | None:
    """The newest of all shards, and how old it is."""
    if not seen.predictions:
        return None
    newest, at_ms = max(seen.predictions.values(), key=lambda found: found[1])
    return {
        "published_ms": at_ms,
        "age_s": _age_s(at_ms, now_s),
        "event_time_ms": newest.time_ms,
        "event_id": newest.event_id,
        "model": newest.model,
        "behind_ms": newest.behind_ms,
    }


def champions(seen: Seen) -> list[dict[str, Any]]:
    """Who serves in each shard."""
    return [
        {"shard": shard, "model": registry["champion"], "version": registry["version"], "last": registry["last"]}
        for shard, registry in sorted(seen.registries.items())
    ]


def models(seen: Seen) -> list[dict[str, Any]]:
    """Every model of every shard as the registry has it, the champion first, with its newest figures."""
    rows = [
        {"model": name, "shard": shard, **standing(registry, name), **_scores(seen, name, shard)}
        for shard, registry in sorted(seen.registries.items())
        for name in registry["models"]
    ]
    rank = {status: i for i, status in enumerate(STATUSES)}  # others last: nobody's status ends an overview
    return sorted(rows, key=lambda row: (row["shard"], rank.get(row["status"], len(rank)), row["model"]))


def baselines(seen: Seen) -> list[dict[str, Any]]:
    """The baselines of every shard with their newest figures."""
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
        "scored": None if whole is None else whole.scored,
        "overall": None if whole is None else dict(whole.metrics),
        "window": None if recent is None else recent.window,
        "recent": None if recent is None else dict(recent.metrics),
    }


def freshness(seen: Seen, now_s: float) -> dict[str, Any] | None:
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
                    "checkpoint_age_s": _age_s(state[MARKER], now_s),
                }
            )
    if not known:
        return None
    return max(known, key=lambda row: (row["model_age_s"] or 0.0, -row["shard"])) | {"shards": len(known)}


def open_alerts(seen: Seen) -> dict[str, Any]:
    """How many are open, by severity, and the newest of them."""
    opened = [alert for alert, _ in seen.alerts.values()]
    by = Counter(alert.severity for alert in opened)
    newest = sorted(opened, key=lambda alert: (alert.time_ms, alert.alert_id), reverse=True)[:_NEWEST]
    return {
        "open": len(opened),
        "severities": {name: by[name] for name in _SEVERITIES},
        "newest": [msgspec.to_builtins(alert) for alert in newest],
    }


def dead_letters(seen: Seen) -> dict[str, Any]:
    """How many, by topic, stage and reason, the most frequent first."""
    rows = [
        {"topic": topic, "stage": stage, "reason": reason, **entry}
        for (topic, stage, reason), entry in sorted(seen.dead.items(), key=lambda item: (-item[1]["n"], item[0]))
    ]
    return {"n": sum(row["n"] for row in rows), "reasons": rows}


def conservation(seen: Seen) -> tuple[dict[str, Any] | None, list[dict[str, Any]]]:
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
        whole.update({name: n for name, n in counts.items() if "." in name or tells(of, name)})
        waits = counts["predictions"] - counts["labelled"] - counts["expired"]
        for law, holds in counted(counts, waits).laws.items():
            if (law.startswith("events") and of.front) or (law.startswith("features") and of.back):
                laws.append({"group": group, "law": law, "holds": holds})
        if of.back:
            laws.append({"group": group, "law": "predictions ≥ labelled + expired", "holds": waits >= 0})
    summary = counted(whole, whole["predictions"] - whole["labelled"] - whole["expired"])
    return {name: value for name, value in msgspec.to_builtins(summary).items() if name not in _SCORED}, laws


def _age_s(at_ms: int, now_s: float) -> float:
    """How old it is; nothing is younger than now, though it came while one looked, or by another clock."""
    return max(0.0, round(now_s - at_ms / 1000, 3))
