"""The slot of a worker: a stable transactional id, and at any time one producer under it.

A start under the same id fences whoever had it before, and ends what they left open. What a start alone does not end
(`leftovers.py`: partitions that a restarting broker passed over; `forget`: offsets that came too late) is ended here.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from typing import Any

from headrace.streams import failpoints
from headrace.streams.errors import Aborted
from headrace.streams.leftovers import Place, complete, end_leftovers, open_places
from headrace.streams.worker.work import Work

__all__ = ["Slot"]


class Slot:
    """The transactions of a worker, one at a time; none takes in what an earlier one left, or sent too late."""

    def __init__(self, work: Work, name: str) -> None:
        self.name = name
        self.producer: Any = None
        self._work = work
        self._followed = False

    def open(self) -> None:
        """A new producer: what was committed is so everywhere, whoever had the slot is fenced, the rest is aborted."""
        self._complete(self._work.reader)
        self._start()

    def reopen(self, reader: Any) -> None:
        """The same after trouble with our own producer; raises `Fenced` if another worker has taken this slot.

        Whoever takes it starts a producer under its id before it joins the group, so that a worker that was put out, or
        stood still, but whose producer is still the last one, has no successor. Where the coordinator does not say, the
        slot is taken as ours. What it had decided is completed before it is asked, as that makes it forget.
        """
        work = self._work
        self._complete(reader)
        with contextlib.suppress(Aborted):
            self.producer.prove((work.topics("journal"), 0), work.name)
        failpoints.hit("reopen.proven")
        self.drop()
        self._start()

    def drop(self) -> None:
        """Forget the producer and what it has open."""
        self.producer.drop()

    def begin(self, shards: Iterable[int]) -> None:
        """Open a transaction, under a new epoch if a late copy of a request may end it or change it."""
        self.distrust(shards)
        self.producer.begin()
        # The markers of the last one may be missing, and this one's abort would be taken for them.
        if self.producer.suspicious:
            raise Aborted("the connection broke as a transaction began")

    def distrust(self, shards: Iterable[int]) -> None:
        """After a suspicious transaction: a new producer, and everything from the log unless every marker is there."""
        if not self.producer.suspicious:
            return
        mine = list(shards)
        with contextlib.closing(self._work.cluster.reader()) as reader:  # another thread may be using the worker's
            self.reopen(reader)
            found = [place for place in self.end_leftovers(reader) if place[1] in mine]
        if mine:
            self.forget(mine[0])
        if found:
            raise Aborted(f"a transaction was open in {found[0][0]}/{found[0][1]}, which may have been the last one")

    def end_leftovers(self, reader: Any) -> list[Place]:
        """End, once after each start, what earlier producers left open anywhere; where that was."""
        if self._followed:
            return []
        found = open_places(reader, self._places())
        if found:
            end_leftovers(self.producer, found)
            self._renew()
        self._followed = True
        return found

    def forget(self, shard: int) -> None:
        """End what offsets an earlier transaction of this slot may have left pending.

        Offsets that reach the group's coordinator after their transaction was aborted stay pending for ever: nobody
        can read the committed ones, and this slot's next commit would make them real (KIP-890; the client lacks it).
        An abort that names the coordinator's partition ends them: a transaction with an offset, and a new producer.
        The offset is one that nobody reads, the journal's, as a late copy of this request may stay pending too.
        """
        work = self._work
        self.producer.begin()
        self.producer.offsets({(work.topics("journal"), shard): 0}, work.consumer.metadata())
        self._renew()

    def _complete(self, reader: Any) -> None:
        work = self._work
        complete(work.cluster, reader, self.name, [*self._places(), *work.cluster.offsets_of(work.name)])

    def _start(self) -> None:
        self.producer, self._followed = self._work.cluster.producer(self.name), False

    def _places(self) -> list[Place]:
        """Every partition that this slot may have sent records to."""
        work = self._work
        roles = (*work.group.outputs, "journal")
        return [(work.topics(role), shard) for role in roles for shard in range(work.pipeline.partitions)]

    def _renew(self) -> None:
        """Follow our own producer by a new one under the same id, whose start aborts what is open."""
        self.producer.drop()
        self.producer = self._work.cluster.producer(self.name)
