"""The gate of a chain: examples into comparisons and segments, and what comes of it into decisions.

Examples are only noted, and taken into the sums in portions; decisions are made at every so many examples by their
running number, right after the models have learned from that example. So what is decided, and where it takes effect,
depends on the log alone, wherever batches, restarts and replays cut it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from headrace.processors.base import StoreSpec
from headrace.processors.baselines import BASELINES
from headrace.processors.compare import Compare, Verdict
from headrace.processors.join import Early
from headrace.processors.segments import Segments
from headrace.schemas.records import BEFORE_ALL, Evaluation, Fact
from headrace.streams.pipeline import Pipeline
from headrace.streams.stages.context import Context
from headrace.streams.stages.decisions import Decisions
from headrace.streams.stages.outputs import evaluated

__all__ = ["Gating", "gate_stores"]


def gate_stores(pipeline: Pipeline, shard: int) -> dict[str, tuple[StoreSpec, ...]]:
    """What a declared gate keeps; nothing without one."""
    if pipeline.gate is None:
        return {}
    wanted = {"gate": tuple(_compare(pipeline).stores())}
    if pipeline.gate.segments:
        wanted["segments"] = tuple(_segments(pipeline, shard).stores())
    return wanted


class Gating:
    """A declared gate over one task's examples.

    Parameters
    ----------
    context, decisions
        The chain's surroundings, and who serves.
    attributes
        Whether events are objects (else dicts, as another group has published them).

    `values` gives an event's values of the segments' columns; None where no segments are declared.
    """

    def __init__(self, context: Context, decisions: Decisions, *, attributes: bool) -> None:
        p = context.pipeline
        assert p.gate is not None
        self.context, self.decisions, self.gate = context, decisions, p.gate
        self._models = tuple(p.models)
        self._compare, self._state = _compare(p), context.states["gate"]
        self._segments = _segments(p, context.shard) if self.gate.segments else None
        self._rows: list[Any] = []
        self.values = self._values(attributes) if self._segments is not None else None
        self.example = self._example()
        decisions.watchers.append(self._decided)
        self._begin()

    def settle(self) -> None:
        """Take the examples noted so far into the sums."""
        if self._rows:
            self._compare.update_many(self._rows, self._state)
            self._rows.clear()

    def _begin(self, again: str | None = None) -> None:
        status = {name: self.decisions.status(name) for name in self._models}
        challengers = [name for name, is_ in status.items() if is_ in ("challenger", "canary")]
        canary = next((name for name, is_ in status.items() if is_ == "canary"), None)
        n, clock = self.context.progress[0], self.context.clock[0]
        champion, time_ms = self.decisions.champion, None if clock == BEFORE_ALL else clock
        self._compare.begin(champion, challengers, n, time_ms, self._state, canary=canary, again=again)

    def _decided(self, fact: Fact) -> None:
        """A decision took effect: another champion is another comparison."""
        if fact.kind != "proposed":
            self._begin(fact.model if fact.kind == "registered" else None)

    def _values(self, attributes: bool) -> Callable[[dict[str, Any], Any], tuple[Any, ...]]:
        features = self.context.pipeline.features
        columns = [(name, name in features) for name in self.gate.segments]
        if attributes:
            return lambda x, event: tuple([x.get(name) if mine else getattr(event, name) for name, mine in columns])
        return lambda x, event: tuple([x.get(name) if mine else event[name] for name, mine in columns])

    def _example(self) -> Callable[..., None]:
        """The function that notes an example that the models have learned from, and looks when it is time."""
        context, gate, note = self.context, self.gate, self._rows.append
        batch, every, window = gate.batch, gate.every, context.pipeline.evaluate_every
        names, segmented = None, None
        if self._segments is not None:
            names = self._segments.compile(context.states["segments"])
            mark = context.outbox.mark
            line, segmented = context.outbox.line(self._scored, aside=True)

        def example(y: Any, entry: tuple[Any, ...], n: int, time_ms: int, label: Early | None) -> None:
            segments: tuple[str, ...] = ()
            if names is not None and segmented is not None and len(entry) > 10:
                segments = names(entry[10])
                mark(line)
                segmented((y, entry[6], segments, n, time_ms))
            note((y, entry[6], segments, entry[9]))
            if not n % batch:
                if not n % every:
                    self._look(entry, n, time_ms, label)
                else:
                    self.settle()
                    self._compare.close(self._state)
            if not n % window:
                self._report(n, time_ms)

        return example

    def _look(self, entry: tuple[Any, ...], n: int, time_ms: int, label: Early | None) -> None:
        self.settle()
        for verdict in self._compare.look(n, time_ms, self._state):
            self._decide(verdict, entry, label)

    def _decide(self, verdict: Verdict, entry: tuple[Any, ...], label: Early | None) -> None:
        at = {"events": entry[1]} | ({} if label is None else {"labels": label.offset})
        self.decisions.decide(verdict.kind, verdict.model, why=verdict.why, evidence=verdict.evidence, at=at)

    def _scored(self, rows: list[Any]) -> list[Any]:
        """Rows to the evaluations of segments, of those that fill a window."""
        assert self._segments is not None
        width = len(self._models) + len(BASELINES)
        known = [row if len(row[1]) == width else (row[0], (None,) * width, *row[2:]) for row in rows]
        found = self._segments.process_many(known, self.context.states["segments"], self._roles())
        return [list(map(evaluated, each)) if each else () for each in found]

    def _roles(self) -> dict[str, str]:
        status = {name: self.decisions.status(name) for name in self._models}
        return {
            name: "champion" if is_ == "champion" else "challenger" for name, is_ in status.items() if is_ != "retired"
        }

    def _report(self, n: int, time_ms: int) -> None:
        """Publish how every challenger stands."""
        self.settle()
        for name, cell in self._compare.challengers(self._state).items():
            record = Evaluation(
                model=name,
                role="challenger",
                shard=self.context.shard,
                segment=None,
                window="gate",
                n=cell["n"],
                scored=cell["n"],
                first_n=cell["since"] + 1,
                last_n=n,
                first_time_ms=time_ms if cell["since_ms"] is None else cell["since_ms"],
                last_time_ms=time_ms,
                metrics=_metrics(self._compare.evidence(name, self._state)),
            )
            self.context.outbox.put(evaluated(record))


def _metrics(evidence: dict[str, Any]) -> dict[str, float | None]:
    """The evidence as metrics: natural logarithms of the e-processes, and mean losses."""
    baselines, errors = evidence["baselines"], evidence.get("calibration_error", {})
    named = {
        "LogE": evidence["log_e"],
        "LogThreshold": evidence["log_threshold"],
        "Difference": evidence["difference"],
        "AtLeast": evidence["at_least"],
        "Loss": evidence["model_loss"],
        "ChampionLoss": evidence["champion_loss"],
        "Spread": evidence["spread"],
        "NoChangeLogE": baselines["no-change"]["log_e"],
        "PriorLogE": baselines["prior"]["log_e"],
        "ECE": errors.get("model"),
        "ChampionECE": errors.get("champion"),
    }
    return {name: value if value is not None and math.isfinite(value) else None for name, value in named.items()}


def _compare(pipeline: Pipeline) -> Compare:
    assert pipeline.gate is not None
    return Compare(pipeline.task, tuple(pipeline.models), pipeline.gate)


def _segments(pipeline: Pipeline, shard: int) -> Segments:
    gate = pipeline.gate
    assert gate is not None
    models, every = tuple(pipeline.models), pipeline.evaluate_every
    return Segments(pipeline.task, models, gate.segments, gate.most_segments, every, shard, gate.segment_minimum)
