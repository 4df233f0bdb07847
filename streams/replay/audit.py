"""Audit: make everything again from the inputs and the journal, and compare it with what was published.

The records made (`recompute`) against the records in the topics, one by one, in order: key, value and headers, byte for
byte.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from headrace.streams.journal import Entry
from headrace.streams.pipeline import Pipeline
from headrace.streams.replay.recompute import Pair, Recomputation, recomputations
from headrace.streams.stores import ObjectCodec
from headrace.streams.task import Task

__all__ = ["Audit", "audit"]


class Audit(msgspec.Struct):
    """What was compared, and what was found to differ.

    `ranges` names, for each task, the input offsets that were covered. `journal_batches` counts transactions;
    `live_batches` those that read from one input only (a sign of live traffic). `begun` and `ended` say, by
    task, where an audit begins after the journal does, or ends before: at an epoch of another specification, which
    only that one can recompute. `skipped` says what lies between epochs of this one.
    """

    compared: int = 0
    different: int = 0
    by_topic: dict[str, dict[str, int]] = {}
    ranges: dict[str, dict[str, list[int]]] = {}
    journal_batches: int = 0
    live_batches: int = 0
    first: list[str] = []
    begun: dict[str, str] = {}
    skipped: dict[str, list[str]] = {}
    ended: dict[str, str] = {}

    def differ(self, topic: str, what: str) -> None:
        """Note one difference; the first twenty are kept with their place."""
        self.different += 1
        self.by_topic[topic]["different"] += 1
        if len(self.first) < 20:
            self.first.append(f"{topic}: {what}")

    def _compare(self, pair: Pair) -> None:
        self.compared += 1
        self.by_topic[pair.role]["compared"] += 1
        what = pair.difference
        if what is not None:
            self.differ(pair.role, what)

    def _note(self, task: Task, entry: Entry) -> None:
        self.journal_batches += 1
        read = [end > start for start, end in zip(entry.starts, entry.ends, strict=True)]
        self.live_batches += sum(read) == 1
        ranges = self.ranges.setdefault(f"{task.group.name}/{task.shard}", {})
        for source, start, end in zip(task.chain.sources, entry.starts, entry.ends, strict=True):
            first, _ = ranges.get(source.topic, [start, end])
            ranges[source.topic] = [first, end]


def audit(
    pipeline: Pipeline,
    new_reader: Callable[[], Any],
    topics: Callable[[str], str],
    *,
    codec: ObjectCodec,
    observe: Callable[[Task], None] = lambda task: None,
    progress: Callable[[int], None] = lambda done: None,
) -> Audit:
    """Recompute all that was published and compare; see `Audit`. Workers may go on meanwhile."""
    result = Audit()
    for made in recomputations(pipeline, new_reader, topics, codec):
        for role in made.task.group.outputs:
            result.by_topic.setdefault(role, {"compared": 0, "different": 0})
        _audit(made, result, progress)
        observe(made.task)
    return result


def _audit(made: Recomputation, result: Audit, progress: Callable[[int], None]) -> None:
    if made.begun is not None:
        result.begun[made.name] = made.begun
    _steps(made, result, progress)
    while made.ended is not None and (skipped := made.resume()) is not None:
        result.skipped.setdefault(made.name, []).append(skipped)
        _steps(made, result, progress)
    if made.ended is not None:
        result.ended[made.name] = made.ended
    for pair in made.rest():
        result._compare(pair)


def _steps(made: Recomputation, result: Audit, progress: Callable[[int], None]) -> None:
    for step in made:
        result._note(made.task, step.entry)
        if not step.sound:
            result.by_topic.setdefault("journal", {"compared": 0, "different": 0})
            result.differ("journal", f"record {step.entry.seq} of {made.name} says other bytes")
        for pair in step.pairs:
            result._compare(pair)
        progress(len(step.pairs))
