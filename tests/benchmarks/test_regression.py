"""A guard against losing what was gained: the chain beside the plain loop, in one process.

Measured on two busy cores (docs/performance.md): 1.05 with compiled models, 0.8 with River's own methods. What is asked
for is half of it, so that no noisy machine fails; a per-record write or a quadratic step does. A lost plan would hide
in that half, so that it is looked for by name. Windows are the loop's, too: what makes those slower is not seen here.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import declared, lane
from benchmarks.__main__ import main, update
from benchmarks.chain import ratio
from headrace.processors.compiled import compile_model

MEASURED = {"kernel": 1.05, "steps": 0.8}
TOLERANCE = 0.5


@pytest.mark.parametrize("plan", MEASURED)
def test_the_chain_is_at_least_half_as_fast_as_it_was(plan: str) -> None:
    """Beside the loop, which has the same windows and nothing else of ours."""
    pipeline = declared.flights("guard", plans=(plan, "model"))
    compiled = compile_model(
        pipeline.task, pipeline.fresh_models()[pipeline.champion], list(pipeline.features), pipeline.plans
    )
    assert compiled.plan == plan
    assert ratio(plans=(plan, "model")) > TOLERANCE * MEASURED[plan]


def test_a_run_of_one_scenario_keeps_the_others(tmp_path: Path) -> None:
    """The results are nested by scenario, each with the machine it ran on."""
    results = tmp_path / "deep" / "latest.json"
    update(results, "lane", {"ratio_to_loop": 1.0})
    update(results, "latency", {"p99_over_copy": 2.0})
    update(results, "lane", {"ratio_to_loop": 3.0})
    found = json.loads(results.read_text())
    assert found["lane"]["ratio_to_loop"] == 3.0
    assert found["latency"]["p99_over_copy"] == 2.0
    assert found["lane"]["machine"]["cores"] >= 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["pancakes"], "no scenario pancakes; legal: "),
        (["lane", "--set", "events=many"], "no JSON"),
        (["--set", "events=1"], "for one scenario"),
    ],
)
def test_a_wrong_command_says_what_is_legal(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit 2, and one sentence."""
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    assert said in capsys.readouterr().err


def test_the_keys_of_the_lane_are_its_ratios() -> None:
    """`lane.ratio_to_loop` and its like are what others look for."""
    assert {"ratio_to_loop", "compiled_ratio", "tree_ratio"} <= set(lane.VARIANTS)
