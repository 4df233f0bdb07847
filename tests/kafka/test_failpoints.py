"""Dying at named sites of the worker; all of them, four times each: `python -m tests.faults.failpoints`."""

from __future__ import annotations

from pathlib import Path

import pytest

from headrace.streams import failpoints
from headrace.streams.kafka import Cluster
from tests.faults.failpoints import Deaths

SITES = (
    "epoch.offsets",
    "commit.journaled",
    "commit.offsets",
    "checkpoint.marked",
    "recover.replaying",
    "rebuild.begun",
    "reopen.proven",
)


def test_outputs_equal_the_backtest_after_a_death_at_each_site(cluster: Cluster, tmp_path: Path) -> None:
    """A worker that dies at a site is succeeded by one that publishes what the backtest makes."""
    deaths = Deaths(cluster, tmp_path, seed=1)
    deaths.run([(site, 1) for site in SITES])
    assert set(SITES) <= set(deaths.counts)
    assert deaths.different == []


@pytest.mark.parametrize("setting", ["nowhere", "commit.done:0", "commit.done:x"])
def test_an_unknown_failpoint_is_refused(setting: str) -> None:
    """A misspelt failpoint does not silently do nothing."""
    with pytest.raises(ValueError, match="legal: site:n"):
        failpoints.arm(setting)


def test_every_site_is_somewhere_in_the_code() -> None:
    """Each name is hit at exactly one place, and there are at least 28."""
    code = "".join(path.read_text() for path in Path(failpoints.__file__).parent.rglob("*.py"))
    assert all(code.count(f'failpoints.hit("{site}")') == 1 for site in failpoints.SITES)
    assert code.count('failpoints.hit("') - len(failpoints.SITES) == 0
    assert len(failpoints.SITES) >= 28
