"""Watches: what an author wants watched, and with what. Nothing is kept or computed for what is not declared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from river.base import Base, BinaryDriftDetector

from headrace.processors.alerts import SEVERITIES
from headrace.processors.calibrated import calibrated, check_budget, signal_of
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

    `kind` is one of `KINDS`; `names` the features, empty otherwise; `detector` one of River's, or a `Scan`;
    `false_alarms_every` the declared budget, which a scan has by itself; None: unknown.
    """

    kind: Kind
    names: tuple[str, ...]
    detector: Any
    severity: str = "warning"
    cooldown: str = "1h"
    react: Reaction | None = None
    false_alarms_every: int | None = None

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
        if isinstance(self.detector, Scan):
            object.__setattr__(self, "false_alarms_every", self.detector.false_alarms_every)
        elif self.false_alarms_every is not None:
            check_budget(self.detector, self.false_alarms_every)
        if self.react is not None and not isinstance(self.react, Reaction):
            raise ValueError(f"react must be rollback(), fall_back(model) or retrain(model); got {self.react!r}")
        if self.react is not None and self.severity == "info":
            raise ValueError("severity must be warning or critical beside react=: info never reacts")

    def calibrated(self, task: str, types: Any = "double") -> Watch:
        """The same watch, its detector with the parameter that keeps to the budget; `types` are a feature's.

        ValueError where none does, and for detectors that can only watch numbers on text.
        """
        if isinstance(self.detector, Scan):
            return self
        signal = signal_of(self.kind, task, types)
        if signal == "text":
            raise ValueError(
                f"{self.signal} is text, and {type(self.detector).__name__} watches numbers only: leave it out"
            )
        if self.false_alarms_every is None:
            return self
        return replace(self, detector=calibrated(self.detector, signal, self.false_alarms_every))

    @property
    def signal(self) -> str:
        """What is watched, in one word: `error`, `label`, `prediction`, `feature:<name>`, `features:<name>+<name>`."""
        return f"{self.kind}:{'+'.join(self.names)}" if self.names else self.kind


def watch_error(
    detector: Any = None,
    *,
    statistic: str | None = None,
    every: int | None = None,
    false_alarms_every: int | None = None,
    reference: Reference | None = None,
    only_worse: bool = False,
    severity: str = "warning",
    cooldown: str = "1h",
    react: Reaction | None = None,
) -> Watch:
    """Watch the champion's error, as the labels become known: 0 or 1 for classes, absolute for regression.

    `detector` is one of River's, with its own parameters, or, where `false_alarms_every` is given, with the one that
    keeps to it (see `calibrated`). Without it the newest values are compared with a reference: see `Scan` for
    `statistic` ("js"), `every` (16), `false_alarms_every` (100,000) and `reference`. `Lifecycle` has `severity` and
    `cooldown`; `react` is `rollback()`, `fall_back(model)` or `retrain(model)`.
    `only_worse` looks for errors that become more, and finds them sooner; without it, fewer errors are told as `info`.
    """
    finder = _finder(detector, ("js", 16), statistic, every, false_alarms_every, reference, only_worse=only_worse)
    return Watch("error", (), finder, severity, cooldown, react, _budget(detector, false_alarms_every))


def watch_label(
    detector: Any = None,
    *,
    statistic: str | None = None,
    every: int | None = None,
    false_alarms_every: int | None = None,
    reference: Reference | None = None,
    severity: str = "warning",
    cooldown: str = "1h",
    react: Reaction | None = None,
) -> Watch:
    """Watch the labels themselves as they become known; else as `watch_error`."""
    finder = _finder(detector, ("js", 16), statistic, every, false_alarms_every, reference)
    return Watch("label", (), finder, severity, cooldown, react, _budget(detector, false_alarms_every))


def watch_prediction(
    detector: Any = None,
    *,
    statistic: str | None = None,
    every: int | None = None,
    false_alarms_every: int | None = None,
    reference: Reference | None = None,
    severity: str = "warning",
    cooldown: str = "1h",
    react: Reaction | None = None,
) -> Watch:
    """Watch the champion's answer: P(True), the largest probability, or the number; else as `watch_error`.

    Without a detector, `statistic` is "ks" and `every` 32.
    """
    finder = _finder(detector, ("ks", 32), statistic, every, false_alarms_every, reference)
    return Watch("prediction", (), finder, severity, cooldown, react, _budget(detector, false_alarms_every))


def watch_feature(
    name: str,
    detector: Any = None,
    *,
    statistic: str | None = None,
    every: int | None = None,
    false_alarms_every: int | None = None,
    reference: Reference | None = None,
    severity: str = "warning",
    cooldown: str = "1h",
    react: Reaction | None = None,
) -> Watch:
    """Watch a feature at the time of the event: a number, a bool, or text (by its values); else as `watch_error`.

    River's detectors watch numbers only. A scan also notices values that go missing; its `every` is 32.
    """
    finder = _finder(detector, ("js", 32), statistic, every, false_alarms_every, reference)
    return Watch("feature", (name,), finder, severity, cooldown, react, _budget(detector, false_alarms_every))


def watch_features(
    names: Sequence[str],
    *,
    every: int | None = None,
    false_alarms_every: int | None = None,
    reference: Reference | None = None,
    size: int = 15,
    severity: str = "warning",
    cooldown: str = "1h",
    react: Reaction | None = None,
) -> Watch:
    """Watch several numeric features together, so that a change of how they go together is found (see `bins`)."""
    if isinstance(names, str):
        raise ValueError(f"names must be several features; got {names!r}")
    finder = _finder(None, ("js", 32), None, every, false_alarms_every, reference, size=size)
    return Watch("features", tuple(names), finder, severity, cooldown, react)


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


def _finder(
    detector: Any,
    usual: tuple[str, int],
    statistic: str | None,
    every: int | None,
    false_alarms_every: int | None,
    reference: Reference | None,
    *,
    only_worse: bool = False,
    size: int = 10,
) -> Any:
    """The detector, which takes no options of a scan; without one, a scan."""
    if detector is None:
        return Scan(
            usual[0] if statistic is None else statistic,
            every=usual[1] if every is None else every,
            false_alarms_every=_BUDGET if false_alarms_every is None else false_alarms_every,
            reference=reference,
            size=size,
            only_up=only_worse,
        )
    options = {"statistic": statistic, "every": every, "reference": reference, "only_worse": only_worse or None}
    if isinstance(detector, Scan):
        options["false_alarms_every"] = false_alarms_every
    given = [name for name, value in options.items() if value is not None]
    if given:
        raise ValueError(
            f"{', '.join(given)}: for a watch without a detector only, not for {type(detector).__name__}; leave out "
            "the one or the other"
        )
    return detector


def _budget(detector: Any, false_alarms_every: int | None) -> int | None:
    """The budget of a detector of River's; a scan has its own."""
    return None if detector is None else false_alarms_every
