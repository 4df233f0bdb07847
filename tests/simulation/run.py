"""One seed from beginning to end: chaos, then peace, then every invariant."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import NamedTuple

from headrace.processors import slots
from headrace.schemas import avro, avro_reader
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


def run(seed: int, make_world: Callable[[int], World] = World) -> Result:
    """Run one seed; a broken invariant, or an error that no fault excuses, is its `problem`."""
    _prepare()
    world = make_world(seed)
    problem = None
    try:
        with _quiet():
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


@contextmanager
def _quiet() -> Iterator[None]:
    """What goes wrong on purpose is not logged meanwhile."""
    log = logging.getLogger("headrace")
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        log.setLevel(level)


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
        if check.settled(world) and all(process.checkpoint() for process in world.processes if process.alive):
            return
        if world.steps > last:
            raise NoProgress(check.state_of(world))


def _prepare() -> None:
    """What costs milliseconds and never changes is computed once: versions, generated code, schemas' fingerprints."""
    if not hasattr(Version, "computed"):
        compute, known = Version.of, {}

        def of(pipeline):  # type: ignore[no-untyped-def]
            if id(pipeline) not in known:
                known[id(pipeline)] = (pipeline, compute(pipeline))
            return known[id(pipeline)][1]

        for module in (slots, avro, avro_reader):
            module.compile = lru_cache(maxsize=None)(compile)  # type: ignore[attr-defined]
        avro.fingerprint = lru_cache(maxsize=None)(avro.fingerprint)  # type: ignore[attr-defined]
        Version.of = of  # type: ignore[method-assign]
        Version.computed = known  # type: ignore[attr-defined]
