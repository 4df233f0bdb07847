"""One seed from beginning to end: chaos, then peace, then every invariant."""

from __future__ import annotations

import logging
from collections import Counter
from typing import NamedTuple

from headrace.streams.task import Version

from tests.simulation import check
from tests.simulation.world import NoProgress, World

__all__ = ["Result", "run"]

_PEACE_STEPS = 3_000


class Result(NamedTuple):
    """What a seed came to; `problem` is None when every invariant holds."""

    seed: int
    problem: str | None
    count: Counter[str]
    seconds: float


def run(seed: int, world_class: type[World] = World) -> Result:
    """Run one seed; a broken invariant, or an error that no fault excuses, is its `problem`."""
    _prepare()
    world = world_class(seed)
    problem = None
    try:
        _chaos(world)
        _peace(world)
        check.check(world)
    except Exception as error:
        problem = f"{type(error).__name__}: {error}"
        if isinstance(error, (KeyError, TypeError, IndexError, AttributeError, ValueError)):
            import traceback

            problem += "\n" + "".join(traceback.format_tb(error.__traceback__)[-4:])
    world.count["rebalances"] = sum(group.rebalances for group in world.coordinator.groups.values())
    world.count["late_hits"] = world.broker.late_hits
    world.count["records"] = world.plan.records
    return Result(seed, problem, world.count, world.clock.now)


def _chaos(world: World) -> None:
    while world.steps < world.plan.steps or world.unsent:
        world.step()


def _peace(world: World) -> None:
    """No more faults; everything comes to an end."""
    world.faulty = False
    last = world.steps + _PEACE_STEPS
    while True:
        for _ in range(8):
            world.step()
        if check.settled(world):
            break
        if world.steps > last:
            raise NoProgress(check.state_of(world))
    for process in world.processes:
        if process.alive and process.worker is not None:
            process.worker.finish()


def _prepare() -> None:
    """The version of a pipeline is computed once: it costs milliseconds, and nothing changes it here."""
    logging.getLogger("headrace").setLevel(logging.CRITICAL)
    if not hasattr(Version, "computed"):
        compute, known = Version.of, {}

        def of(pipeline):  # type: ignore[no-untyped-def]
            if id(pipeline) not in known:
                known[id(pipeline)] = (pipeline, compute(pipeline))
            return known[id(pipeline)][1]

        Version.of = of  # type: ignore[method-assign]
        Version.computed = known  # type: ignore[attr-defined]
