"""`make bench`: every scenario of minutes, or those named; figures go to benchmarks/results/latest.json.

    python -m benchmarks [SCENARIO ...] [--set NAME=VALUE ...] [--results FILE]

A run of one scenario updates its own part of the file and leaves the others as they are. `--set` passes a keyword to
the scenario's `run`, as JSON (`--set events=20000 --set rounds=7`).
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.machine import machine

__all__ = ["RESULTS", "SCENARIOS", "main", "update"]

SCENARIOS = ("drift", "lane", "latency", "scale", "overhead", "overload", "memory", "recovery", "peers", "gate")
_LONG = ("memory",)
"""Takes an hour, so that it is run when it is named."""
RESULTS = Path(__file__).parent / "results" / "latest.json"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run scenarios one after the other, and keep what each found as soon as it has."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.split("\n")[0])
    parser.add_argument(
        "scenarios",
        nargs="*",
        metavar="SCENARIO",
        help=f"of {', '.join(SCENARIOS)}; all but {', '.join(_LONG)} without one",
    )
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a keyword of `run`, as JSON")
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="FILE")
    given = parser.parse_args(arguments)
    unknown = [name for name in given.scenarios if name not in SCENARIOS]
    if unknown:
        parser.error(f"no scenario {', '.join(unknown)}; legal: {', '.join(SCENARIOS)}")
    options = dict(_option(parser, text) for text in given.set)
    if options and len(given.scenarios) != 1:
        parser.error("--set is for one scenario")
    console = Console()
    for name in given.scenarios or (name for name in SCENARIOS if name not in _LONG):
        module = importlib.import_module(f"benchmarks.{name}")
        console.rule(name)
        began = time.monotonic()
        found = module.run(console.print, **options)
        update(given.results, name, found | {"took_s": round(time.monotonic() - began, 1), "load": os.getloadavg()[1]})


def update(results: Path, name: str, found: dict[str, Any]) -> None:
    """Replace one scenario's part of the results, with the machine it ran on."""
    kept = json.loads(results.read_text()) if results.exists() else {}
    kept[name] = found | {"machine": machine()}
    results.parent.mkdir(parents=True, exist_ok=True)
    results.write_text(json.dumps(kept, indent=2) + "\n")


def _option(parser: argparse.ArgumentParser, text: str) -> tuple[str, Any]:
    name, _, value = text.partition("=")
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        parser.error(f"--set {text}: the value is no JSON")


if __name__ == "__main__":
    sys.exit(main())
