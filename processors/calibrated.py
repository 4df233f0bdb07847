"""Calibrated: one of River's detectors with the parameter at which it keeps to a budget of false alarms.

`python -m benchmarks.calibrate_detectors` makes the table: for each detector and kind of signal the parameter by the
expected number of values between false alarms, while nothing changes and values are independent; of all base rates and
shapes that were simulated the most cautious. Between its entries the parameter's logarithm (PageHinkley's threshold
itself) is linear in that of the budget. What is not in the table has no parameter that keeps to a budget whatever the
values are: ADWIN and PageHinkley are for values between 0 and 1, KSWIN's test knows no ties, and DDM and EDDM alarm
where the first values after a start happen to be free of errors.
"""

from __future__ import annotations

import functools
import json
import math
from itertools import pairwise
from pathlib import Path
from typing import Any

__all__ = ["SENSITIVITY", "calibrated", "check_budget", "signal_of"]

SENSITIVITY = {
    "ADWIN": "delta",
    "PageHinkley": "threshold",
    "KSWIN": "alpha",
    "FHDDM": "confidence_level",
    "HDDMA": "drift_confidence",
    "HDDMW": "drift_confidence",
}
"""Detector → the parameter that is chosen."""

_FREE = ("mode", "seed", "two_sided_test", "warning_confidence")  # the table holds whatever these are


def signal_of(kind: str, task: str, types: Any = "double") -> str:
    """What the values of a watched signal are: `bits`, `numbers`, `probabilities`, or `text`; `types` a feature's."""
    if kind in ("feature", "features"):
        return "text" if "string" in types else "bits" if "boolean" in types else "numbers"
    if task == "regression":
        return "numbers"
    if kind == "prediction":
        return "probabilities"
    return "text" if kind == "label" and task == "multiclass" else "bits"


def check_budget(detector: Any, false_alarms_every: Any) -> None:
    """Raise ValueError for a detector that cannot be calibrated, or not to this budget."""
    table, name = _table(), type(detector).__name__
    if name not in table["parameters"]:
        raise ValueError(
            f"no parameter of {name} is known to keep to false_alarms_every; legal: {', '.join(SENSITIVITY)}, or leave "
            "false_alarms_every out"
        )
    least, most = table["budgets"][0], table["budgets"][-1] // _sides(detector)
    if type(false_alarms_every) is not int or not least <= false_alarms_every <= most:
        raise ValueError(
            f"false_alarms_every must be a whole number from {least} to {most} for {name}; got {false_alarms_every!r}"
        )


def calibrated(detector: Any, signal: str, false_alarms_every: int) -> Any:
    """A clone whose parameter is the one for this budget on such a signal; ValueError where there is none.

    >>> from river.drift import ADWIN
    >>> calibrated(ADWIN(), "bits", 100_000).delta < 0.1
    True
    """
    check_budget(detector, false_alarms_every)
    name, parameters = type(detector).__name__, detector._get_params()
    table = _table()
    if signal not in table["parameters"][name]:
        legal = [each for each, by_signal in table["parameters"].items() if signal in by_signal]
        raise ValueError(
            f"no parameter of {name} keeps to false_alarms_every on {signal}; legal: {', '.join(legal) or 'none'}, or "
            "no detector, which is a comparison with a reference"
        )
    chosen, usual = SENSITIVITY[name], type(detector)()._get_params()
    value = _interpolated(name, table["parameters"][name][signal], false_alarms_every * _sides(detector))
    for parameter, given in parameters.items():
        own = parameter not in _FREE and given != usual[parameter]
        if own and not (parameter == chosen and given == value):
            raise ValueError(
                f"{name}({parameter}={given!r}) and false_alarms_every are two wishes: leave one of them out"
            )
    return detector.clone({chosen: value})


def _sides(detector: Any) -> int:
    """How many one-sided tests it is: each may use as much of the budget."""
    return 2 if getattr(detector, "two_sided_test", False) else 1


def _interpolated(name: str, values: list[float], budget: float) -> float:
    whole = name == "PageHinkley"
    points = zip(_table()["budgets"], values if whole else [math.log(value) for value in values], strict=True)
    for (low, a), (high, b) in pairwise(points):
        if budget <= high:
            found = a + (b - a) * math.log(budget / low) / math.log(high / low)
            return float(f"{found if whole else math.exp(found):.4g}")
    raise ValueError(f"no budget of {budget} is in the table")


@functools.cache
def _table() -> dict[str, Any]:
    read: dict[str, Any] = json.loads(Path(__file__).with_name("calibrated.json").read_text())
    return read
