"""Stages, and where the chain of them may be cut.

    events ─ validate ─ featurize ─┬─ predict ─ join ─ train ─ evaluate ─┬─ drift
    labels ──────────────┘         └ P.features                          └ P.predictions, P.examples

A group of stages runs chained in one task, records passing by reference. Between two groups stands a topic. The
groups that may run on their own are those between cuts; the whole is the lane. Train stands before evaluate in its
name only: an example is evaluated before it is learned from (`stages/back.py`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from headrace.streams.errors import UsageError

__all__ = ["STAGES", "Group", "group_known", "group_named", "group_of", "groups", "segment_of"]

STAGES = ("validate", "featurize", "predict", "join", "train", "evaluate", "drift")
_SEGMENTS = (("validate", "featurize"), ("predict", "join", "train", "evaluate"), ("drift",))


@dataclass(frozen=True, slots=True)
class Group:
    """Consecutive stages that run chained, and the topics they meet others in.

    `inputs` are roles in merge order at equal times: labels come before events. The first `leading` of them have no
    time: what is there of them is taken at the beginning of a batch.
    """

    stages: tuple[str, ...]

    @property
    def name(self) -> str:
        """What consumer group, journal entries and state of this group are called."""
        return "lane" if self.stages == STAGES else "-".join(self.stages)

    @property
    def front(self) -> bool:
        """Whether it reads raw events."""
        return "validate" in self.stages

    @property
    def back(self) -> bool:
        """Whether it predicts and learns."""
        return "predict" in self.stages

    @property
    def watches(self) -> bool:
        """Whether it looks for drift."""
        return "drift" in self.stages

    @property
    def inputs(self) -> tuple[str, ...]:
        """Roles of its input topics, by rank."""
        if self.back:
            return ("registry", "labels", "events" if self.front else "features")
        return ("labels", "events") if self.front else ("examples", "features", "predictions")

    @property
    def leading(self) -> int:
        """How many of the inputs, from the first, have no time: the registry's commands."""
        return 1 if self.back else 0

    @property
    def outputs(self) -> tuple[str, ...]:
        """Roles of the topics it writes, its own journal and state apart."""
        roles: list[str] = []
        if self.front:
            roles += ["features"]
        if self.back:
            roles += ["predictions", "shadow", "examples", "evaluations", "registry"]
        if self.watches:
            roles += ["alerts"] if self.back else ["evaluations", "alerts"]
        return (*roles, "dead-letter")

    @property
    def upstream(self) -> dict[str, str]:
        """For each input written by another group: the stage that writes it."""
        written = {"features": "featurize", "predictions": "predict", "examples": "join"}
        return {role: written[role] for role in self.inputs if role in written}


def group_of(stages: Iterable[str] | None = None) -> Group:
    """The group made of these stages; UsageError says which cuts there are."""
    wanted = set(STAGES if stages is None else stages)
    unknown = wanted - set(STAGES)
    if unknown:
        raise UsageError(f"No stage is called {', '.join(sorted(unknown))}; the stages are {', '.join(STAGES)}.")
    for group in groups():
        if set(group.stages) == wanted:
            return group
    legal = " | ".join(",".join(segment) for segment in _SEGMENTS)
    raise UsageError(f"These stages do not form a group; cut the chain at a bar only: {legal}.")


def group_named(name: str) -> Group:
    """The group with this name, as journals and states have it."""
    return group_of(None if name == "lane" else name.split("-"))


def group_known(name: bytes | None) -> Group | None:
    """The group that a journal record's key names; None where somebody else wrote it."""
    return None if name is None else _BY_NAME.get(name)


def segment_of(stage: str) -> Group:
    """The smallest group with this stage: what lies between two cuts."""
    return next(Group(segment) for segment in _SEGMENTS if stage in segment)


def groups() -> list[Group]:
    """Every group there can be: the segments between cuts, and what is made of neighbours; the lane first."""
    count = len(_SEGMENTS)
    spans = sorted(((first, last) for first in range(count) for last in range(first, count)), key=lambda s: s[0] - s[1])
    return [Group(tuple(s for segment in _SEGMENTS[first : last + 1] for s in segment)) for first, last in spans]


_BY_NAME = {group.name.encode(): group for group in groups()}
