"""Folding: what a worker does, beside its cycle, for retrained models that catch up.

A draft is no state: whatever becomes of it, the task makes the model from the training log when it adopts it, and a
draft only spares it most of that. One that was handed over is forgotten, as it goes on learning where it is now.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import msgspec

from headrace.schemas.records import Command
from headrace.streams.errors import Aborted, HeadraceError
from headrace.streams.leftovers import beside, open_places
from headrace.streams.models.authority import sign
from headrace.streams.pipeline import Pipeline
from headrace.streams.stages.retraining import Draft, Logged, adoptions, fold
from headrace.streams.task import Task
from headrace.streams.topics import side_id

__all__ = ["Folding"]

log = logging.getLogger("headrace.folding")

_NEAR = 2_000
"""Examples that a task may have to learn while it adopts a model."""
_ROUNDS = 10
_AGAIN_S = 5.0
_END = "end"
_encode = msgspec.json.Encoder().encode

_Decode = Callable[[bytes], Mapping[str, Any]]


class Folding:
    """Drafts of one worker. `due` and `history` are asked from the cycle, `work` runs beside it."""

    def __init__(
        self,
        pipeline: Pipeline,
        cluster: Any,
        topics: Callable[[str], str],
        group: str,
        clock: Callable[[], float],
        settle: Callable[[], None],
    ) -> None:
        self._pipeline, self._cluster, self._topics, self._group = pipeline, cluster, topics, group
        self._clock, self._settle = clock, settle
        self.drafts: dict[tuple[int, str], Draft] = {}
        self._begun: dict[tuple[int, str], float] = {}
        self._unsure: set[int] = set()

    def history(self, shard: int, chain: Any) -> Logged:
        """The training log of a shard as its task reads it, once all that it made is committed."""
        topic, decode = self._topics("examples"), chain.examples_wire.decode
        return Logged(self._cluster.reader, topic, shard, decode, self._settle, self.drafts)

    def due(self, task: Task) -> Iterator[Callable[[], None]]:
        """Work for each model that catches up in this task, and that nobody works for here.

        A request that may have been left open, while nobody has to ask again, is ended: the registry would be read no
        further.
        """
        decisions = task.chain.decisions
        if decisions is not None and decisions.waiting:
            known = decisions.catching_up
            for command in adoptions(task):
                if self._may_begin(task.shard, command.id):
                    entry = dict(known[str(command.model)])
                    yield partial(self.work, command, entry, task.chain.examples_wire.decode)
        elif task.shard in self._unsure and self._may_begin(task.shard, _END):
            yield partial(self._end, task.shard)

    def _may_begin(self, shard: int, work: str) -> bool:
        if self._clock() < self._begun.get((shard, work), float("-inf")):
            return False
        self._begun[shard, work] = float("inf")
        return True

    def work(self, command: Command, entry: Mapping[str, Any], decode: _Decode) -> None:
        """Fold the training log until little is left of it, then ask for the adoption.

        Trouble is only reported, and it is tried again after a while; the same command twice is one.
        """
        shard, name, place = command.shard, str(command.model), (self._topics("registry"), command.shard)
        try:
            self.drafts[shard, name] = self._fold(shard, name, entry, decode)
            with self._requests(shard) as (reader, producer):
                self._unsure.add(shard)
                producer.begin()
                producer.send(*place, name.encode(), _encode(sign(self._pipeline, command)))
                producer.commit()
                if producer.suspicious and open_places(reader, [place]):
                    raise Aborted("the command to adopt it may never be read")
                self._unsure.discard(shard)
            log.info("%s/%s has learned up to example %d and is to be adopted", name, shard, self.drafts[shard, name].n)
        except HeadraceError as error:
            log.warning("%s/%s does not catch up: %s", name, shard, error)
            self._begun[shard, command.id] = self._clock() + _AGAIN_S

    def _end(self, shard: int) -> None:
        try:
            with self._requests(shard):
                pass
        except HeadraceError as error:
            log.warning("a request in %s/%s may be open still: %s", self._topics("registry"), shard, error)
        finally:
            self._begun[shard, _END] = self._clock() + _AGAIN_S

    @contextlib.contextmanager
    def _requests(self, shard: int) -> Iterator[tuple[Any, Any]]:
        """A reader, and a producer of requests, after which nothing of its predecessors is open."""
        place = (self._topics("registry"), shard)
        with beside(self._cluster, side_id(self._group, "retrain", shard), [place]) as both:
            self._unsure.discard(shard)
            yield both

    def _fold(self, shard: int, name: str, entry: Mapping[str, Any], decode: _Decode) -> Draft:
        training = Logged(self._cluster.reader, self._topics("examples"), shard, decode)
        base = entry["base"]
        if base not in self._pipeline.models:
            raise HeadraceError(f"{base} is not declared any more")
        begun = self.drafts.pop((shard, name), None)
        draft = begun or Draft(self._pipeline.fresh_models()[base], entry["from_n"], entry["from_n"])
        for _ in range(_ROUNDS):
            before = draft.n
            draft = fold(self._pipeline, draft, training.examples(before, draft.place), entry, 1 << 62)
            if draft.n - before <= _NEAR:
                break
        return draft
