"""`make chaos`: kill it anywhere, and compare every byte. Simulation, failpoints and soak, and the canaries.

    python -m benchmarks.chaos [--seeds 5000] [--kills 4] [--minutes 12] [--events 100000] [--seed 1]

Four parts, each a process of its own; the simulation and the canaries use one core while the real broker has the other:

- simulation: so many seeds of the real worker on a simulated broker (`tests/simulation`)
- canaries: bugs planted on purpose, each of which the simulation's checker has to catch
- failpoints: a worker dies by SIGKILL at every named site, so many times each, on a real broker (`tests/faults`)
- soak: six lanes and several workers for so many minutes, under kills, pauses, rebalances and a faulty proxy

Writes `benchmarks/results/chaos.json`; exit 1 when anything differs, or a canary lives.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.machine import machine

__all__ = ["main"]

RESULT = Path(__file__).parent / "results" / "chaos.json"
_CANARIES = (
    "import json, sys; from tests.simulation.canaries import CANARIES, caught_by\n"
    "found = [(c.name, caught_by(c)) for c in CANARIES]\n"
    "json.dump([[name, None if f is None else f[0]] for name, f in found], open(sys.argv[1], 'w'))"
)


class Part:
    """One part, as a process that writes its outcome as JSON."""

    def __init__(self, name: str, folder: Path, *arguments: str) -> None:
        self.name = name
        self.file = folder / f"{name}.json"
        self.log = folder / f"{name}.log"
        self._arguments = [str(self.file) if argument == "FILE" else argument for argument in arguments]
        self._began = 0.0
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> Part:
        """Start it."""
        self._began = time.monotonic()
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, *self._arguments],
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONHASHSEED": "0"},
            )
        print(f"{self.name}: started", flush=True)
        return self

    def outcome(self) -> Any:
        """Wait for it; its JSON. What it said is shown when it failed."""
        assert self._process is not None
        code = self._process.wait()
        print(f"{self.name}: exit {code} after {time.monotonic() - self._began:.0f} s", flush=True)
        if code or not self.file.exists():
            print(self.log.read_text(errors="replace")[-6_000:], flush=True)
        if not self.file.exists():
            raise SystemExit(f"{self.name} left no result")
        return json.loads(self.file.read_text())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run all parts, write and print what they found."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.chaos", description=__doc__)
    parser.add_argument("--seeds", type=int, default=5_000)
    parser.add_argument("--kills", type=int, default=4, help="deaths at each failpoint")
    parser.add_argument("--minutes", type=float, default=12.0, help="of soak")
    parser.add_argument("--events", type=int, default=100_000, help="in the soak")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    folder = Path(tempfile.mkdtemp(prefix="headrace-chaos-"))
    began = time.monotonic()
    seeds = ("--seeds", str(options.seeds), "--keep-going", "--json", "FILE")
    simulation = Part("simulation", folder, "-m", "tests.simulation", *seeds).start()
    canaries = Part("canaries", folder, "-c", _CANARIES, "FILE")
    deaths = ("--times", str(options.kills), "--seed", str(options.seed), "--json", "FILE")
    failpoints = Part("failpoints", folder, "-m", "tests.faults.failpoints", *deaths).start().outcome()
    length = ("--events", str(options.events), "--minutes", str(options.minutes), "--seed", str(options.seed))
    soak = Part("soak", folder, "-m", "tests.faults.soak", *length, "--json", "FILE").start().outcome()
    simulated = simulation.outcome()
    caught = canaries.start().outcome()
    result = _combined(simulated, caught, failpoints, soak)
    result |= {"seconds": round(time.monotonic() - began), "seed": options.seed, "machine": machine()}
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))
    return 1 if result["differences"] or result["canaries"]["caught"] < result["canaries"]["planted"] else 0


def _combined(simulated: Any, caught: Any, failpoints: Any, soak: Any) -> dict[str, Any]:
    recovery = sorted([*failpoints["recovery_s"], *soak["recovery_s"]])
    return {
        "seeds": simulated["seeds"],
        "failpoints": failpoints["failpoints"],
        "kills": failpoints["kills"] + soak["kills"],
        "kills_at_failpoints": failpoints["kills"],
        "kills_in_soak": soak["kills"],
        "broker_kills": soak["broker_kills"],
        "pauses": soak["pauses"],
        "proxy_faults": soak["proxy_faults"],
        "rebalances": soak["rebalances"],
        "held_endtxn": soak["held_endtxn"],
        "recovery_s": {"p50": _share(recovery, 0.5), "p95": _share(recovery, 0.95)},
        "events": soak["events"],
        "differences": len(simulated["failed"]) + failpoints["differences"] + soak["differences"],
        "canaries": {"planted": len(caught), "caught": sum(seed is not None for _, seed in caught)},
        "simulated_faults": simulated["counts"],
        "failing_seeds": simulated["failed"],
    }


def _share(ordered: list[float], share: float) -> float | None:
    return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 3) if ordered else None


if __name__ == "__main__":
    sys.exit(main())
