"""Bugs planted on purpose: the checker catches every one."""

from __future__ import annotations

import pytest

from tests.simulation.canaries import CANARIES, LIMIT, Canary, caught_by


@pytest.mark.parametrize("canary", CANARIES, ids=lambda canary: canary.name.replace(" ", "-"))
def test_a_planted_bug_is_caught(canary: Canary) -> None:
    """Within a bounded number of seeds, the bug breaks an invariant."""
    caught = caught_by(canary)
    assert caught is not None, f"not caught within {LIMIT} seeds from {canary.first} on"
    print(f"{canary.name}: caught by seed {caught[0]}: {caught[1][:200]}")
