"""The files of a new pipeline: what an author would have written for this table, to be read and changed."""

from __future__ import annotations

import csv
import io

from headrace.streams.scaffold.checks import checks
from headrace.streams.scaffold.contracts import event_schema, label_schema
from headrace.streams.scaffold.declaration import declaration
from headrace.streams.scaffold.loader import loader
from headrace.streams.scaffold.plan import Plan
from headrace.streams.scaffold.readme import readme

__all__ = ["SAMPLE_ROWS", "files"]

SAMPLE_ROWS = 1_000

_PYTEST = """\
# The tests' own settings: those of a project around this folder have no say.
[pytest]
pythonpath = .
"""


def files(plan: Plan, name: str, module: str, data: str) -> dict[str, bytes]:
    """Name → content of every file. `data` is the path of the table, seen from the pipeline's folder."""
    text = {
        f"{module}.py": declaration(plan, name, module),
        f"{module}loader.py": loader(plan, name, data),
        "event.avsc": event_schema(plan, name),
        "label.avsc": label_schema(plan, name),
        f"test_{module}.py": checks(plan, name, module),
        "pytest.ini": _PYTEST,
        "README.md": readme(plan, name, module, data),
    }
    return {file: content.encode() for file, content in text.items()} | {"sample.csv": _sample(plan)}


def _sample(plan: Plan) -> bytes:
    """The first rows, written as the file is."""
    out = io.StringIO(newline="")
    writer = csv.writer(out, delimiter=plan.table.separator, lineterminator="\n")
    writer.writerow(["" if name.startswith("Unnamed: ") else name for name in plan.table.header])
    writer.writerows(plan.table.rows[:SAMPLE_ROWS])
    return out.getvalue().encode(plan.table.encoding)
