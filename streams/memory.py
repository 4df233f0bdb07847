"""The runtime without a broker: the same chain over a file or a DataFrame, records and DataFrames out.

The inputs are merged as a task on Kafka merges them when all was published first, so the bytes are the same.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import Any

import msgspec
import pandas as pd

from headrace.streams import data
from headrace.streams.pipeline import Pipeline
from headrace.streams.stages.chain import Chain
from headrace.streams.stages.context import Output
from headrace.streams.stages.retraining import Draft, adoptions
from headrace.streams.summary import Summary, summary_of
from headrace.streams.task import Task
from headrace.streams.topics import topic_name
from headrace.streams.topology import Group, group_of

__all__ = ["Backtest", "backtest", "run"]

RawRecord = tuple[bytes | None, bytes | None]


class Backtest:
    """What a pipeline made of its inputs: records by role as bytes, and as DataFrames."""

    def __init__(self, task: Task, outputs: dict[str, list[Output]], seconds: float) -> None:
        self.task = task
        self.outputs = outputs
        self.seconds = seconds

    @property
    def summary(self) -> Summary:
        """Counts, conservation laws, metrics."""
        return summary_of(self.task.chain)

    @property
    def metrics(self) -> dict[str, dict[str, float | None]]:
        """Progressive metrics of each model and baseline, overall."""
        return self.task.chain.summary()

    @property
    def predictions(self) -> pd.DataFrame:
        """The champion's published predictions, in order."""
        return pd.DataFrame(self._records("predictions"))

    @property
    def features(self) -> pd.DataFrame:
        """The features by event id."""
        rows = self._records("features", self.task.chain.features_wire.decode)
        return pd.DataFrame(
            [{"event_id": row["event_id"], "time_ms": row["time_ms"], **row["features"]} for row in rows]
        )

    @property
    def examples(self) -> pd.DataFrame:
        """The training log."""
        rows = self._records("examples", self.task.chain.examples_wire.decode)
        return pd.DataFrame([row | row.pop("features") for row in rows])

    @property
    def evaluations(self) -> pd.DataFrame:
        """Metrics in windows and overall, as published."""
        return pd.DataFrame(self._records("evaluations"))

    @property
    def alerts(self) -> pd.DataFrame:
        """Alerts, as published."""
        return pd.DataFrame(self._records("alerts"))

    @property
    def dead_letters(self) -> pd.DataFrame:
        """What was refused: original key and value, and the headers."""
        letters = self.outputs.get("dead-letter", [])
        return pd.DataFrame(
            [
                {"key": k, "value": v} | {name: text.decode() for name, text in headers or []}
                for _, k, v, headers in letters
            ]
        )

    def _records(self, role: str, decode: Callable[[bytes], Any] = msgspec.json.decode) -> list[dict[str, Any]]:
        return [decode(value or b"") for _, _, value, _ in self.outputs.get(role, [])]


def run(
    pipeline: Pipeline,
    inputs: Sequence[Sequence[RawRecord]],
    *,
    group: Group | None = None,
    commands: Sequence[RawRecord] = (),
    now_ms: int,
    batch: int = 1_000,
    shard: int = 0,
    tolerant: bool = False,
    progress: Callable[[int], None] = lambda done: None,
) -> Backtest:
    """Run a group of stages over complete inputs, given by rank as (key, value); offsets count from 0.

    `commands` is what the registry held before the first of them.

    `now_ms` stands for the Kafka time of every record: what is far in the future is measured against it.
    """
    outputs: dict[str, list[Output]] = {}
    topics = partial(topic_name, pipeline)
    history = partial(_Made, outputs)
    task = Task(pipeline, group or group_of(), shard, topics=topics, tolerant=tolerant, history=history)
    began = time.perf_counter()
    for rank, records in enumerate([commands, *inputs] if task.group.leading else inputs):
        for offset, (key, value) in enumerate(records):
            task.feed(rank, offset, key, value, now_ms)
        task.merge.end(rank)
    asked = len(commands)
    while (processed := task.run(batch)) is not None:
        for output in processed.outputs:
            outputs.setdefault(output[0], []).append(output)
        for command in adoptions(task):
            task.feed(0, asked, None, msgspec.json.encode(command), now_ms)
            asked += 1
        progress(len(processed.batch))
    return Backtest(task, outputs, time.perf_counter() - began)


class _Made:
    """The training log as this run has made it."""

    def __init__(self, outputs: dict[str, list[Output]], chain: Chain) -> None:
        self._outputs, self._decode = outputs, chain.examples_wire.decode

    def examples(self, after: int, place: int = 0) -> Iterator[Mapping[str, Any]]:
        """From the one after `after` on."""
        return (self._decode(value) for _, _, value, _ in islice(self._outputs.get("examples", ()), after, None))

    def draft(self, model: str) -> None:
        """Nobody has begun."""

    def keep(self, model: str, draft: Draft) -> None:
        """Nobody will ask."""


def backtest(
    pipeline: Pipeline,
    source: Any = None,
    *,
    labels: Any = None,
    limit: int | None = None,
    now_ms: int | None = None,
    keep_going: bool = False,
    progress: Callable[[int], None] = lambda done: None,
) -> Backtest:
    """The whole pipeline over a DataFrame or file; without one, over the data that the pipeline declares.

    `keep_going` makes dead letters of an input of which nearly all records fail, where `WrongFormat` would be raised.
    """
    frame = data.load(source, pipeline, limit)
    events, known = data.records(pipeline, frame, None if labels is None else data.load(labels, pipeline))
    return run(
        pipeline,
        [[(r.key, r.value) for r in known], [(r.key, r.value) for r in events]],
        now_ms=time.time_ns() // 1_000_000 if now_ms is None else now_ms,
        tolerant=keep_going,
        progress=progress,
    )
