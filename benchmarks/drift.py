"""Drift: false alarms and delay of Headrace's watches beside River's detectors at the same rate of false alarms.

Every one of River's detectors is given the parameter at which it raises as many false alarms on the stable streams as
the watch does (bisection on those very streams): equal budget. Then each sees the same drifts. A change that is not
found within the horizon is a miss, and counts as found at its end. Dummies say what delay and false alarms mean.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from river import drift

from benchmarks.drift_loop import compare
from benchmarks.drift_streams import DRIFTS, HORIZON, Stream, drifting, stable
from headrace.processors.calibrated import calibrated
from headrace.processors.drift import Detector
from headrace.processors.findings import Finder
from headrace.processors.scan import Scan

__all__ = ["BUDGET", "run"]

BUDGET = 10_000
"""Declared number of events between false alarms."""

_STEPS = 8
Alarms = list[int]


def run(
    say: Callable[[str], None], streams: int = 200, drifts: int = 24, calls: int = 48, loops: int = 10
) -> dict[str, Any]:
    """All figures; `streams` stable ones, `drifts` of each kind, `calls` stable ones of a signal for River's."""
    acting = [compare(seed) for seed in range(loops)]
    quiet_loops = [compare(seed, changes=False)["lost"] for seed in range(loops)]
    shares = {name: round(float(np.mean([one["share"][name] for one in acting])), 3) for name in acting[0]["share"]}
    least = min(one["share"]["loop"] for one in acting)
    say(f"the loop regains {shares['loop']:.0%} of what the oracle does, at least {least:.0%}; lost: {quiet_loops}")
    quiet = [stable(i) for i in range(streams)]
    moving = {kind: [drifting(kind, i) for i in range(drifts)] for kind in DRIFTS}
    say(f"{streams} stable streams, {len(DRIFTS) * drifts} with drift")
    watches: dict[str, Finder] = {
        "error": Scan("js", every=16, false_alarms_every=BUDGET),
        "feature": Scan("ks", every=16, false_alarms_every=BUDGET),
        "label": Scan("js", every=16, false_alarms_every=BUDGET),
    }
    stable_events = sum(len(s.values) for s in quiet)
    alarms = sum(len(_alarms(watches[s.kind], s)) for s in quiet)
    ratio = alarms / (stable_events / BUDGET)
    say(f"watches: {alarms} false alarms in {stable_events} stable events, {ratio:.2f} times the budget")
    found: dict[str, dict[str, Any]] = {}
    rivals = {kind: _rivals(kind, watches[kind], quiet, calls, say) for kind in watches}
    for kind, many in moving.items():
        signal = many[0].kind
        rows = {"headrace": _figures(lambda s, w=watches[signal]: _alarms(w, s), many)}
        rows |= {
            name: _figures(lambda s, d=detector: _alarms(d, s), many) | {"parameter": parameter, "false_alarms": rate}
            for name, (detector, parameter, rate) in rivals[signal].items()
        }
        rows["headrace"]["false_alarms"] = _rate(watches[signal], [s for s in quiet if s.kind == signal])
        rows |= _dummies(many)
        found[kind] = rows
        best = min((n for n in rivals[signal]), key=lambda n: rows[n]["delay"])
        say(f"{kind}: {rows['headrace']['delay']:.0f} events; River's best, {best}: {rows[best]['delay']:.0f}")
    wins = sum(
        rows["headrace"]["delay"] <= min(rows[n]["delay"] for n in rivals[moving[kind][0].kind])
        for kind, rows in found.items()
    )
    return {
        "budget": BUDGET,
        "stable_streams": streams,
        "stable_events": stable_events,
        "false_alarms": alarms,
        "false_alarms_of_budget": round(ratio, 3),
        "kinds_no_worse": wins,
        "calibrated": _calibrated(quiet, say),
        "loop": {
            "share_regained": shares,
            "least_regained": least,
            "lost_without_change": quiet_loops,
            "streams": acting,
        },
        "kinds": found,
        "seeds": {"stable": f"0-{streams - 1}", "drifts": f"0-{drifts - 1}", "loops": f"0-{loops - 1}"},
    }


def _rows(stream: Stream) -> list[Any]:
    return [(value, i, 0, i, None) for i, value in enumerate(stream.values)]


def _alarms(finder: Finder, stream: Stream) -> Alarms:
    return [at for at, _ in finder.run(_rows(stream), finder.fresh())]


def _rate(finder: Finder, streams: Sequence[Stream]) -> float:
    """False alarms in 100,000 stable events."""
    return round(1e5 * sum(len(_alarms(finder, s)) for s in streams) / sum(len(s.values) for s in streams), 2)


def _figures(alarms_of: Callable[[Stream], Alarms], streams: Sequence[Stream]) -> dict[str, Any]:
    """Mean and median delay, and misses."""
    delays = []
    for stream in streams:
        alarms = alarms_of(stream)
        for change in stream.changes:
            after = [at - change for at in alarms if change <= at < change + HORIZON]
            delays.append(after[0] + 1 if after else HORIZON)
    return {
        "delay": round(float(np.mean(delays)), 1),
        "median": float(np.median(delays)),
        "misses": sum(delay == HORIZON for delay in delays),
        "changes": len(delays),
    }


def _dummies(streams: Sequence[Stream]) -> dict[str, dict[str, Any]]:
    """Never, always, and periodically as often as the budget allows (its phase goes with the stream)."""
    numbers = {id(stream): i for i, stream in enumerate(streams)}

    def periodic(stream: Stream) -> Alarms:
        first = BUDGET * numbers[id(stream)] // len(streams)
        return list(range(first % BUDGET, len(stream.values), BUDGET))

    return {
        "never": _figures(lambda _: [], streams) | {"false_alarms": 0.0},
        "always": _figures(lambda s: list(range(len(s.values))), streams) | {"false_alarms": 1e5},
        "periodic": _figures(periodic, streams) | {"false_alarms": 1e5 / BUDGET},
    }


# -- River's detectors at equal budget -----------------------------------------------------------------------------


def _calibrated(quiet: Sequence[Stream], say: Callable[[str], None]) -> dict[str, dict[str, float]]:
    """River's detectors on the stable errors, with the parameter for the budget and as they come: times the budget."""
    streams = [s for s in quiet if s.kind == "error"]
    found = {}
    for name, detector in {
        "ADWIN": drift.ADWIN(),
        "PageHinkley": drift.PageHinkley(),
        "FHDDM": drift.binary.FHDDM(),
        "HDDMA": drift.binary.HDDMA(),
        "HDDMW": drift.binary.HDDMW(),
    }.items():
        each = {"calibrated": calibrated(detector, "bits", BUDGET), "as it comes": detector}
        found[name] = {how: round(_rate(Detector(one), streams) * BUDGET / 1e5, 3) for how, one in each.items()}
        say(f"  {name}: {found[name]} times the budget")
    return found


class _Scaled:
    """PageHinkley on values of one standard deviation: its threshold and tolerance are in units of the values."""

    def __init__(self, detector: Any) -> None:
        self._inner = Detector(detector)

    def fresh(self) -> dict[str, Any]:
        return self._inner.fresh()

    def run(self, rows: Sequence[Any], state: dict[str, Any]) -> list[Any]:
        spread = float(np.std([row[0] for row in rows[:1000]])) or 1.0
        return self._inner.run([(row[0] / spread, *row[1:]) for row in rows], state)


def _candidates(kind: str) -> dict[str, tuple[Callable[[float], Any], float, float]]:
    """Name → how to make it of a sensitivity parameter, and the parameter where it is quiet and where it is not."""
    log, binary = math.exp, drift.binary
    mode = "up" if kind == "error" else "both"
    found: dict[str, tuple[Callable[[float], Any], float, float]] = {
        "ADWIN": (lambda v: drift.ADWIN(delta=log(v)), -40.0, -0.01),
        "PageHinkley": (lambda v: drift.PageHinkley(threshold=log(v), mode=mode), 8.0, 0.0),
    }
    if kind == "feature":  # of bits it sees nothing but ties
        found["KSWIN"] = lambda v: drift.KSWIN(alpha=log(v), seed=1), -25.0, -1.0
    if kind == "error":
        found |= {
            "DDM": (lambda v: binary.DDM(drift_threshold=v), 9.0, 1.0),
            "EDDM": (lambda v: binary.EDDM(alpha=0.99, beta=v), 0.2, 0.95),
            "FHDDM": (lambda v: binary.FHDDM(confidence_level=log(v)), -40.0, -1.0),
        }
    if kind != "feature":
        two = kind == "label"
        found |= {
            "HDDMA": (lambda v: binary.HDDMA(drift_confidence=log(v), two_sided_test=two), -40.0, -1.0),
            "HDDMW": (lambda v: binary.HDDMW(drift_confidence=log(v), two_sided_test=two), -40.0, -1.0),
        }
    return found


def _rivals(
    kind: str, watch: Finder, quiet: Sequence[Stream], calls: int, say: Callable[[str], None]
) -> dict[str, tuple[Finder, float, float]]:
    """River's detectors for a signal, each with as many false alarms on stable streams as the watch."""
    streams = [s for s in quiet if s.kind == kind][:calls]
    out: dict[str, tuple[Finder, float, float]] = {}
    for name, (make, low, high) in _candidates(kind).items():
        wrap: Any = _Scaled if name == "PageHinkley" and kind == "feature" else Detector
        some = streams[:4] if name == "KSWIN" else streams  # a test at every event: 100 times slower than the others
        target = max(_rate(watch, streams), 1e5 / sum(len(s.values) for s in some))
        quiet_at, loud_at = low, high
        for _ in range(_STEPS):
            middle = (quiet_at + loud_at) / 2
            if _rate(wrap(make(middle)), some) <= target:
                quiet_at = middle
            else:
                loud_at = middle
        detector = wrap(make(quiet_at))
        out[name] = (detector, round(quiet_at, 4), _rate(detector, some))
        say(f"  {kind}: {name} at {quiet_at:.4g} raises {out[name][2]} in 100,000, the watch {target:.4g}")
    return out
