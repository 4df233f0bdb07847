"""The group coordinator: static members, generations, session timeouts, eager rebalances, the range assignor."""

from __future__ import annotations

from typing import Any

from headrace.streams.errors import Aborted, Expelled
from tests.simulation.clock import Clock

__all__ = ["SESSION_S", "Coordinator", "Member", "Metadata"]

SESSION_S = 10.0
MAX_POLL_S = 300.0

TP = tuple[str, int]
Metadata = tuple[str, str, str, int]
"""Group, static name, member id, generation: what fences a transaction's offsets."""


class Member:
    """A member as the coordinator sees it; `client` stands for the process behind it."""

    def __init__(self, name: str, number: int, client: Any, now: float) -> None:
        self.name = name
        self.id = f"{name}-{number}"
        self.client = client
        self.beat = now
        self.joined = True
        self.assignment: list[TP] = []


class Group:
    """One consumer group."""

    def __init__(self) -> None:
        self.members: dict[str, Member] = {}
        self.generation = 0
        self.preparing = False
        self.topics: list[str] = []
        self.rebalances = 0


class Coordinator:
    """All groups."""

    def __init__(self, clock: Clock, partitions: int) -> None:
        self.clock = clock
        self.count = partitions
        self.groups: dict[str, Group] = {}
        self._number = 0

    def group(self, name: str) -> Group:
        """A group; an unknown one is empty."""
        return self.groups.setdefault(name, Group())

    def join(self, group_name: str, name: str, client: Any, topics: list[str]) -> Member:
        """JoinGroup: a known static name takes over its predecessor's place, without a rebalance if all was stable."""
        group = self.group(group_name)
        group.topics = topics
        self._number += 1
        member = Member(name, self._number, client, self.clock.now)
        before = group.members.get(name)
        group.members[name] = member
        if before is not None and before.client is not client and not group.preparing:
            member.assignment = before.assignment
            client.assigned(member.assignment, group.generation)
            return member
        if not group.preparing:
            self._prepare(group)
            member.joined = True
        self._complete(group)
        return member

    def rejoin(self, group_name: str, member: Member) -> None:
        """JoinGroup by a member that was told of the rebalance."""
        member.joined = True
        self._complete(self.group(group_name))

    def status(self, group_name: str, member: Member) -> str:
        """What a heartbeat is answered: ok, rebalance, unknown, fenced."""
        group = self.group(group_name)
        now = group.members.get(member.name)
        if now is not member:
            return "unknown" if now is None or now.client is member.client else "fenced"
        return "rebalance" if group.preparing and not member.joined else "ok"

    def check(self, metadata: Metadata) -> None:
        """TxnOffsetCommit's check: raises what the client makes of the coordinator's refusal."""
        group_name, name, member_id, generation = metadata
        group = self.group(group_name)
        member = group.members.get(name)
        if member is None:
            raise Aborted("UNKNOWN_MEMBER_ID")
        if member.id != member_id:
            raise Expelled("FENCED_INSTANCE_ID")
        if group.generation != generation:
            raise Aborted("ILLEGAL_GENERATION")

    def tick(self) -> None:
        """Time has passed: processes that run have sent heartbeats, those silent for too long are put out."""
        now = self.clock.now
        for group in self.groups.values():
            for member in list(group.members.values()):
                client = member.client
                if client.beating and now - client.polled <= MAX_POLL_S:
                    member.beat = now
                elif now - member.beat > SESSION_S:
                    del group.members[member.name]
                    if not group.preparing:
                        self._prepare(group)
            self._complete(group)

    def _prepare(self, group: Group) -> None:
        group.preparing = True
        for member in group.members.values():
            member.joined = False

    def _complete(self, group: Group) -> None:
        if not group.preparing or not group.members or not all(m.joined for m in group.members.values()):
            return
        group.preparing = False
        group.generation += 1
        group.rebalances += 1
        members = sorted(group.members.values(), key=lambda member: member.name)
        share, extra = divmod(self.count, len(members))
        first = 0
        for rank, member in enumerate(members):
            size = share + (rank < extra)
            mine = range(first, first + size)
            first += size
            member.assignment = [(topic, p) for topic in sorted(group.topics) for p in mine]
            member.client.assigned(member.assignment, group.generation)
