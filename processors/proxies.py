"""Proxies: what can be said of the champion before labels come, and later how right that was.

In each tumbling window of `every` served predictions: how many were answers, their distribution, diversity and
confidence, and the performance that the probabilities promise (see `estimates`). When a window's labels have come, or
no more can: how many came and how late, what the performance and the costs were, and beside each what had been
estimated. Of features: their `health`.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from headrace.processors import health
from headrace.processors.base import State, StoreSpec
from headrace.processors.estimates import GRADES, area, calibration_error, estimates, grade
from headrace.schemas.records import BEFORE_ALL, Evaluation

__all__ = ["Proxies", "Proxy"]

_CELL = "proxies"
_FORGET = 5_000.0
_OPEN = 64
"""Windows that wait for labels."""
_KNOWN = 256


@dataclass(frozen=True, slots=True)
class Proxies:
    """An author's wish: windows of `every` predictions, and what mistakes cost.

    `costs` gives (label, predicted label) → cost; what is not given costs nothing. `features` are those whose health is
    told; all of them by default.
    """

    every: int = 1000
    costs: Mapping[tuple[Any, Any], float] | None = None
    features: Sequence[str] | None = None

    def __post_init__(self) -> None:
        """Raise ValueError for what makes no sense."""
        if type(self.every) is not int or self.every < 10:
            raise ValueError(f"every must be a whole number, 10 or more; got {self.every!r}")
        for pair, cost in (self.costs or {}).items():
            if not (
                isinstance(pair, tuple) and len(pair) == 2 and isinstance(cost, int | float) and math.isfinite(cost)
            ):
                raise ValueError(
                    f"costs must give a finite number for (label, predicted label); got {pair!r}: {cost!r}"
                )
        if isinstance(self.features, str):
            raise ValueError(f"features must be several names; got {self.features!r}")


class Proxy:
    """Takes what was served, what was seen, and what turned out, in the order of the log.

    Rows are ``("p", (label, probability, probabilities), time_ms, offset)``, ``("x", features, time_ms, offset)`` and
    ``("y", prediction, label, probability, asked_ms, time_ms, offset)``. The state is one plain cell.
    """

    def __init__(self, task: str, wish: Proxies, features: Sequence[str], ttl_ms: int, shard: int = 0) -> None:
        self.task, self.wish, self.features, self.ttl_ms, self.shard = task, wish, tuple(features), ttl_ms, shard
        self.every = wish.every

    def stores(self) -> list[StoreSpec]:
        """Return the one cell that `process_many` keeps."""
        return [StoreSpec(_CELL, "cell", self._initial)]

    def process_many(self, rows: Sequence[tuple[Any, ...]], state: State) -> list[tuple[int, Evaluation]]:
        """Take rows in their order; return records, each with the place of the row that completed it."""
        value = state[_CELL].value
        found: list[tuple[int, Evaluation]] = []
        for i, row in enumerate(rows):
            kind = row[0]
            if kind == "x":
                made = self._seen(row[1], row[2], value)
            elif kind == "p":
                made = self._served(row[1], row[2], row[3], value)
            else:
                made = self._turned_out(row[1:], value)
            if made:
                found += [(i, record) for record in made]
        return found

    def _initial(self) -> dict[str, Any]:
        return {
            "now": BEFORE_ALL,
            "n": 0,
            "window": _window(),
            "waiting": [],
            "grades": [[0.0, 0.0] for _ in range(GRADES)],
            "x": [0, 0, 0, 0],
            "health": {name: health.column() for name in self.features},
        }

    # -- predictions ---------------------------------------------------------------------------------------------

    def _served(self, served: Any, time_ms: int, offset: int, value: dict[str, Any]) -> list[Evaluation]:
        label, probability, probabilities = served
        window = value["window"]
        if not window["n"]:
            window["first"] = [value["n"] + 1, time_ms, offset]
        window["n"] += 1
        value["n"] += 1
        if label is not None:
            window["answered"] += 1
            if self.task == "regression":
                # from the first answer on, so that the squares of large numbers do not cancel out
                away = label - window.setdefault("centre", label if window["answered"] == 1 else 0.0)
                window["sum"] += away
                window["squares"] += away * away
            else:
                said = str(label)
                counts = window["said"]
                said = said if said in counts or len(counts) < _KNOWN else ""
                counts[said] = counts.get(said, 0) + 1
                confidence = _confidence(label, probability, probabilities)
                p = confidence if probability is None else probability
                if p is not None and confidence is not None:
                    cell = window["grades"][grade(p)]
                    cell[0] += 1
                    cell[1] += p
                    cell[2] += label is True
                    window["sum"] += confidence
        if time_ms > value["now"]:
            value["now"] = time_ms
        if window["n"] < self.every:
            return self._overdue(value)
        window["last"] = [value["n"], time_ms, offset]
        metrics = estimates(self.task, window, value["grades"], self.wish.costs)
        waits = {"window": window["first"] + window["last"], "n": window["n"], "said": metrics, "y": window["y"]}
        waits["grades"] = window["grades"]
        value["waiting"].append(waits)
        value["window"] = _window()
        record = self._record(f"proxy-{self.every}", None, window["n"], window["answered"], waits["window"], metrics)
        return [record, *self._overdue(value)]

    # -- labels --------------------------------------------------------------------------------------------------

    def _turned_out(self, row: tuple[Any, ...], value: dict[str, Any]) -> list[Evaluation]:
        said, y, probability, asked_ms, time_ms, offset = row
        if time_ms > value["now"]:
            value["now"] = time_ms
        if probability is not None and self.task == "binary":
            cell = value["grades"][grade(probability)]
            cell[0] += 1.0
            cell[1] += 1.0 if y else 0.0
            if cell[0] > _FORGET:
                cell[:] = cell[0] / 2, cell[1] / 2
        waiting = value["waiting"]
        place = bisect_left(waiting, offset, key=lambda waits: waits["window"][5])
        if place < len(waiting):
            first, outcomes = waiting[place]["window"][2], waiting[place]["y"]
        else:
            window = value["window"]
            first, outcomes = (window["first"][2] if window["n"] else offset + 1), window["y"]
        if offset < first:  # of a window that was scored without it
            return self._overdue(value)
        self._note(outcomes, said, y, probability, max(time_ms - asked_ms, 0))
        if place < len(waiting) and outcomes["labelled"] >= waiting[place]["n"]:
            return [self._scored(waiting.pop(place)), *self._overdue(value)]
        return self._overdue(value)

    def _note(self, outcomes: dict[str, Any], said: Any, y: Any, probability: Any, delay_ms: int) -> None:
        outcomes["labelled"] += 1
        outcomes["delays"][min((delay_ms // 1000).bit_length(), 31)] += 1
        if said is None:
            return
        outcomes["scored"] += 1
        if self.task == "regression":
            outcomes["error"] += abs(y - said)
            return
        outcomes["right"] += y == said
        outcomes["cost"] += (self.wish.costs or {}).get((y, said), 0.0)
        if self.task == "binary":
            outcomes["confusion"][(2 if y else 0) + (1 if said else 0)] += 1
            if probability is not None:
                outcomes["grades"][grade(probability)][1 if y else 0] += 1

    def _overdue(self, value: dict[str, Any]) -> list[Evaluation]:
        """Windows whose labels cannot come any more, or for which there is no room."""
        waiting, out = value["waiting"], []
        while waiting and (len(waiting) > _OPEN or value["now"] > waiting[0]["window"][4] + self.ttl_ms):
            out.append(self._scored(waiting.pop(0)))
        return out

    def _scored(self, waits: dict[str, Any]) -> Evaluation:
        """How right the estimates of a window were."""
        outcomes, n = waits["y"], waits["n"]
        scored = outcomes["scored"]
        metrics: dict[str, float | None] = {"Coverage": outcomes["labelled"] / n}
        for name, share in (("DelayP50_s", 0.5), ("DelayP90_s", 0.9)):
            metrics[name] = _quantile(outcomes["delays"], share)
        if self.task == "regression":
            metrics["MAE"] = outcomes["error"] / scored if scored else None
        else:
            metrics["Accuracy"] = outcomes["right"] / scored if scored else None
        if self.task == "binary" and scored:
            _, fp, fn, tp = outcomes["confusion"]
            metrics["F1"] = 2 * tp / (2 * tp + fp + fn) if tp + fp + fn else None
            metrics["ECE"] = calibration_error(waits["grades"], outcomes["grades"]) if "grades" in waits else None
            metrics["ROCAUC"] = area([g[0] for g in outcomes["grades"]], [g[1] for g in outcomes["grades"]])
        if self.wish.costs:
            metrics["Cost"] = outcomes["cost"] / scored if scored else None
        metrics |= {name: told for name, told in waits["said"].items() if name.startswith("Estimated")}
        return self._record(f"proxy-scored-{self.every}", None, n, scored, waits["window"], metrics)

    # -- features ------------------------------------------------------------------------------------------------

    def _seen(self, x: Mapping[str, Any], time_ms: int, value: dict[str, Any]) -> list[Evaluation]:
        at, columns = value["x"], value["health"]
        if not at[0]:
            at[1], at[2] = at[3] + 1, time_ms
        at[0] += 1
        at[3] += 1
        health.look(columns, x)
        if at[0] < self.every:
            return []
        n, span = at[0], [at[1], at[2], 0, at[3], time_ms, 0]
        records = []
        for name, column in columns.items():
            told = health.figures(column, n)
            records.append(self._record(f"proxy-{n}", f"feature={name}", n, n - column["missing"], span, told))
            columns[name] = health.column(column["known"])
        at[0] = 0
        return records

    def _record(
        self, window: str, segment: str | None, n: int, scored: int, span: list[int], metrics: dict[str, float | None]
    ) -> Evaluation:
        return Evaluation(
            model="served",
            role="champion",
            shard=self.shard,
            segment=segment,
            window=window,
            n=n,
            scored=scored,
            first_n=span[0],
            last_n=span[3],
            first_time_ms=span[1],
            last_time_ms=span[4],
            metrics={name: None if told is None else float(f"{told:.9g}") for name, told in metrics.items()},
        )


def _window() -> dict[str, Any]:
    grades = [[0, 0.0, 0] for _ in range(GRADES)]
    return {"n": 0, "answered": 0, "sum": 0.0, "squares": 0.0, "said": {}, "grades": grades, "y": _outcomes()}


def _outcomes() -> dict[str, Any]:
    return {
        "labelled": 0,
        "scored": 0,
        "right": 0,
        "error": 0.0,
        "cost": 0.0,
        "confusion": [0, 0, 0, 0],
        "grades": [[0, 0] for _ in range(GRADES)],
        "delays": [0] * 32,
    }


def _confidence(label: Any, probability: Any, probabilities: Any) -> float | None:
    if probability is not None:
        return float(probability if label else 1.0 - probability)
    return float(max(probabilities.values())) if probabilities else None


def _quantile(delays: Sequence[int], share: float) -> float | None:
    """The upper end of the power of two in which this share of the delays is reached, in seconds."""
    total, so_far = sum(delays), 0
    for i, count in enumerate(delays):
        so_far += count
        if total and so_far >= share * total:
            return float((1 << i) - 1)
    return None
