"""What the documentation shows, run: examples in docstrings, and the README's pipeline."""

from __future__ import annotations

import doctest
import importlib
import re
from pathlib import Path
from typing import Any

import pytest

from headrace.examples import flights_data
from headrace.streams.pipeline import Pipeline

ROOT = Path(__file__).resolve().parents[2]
SHOWN = sorted(
    file.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".")
    for room in ("schemas", "processors", "streams", "deploy")
    for file in (ROOT / room).rglob("*.py")
    if ">>> " in file.read_text()
)


@pytest.mark.parametrize("module", SHOWN)
def test_docstrings_show_what_happens(module: str) -> None:
    """Each example gives what is written below it."""
    failed, tried = doctest.testmod(importlib.import_module(f"headrace.{module}"))
    assert (failed, tried > 0) == (0, True)


def test_the_pipeline_of_the_readme_learns() -> None:
    """Its text, as a file beside the schemas that it names, over real flights."""
    (text,) = re.findall(r"```python\n(.+?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    names: dict[str, Any] = {"__file__": str(ROOT / "examples" / "readme.py"), "__name__": "readme"}
    exec(compile(text, "README.md", "exec"), names)
    pipeline = names["flights"]
    assert isinstance(pipeline, Pipeline)
    made = pipeline.backtest(flights_data.flights(), limit=2_000)
    assert (made.summary.predictions, made.summary.dead_letters) == (2_000, {})
    assert made.summary.labelled > 1_000
