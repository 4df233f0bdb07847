"""The chain beside the plain loop in one process, without Kafka: what CI can hold on a noisy machine.

Both run in turn over the same flights, in small portions, and what counts is the least processor time of each: whatever
else the machine does can only add to it. The tolerance is in `tests/benchmarks/test_regression.py`.
"""

from __future__ import annotations

import gc
import time
from typing import Any

from benchmarks import declared, loop
from headrace.streams.task import Task
from headrace.streams.topology import group_of

__all__ = ["ratio"]

_NOW_MS = 2_000_000_000_000


def ratio(events: int = 3_000, rounds: int = 5, **options: Any) -> float:
    """How many times as fast as the loop the chain is: least processor time of `rounds` over that of as many."""
    pipeline = declared.flights("guard", **options)
    inputs = declared.flight_records(events)
    took: dict[str, list[float]] = {"loop": [], "chain": []}
    gc.collect()
    enabled = gc.isenabled()
    gc.disable()
    try:
        for _ in range(rounds):
            began = time.process_time()
            _loop(pipeline, inputs)
            turn = time.process_time()
            _chain(pipeline, inputs)
            took["loop"].append(turn - began)
            took["chain"].append(time.process_time() - turn)
    finally:
        if enabled:
            gc.enable()
    return min(took["loop"]) / min(took["chain"])


def _loop(pipeline: Any, inputs: declared.Records) -> None:
    (model,) = pipeline.fresh_models().values()
    loop.run(pipeline, [record.value for record in inputs[0]], [record.value for record in inputs[1]], model)


def _chain(pipeline: Any, inputs: declared.Records) -> None:
    task = Task(pipeline, group_of(), 0, topics=lambda role: f"guard.{role}")
    events, labels = inputs
    for rank, records in enumerate(((), labels, events)):
        for offset, record in enumerate(records):
            task.feed(rank, offset, record.key, record.value, _NOW_MS)
        task.merge.end(rank)
    while task.run(8_000) is not None:
        pass
