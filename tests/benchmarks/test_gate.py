"""The simulation of the gate: it is the gate that is simulated, and its false promotions stay within alpha."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.gate import ASSUMED, DIFFERENT, Watched, promoted, run
from headrace import Gate
from headrace.processors.compare import Compare
from tests.states import fresh_state

GATE = Gate(minimum=400, every=50, renew=1_000, loss="absolute", scale=1.0)


def test_the_simulation_computes_what_the_gate_does() -> None:
    """For five streams: the same e-process and threshold at every look, new starts included."""
    streams, looks = 5, 60
    chance = np.random.default_rng(3)
    lead = np.array([-0.05, -0.01, 0.0, 0.01, 0.05])[:, None]
    theirs = chance.uniform(0.2, 0.8, (streams, looks * 50))
    mine = np.clip(theirs - lead + chance.normal(0, 0.1, theirs.shape), 0, 1)
    watched = Watched(GATE, streams)
    compare = Compare("regression", ("old", "new"), GATE)
    states = [fresh_state(compare) for _ in range(streams)]
    for state in states:
        compare.begin("old", ["new"], 0, None, state)
        compare.challengers(state)["new"]["proposed"] = True  # so that it goes on, whoever passes
    starts = set()
    for look in range(looks):
        part = slice(look * 50, look * 50 + 50)
        watched.watch(theirs[:, part], mine[:, part])
        for stream, state in enumerate(states):
            rows = zip(theirs[stream, part].tolist(), mine[stream, part].tolist(), strict=True)
            compare.update_many([(0.0, (a, b, None, None), (), None) for a, b in rows], state)
            compare.close(state)
            known = compare.evidence("new", state)
            assert known["log_threshold"] == pytest.approx(watched.threshold[stream])
            if known["log_e"] is not None:
                assert known["log_e"] == pytest.approx(watched.log_e()[stream], abs=1e-9)
        watched.renew()
        for state in states:
            compare.look(look * 50 + 50, 0, state)
            cell = compare.challengers(state)["new"]
            cell["proposed"] = True
            starts.add(cell["start"])
    assert starts >= {1, 2, 3}


@pytest.mark.parametrize("name", ASSUMED)
def test_false_promotions_stay_within_alpha(name: str) -> None:
    """Of 100 streams of 2,000 events without a difference, watched after every event, at most 5 are promoted."""
    when, _ = promoted(ASSUMED[name], Gate(minimum=200), 100, 2_000, seed=11)
    assert (when > 0).sum() <= 5


def test_a_real_difference_is_found() -> None:
    """A large one in all of 50 streams, and sooner than a smaller one."""
    large, small = (DIFFERENT[name] for name in ("noise 1.0 against 0.5", "noise 0.5 against 0.4, nine tenths shared"))
    found = [promoted(shape, Gate(minimum=200), 50, 5_000, seed=12)[0] for shape in (large, small)]
    assert (found[0] > 0).all()
    assert np.median(found[0]) < np.median(np.where(found[1] > 0, found[1], 5_000))


def test_the_scenario_tells_both() -> None:
    """Its results have the share of false promotions, and the median events to a right one, with seed and sizes."""
    said: list[str] = []
    found = run(said.append, streams=20, events=1_000, minimum=400, seed=2)
    assert found["false_promotions_at_most_alpha"] is True
    assert (found["streams"], found["seed"]) == (20, 2)
    assert set(found["no_difference"]) == set(ASSUMED)
    assert "median_events" in found["difference"]["noise 1.0 against 0.5"]
    assert len(said) == sum(len(found[part]) for part in ("no_difference", "lasting_differences", "difference"))
