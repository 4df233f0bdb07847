"""Everything at once, for half a minute; twelve minutes of it: `python -m tests.faults.soak`."""

from __future__ import annotations

from pathlib import Path

from tests.faults.soak import Targets, run

TARGETS = Targets(kills=3, broker_kills=1, broker_pauses=0, zombies=1, storms=1, proxy_faults=3, held=3)


def test_nothing_differs_after_every_kind_of_fault(tmp_path: Path) -> None:
    """Workers, broker and network fail, and what was published is what the journal says, each input once."""
    outcome = run(events=2_000, minutes=0.5, seed=1, targets=TARGETS, folder=tmp_path)
    assert outcome["different"] == []
    happened = {name: outcome[name] for name in ("kills", "broker_kills", "pauses", "proxy_faults", "held_endtxn")}
    assert {name for name, times in happened.items() if not times} == set()
