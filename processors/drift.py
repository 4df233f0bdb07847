"""Drift: River's detectors over one number a record, and an alert with its evidence when one fires."""

from __future__ import annotations

import math
import numbers
from collections import deque
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Literal

from river.base import Base, BinaryDriftDetector
from river.drift.binary import FHDDM

from headrace.processors.base import State, StoreSpec
from headrace.processors.metrics import Task, check_task, predicted
from headrace.schemas.records import Alert

__all__ = [
    "KINDS",
    "SEVERITIES",
    "Drift",
    "Watch",
    "error_of",
    "signal_of_prediction",
    "watch_error",
    "watch_feature",
    "watch_prediction",
]

Kind = Literal["error", "feature", "prediction"]

KINDS: tuple[Kind, ...] = ("error", "feature", "prediction")
SEVERITIES: tuple[str, str, str] = ("info", "warning", "critical")

_CELL = "detector"
_RECENT = 30  # values that "after" averages where the detector has no window of its own


@dataclass(frozen=True, slots=True)
class Watch:
    """An author's wish: watch this signal with this detector.

    `kind` is "error", "feature" or "prediction"; `name` the feature, empty otherwise.
    """

    kind: Kind
    name: str
    detector: Any

    def __post_init__(self) -> None:
        """Raise ValueError for what could not be watched."""
        if self.kind not in KINDS:
            raise ValueError(f"kind must be one of {', '.join(KINDS)}; got {self.kind!r}")
        if (self.kind == "feature") != bool(self.name):
            raise ValueError(f"name must be a feature's name for kind 'feature', else empty; got {self.name!r}")
        _check_detector(self.detector, self.kind)

    @property
    def signal(self) -> str:
        """What is watched, in one word: `error`, `prediction` or `feature:<name>`."""
        return f"{self.kind}:{self.name}" if self.name else self.kind


class Drift:
    """Feeds one signal to a drift detector and turns each detection into an alert.

    Parameters
    ----------
    signal
        The name of what is watched, as the alerts give it.
    detector
        A River drift detector: ADWIN, PageHinkley, KSWIN (with a seed), or for errors of classifiers also one of
        `river.drift.binary`. It is cloned. It starts anew after a detection, as River's detectors do by themselves.
    topic
        The input topic that the offsets refer to.
    kind
        "error", "feature" or "prediction".
    task
        The pipeline's; errors of a regression are no bits, so detectors for bits are refused there.
    severity
        "info", "warning" or "critical". An error that went down is always "info".

    The state is a pickled cell: the detector, the evidence since the last alert, and how many values were skipped.
    A value that is no finite number is skipped and counted, never fed.

    The trap: River's FHDDM says that 1 means an error, but fires when ones become rarer, as in the paper where 1 means
    success. It is fed 1 - value here, so that it fires when errors become more frequent.
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
    ) -> None:
        if not signal or not topic:
            raise ValueError(f"signal and topic must be names; got {signal!r} and {topic!r}")
        if kind not in KINDS:
            raise ValueError(f"kind must be one of {', '.join(KINDS)}; got {kind!r}")
        if severity not in SEVERITIES:
            raise ValueError(f"severity must be one of {', '.join(SEVERITIES)}; got {severity!r}")
        _check_detector(detector, kind, check_task(task))
        self.signal = signal
        self.detector = detector
        self.topic = topic
        self.kind = kind
        self.task = task
        self.severity = severity
        self.described = _described(detector)
        self._inverted = isinstance(detector, FHDDM)

    def stores(self) -> list[StoreSpec]:
        """Return the one cell that `process` keeps."""
        return [StoreSpec(_CELL, "cell", self._initial, codec="object")]

    def process(self, value: Any, time_ms: int, partition: int, offset: int, state: State) -> Alert | None:
        """Feed one value; return an alert if the detector fires on it."""
        run = state[_CELL].value
        if value.__class__ is not float or not math.isfinite(value):
            value = _number(value)
            if value is None:
                run["skipped"] += 1
                return None
        if not run["n"]:
            run["first_offset"] = offset
        run["n"] += 1
        run["sum"] += value
        run["recent"].append(value)
        detector = run["detector"]
        detector.update(1.0 - value if self._inverted else value)
        if not detector.drift_detected:
            return None
        alert = self._alert(run, time_ms, partition, offset)
        run["n"], run["sum"], run["skipped"] = 0, 0.0, 0
        run["recent"].clear()
        return alert

    def _initial(self) -> dict[str, Any]:
        recent: deque[float] = deque(maxlen=_RECENT)
        return {
            "detector": self.detector.clone(),
            "n": 0,
            "sum": 0.0,
            "first_offset": -1,
            "recent": recent,
            "skipped": 0,
        }

    def _alert(self, run: dict[str, Any], time_ms: int, partition: int, offset: int) -> Alert:
        statistic = _statistic(run)
        before, after = statistic.get("before"), statistic.get("after")
        if before is None or after is None:
            moved, better = "changed", False
        else:
            moved, better = f"mean went from {before:.6g} to {after:.6g}", self.kind == "error" and after < before
        evidence = (self.kind, self.signal, self.described, str(partition), str(run["first_offset"]), str(offset))
        return Alert(
            alert_id=blake2b("\x1f".join(evidence).encode(), digest_size=16).hexdigest(),
            kind=f"{self.kind}_drift",
            signal=self.signal,
            severity="info" if better else self.severity,
            status="open",
            message=f"{self.signal}: {moved} within {run['n']} values",
            detector=self.described,
            statistic=statistic,
            n=run["n"],
            topic=self.topic,
            partition=partition,
            first_offset=run["first_offset"],
            last_offset=offset,
            time_ms=time_ms,
        )


def watch_error(detector: Any) -> Watch:
    """Watch the champion's error, as the labels become known: 0 or 1 for classes, absolute for regression."""
    return Watch("error", "", detector)


def watch_feature(name: str, detector: Any) -> Watch:
    """Watch a numeric feature at the time of the event."""
    return Watch("feature", name, detector)


def watch_prediction(detector: Any) -> Watch:
    """Watch the champion's answer: P(True), the largest probability, or the number."""
    return Watch("prediction", "", detector)


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


def signal_of_prediction(task: Task, answer: Any) -> float | None:
    """Return the number that stands for an answer: P(True), the largest probability, or the predicted value.

    None where there is none; a bare label counts as probability 1 for binary tasks only.
    """
    if isinstance(answer, dict):
        if not answer:
            return None
        return float(answer.get(True, 0.0) if task == "binary" else max(answer.values()))
    return None if answer is None or task == "multiclass" else float(answer)


def _check_detector(detector: Any, kind: str, task: str = "binary") -> None:
    """Raise ValueError for what is no drift detector, random without a seed, or meant for errors only."""
    if not isinstance(detector, Base) or not hasattr(detector, "drift_detected") or not hasattr(detector, "update"):
        raise ValueError(f"detector must be an instance of one of river.drift's detectors; got {detector!r}")
    parameters = detector._get_params()
    if "seed" in parameters and parameters["seed"] is None:
        raise ValueError(f"{type(detector).__name__} needs a seed, or a replay would differ: pass seed=1, say")
    if parameters.get("dynamic_cloning"):
        raise ValueError(f"{type(detector).__name__} must have dynamic_cloning=False: its clones differ from it")
    if isinstance(detector, BinaryDriftDetector) and (kind != "error" or task == "regression"):
        raise ValueError(
            f"{type(detector).__name__} watches errors of classifiers (0 or 1) only, not the {kind} of a {task} task; "
            "take ADWIN, PageHinkley or KSWIN"
        )


def _described(detector: Any) -> str:
    """Return the detector as one would write it, with every parameter that is a plain value."""
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
    told = {
        "before": (run["sum"] - total) / (n - width) if n > width else None,
        "after": total / width,
        "width": width,
        "p_value": getattr(detector, "p_value", None),
        "skipped": run["skipped"],
    }
    numbered = ((name, _number(value)) for name, value in told.items())
    return {name: value for name, value in numbered if value is not None}
