"""A change, judged: the predictions that it leads to against those of before, on the same events.

Both sides are what a pipeline served in a backtest over the same data. The test is the gate's, with the question turned
round: is what is new shown to be worse? (See `processors/evidence.py`, and docs/gate.md.)
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import pandas as pd

from headrace.processors.compare import Compare
from headrace.processors.evidence import log_e, spread
from headrace.processors.gate import Gate
from headrace.processors.segments import Segments
from headrace.streams.errors import UsageError
from headrace.streams.pipeline import OPTIONAL, Pipeline
from headrace.streams.state import Stores

__all__ = ["Judgement", "Served", "judge", "serving"]

_OLD, _NEW = "reference", "candidate"


class Served(NamedTuple):
    """What a pipeline made of some data: its predictions and its examples, as tables."""

    predictions: pd.DataFrame
    examples: pd.DataFrame


class Judgement(NamedTuple):
    """`better`, `worse`, or `no difference shown`; of what is worse, what exactly; and the evidence by name."""

    verdict: str
    why: list[str]
    evidence: dict[str, Any]


def serving(pipeline: Pipeline, model: str) -> Pipeline:
    """The same pipeline with this model alone: nobody can replace it, by schedule or reaction either."""
    changed = copy.copy(pipeline)
    changed.__dict__.pop("model_hashes", None)
    changed.champion, changed.models, changed.gate = model, {model: pipeline.models[model]}, None
    changed.retrain, changed.drift = (), ()
    changed.publish = OPTIONAL
    return changed


def judge(pipeline: Pipeline, reference: Served, candidate: Served, events: pd.DataFrame) -> Judgement:
    """Compare what two pipelines served for the same events, by the rules of the pipeline's gate, or of a plain one.

    `events` has the columns that segments may be of. An event that one side has no answer to counts as its worst.
    """
    gate = pipeline.gate or Gate()
    compare = Compare(pipeline.task, (_OLD, _NEW), gate)
    segments = Segments(pipeline.task, (_OLD, _NEW), gate.segments, gate.most_segments)
    states = Stores({"gate": tuple(compare.stores()), "segments": tuple(segments.stores())}).states
    compare.begin(_OLD, [_NEW], 0, None, states["gate"])
    names = segments.compile(states["segments"])
    old, new = _answers(reference.predictions, pipeline.task), _answers(candidate.predictions, pipeline.task)
    values = _values(gate, reference.examples, candidate.examples, events, pipeline.events.id)
    rows = []
    labels = _labels(reference.examples, candidate.examples, pipeline.task)
    for n, (event_id, y) in enumerate(labels.items(), 1):
        rows.append((y, (old.get(event_id), new.get(event_id), None, None), names(values(event_id)), None))
        if not n % gate.batch:
            compare.update_many(rows, states["gate"])
            compare.close(states["gate"])
            rows.clear()
    compare.update_many(rows, states["gate"])
    return _verdict(gate, compare, states["gate"])


def _verdict(gate: Gate, compare: Compare, state: Mapping[str, Any]) -> Judgement:
    cell, found = compare.challengers(state)[_NEW], compare.evidence(_NEW, state)
    n, (one, two, three, four) = cell["n"], cell["sums"]
    if not n:
        raise UsageError("There is nothing to compare: no event has a label and a prediction.")
    wide = spread(cell["batches"], cell["length"], n, one, two)
    known, threshold = math.isfinite(wide), -math.log(gate.alpha)
    better = log_e((one, two, three, four), wide) if known else None
    worse = log_e((-one, two, -three, four), wide) if known else None
    kept = ("loss", "champion_loss", "model_loss", "difference", "worst_segment", "calibration_error")
    evidence = {name: found[name] for name in kept if name in found}
    evidence["reference_loss"] = evidence.pop("champion_loss")
    evidence["candidate_loss"] = evidence.pop("model_loss")
    if "calibration_error" in evidence:
        both = evidence["calibration_error"]
        evidence["calibration_error"] = {_OLD: both["champion"], _NEW: both["model"]}
    evidence |= {"n": n, "log_e_better": better, "log_e_worse": worse, "log_threshold": threshold}
    evidence["spread"] = wide if known else None
    why = []
    if worse is not None and worse >= threshold:
        why.append(f"its {compare.loss} loss is higher by {-one / n:.4f} a time")
    why += compare.held_back(_NEW, state) if n >= gate.minimum else []
    verdict = "worse" if why else "better" if better is not None and better >= threshold else "no difference shown"
    return Judgement(verdict, why, {"n": evidence.pop("n"), **evidence})


def _answers(predictions: pd.DataFrame, task: str) -> dict[Any, Any]:
    """Event id → the answer that was served, as models give them."""
    found: dict[Any, Any] = {}
    classes = [name for name in predictions.columns if name.startswith("probabilities.")]
    for row in predictions.to_dict("records"):
        answer = row["prediction"]
        if answer is None or answer != answer:
            answer = None
        elif task == "binary":
            p = row["probability"]
            answer = bool(answer) if p is None or p != p else {True: p, False: 1.0 - p}
        elif task == "multiclass":
            graded = {name.partition(".")[2]: row[name] for name in classes if row[name] == row[name]}
            whole = int(answer) if isinstance(answer, float) else answer  # pandas has no column of ints and Nones
            answer = {label: p for label, p in graded.items() if p is not None} or str(whole)
        found[row["event_id"]] = answer
    return found


def _labels(reference: pd.DataFrame, candidate: pd.DataFrame, task: str) -> dict[Any, Any]:
    """Event id → label, in the order in which the labels became known; UsageError where the two do not agree."""
    found: dict[Any, Any] = {}
    for examples in (reference, candidate):
        if examples.empty:
            continue
        for event_id, y in zip(examples["event_id"].tolist(), examples["label"].tolist(), strict=True):
            y = str(y) if task == "multiclass" else y
            if found.setdefault(event_id, y) != y:
                raise UsageError(
                    f"The two do not predict the same thing: the label of event {event_id!r} is {found[event_id]!r} "
                    f"before and {y!r} after the change; compare pipelines with the same labels."
                )
    return found


def _values(
    gate: Gate, reference: pd.DataFrame, candidate: pd.DataFrame, events: pd.DataFrame, id_column: str
) -> Callable[[Any], tuple[Any, ...]]:
    """A function from an event id to the values of its segments' columns: features first, as the gate has them."""
    columns: list[dict[Any, Any]] = []
    for name in gate.segments:
        tables = [(table, "event_id") for table in (reference, candidate)] + [(events, id_column)]
        by_id: dict[Any, Any] = {}
        for table, key in tables:
            if not by_id and name in table.columns:
                by_id = dict(zip(table[key].tolist(), table[name].tolist(), strict=True))
        columns.append(by_id)
    return lambda event_id: tuple([by_id.get(event_id) for by_id in columns])
