"""What goes wrong in a run, and how often: drawn from the seed, before anything else."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from random import Random

from headrace.streams.worker.tuning import Settings
from tests.simulation.pipelines import Variant

__all__ = ["Killed", "Plan", "plan"]


class Killed(BaseException):
    """The process is dead: nothing that it would still do happens."""


@dataclass
class Plan:
    """One seed's draw."""

    variant: Variant
    cut: bool
    records: int
    published_first: bool
    transactional_inputs: bool
    slots: int
    settings: Settings
    chunk: int
    kill_every: float
    freeze_every: float
    steps: int
    rates: dict[str, float] = field(default_factory=dict)
    restless: float = 0.0
    compact: float = 0.0

    @property
    def calm(self) -> bool:
        """Whether nothing goes wrong, and nobody else comes or goes: then no transaction may be aborted."""
        never = float("inf")
        faults = (self.restless, *self.rates.values())
        return not any(faults) and self.slots == 1 and self.kill_every == self.freeze_every == never


_KINDS = ("timeout", "init", "lost_request", "lost_response", "late")


def plan(rng: Random) -> Plan:
    """Draw a plan; about one in thirty has no faults at all, most have several kinds, each of some strength."""
    partitions = rng.choice((1, 1, 1, 2, 3, 4))
    cut = rng.random() < 0.3
    calm = rng.random() < 0.03
    on = 0.0 if calm else 1.0
    rates = {kind: on * rng.choice((0.0, 0.02, 0.08)) for kind in _KINDS}
    rates["init"] /= 3
    settings = Settings(
        batch=rng.choice((1, 3, 8, 25)),
        beside=1,
        gather_s=0.01,
        buffer=rng.choice((3, 10, 40)),
        checkpoint_s=rng.choice((0.2, 1.0, 4.0)),
        checkpoint_entries=rng.choice((1, 3, 10, 40)),
        savepoint_s=5.0,
        upstream_wait_s=rng.choice((2.0, 30.0)),
    )
    never = float("inf")
    drawn = Plan(
        variant=Variant(partitions, rng.choice(("drop", "drop", False)), rng.random() < 0.3, rng.random() < 0.5),
        cut=cut,
        records=rng.choice((30, 50, 80, 120)) * (2 if partitions > 2 else 1) // (2 if partitions > 2 else 1),
        published_first=rng.random() < 0.4,
        transactional_inputs=rng.random() < 0.4,
        slots=1 if partitions == 1 and rng.random() < 0.5 else rng.choice((1, 2, 2, 3)),
        settings=settings,
        chunk=rng.choice((2, 5, 20)),
        kill_every=never if calm else rng.choice((never, 150.0, 400.0, 1000.0)),
        freeze_every=never if calm else rng.choice((never, 150.0, 400.0)),
        steps=rng.choice((60, 120, 200)),
        rates=rates,
        restless=on * rng.choice((0.0, 0.01, 0.03)),
        compact=rng.choice((0.0, 0.02, 0.1)),
    )
    # Here a worker makes its savepoints itself, and may wait for another's checkpoint until its own has timed out.
    return replace(drawn, settings=replace(settings, savepoint_s=never)) if drawn.calm else drawn
