"""`python -m tests.simulation --seeds N [--start S]`: run seeds, say what happened, exit 1 when one fails."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections import Counter


def main() -> int:
    """Run the seeds."""
    from tests.simulation.run import run

    parser = argparse.ArgumentParser(prog="python -m tests.simulation")
    parser.add_argument("--seeds", type=int, default=200)
    parser.add_argument("--start", type=int, default=0)
    parser.add_argument("--keep-going", action="store_true", help="do not stop at the first failing seed")
    parser.add_argument("--json", metavar="FILE", help="write the summary as JSON ('-': standard output)")
    options = parser.parse_args()
    total: Counter[str] = Counter()
    failed: list[int] = []
    began = time.perf_counter()
    done = 0
    for seed in range(options.start, options.start + options.seeds):
        result = run(seed)
        total += result.count
        done += 1
        if result.problem is not None:
            failed.append(seed)
            print(f"seed {seed} FAILED: {result.problem}", file=sys.stderr)
            print(f"  replay: python -m tests.simulation --start {seed} --seeds 1", file=sys.stderr)
            if not options.keep_going:
                break
        if done % 100 == 0:
            print(f"{done} of {options.seeds} seeds, {len(failed)} failed", file=sys.stderr, flush=True)
    seconds = time.perf_counter() - began
    summary = {"seeds": done, "failed": failed, "seconds": round(seconds, 1), "counts": dict(sorted(total.items()))}
    if options.json == "-":
        print(json.dumps(summary))
    else:
        if options.json:
            with open(options.json, "w", encoding="utf-8") as file:
                json.dump(summary, file, indent=2)
        print(f"{done} seeds in {seconds:.1f} s ({done / seconds:.1f} a second), {len(failed)} failed")
        print("  " + ", ".join(f"{name} {count}" for name, count in sorted(total.items())))
    return 1 if failed else 0


if __name__ == "__main__":
    if os.environ.get("PYTHONHASHSEED") != "0":
        os.environ["PYTHONHASHSEED"] = "0"
        os.execv(sys.executable, [sys.executable, "-m", "tests.simulation", *sys.argv[1:]])
    sys.exit(main())
