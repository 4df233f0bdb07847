"""Drift: a detector over one signal, River's or a scan, and alerts with their evidence for what it finds."""

from __future__ import annotations

import math
import numbers
from collections import deque
from collections.abc import Sequence
from typing import Any

from river.drift.binary import FHDDM

from headrace.processors.alerts import Lifecycle
from headrace.processors.base import State, StoreSpec
from headrace.processors.breakdown import Breakdown
from headrace.processors.findings import Finder, Finding, Row
from headrace.processors.metrics import Task, check_task, predicted
from headrace.processors.scan import Scan
from headrace.processors.watches import KINDS, check_detector
from headrace.schemas.records import Alert

__all__ = ["Detector", "Drift", "error_of", "spelled"]

_CELL = "detector"
_RECENT = 30  # values that "after" averages where the detector has no window of its own
_EXAMPLES = 3


class Drift:
    """Feeds one signal to a drift detector, and turns what it finds into alerts.

    Parameters
    ----------
    signal
        The name of what is watched, as the alerts give it.
    detector
        A `Scan`, or a River drift detector: ADWIN, PageHinkley, KSWIN (with a seed), or for errors of classifiers also
        one of `river.drift.binary`. It is cloned.
    topic
        The input topic that the offsets refer to.
    kind
        One of `KINDS`.
    task
        The pipeline's; errors of a regression are no bits, so detectors for bits are refused there.
    severity, cooldown_ms
        See `Lifecycle`. An error that went down is always "info".
    columns
        What alerts break the change down by (see `Breakdown`), where rows come with the values of these.

    The state is a pickled cell: that of the detector, that of the alert, and that of the breakdown.
    """

    def __init__(
        self,
        signal: str,
        detector: Any,
        *,
        topic: str,
        kind: str = "error",
        task: str = "binary",
        severity: str = "warning",
        cooldown_ms: int = 3_600_000,
        columns: Sequence[str] = (),
    ) -> None:
        if not signal or not topic:
            raise ValueError(f"signal and topic must be names; got {signal!r} and {topic!r}")
        if kind not in KINDS:
            raise ValueError(f"kind must be one of {', '.join(KINDS)}; got {kind!r}")
        check_detector(detector, kind, check_task(task))
        self.signal = signal
        self.detector = detector
        self.topic = topic
        self.kind = kind
        self.task = task
        self.finder: Finder = detector if isinstance(detector, Scan) else Detector(detector)
        self.described = spelled(detector)
        scan = isinstance(detector, Scan)
        anew = not scan or detector.reference.grows
        self.breakdown = Breakdown(columns, anew=anew, gaps=scan) if columns else None
        what = "feature" if kind == "features" else kind
        self.lifecycle = Lifecycle(f"{what}_drift", signal, self.described, topic, severity, cooldown_ms)

    def stores(self) -> list[StoreSpec]:
        """Return the one cell that `process` keeps."""
        return [StoreSpec(_CELL, "cell", self._initial, codec="object")]

    def process(
        self, value: Any, time_ms: int, partition: int, offset: int, state: State, event_id: Any = None
    ) -> list[Alert]:
        """Feed one value; return the alerts that it leads to."""
        return [alert for _, alert in self.process_many([(value, time_ms, partition, offset, event_id)], state)]

    def process_many(
        self, rows: Sequence[Row], state: State, values: Sequence[Sequence[Any]] | None = None
    ) -> list[tuple[int, Alert]]:
        """Feed values in their order; return alerts, each with the place of the row that led to it.

        `values` are those of the columns, for each row.
        """
        cell = state[_CELL].value
        found = self.finder.run(rows, cell["finder"])
        alerts = self.lifecycle.run(rows, found, cell["alert"])
        if self.breakdown is None or values is None:
            return alerts
        if tuple(cell.get("segments", {}).get("known", ())) != self.breakdown.columns:  # of a declaration before
            cell["segments"] = self.breakdown.fresh()
        said = self.breakdown.run(rows, values, found, cell["segments"])
        return [(at, alert.broken_down(said[at])) for at, alert in alerts]

    def _initial(self) -> dict[str, Any]:
        broken = {} if self.breakdown is None else {"segments": self.breakdown.fresh()}
        return {"finder": self.finder.fresh(), "alert": self.lifecycle.fresh()} | broken


class Detector:
    """One of River's detectors as a finder. It starts anew after a detection, as River's detectors do by themselves.

    A value that is no finite number is skipped and counted, never fed.

    The trap: River's FHDDM says that 1 means an error, but fires when ones become rarer, as in the paper where 1 means
    success. It is fed 1 - value here, so that it fires when errors become more frequent.
    """

    def __init__(self, detector: Any) -> None:
        self.detector = detector
        self._inverted = isinstance(detector, FHDDM)

    def fresh(self) -> dict[str, Any]:
        """The detector, untouched, and no evidence."""
        recent: deque[float] = deque(maxlen=_RECENT)
        ids: deque[Any] = deque(maxlen=_EXAMPLES)
        return {
            "detector": self.detector.clone(),
            "n": 0,
            "sum": 0.0,
            "first_offset": -1,
            "recent": recent,
            "ids": ids,
            "skipped": 0,
        }

    def run(self, rows: Sequence[Row], state: dict[str, Any]) -> list[tuple[int, Finding]]:
        """Feed the values; see `Finder`."""
        found: list[tuple[int, Finding]] = []
        detector, recent, ids, inverted = state["detector"], state["recent"], state["ids"], self._inverted
        for i, row in enumerate(rows):
            value = row[0]
            if value.__class__ is not float or not math.isfinite(value):
                value = _number(value)
                if value is None:
                    state["skipped"] += 1
                    continue
            if not state["n"]:
                state["first_offset"] = row[3]
            state["n"] += 1
            state["sum"] += value
            recent.append(value)
            ids.append(row[4])
            detector.update(1.0 - value if inverted else value)
            if detector.drift_detected:
                found.append((i, _finding(row, state)))
                state["n"], state["sum"], state["skipped"] = 0, 0.0, 0
                recent.clear()
                ids.clear()
        return found


def error_of(task: Task, answer: Any, y: Any) -> float | None:
    """Return how wrong an answer was: 0.0 or 1.0 for classes, the absolute error for regression; None if none."""
    if answer.__class__ is dict and task == "binary" and len(answer) == 2:  # predict_one without a call, but for ties
        p, q = answer[True], answer[False]
        if p > q or q > p:
            return 0.0 if y == (p > q) else 1.0
    said = predicted(answer)
    if said is None:
        return None
    if task == "regression":
        return float(abs(y - said))
    return 0.0 if said == y else 1.0


def _finding(row: Row, state: dict[str, Any]) -> Finding:
    statistic = _statistic(state)
    before, after = statistic.get("before"), statistic.get("after")
    moved = "changed" if before is None or after is None else f"mean went from {before:.6g} to {after:.6g}"
    said = f"{moved} within {state['n']} values"
    ids = tuple(each for each in state["ids"] if each is not None)
    return Finding(row[1], row[2], state["first_offset"], row[3], state["n"], 1.0, statistic, ids, said)


def spelled(detector: Any) -> str:
    """Return the detector as one would write it, with every parameter that is a plain value."""
    if isinstance(detector, Scan):
        return repr(detector)
    parameters = detector._get_params().items()
    shown = [f"{name}={value!r}" for name, value in parameters if isinstance(value, int | float | str | None)]
    return f"{type(detector).__name__}({', '.join(shown)})"


def _number(value: Any) -> float | None:
    """Return a finite float, or None for anything that is not a number."""
    if not isinstance(value, numbers.Real):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _statistic(run: dict[str, Any]) -> dict[str, float]:
    """Return the means before and after the change, over how many values "after" goes, and KSWIN's p-value.

    "After" is the window that the detector kept (ADWIN), or the last 30 values; "before" is the rest since the last
    alert. What is unknown, or not finite, is absent.
    """
    detector, n = run["detector"], run["n"]
    width = getattr(detector, "width", None)
    if width:
        total = detector.total
    else:
        width, total = len(run["recent"]), sum(run["recent"])
    read = {
        "before": (run["sum"] - total) / (n - width) if n > width else None,
        "after": total / width,
        "width": width,
        "p_value": getattr(detector, "p_value", None),
        "skipped": run["skipped"],
    }
    numbered = ((name, _number(value)) for name, value in read.items())
    return {name: value for name, value in numbered if value is not None}
