"""Watches: what an author wants watched, and with what. Nothing is kept or computed for what is not declared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from river.base import Base, BinaryDriftDetector

from headrace.processors.alerts import SEVERITIES
from headrace.processors.features import duration
from headrace.processors.references import Reference
from headrace.processors.scan import Scan

__all__ = [
    "KINDS",
    "Reaction",
    "Watch",
    "check_detector",
    "fall_back",
    "retrain",
    "rollback",
    "watch_error",
    "watch_feature",
    "watch_features",
    "watch_label",
    "watch_prediction",
]

Kind = Literal["error", "feature", "features", "label", "prediction"]

KINDS: tuple[Kind, ...] = ("error", "feature", "features", "label", "prediction")

_EVERY = 32
_BUDGET = 100_000


@dataclass(frozen=True, slots=True)
class Reaction:
    """What an alert leads to besides being told: what `rollback`, `fall_back` and `retrain` make."""

    kind: Literal["rolled_back", "promoted", "retraining"]
    model: str | None = None
    last: int | None = None


def rollback() -> Reaction:
    """When an alert opens, the champion before serves again; without one, the alert is all."""
    return Reaction("rolled_back")


def fall_back(model: str) -> Reaction:
    """When an alert opens, this declared model serves (it has learned from every example, like all of them)."""
    return Reaction("promoted", model)


def retrain(model: str, last: int | None = None) -> Reaction:
    """When an alert opens, a fresh copy of this declared model learns the `last` examples, and then challenges.

    None: as many as there are values in the window in which the change shows: it begins where the change did. The gate
    decides whether the copy becomes the champion; the copy before it retires, unless it serves.
    """
    if last is not None and (type(last) is not int or last < 1):
        raise ValueError(f"last must be a whole number, 1 or more; got {last!r}")
    return Reaction("retraining", model, last)


@dataclass(frozen=True, slots=True)
class Watch:
    """An author's wish: watch this signal with this detector.

    `kind` is one of `KINDS`; `names` the features, empty otherwise; `detector` one of River's, or a `Scan`.
    """

    kind: Kind
    names: tuple[str, ...]
    detector: Any
    severity: str = "warning"
    cooldown: str = "1h"
    react: Reaction | None = None

    def __post_init__(self) -> None:
        """Raise ValueError for what could not be watched."""
        if self.kind not in KINDS:
            raise ValueError(f"kind must be one of {', '.join(KINDS)}; got {self.kind!r}")
        few, many = {"feature": (1, 1), "features": (2, 100)}.get(self.kind, (0, 0))
        if not few <= len(self.names) <= many or "" in self.names or len(set(self.names)) != len(self.names):
            raise ValueError(f"a watch of kind {self.kind!r} takes {few} to {many} features; got {self.names!r}")
        if self.severity not in SEVERITIES:
            raise ValueError(f"severity must be one of {', '.join(SEVERITIES)}; got {self.severity!r}")
        duration(self.cooldown)
        check_detector(self.detector, self.kind)
        if self.react is not None and not isinstance(self.react, Reaction):
            raise ValueError(f"react must be rollback(), fall_back(model) or retrain(model); got {self.react!r}")

    @property
    def signal(self) -> str:
        """What is watched, in one word: `error`, `label`, `prediction`, `feature:<name>`, `features:<name>+<name>`."""
        return f"{self.kind}:{'+'.join(self.names)}" if self.names else self.kind


def watch_error(
    detector: Any = None,
    *,
    statistic: str = "js",
    every: int = 16,
    false_alarms_every: int = _BUDGET,
    reference: Reference | None = None,
    only_worse: bool = False,
    severity: str = "warning",
    cooldown: str = "1h",
    react: Reaction | None = None,
) -> Watch:
    """Watch the champion's error, as the labels become known: 0 or 1 for classes, absolute for regression.

    `detector` is one of River's; without it the newest values are compared with a reference: see `Scan` for
    `statistic`, `every`, `false_alarms_every` and `reference`, `Lifecycle` for `severity` and
    `cooldown`; `react` is `rollback()` or `fall_back(model)`.
    `only_worse` looks for errors that become more, and finds them sooner; without it, fewer errors are told as `info`.
    """
    scan = detector or _scan(statistic, every, false_alarms_every, reference, only_up=only_worse)
    return Watch("error", (), scan, severity, cooldown, react)


def watch_label(
    detector: Any = None,
    *,
    statistic: str = "js",
    every: int = 16,
    false_alarms_every: int = _BUDGET,
    reference: Reference | None = None,
    severity: str = "warning",
    cooldown: str = "1h",
    react: Reaction | None = None,
) -> Watch:
    """Watch the labels themselves as they become known; else as `watch_error`."""
    scan = detector or _scan(statistic, every, false_alarms_every, reference)
    return Watch("label", (), scan, severity, cooldown, react)


def watch_prediction(
    detector: Any = None,
    *,
    statistic: str = "ks",
    every: int = _EVERY,
    false_alarms_every: int = _BUDGET,
    reference: Reference | None = None,
    severity: str = "warning",
    cooldown: str = "1h",
    react: Reaction | None = None,
) -> Watch:
    """Watch the champion's answer: P(True), the largest probability, or the number; else as `watch_error`."""
    scan = detector or _scan(statistic, every, false_alarms_every, reference)
    return Watch("prediction", (), scan, severity, cooldown, react)


def watch_feature(
    name: str,
    detector: Any = None,
    *,
    statistic: str = "js",
    every: int = _EVERY,
    false_alarms_every: int = _BUDGET,
    reference: Reference | None = None,
    severity: str = "warning",
    cooldown: str = "1h",
    react: Reaction | None = None,
) -> Watch:
    """Watch a feature at the time of the event: a number, a bool, or text (by its values); else as `watch_error`.

    River's detectors watch numbers only. A scan also notices values that go missing.
    """
    scan = detector or _scan(statistic, every, false_alarms_every, reference)
    return Watch("feature", (name,), scan, severity, cooldown, react)


def watch_features(
    names: Sequence[str],
    *,
    every: int = _EVERY,
    false_alarms_every: int = _BUDGET,
    reference: Reference | None = None,
    size: int = 15,
    severity: str = "warning",
    cooldown: str = "1h",
    react: Reaction | None = None,
) -> Watch:
    """Watch several numeric features together, so that a change of how they go together is found (see `bins`)."""
    if isinstance(names, str):
        raise ValueError(f"names must be several features; got {names!r}")
    scan = _scan("js", every, false_alarms_every, reference, size=size)
    return Watch("features", tuple(names), scan, severity, cooldown, react)


def check_detector(detector: Any, kind: str, task: str = "binary") -> None:
    """Raise ValueError for what is no drift detector, random without a seed, or meant for errors only."""
    if isinstance(detector, Scan):
        return
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


def _scan(statistic: str, every: int, false_alarms_every: int, reference: Reference | None, **more: Any) -> Scan:
    return Scan(statistic, every=every, false_alarms_every=false_alarms_every, reference=reference, **more)
