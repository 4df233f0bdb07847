"""From ``module:object`` or ``path.py:object`` to the pipeline declared there.

The two forms of one file declare the same specification. As for a script, the file's folder (for a module: the working
directory) comes first on `sys.path`, so that what lies beside it can be imported.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from headrace.streams.errors import HeadraceError, UsageError

if TYPE_CHECKING:
    from headrace.streams.pipeline import Pipeline

__all__ = ["DECLARED", "explained", "load_pipeline"]

DECLARED = re.compile(r"^(\w+)(?:\s*:[^=\n]+)?\s*=\s*(?:headrace\.)?Pipeline\(", re.MULTILINE)
"""Finds the names of pipelines in a file without running it."""

_ROOMS = tuple(Path(__file__).resolve().parents[1] / room for room in ("streams", "processors", "schemas"))


def load_pipeline(name: str) -> Pipeline:
    """The pipeline with this name; UsageError says in one sentence why there is none."""
    from headrace.streams.pipeline import Pipeline  # with River: a second, which no command takes that loads none

    place, colon, attribute = name.rpartition(":")
    if not colon or not place or not attribute:
        raise UsageError(
            f"{name!r} does not name a pipeline; give module:object or path.py:object, as in {_example(name)}."
        )
    module = _file(Path(place)) if place.endswith(".py") else _module(place)
    found: object = module
    for part in attribute.split("."):
        found = getattr(found, part, None)
    if isinstance(found, Pipeline):
        return found
    there = [key for key, value in vars(module).items() if isinstance(value, Pipeline)]
    hint = f"its pipelines: {', '.join(there)}" if there else "it declares no pipeline"
    what = (
        f"has no {attribute}"
        if found is None
        else f"has {attribute}, which is no Pipeline but a {type(found).__name__}"
    )
    raise UsageError(f"{place} {what}; {hint}.")


def _example(name: str) -> str:
    """A pipeline that was perhaps meant: one in the file or folder that was named, else any."""
    for file in (Path(name), Path(name) / f"{Path(name).name}.py"):
        if file.suffix == ".py" and file.is_file():
            found = DECLARED.search(file.read_text("utf-8", "replace"))
            return f"{file}:{found[1] if found else 'object'}"
    return "flights.py:flights"


def _file(path: Path) -> ModuleType:
    if not path.is_file():
        raise UsageError(f"There is no file {path}; name the pipeline as path.py:object, from the working directory.")
    path = path.resolve()
    name = path.stem
    known = sys.modules.get(name)
    if known is not None:
        if getattr(known, "__file__", None) == str(path):
            return known
        name = f"headrace_pipeline_{name}"
    _prefer(path.parent)
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UsageError(f"{path} is no Python file.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException as error:
        sys.modules.pop(name, None)
        raise explained(str(path), error) from error
    return module


def _module(name: str) -> ModuleType:
    _prefer(Path.cwd())
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(f"{error.name}.")):
            raise UsageError(
                f"There is no module {error.name}, neither in {Path.cwd()} nor installed; files are path.py:object."
            ) from error
        raise explained(name, error) from error
    except (TypeError, ValueError) as error:
        if not all(part.isidentifier() for part in name.split(".")):
            raise UsageError(f"{name!r} is not the name of a module; a file is named path.py:object.") from error
        raise explained(name, error) from error
    except (Exception, SystemExit) as error:
        raise explained(name, error) from error


def _prefer(folder: Path) -> None:
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))


def _ours(file: str) -> bool:
    """Whether this is code of Headrace's, which no author wrote; examples are written as authors write."""
    place = Path(file).resolve()
    return any(place.is_relative_to(room) for room in _ROOMS)


def explained(what: str, error: BaseException) -> BaseException:
    """What to tell of an error in somebody's own file: our errors as they are, others with their place."""
    if isinstance(error, HeadraceError) or not isinstance(error, Exception | SystemExit):
        return error
    if isinstance(error, SyntaxError):
        return UsageError(f"{error.filename or what}, line {error.lineno}: {error.msg}.")
    frames = traceback.extract_tb(error.__traceback__)
    mine = [frame for frame in frames if "importlib" not in frame.filename and not _ours(frame.filename)]
    place = next((f for f in reversed(mine) if "site-packages" not in f.filename), None)
    where = f" ({Path(place.filename).name}, line {place.lineno})" if place else ""
    text = str(error).strip().rstrip(".")
    return UsageError(f"{what} cannot be loaded: {type(error).__name__}: {text}{where}.")
