"""Topics: what they are called, how they must be configured, and whether the cluster's are.

The one place that makes a name in Kafka: of topics, consumer groups and transactional ids. `run` never creates a topic;
`headrace topics P --apply` does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from headrace.streams.errors import DeclarationError, UsageError
from headrace.streams.pipeline import LEAST_BYTES, Pipeline
from headrace.streams.topology import Group, groups

__all__ = [
    "ROLES",
    "TOO_MANY",
    "TopicSpec",
    "consumer_groups",
    "control_group",
    "group_name",
    "name_of",
    "names_of",
    "side_id",
    "too_small",
    "topic_name",
    "topic_specs",
    "transactional_id",
    "worker_groups",
    "wrong_settings",
]

_DAY_MS = 86_400_000
_FOREVER = {"cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": "-1"}
_DELETE = {"cleanup.policy": "delete", "retention.ms": str(30 * _DAY_MS)}
_COMPACT = {"cleanup.policy": "compact", "min.cleanable.dirty.ratio": "0.3", "segment.bytes": str(64 << 20)}
_ROOM_BYTES = 8 << 20
"""For inputs of a million bytes: what is made of one is larger, a dead letter by its headers, text in JSON sixfold."""
_STATE = {**_COMPACT, "min.compaction.lag.ms": "120000"}

ROLES: dict[str, Mapping[str, str]] = {
    "events": _DELETE,
    "labels": _DELETE,
    "features": _DELETE,
    "predictions": _DELETE,
    "shadow": _DELETE,
    "examples": _FOREVER,
    "evaluations": _DELETE,
    "alerts": _DELETE,
    "models": _COMPACT,
    "registry": _FOREVER,
    "control": _COMPACT,
    "dead-letter": _DELETE,
    "journal": _DELETE,
    "state": _STATE,
    "savepoints": _DELETE,
}
"""Role → the settings that matter. All carry LogAppendTime: retention would take event times for old age."""

TOO_MANY = "Kafka takes none away, so take another name for the pipeline, and inputs that have as many as it declares"
"""What is left to do where partitions were added to an input that is in use."""

_INPUTS = ("events", "labels")
_SIDES = ("alerts", "models", "retrain", "savepoint", "state")
_CHECKED = ("cleanup.policy", "message.timestamp.type")


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """A topic as it has to be."""

    role: str
    name: str
    partitions: int
    config: Mapping[str, str]


def topic_name(pipeline: Pipeline, role: str) -> str:
    """What the topic with this role is called."""
    if role not in ROLES:
        raise DeclarationError(f"topics: there is no role {role!r}; legal: {', '.join(ROLES)}.")
    return name_of(pipeline.name, pipeline.topic_names, role)


def name_of(pipeline: str, declared: Mapping[str, str], role: str) -> str:
    """What the topic of a role is called in a pipeline of this name, which declares names for some."""
    return declared.get(role, f"{pipeline}.{role}")


def names_of(pipeline: Pipeline) -> Callable[[str], str]:
    """Role → topic name."""
    return lambda role: topic_name(pipeline, role)


def group_name(pipeline: Pipeline, group: Group) -> str:
    """The consumer group of a group of stages."""
    return pipeline.name if group.name == "lane" else f"{pipeline.name}.{group.name}"


def transactional_id(pipeline: Pipeline, group: Group, slot: str) -> str:
    """Stable name of a worker's slot: its transactional id, and its static membership."""
    what, _, shard = slot.partition(".")
    if what in _SIDES and shard.isdecimal():
        raise UsageError(
            f"A slot cannot be called {slot}, as what is written beside the cycle is: name it worker-{shard}."
        )
    return f"{group_name(pipeline, group)}.{slot}"


def side_id(owner: str, what: str, shard: int) -> str:
    """Transactional id of what is written of a shard beside the cycle, by whoever has the shard: the next one fences.

    `what` is one of `_SIDES`. `owner` is the consumer group, or the pipeline for what one group alone writes (models).
    """
    return f"{owner}.{what}.{shard}"


def control_group(pipeline: Pipeline) -> str:
    """What the consumer group of the control plane is called."""
    return f"{pipeline.name}.control"


def worker_groups(pipeline: Pipeline) -> list[str]:
    """The consumer groups that workers may be members of, wherever the chain is cut."""
    return [group_name(pipeline, group) for group in groups()]


def consumer_groups(pipeline: Pipeline) -> list[str]:
    """All consumer groups that a pipeline may have: those of its workers, and the control plane's."""
    return [*worker_groups(pipeline), control_group(pipeline)]


def topic_specs(pipeline: Pipeline) -> list[TopicSpec]:
    """All topics of a pipeline."""
    for role in pipeline.topic_names:
        topic_name(pipeline, role)
    room = {"max.message.bytes": str(_ROOM_BYTES * pipeline.max_bytes // LEAST_BYTES)}
    return [
        TopicSpec(
            role,
            topic_name(pipeline, role),
            pipeline.partitions,
            {**config, **({} if role in _INPUTS else room), "message.timestamp.type": "LogAppendTime"},
        )
        for role, config in ROLES.items()
    ]


def wrong_settings(spec: TopicSpec, partitions: int, config: Mapping[str, str]) -> list[str]:
    """What is wrong with an existing topic, each with its name, setting, value and the value it should have.

    Inputs are the producers' own: of those only the number of partitions matters.
    """
    out = []
    if partitions != spec.partitions:
        remedy = "create it with that many"
        if 1 < spec.partitions < partitions and spec.role in _INPUTS:
            remedy = TOO_MANY
        elif spec.partitions == 1 and spec.role in _INPUTS:
            remedy = "declare partitions= (then every window must be by the entity key), or use a topic with one"
        out.append(f"{spec.name} has {partitions} partitions, not {spec.partitions}: {remedy}")
    if spec.role in _INPUTS:
        if "compact" in config.get("cleanup.policy", "") and spec.role == "events":
            out.append(
                f"{spec.name}: cleanup.policy is {config['cleanup.policy']}: compacted inputs cannot be replayed"
            )
        return out
    for setting in _CHECKED:
        value = config.get(setting)
        if value is not None and value != spec.config[setting]:
            out.append(f"{spec.name}: {setting} is {value}, not {spec.config[setting]}")
    return out


def too_small(spec: TopicSpec, config: Mapping[str, str]) -> list[str]:
    """What is wrong where an existing topic of ours takes less than may be written to it, and how it is changed."""
    least, room = spec.config.get("max.message.bytes"), config.get("max.message.bytes")
    if least is None or room is None or int(room) >= int(least):
        return []
    change = f"kafka-configs --alter --topic {spec.name} --add-config max.message.bytes={least}"
    return [f"{spec.name}: max.message.bytes is {room}, not {least} or more ({change})"]
