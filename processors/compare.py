"""Compare: each challenger with the champion, on the same examples; what the gate makes of it.

`update_many` takes examples into the sums, in any portions: the sums are the same. `look` decides, and is called every
so many examples, by their running number; so every replay decides the same, at the same place.

The comparisons start anew when there is another champion or other rules, one of them when its model is another. An
answer that one of the two does not give counts as the worst there is; an event that neither answered is none, nor is
one for which one of the two was not asked, as it was not there yet.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import compress
from typing import Any, NamedTuple

from headrace.processors import calibration
from headrace.processors.base import State, StoreSpec
from headrace.processors.baselines import BASELINES
from headrace.processors.evidence import RATES, at_least, batched, log_e, spread
from headrace.processors.gate import Gate
from headrace.processors.losses import absolute, losses_for, rescaled
from headrace.processors.predict import UNASKED

__all__ = ["Compare", "Row", "Verdict"]

_CELL = "comparison"
_ZERO = (0.0, 0.0, 0.0, 0.0)

Row = tuple[Any, Sequence[Any], Sequence[str], str | None]
"""Label, answers in the order of the models and then the baselines, segments, and the version that served."""


class Verdict(NamedTuple):
    """What is to happen to a model, why, and the evidence: plain values by name."""

    kind: str
    model: str
    why: str
    evidence: dict[str, Any]


class Compare:
    """Paired comparisons of challengers with a champion, by the rules of a `Gate`.

    Parameters
    ----------
    task
        "binary", "multiclass" or "regression".
    models
        Names, in the order of the answers; those of the baselines follow.
    gate
        The rules.

    The state is one plain cell: for each challenger the sums of powers of the differences in loss, a few dozen batch
    sums, and a pair of numbers for each segment.
    """

    def __init__(self, task: str, models: Sequence[str], gate: Gate) -> None:
        self.task, self.models, self.gate = task, tuple(models), gate
        self.loss = gate.loss_of(task)
        self.calibrates = gate.calibration is not None and task != "regression"
        self._ranks = {name: rank for rank, name in enumerate(self.models)}
        self._first_baseline = len(self.models)
        self._rules = [gate.alpha, self.loss, gate.scale, gate.every, *gate.segments]

    def stores(self) -> list[StoreSpec]:
        """The one cell."""
        return [StoreSpec(_CELL, "cell", _nothing)]

    def begin(
        self,
        champion: str,
        challengers: Iterable[str],
        n: int,
        time_ms: int | None,
        state: State,
        *,
        canary: str | None = None,
        again: str | None = None,
    ) -> None:
        """From here on (after `n` examples) this is the champion, and these challenge it; nothing if they did before.

        `canary` is that of them which serves a share of the keys, `again` one that is to start anew.
        """
        value = state[_CELL].value
        there = list(challengers)
        if value["champion"] != champion or value["rules"] != self._rules:
            value |= _nothing() | {"champion": champion, "rules": self._rules, "scale": value["scale"]}
            value["share"] = self.gate.alpha / (len(there) + 1)
        models = value["models"]
        for name in [name for name in models if name not in there]:
            del models[name]
        for name in [name for name in value["bins"] if name not in there and name != champion]:
            del value["bins"][name]
        if again is not None and again in models and models[again]["n"]:
            del models[again]
        late = bool(value["seen"])
        for name in there:
            if name not in models:
                later = value["later"] = value["later"] + 1 if late else 0
                share = value["share"] / (later * (later + 1)) if late else value["share"]
                models[name] = _fresh(share, n, time_ms, self.gate.batch)
                value["bins"].pop(name, None)
            if name != canary:
                models[name]["split"] = None
            elif models[name]["split"] is None:
                models[name]["split"] = [0, *_ZERO]
        value["seen"] = True

    def update_many(self, rows: Sequence[Row], state: State) -> None:
        """Take examples into the sums."""
        value = state[_CELL].value
        models, champion = value["models"], value["champion"]
        width = self._first_baseline + len(BASELINES)
        if {len(row[1]) for row in rows} != {width}:
            rows = [row for row in rows if len(row[1]) == width]  # others were asked when other models were declared
        if not rows or champion not in self._ranks:
            return
        ys = [row[0] for row in rows]
        columns = list(zip(*(row[1] for row in rows), strict=True))
        losses = self._losses(ys, value)
        first, *base = [losses(columns[at]) for at in (self._ranks[champion], *range(self._first_baseline, width))]
        for name, cell in models.items():
            both = [columns[self._ranks[each]] for each in (champion, name)]
            asked = [UNASKED not in pair for pair in zip(*both, strict=True)]
            theirs, mine, *rest = [list(compress(each, asked)) for each in (first, losses(both[1]), *base)]
            differences = _update(cell, theirs, mine)
            for sums, baseline in zip(cell["baselines"], rest, strict=True):
                _against(sums, baseline, mine)
            if self.gate.segments:
                _by_segment(cell["segments"], compress(rows, asked), differences)
            if cell["split"] is not None:
                _served(cell["split"], name, compress(rows, asked), differences)
        if self.calibrates:
            for name in (champion, *models):
                bins = value["bins"].setdefault(name, calibration.fresh())
                calibration.update_many(self.task, bins, ys, columns[self._ranks[name]])

    def close(self, state: State) -> None:
        """Close the batches that are long enough: after every `Gate.batch` examples; `look` does it, too."""
        for cell in state[_CELL].value["models"].values():
            self._close(cell)

    def look(self, n: int, time_ms: int, state: State) -> list[Verdict]:
        """Decide after `n` examples: which canaries stop, and which challenger, if any, is promoted or proposed."""
        value = state[_CELL].value
        verdicts, best = [], None
        for name, cell in value["models"].items():
            self._close(cell)
            stopped = self._worse(name, cell)
            if stopped is not None:
                verdicts.append(stopped)
                cell["split"] = None
            elif self._may_pass(cell) and not self.wanting(name, state):
                lead = cell["sums"][0] / cell["n"]
                if best is None or lead > best[0]:
                    best = lead, name
        if best is None:
            for name, cell in value["models"].items():
                if cell["n"] >= self.gate.renew and cell["sums"][0] <= 0.0:
                    self._renew(name, cell, n, time_ms, value)
            return verdicts
        name = best[1]
        kind = "proposed" if self.gate.approve else "promoted"
        value["models"][name]["proposed"] = True
        why = f"its {self.loss} loss is lower than {value['champion']}'s by {best[0]:.4f} a time"
        return [*verdicts, Verdict(kind, name, why, self.evidence(name, state))]

    def wanting(self, model: str, state: State) -> list[str]:
        """What a challenger still has to show, in words; nothing when it may serve."""
        value, gate = state[_CELL].value, self.gate
        cell = value["models"][model]
        n = cell["n"]
        if n < gate.minimum:
            return [f"{n} of {gate.minimum} examples"]
        missing = []
        threshold = _threshold(cell)
        if _log_e(cell) < threshold:
            missing.append(f"not shown to be better than {value['champion']}")
        for name, sums in zip(BASELINES, cell["baselines"], strict=True):
            if log_e(sums) < threshold:
                missing.append(f"not shown to be better than {name}")
        return missing + self.held_back(model, state)

    def held_back(self, model: str, state: State) -> list[str]:
        """What speaks against a challenger however much better it is: segments and calibration, in words."""
        value, gate, against = state[_CELL].value, self.gate, []
        cell = value["models"][model]
        for segment, (count, total) in cell["segments"].items():
            if count >= gate.segment_minimum and -total / count > gate.margin:
                against.append(f"worse by {-total / count:.4f} where {segment}")
        if self.calibrates and gate.calibration is not None:
            mine, theirs = self._calibration(model, value), self._calibration(value["champion"], value)
            if mine is not None and mine > (theirs or 0.0) + gate.calibration:
                against.append(f"calibration error {mine:.4f}, {value['champion']}'s is {theirs or 0.0:.4f}")
        return against

    def evidence(self, model: str, state: State) -> dict[str, Any]:
        """How a challenger stands, as plain values by name."""
        value = state[_CELL].value
        cell = value["models"][model]
        n, sums, threshold, wide = cell["n"], cell["sums"], _threshold(cell), _spread(cell)
        known = math.isfinite(wide)
        worst = max(cell["segments"].items(), key=lambda item: -item[1][1] / item[1][0], default=None)
        found: dict[str, Any] = {
            "test": "paired e-process",
            "loss": self.loss,
            "champion": value["champion"],
            "n": n,
            "first_n": cell["since"] + 1,
            "log_e": log_e(sums, wide) if known else None,
            "log_threshold": threshold,
            "spread": wide if known else None,
            "champion_loss": cell["theirs"] / n if n else None,
            "model_loss": cell["mine"] / n if n else None,
            "difference": sums[0] / n if n else None,
            "at_least": at_least(n, sums, threshold, wide) if known else None,
            "baselines": {
                name: {"log_e": log_e(theirs), "difference": theirs[0] / n if n else None}
                for name, theirs in zip(BASELINES, cell["baselines"], strict=True)
            },
        }
        if worst is not None:
            found["worst_segment"] = {"is": worst[0], "n": worst[1][0], "difference": worst[1][1] / worst[1][0]}
        if self.calibrates:
            who = {"champion": value["champion"], "model": model}
            found["calibration_error"] = {role: self._calibration(name, value) for role, name in who.items()}
        return found

    def challengers(self, state: State) -> dict[str, dict[str, Any]]:
        """The cells of all challengers, by name: how each stands."""
        cells: dict[str, dict[str, Any]] = state[_CELL].value["models"]
        return cells

    def _losses(self, ys: Sequence[Any], value: dict[str, Any]) -> Callable[[Iterable[Any]], list[float | None]]:
        if self.loss == "absolute":
            declared = self.gate.scale
            scales = [declared] * len(ys) if declared is not None else rescaled(ys, value["scale"])
            return lambda answers: absolute(ys, answers, scales)
        of = losses_for(self.task, self.loss)
        return lambda answers: of(ys, answers)

    def _close(self, cell: dict[str, Any]) -> None:
        """Close the batch that the last look began, when it is long enough."""
        since_n, since_total = cell["open"]
        if cell["n"] - since_n >= cell["length"]:
            cell["length"] = batched(cell["batches"], cell["length"], cell["sums"][0] - since_total)
            cell["open"] = [cell["n"], cell["sums"][0]]
        elif not since_n:  # it began within a batch: the first one begins here, and is as long as the others
            cell["open"] = [cell["n"], cell["sums"][0]]

    def _may_pass(self, cell: Mapping[str, Any]) -> bool:
        """Whether to compute the e-process at all: log(1 + r d) is at most r d."""
        enough = cell["n"] >= self.gate.minimum and not cell["proposed"]
        return enough and bool(RATES[0] * cell["sums"][0] >= _threshold(cell))

    def _worse(self, name: str, cell: dict[str, Any]) -> Verdict | None:
        """The end of a canary that is worse on what it served."""
        if cell["split"] is None:
            return None
        n, total, squares, cubes, fourths = cell["split"]
        log, threshold = log_e((-total, squares, -cubes, fourths)), -math.log(self.gate.alpha)
        if log < threshold:
            return None
        evidence = {"test": "paired e-process on the keys that it served", "loss": self.loss, "n": n, "log_e": log}
        evidence |= {"log_threshold": threshold, "difference": total / n}
        why = f"where it served, its {self.loss} loss is higher than the champion's by {-total / n:.4f} a time"
        return Verdict("shadow", name, why, evidence)

    def _renew(self, name: str, cell: dict[str, Any], n: int, time_ms: int, value: dict[str, Any]) -> None:
        """Start anew, with the next share of alpha."""
        kept = {"start": cell["start"] + 1, "split": cell["split"]}
        value["models"][name] = _fresh(cell["share"], n, time_ms, self.gate.batch) | kept

    def _calibration(self, model: str, value: Mapping[str, Any]) -> float | None:
        bins = value["bins"].get(model)
        return None if bins is None else calibration.expected_error(bins)


def _nothing() -> dict[str, Any]:
    return {
        "champion": None,
        "rules": None,
        "share": 0.0,
        "later": 0,
        "seen": False,
        "scale": [0.0, 0.0, 0.0],
        "bins": {},
        "models": {},
    }


def _fresh(share: float, n: int, time_ms: int | None, length: int) -> dict[str, Any]:
    """A comparison before its first example."""
    return {
        "share": share,
        "start": 1,
        "since": n,
        "since_ms": time_ms,
        "n": 0,
        "sums": [*_ZERO],
        "theirs": 0.0,
        "mine": 0.0,
        "baselines": [[*_ZERO] for _ in BASELINES],
        "batches": [],
        "length": length,
        "open": [0, 0.0],
        "segments": {},
        "split": None,
        "proposed": False,
    }


def _update(cell: dict[str, Any], theirs: Sequence[float | None], mine: Sequence[float | None]) -> list[float | None]:
    """Add up the differences, and return them; None where neither answered."""
    n, their_sum, my_sum = cell["n"], cell["theirs"], cell["mine"]
    one, two, three, four = cell["sums"]
    differences: list[float | None] = []
    note = differences.append
    for a, b in zip(theirs, mine, strict=True):
        if a is None or b is None:
            if a is b:
                note(None)
                continue
            a, b = 1.0 if a is None else a, 1.0 if b is None else b
        d = a - b
        square = d * d
        n += 1
        one += d
        two += square
        three += d * square
        four += square * square
        their_sum += a
        my_sum += b
        note(d)
    cell["n"], cell["theirs"], cell["mine"] = n, their_sum, my_sum
    cell["sums"][:] = one, two, three, four
    return differences


def _against(sums: list[float], baseline: Sequence[float | None], mine: Sequence[float | None]) -> None:
    """Add up the differences to a baseline, from when on it answers."""
    one, two, three, four = sums
    for a, b in zip(baseline, mine, strict=True):
        if a is not None:
            d = a - 1.0 if b is None else a - b
            square = d * d
            one += d
            two += square
            three += d * square
            four += square * square
    sums[:] = one, two, three, four


def _by_segment(cells: dict[str, list[Any]], rows: Iterable[Row], differences: Sequence[float | None]) -> None:
    for row, d in zip(rows, differences, strict=True):
        if d is not None:
            for segment in row[2]:
                cell = cells.get(segment)
                if cell is None:
                    cell = cells[segment] = [0, 0.0]
                cell[0] += 1
                cell[1] += d


def _served(split: list[Any], model: str, rows: Iterable[Row], differences: Sequence[float | None]) -> None:
    version_of = f"{model}/"
    for row, d in zip(rows, differences, strict=True):
        if d is not None and row[3] is not None and row[3].startswith(version_of):
            for power in range(5):
                split[power] += d**power if power else 1


def _threshold(cell: Mapping[str, Any]) -> float:
    """The logarithm that the e-process has to reach: the shares 1/2, 1/6, 1/12 ... of all starts add up to 1."""
    start = cell["start"]
    return math.log(start * (start + 1) / cell["share"])


def _spread(cell: Mapping[str, Any]) -> float:
    one, two = cell["sums"][:2]
    return spread(cell["batches"], cell["length"], cell["n"], one, two)


def _log_e(cell: Mapping[str, Any]) -> float:
    """The e-process, its squares widened by how much more than independent ones the differences vary."""
    wide = _spread(cell)
    return log_e(cell["sums"], wide) if math.isfinite(wide) else -math.inf
