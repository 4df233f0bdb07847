"""The figures of `results/latest.json` as a picture: docs/performance.svg, drawn by rich.

python -m benchmarks.plot [RESULTS [SVG]]
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

from rich.bar import Bar
from rich.console import Console
from rich.table import Table
from rich.terminal_theme import DEFAULT_TERMINAL_THEME

from benchmarks.__main__ import RESULTS

__all__ = ["FORMAT", "draw", "rows"]

PICTURE = Path(__file__).parent.parent / "docs" / "performance.svg"
GOALS = {
    "lane.ratio_to_loop": (0.8, 1.1),
    "lane.compiled_ratio": (1.3, 2.0),
    "lane.tree_ratio": (0.95, 0.95),
    "peers.quix": (3.0, 8.0),
    "peers.faust": (12.0, 30.0),
}
"""The least that is asked for, and the goal."""

FORMAT = """\
<svg class="rich-terminal" viewBox="0 0 {terminal_width} {terminal_height}" xmlns="http://www.w3.org/2000/svg">
<style>.{unique_id}-matrix {{ font-family: monospace; font-size: {char_height}px; line-height: {line_height}px; }}
{styles}</style>
<defs><clipPath id="{unique_id}-clip-terminal"><rect width="{terminal_width}" height="{terminal_height}" /></clipPath>
{lines}</defs>
<g clip-path="url(#{unique_id}-clip-terminal)">{backgrounds}<g class="{unique_id}-matrix">{matrix}</g></g>
</svg>
"""
"""Without the window's frame, and without fonts that would be fetched."""


def rows(found: dict[str, Any]) -> Iterator[tuple[str, float, float, float]]:
    """Name, figure, least and goal of each figure that has a goal and was measured."""
    for name, (least, goal) in GOALS.items():
        scenario, figure = name.split(".")
        value = found.get(scenario, {}).get(figure)
        if value is not None:
            yield name, value, least, goal


def draw(found: dict[str, Any]) -> str:
    """A bar for each figure, as long as its share of the goal."""
    table = Table(title="Figures beside their goals (a full bar is the goal)")
    for column in ("figure", "measured", "least", "goal", ""):
        table.add_column(column, justify="left" if column in ("figure", "") else "right")
    for name, value, least, goal in rows(found):
        bar = Bar(size=goal, begin=0, end=min(value, goal), width=40, color="green" if value >= least else "yellow")
        table.add_row(name, f"{value:.2f}", f"{least:g}", f"{goal:g}", bar)
    console = Console(record=True, width=100, file=StringIO())
    console.print(table)
    return console.export_svg(title="", theme=DEFAULT_TERMINAL_THEME, code_format=FORMAT, unique_id="headrace")


def main() -> None:
    """Read the results and write the picture."""
    results = Path(sys.argv[1]) if len(sys.argv) > 1 else RESULTS
    picture = Path(sys.argv[2]) if len(sys.argv) > 2 else PICTURE
    picture.write_text(draw(json.loads(results.read_text())))


if __name__ == "__main__":
    main()
