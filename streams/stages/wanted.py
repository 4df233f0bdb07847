"""Which stores a group of stages wants, and as what each begins."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from headrace.processors.base import StoreSpec
from headrace.processors.baselines import Baselines
from headrace.processors.drift import Drift
from headrace.processors.evaluate import Evaluate
from headrace.processors.join import Join
from headrace.processors.registry import Registry
from headrace.processors.validate import Validate
from headrace.schemas.records import BEFORE_ALL
from headrace.streams.pipeline import Pipeline
from headrace.streams.stages.gating import gate_stores
from headrace.streams.stages.watch import proxy
from headrace.streams.topology import Group

__all__ = ["model_store", "wanted_stores"]

_COUNTED = ("events", "duplicates", "features", "predictions", "labels", "labelled")


def wanted_stores(
    pipeline: Pipeline, group: Group, shard: int, join: Join, evaluate: Evaluate, drifts: Sequence[Drift]
) -> dict[str, tuple[StoreSpec, ...]]:
    """The stores of this group in this shard, by who has them: the processors, and the chain itself."""
    inputs = len(group.inputs)
    counted = (*_COUNTED, "alerts") if drifts else _COUNTED
    wanted: dict[str, tuple[StoreSpec, ...]] = {
        "chain": (
            StoreSpec("clock", "cell", initial=lambda: [BEFORE_ALL, [BEFORE_ALL] * inputs]),
            StoreSpec("counts", "cell", initial=lambda: dict.fromkeys(counted, 0)),
            StoreSpec("progress", "cell", initial=lambda: [0, None]),
            StoreSpec("since", "cell", initial=dict),
            StoreSpec("retrained", "cell", initial=list),
        )
    }
    if group.front:
        wanted |= {"validate": Validate(pipeline.horizon_ms).stores(), "featurize": pipeline.featurize.stores()}
    if group.front or group.back:
        wanted["join"] = join.stores()
        if pipeline.task == "multiclass":
            expired = () if pipeline.on_expiry is None else (pipeline.on_expiry,)
            wanted["join"] += (StoreSpec("classes", "cell", initial=partial(dict.fromkeys, expired)),)
    if group.back:
        wanted["registry"] = Registry().stores()
        wanted["models"] = tuple(model_store(name, model) for name, model in pipeline.fresh_models().items())
        wanted["baselines"] = tuple(Baselines(pipeline.task).stores())
        wanted["evaluate"] = tuple(evaluate.stores())
        wanted |= gate_stores(pipeline, shard)
    if group.watches and pipeline.proxies is not None:
        wanted["proxies"] = tuple(proxy(pipeline, pipeline.proxies, shard).stores())
    for i, drift in enumerate(drifts):
        wanted[f"drift.{i}"] = tuple(drift.stores())
    return wanted


def model_store(name: str, model: Any) -> StoreSpec:
    """Where a model is kept, which begins as this one."""
    return StoreSpec(name, "cell", initial=lambda: model, codec="object")
