"""The loop: accuracy over time after an abrupt change of the concept, by who does what about it.

A naive Bayes classifier never forgets, so that it needs somebody. `nothing`: nobody acts. `periodic`: a fresh copy
every 1,000 examples. `loop`: the watch on the error retrains from where the change shows. In both the gate decides.
`oracle`: a fresh model at the very event of the change. Ten features, 5 % noise, labels a second later.
"""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
from river.naive_bayes import GaussianNB

from headrace import Events, Gate, Labels, Pipeline, Retrain, field, retrain, watch_error
from headrace.streams import memory

__all__ = ["CHANGE", "compare"]

CHANGE, EVENTS = 3_000, 6_000
_WINDOW = 100
_FEATURES = 10
_SCHEMA = {
    "type": "record",
    "name": "Point",
    "fields": [
        {"name": "id", "type": "string"},
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        *({"name": f"x{i}", "type": "double"} for i in range(_FEATURES)),
    ],
}
_LABEL = {
    "type": "record",
    "name": "Truth",
    "fields": [
        {"name": "id", "type": "string"},
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "y", "type": "boolean"},
    ],
}


def compare(seed: int, *, changes: bool = True) -> dict[str, Any]:
    """Accuracy in windows of 100 events for each strategy; and when and how much was regained."""
    x, y = _points(seed, changes)
    right = {
        "nothing": _right(x, y),
        "periodic": _right(x, y, gate=_gate(), retrain=[Retrain("nb", examples=1_000, last=1_000)]),
        "loop": _right(x, y, gate=_gate(), drift=[watch_error(only_worse=True, react=retrain("nb"))]),
    }
    right["oracle"] = right["nothing"]
    if changes:
        right["oracle"] = np.concatenate([right["nothing"][:CHANGE], _right(x[CHANGE:], y[CHANGE:])])
    curves = {name: r.reshape(-1, _WINDOW).mean(1).round(4).tolist() for name, r in right.items()}
    out: dict[str, Any] = {"seed": seed, "curves": curves}
    if changes:
        out |= _regained(right)
    else:
        out["lost"] = round(float(right["nothing"].mean() - right["loop"].mean()), 5)
    return out


def _regained(right: dict[str, Any]) -> dict[str, Any]:
    """The oracle's time is until it has 95 % of what it will regain; the share is the loop's at twice that time."""
    after = {name: r[CHANGE:].astype(float) for name, r in right.items()}
    lost = float(after["nothing"][:500].mean())
    goal = lost + 0.95 * (float(after["oracle"][1000:].mean()) - lost)
    level = np.convolve(after["oracle"], np.ones(_WINDOW) / _WINDOW, mode="valid")
    took = int(np.argmax(level >= goal)) + _WINDOW
    span = slice(2 * took, 2 * took + 500)
    gain = {name: float(r[span].mean()) - lost for name, r in after.items()}
    return {"oracle_events": took, "share": {name: round(g / gain["oracle"], 3) for name, g in gain.items()}}


def _gate() -> Gate:
    return Gate(minimum=50)


def _points(seed: int, changes: bool) -> tuple[Any, Any]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(EVENTS, _FEATURES))
    before, after = rng.normal(size=(2, _FEATURES))
    y = x @ before > 0
    if changes:
        y[CHANGE:] = x[CHANGE:] @ (-before + 0.5 * after) > 0
    return x, y ^ (rng.random(EVENTS) < 0.05)


def _right(x: Any, y: Any, **wishes: Any) -> Any:
    """Whether each served prediction was right, in a backtest in batches of ten."""
    made = Pipeline(
        "loop",
        task="binary",
        events=Events(_SCHEMA, id="id", key="id", time="at", duplicates_within="1h"),
        labels=Labels(_LABEL, id="id", time="at", y="y", ttl="1h"),
        features={f"x{i}": field(f"x{i}") for i in range(_FEATURES)},
        models={"nb": GaussianNB()},
        champion="nb",
        **wishes,
    )
    encode = msgspec.json.encode
    events = [
        (b"k", encode({"id": str(i), "at": 1_000 * i} | {f"x{j}": v for j, v in enumerate(row)}))
        for i, row in enumerate(x.tolist())
    ]
    labels = [(b"k", encode({"id": str(i), "at": 1_000 * i + 1_000, "y": bool(v)})) for i, v in enumerate(y)]
    done = memory.run(made, [labels, events], now_ms=2_000_000_000_000, batch=10)
    said = [msgspec.json.decode(value or b"")["prediction"] for _, _, value, _ in done.outputs["predictions"]]
    return np.array([a == bool(b) for a, b in zip(said, y, strict=True)])
