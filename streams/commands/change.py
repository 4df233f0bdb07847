"""What `headrace backtest --gate` compares with: another model, another pipeline, or the same one at a git revision."""

from __future__ import annotations

import importlib.util
import io
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from headrace.streams.commands.output import progress, say, show
from headrace.streams.errors import UsageError
from headrace.streams.loading import load_pipeline
from headrace.streams.memory import Backtest
from headrace.streams.pipeline import OPTIONAL, Pipeline
from headrace.streams.replay.change import Judgement, Served, judge, serving

__all__ = ["Change", "flat", "judgements", "show_judgements"]


class Change(NamedTuple):
    """What is to be judged, and over which data."""

    name: str
    pipeline: Pipeline
    file: str | None
    frame: pd.DataFrame
    labels: str | None
    keep_going: bool


def judgements(change: Change, against: str, result: Backtest) -> list[dict[str, Any]]:
    """What comes of comparing with `against`, as JSON objects; `result` is the backtest of the change."""
    pairs = _models(change) if against == "champion" else _others(change, against, result)
    return [{"candidate": candidate, "against": reference, **found._asdict()} for candidate, reference, found in pairs]


def show_judgements(judged: list[dict[str, Any]]) -> None:
    """A line for each, and what is wrong with those that are worse."""
    if not judged:
        return
    rows = []
    for each in judged:
        found = each["evidence"]
        losses = [found[f"{side}_loss"] for side in ("reference", "candidate")]
        logs = [found[f"log_e_{way}"] for way in ("worse", "better")]
        rows.append((each["candidate"], each["against"], each["verdict"], found["n"], *losses, *logs))
    loss, threshold = judged[0]["evidence"]["loss"], judged[0]["evidence"]["log_threshold"]
    heads = ("candidate", "against", "verdict", "examples", f"{loss} before", f"{loss} now", "log e worse", "better")
    show("", heads, rows)
    for each in judged:
        for why in each["why"]:
            say(f"{each['candidate']} is worse than {each['against']}: {why}")
        if each["evidence"]["log_e_worse"] is None:
            n = each["evidence"]["n"]
            say(f"{each['candidate']}: {n} examples are too few for the test, which shows nothing yet.")
    say(f"What is shown at level alpha has a log e of {threshold:.2f} or more (docs/gate.md).")


def flat(frame: pd.DataFrame) -> pd.DataFrame:
    """Dicts as columns of their own, `name.key`: Parquet knows no empty or changing record."""
    for name in [name for name in frame.columns if any(isinstance(value, dict) for value in frame[name])]:
        inner = pd.DataFrame([value or {} for value in frame[name]], index=frame.index).add_prefix(f"{name}.")
        frame = pd.concat([frame.drop(columns=name), inner], axis=1)
    return frame


def _served(result: Backtest) -> Served:
    return Served(flat(result.predictions), flat(result.examples))


def _models(change: Change) -> Iterator[tuple[str, str, Judgement]]:
    """Each other model of the pipeline against its declared champion."""
    p = change.pipeline
    others = [name for name in p.models if name != p.champion]
    if not others:
        raise UsageError(f"{p.name} has no model but {p.champion}: name a git revision or a pipeline with --against.")
    reference = _backtest(change, serving(p, p.champion), p.champion)
    for name in others:
        candidate = _backtest(change, serving(p, name), name)
        yield name, p.champion, judge(p, reference, candidate, change.frame)


def _others(change: Change, against: str, result: Backtest) -> Iterator[tuple[str, str, Judgement]]:
    """What the pipeline serves against what another one does, or the same one at a revision."""
    if ":" in against:
        other = load_pipeline(against)
        other.publish = OPTIONAL
        reference = _backtest(change, other, against)
    else:
        reference = _at_revision(change, against)
    yield change.name, against, judge(change.pipeline, reference, _served(result), change.frame)


def _backtest(change: Change, pipeline: Pipeline, name: str) -> Served:
    with progress(name, 2 * len(change.frame)) as advance:
        options = {"labels": change.labels, "keep_going": change.keep_going, "progress": advance}
        return _served(pipeline.backtest(change.frame, **options))


def _at_revision(change: Change, revision: str) -> Served:
    """What the pipeline served at a git revision: its whole tree, in a process of its own, over the same data."""
    place, _, attribute = change.name.rpartition(":")
    file = _source(place)
    root = Path(_git(file.parent, "rev-parse", "--show-toplevel").decode().strip())
    with tempfile.TemporaryDirectory(prefix="headrace-") as folder:
        tree = Path(folder, "tree")
        archive = _git(root, "archive", "--format=tar", revision)
        with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
            tar.extractall(tree, filter="data")
        then = tree / file.relative_to(root)
        if not then.is_file():
            raise UsageError(f"There is no {file.relative_to(root)} at {revision}: nothing to compare with.")
        return _elsewhere(change, tree, root, f"{then}:{attribute}", Path(folder))


def _elsewhere(change: Change, tree: Path, root: Path, name: str, folder: Path) -> Served:
    here = Path.cwd()
    cwd = tree / here.relative_to(root) if here.is_relative_to(root) else tree
    source = folder / "data.parquet"
    if change.file is None:
        change.frame.to_parquet(source, index=False)
    else:
        source = Path(change.file).resolve()
    command = [sys.executable, "-P", "-m", "headrace", "backtest", name, str(source), "--output", str(folder)]
    command += ["--limit", str(len(change.frame))] if len(change.frame) else []
    command += [] if change.labels is None else ["--labels", str(Path(change.labels).resolve())]
    command += ["--keep-going"] if change.keep_going else []
    path = os.pathsep.join(filter(None, [str(cwd), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        command,
        cwd=cwd if cwd.is_dir() else tree,
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    if done.returncode not in (0, 1) or not (folder / "examples.parquet").is_file():
        said = done.stderr.strip().splitlines()
        raise UsageError(f"The pipeline of that revision cannot be run: {said[-1] if said else 'it said nothing'}")
    return Served(pd.read_parquet(folder / "predictions.parquet"), pd.read_parquet(folder / "examples.parquet"))


def _source(place: str) -> Path:
    """The file in which a pipeline is declared."""
    if place.endswith(".py"):
        return Path(place).resolve()
    spec = importlib.util.find_spec(place)
    if spec is None or spec.origin is None:
        raise UsageError(f"{place} is no file, so that it has no revisions: name a pipeline with --against.")
    return Path(spec.origin).resolve()


def _git(folder: Path, *arguments: str) -> bytes:
    try:
        done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True)
    except OSError as error:
        raise UsageError(f"git cannot be run ({error.strerror}): --against another pipeline needs none.") from error
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        why = said[0].rstrip(".") if said else "failed"
        raise UsageError(f"git {arguments[0]} in {folder}: {why}; --against another pipeline needs no git.")
    return done.stdout
