"""Will this flight arrive more than 15 minutes late? Asked at its scheduled departure, for every flight from New York.

Only what is known at scheduled departure is in the event. How late flights turn out to be is known through their
labels, at arrival; the `*_late_*` features are windows over those outcomes as they become known.
"""

from river.drift import ADWIN
from river.linear_model import LogisticRegression
from river.preprocessing import StandardScaler
from river.tree import HoeffdingAdaptiveTreeClassifier

from headrace import (
    Events,
    Labels,
    Pipeline,
    between,
    count,
    field,
    label,
    mean,
    one_of,
    time_since_last,
    watch_error,
    watch_feature,
    watch_prediction,
)
from headrace.examples.new_york import hour_of, weekday_of


def is_late(arrival) -> bool:
    """Whether the flight arrived more than 15 minutes late."""
    return bool(arrival.arr_delay > 15)


def departures():
    """Every departure of the year. Only what publishes or backtests reads them, so that a worker needs no pandas."""
    from headrace.examples.flights_data import flights as rows

    return rows()


flights = Pipeline(
    "flights",
    task="binary",
    events=Events(
        "flight.avsc",
        id="event_id",
        key="origin",
        time="scheduled_departure",
        expect={"origin": one_of("EWR", "JFK", "LGA"), "distance": between(1, 10_000)},
    ),
    labels=Labels("arrival.avsc", id="event_id", time="arrived_at", y=is_late, ttl="2d"),
    features={
        "distance": field("distance"),
        "hour": hour_of,
        "weekday": weekday_of,
        "carrier_flights_3h": count(by="carrier", over="3h", tile="15m"),
        "origin_flights_1h": count(by="origin", over="1h", tile="5m"),
        "tail_flights_24h": count(by="tailnum", over="24h", tile="2h"),
        "carrier_late_3h": mean(label(), by="carrier", over="3h", tile="15m", default=0.0),
        "origin_late_1h": mean(label(), by="origin", over="1h", tile="5m", default=0.0),
        "tail_late_24h": mean(label(), by="tailnum", over="24h", tile="2h", default=0.0),
        "dest_late_3h": mean(label(), by="dest", over="3h", tile="15m", default=0.0),
        "since_tail_s": time_since_last(by="tailnum", default=0.0),
    },
    models={
        "logreg": StandardScaler() | LogisticRegression(),
        "hat": HoeffdingAdaptiveTreeClassifier(seed=1),
    },
    champion="logreg",
    drift=[watch_error(ADWIN()), watch_prediction(ADWIN()), watch_feature("origin_late_1h", ADWIN())],
    columns=["carrier", "origin", "dest"],
    data=departures,
)
