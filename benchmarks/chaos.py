"""`make chaos`: kill it anywhere, and compare every byte. Simulation, failpoints and soak, and the canaries.

    python -m benchmarks.chaos [--seeds 5000] [--kills 4] [--minutes 12] [--events 100000] [--seed 1]

Parts, each a process of its own; failpoints take one core, the others the second, one after the other:

- simulation: so many seeds of the real worker on a simulated broker (`tests/simulation`)
- canaries: bugs planted on purpose, each of which the simulation's checker has to catch
- failpoints: a worker dies by SIGKILL at every named site, so many times each, on a real broker (`tests/faults`)
- soak: six lanes and several workers for so many minutes, under kills, pauses, rebalances and a faulty proxy

Writes `benchmarks/results/chaos.json`; exit 1 when anything differs, or a canary lives.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress, TextColumn, TimeElapsedColumn

from benchmarks.machine import machine

__all__ = ["main"]

RESULT = Path(__file__).parent / "results" / "chaos.json"
_LOOK_S = 0.5
_SAY_S = 30.0


class Part:
    """One part, as a process that tells how far it is in its log, and writes its outcome as JSON."""

    def __init__(self, name: str, folder: Path, *arguments: str) -> None:
        self.name = name
        self.file = folder / f"{name}.json"
        self.log = folder / f"{name}.log"
        self.code: int | None = None
        self.seconds = 0.0
        self._arguments = ["-m", *arguments, "--json", str(self.file)]
        self._began = 0.0
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it."""
        self._began = time.monotonic()
        with self.log.open("wb") as log:
            command = [sys.executable, *self._arguments]
            environment = {**os.environ, "PYTHONHASHSEED": "0"}
            self._process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment)

    @property
    def running(self) -> bool:
        """Whether it was started and has not ended."""
        if self._process is None or self.code is not None:
            return False
        self.code = self._process.poll()
        self.seconds = time.monotonic() - self._began
        return self.code is None

    @property
    def said(self) -> str:
        """The last line of its log."""
        lines = self.log.read_bytes()[-2_000:].decode(errors="replace").split("\n") if self.log.exists() else []
        return next((line.strip()[:100] for line in reversed(lines) if line.strip()), "")

    @property
    def outcome(self) -> Any:
        """Its JSON; None when it left none."""
        return json.loads(self.file.read_text()) if self.file.exists() else None

    def stop(self) -> None:
        """End it, should it still run."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)  # brokers and workers are ended with it
            self._process.wait()


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
    seed = ("--seed", str(options.seed))
    parts = {
        "simulation": Part("simulation", folder, "tests.simulation", "--seeds", str(options.seeds), "--keep-going"),
        "canaries": Part("canaries", folder, "tests.simulation.canaries"),
        "failpoints": Part("failpoints", folder, "tests.faults.failpoints", "--times", str(options.kills), *seed),
        "soak": Part(
            "soak",
            folder,
            "tests.faults.soak",
            *("--events", str(options.events), "--minutes", str(options.minutes), *seed),
        ),
    }
    began = time.monotonic()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    try:
        _run([[parts["simulation"], parts["canaries"], parts["soak"]], [parts["failpoints"]]])
    finally:
        for part in parts.values():
            part.stop()
    failed = [part for part in parts.values() if part.outcome is None]
    for part in failed:
        print(f"\n{part.name} left no result; the end of its log:\n{part.log.read_text(errors='replace')[-6_000:]}")
    if failed:
        return 1
    result = _combined(**{name: part.outcome for name, part in parts.items()})
    result |= {"seconds": round(time.monotonic() - began), "seed": options.seed, "machine": machine()}
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))
    return 1 if result["differences"] or result["canaries"]["caught"] < result["canaries"]["planted"] else 0


def _run(queues: list[list[Part]]) -> None:
    """Run each queue's parts one after the other, all queues at once, and show how far they are."""
    console = Console()
    current: list[Part | None] = [None] * len(queues)
    bars = Progress(TextColumn("{task.description:<10}"), TimeElapsedColumn(), TextColumn("{task.fields[said]}"))
    tasks: dict[str, Any] = {}
    told = time.monotonic()
    with bars if console.is_terminal else contextlib.nullcontext():
        while any(queues) or any(current):
            for i, part in enumerate(current):
                if part is not None and not part.running:
                    console.print(f"{part.name}: exit {part.code} after {part.seconds:.0f} s")
                    current[i] = part = None
                if part is None and queues[i]:
                    current[i] = queues[i].pop(0)
                    current[i].start()  # type: ignore[union-attr]
            speak = time.monotonic() - told > _SAY_S
            for part in filter(None, current):
                if console.is_terminal:
                    tasks[part.name] = tasks.get(part.name) or bars.add_task(part.name, total=None, said="")
                    bars.update(tasks[part.name], said=part.said)
                elif speak:
                    print(f"{part.name}: {part.said}", flush=True)
            told = time.monotonic() if speak else told
            time.sleep(_LOOK_S)


def _combined(simulation: Any, canaries: Any, failpoints: Any, soak: Any) -> dict[str, Any]:
    waits = soak["first_commit_s"]
    recovery = sorted([*failpoints["recovery_s"], *soak["recovery_s"]])
    return {
        "seeds": simulation["seeds"],
        "failpoints": failpoints["failpoints"],
        "kills": failpoints["kills"] + soak["kills"],
        "kills_at_failpoints": failpoints["kills"],
        "kills_in_soak": soak["kills"],
        "broker_kills": soak["broker_kills"],
        "pauses": soak["pauses"],
        "proxy_faults": soak["proxy_faults"],
        "rebalances": soak["rebalances"],
        "held_endtxn": soak["held_endtxn"],
        # From when a worker has been started and its broker is there, to its first commit.
        "recovery_s": {"p50": _share(recovery, 0.5), "p95": _share(recovery, 0.95)},
        "first_commit_in_soak_s": {"p50": _share(waits, 0.5), "p95": _share(waits, 0.95)},
        "events": soak["events"],
        "decisions": soak["decisions"],
        "differences": len(simulation["failed"]) + failpoints["differences"] + soak["differences"],
        "canaries": {"planted": len(canaries), "caught": sum(seed is not None for seed in canaries.values())},
        "simulated_faults": simulation["counts"],
        "failing_seeds": simulation["failed"],
    }


def _share(ordered: list[float], share: float) -> float | None:
    return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 3) if ordered else None


if __name__ == "__main__":
    sys.exit(main())
