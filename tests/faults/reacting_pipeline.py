"""Flights with a gate, watches that act, and proxies: everything that an alert may lead to, in little time."""

from __future__ import annotations

from pathlib import Path

from river.compose import Select
from river.drift import ADWIN
from river.linear_model import LogisticRegression
from river.preprocessing import StandardScaler

import headrace as h
from headrace.examples import flights as example

_FOLDER = Path(example.__file__).parent

pipeline = h.Pipeline(
    "reacting",
    task="binary",
    events=h.Events(_FOLDER / "flight.avsc", id="event_id", key="origin", time="scheduled_departure"),
    labels=h.Labels(_FOLDER / "arrival.avsc", id="event_id", time="arrived_at", y=example.is_late),
    features={"distance": h.field("distance"), "flights_1h": h.count(by="origin", over="1h")},
    models={
        name: Select("distance", "flights_1h") | StandardScaler() | LogisticRegression() for name in ("logreg", "spare")
    },
    champion="logreg",
    gate=h.Gate(minimum=50, segments=("origin", "carrier"), segment_minimum=50),
    drift=[
        h.watch_prediction(every=16, false_alarms_every=2_000, react=h.retrain("spare")),
        h.watch_error(ADWIN(), false_alarms_every=1_000),
        h.watch_feature("distance", every=16, false_alarms_every=2_000, cooldown="10m"),
    ],
    proxies=h.Proxies(every=200),
    evaluate_every=200,
)
