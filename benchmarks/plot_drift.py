"""Delay by kind of drift, and accuracy over time around a change, as a picture: docs/drift.svg, drawn by rich.

python -m benchmarks.plot_drift [RESULTS [SVG]]
"""

from __future__ import annotations

import json
import sys
from io import StringIO
from pathlib import Path
from typing import Any

from rich.bar import Bar
from rich.console import Console, Group
from rich.table import Table
from rich.terminal_theme import DEFAULT_TERMINAL_THEME

from benchmarks.__main__ import RESULTS
from benchmarks.drift_loop import CHANGE
from benchmarks.plot import FORMAT

__all__ = ["draw"]

PICTURE = Path(__file__).parent.parent / "docs" / "drift.svg"
_STRATEGIES = ("nothing", "periodic", "loop", "oracle")
_WINDOW = 100
_OURS = ("headrace", "never", "always", "periodic")


def draw(found: dict[str, Any]) -> str:
    """A bar for each detector's delay, and a line of blocks for each strategy's accuracy."""
    console = Console(record=True, width=104, file=StringIO())
    console.print(Group(_delays(found["kinds"]), _accuracy(found["loop"]["streams"])))
    return console.export_svg(title="", theme=DEFAULT_TERMINAL_THEME, code_format=FORMAT, unique_id="drift")


def _delays(kinds: dict[str, Any]) -> Table:
    table = Table(
        title="Events from a change to its detection, at equal false alarms (mean; the best of River's beside)"
    )
    for column in ("drift", "detector", "delay", "misses", ""):
        table.add_column(column, justify="right" if column in ("delay", "misses") else "left")
    for kind, rows in kinds.items():
        rivals = sorted(
            (n for n in rows if n not in ("headrace", "never", "always", "periodic")), key=lambda n: rows[n]["delay"]
        )
        most = max(rows[name]["delay"] for name in ("headrace", *rivals[:3]))
        for name in ("headrace", *rivals[:3]):
            bar = Bar(
                size=most, begin=0, end=rows[name]["delay"], width=40, color="green" if name == "headrace" else "blue"
            )
            label = kind if name == "headrace" else ""
            table.add_row(label, name, f"{rows[name]['delay']:.0f}", str(rows[name]["misses"]), bar)
    return table


def _accuracy(streams: list[dict[str, Any]]) -> Table:
    """The mean over the streams, from just before the change."""
    first, last = CHANGE // _WINDOW - 3, CHANGE // _WINDOW + 15
    table = Table(title=f"Accuracy in % by windows of {_WINDOW} events; the concept changes at 0")
    table.add_column("who acts")
    for window in range(first, last, 2):
        table.add_column(str(window * _WINDOW - CHANGE), justify="right")
    for name in _STRATEGIES:
        curves = [stream["curves"][name] for stream in streams]
        means = [sum(curve[w] for curve in curves) / len(curves) for w in range(first, last, 2)]
        table.add_row(
            name,
            *(f"[{'green' if mean > 0.8 else 'yellow' if mean > 0.5 else 'red'}]{100 * mean:.0f}" for mean in means),
        )
    return table


def main() -> None:
    """Read the results and write the picture."""
    results = Path(sys.argv[1]) if len(sys.argv) > 1 else RESULTS
    picture = Path(sys.argv[2]) if len(sys.argv) > 2 else PICTURE
    picture.write_text(draw(json.loads(results.read_text())["drift"]))


if __name__ == "__main__":
    main()
