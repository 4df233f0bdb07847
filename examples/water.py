"""How much water will flow in six hours? A regression: the label is the flow itself, known six hours later.

Neither model beats "as the last known outcome" on this stream, and its evaluation says so: that is what the baselines
beside every model are for.
"""

from river.forest import AMFRegressor
from river.linear_model import LinearRegression
from river.optim import Adam
from river.preprocessing import StandardScaler

from headrace import Events, Labels, Pipeline, between, field, label, last, mean


def hour_of(reading) -> int:
    """Hour of the day, in UTC."""
    return int(reading.measured_at // 3_600_000 % 24)


def measurements():
    """Every measurement. Only what publishes or backtests reads them, so that a worker needs no pandas."""
    from headrace.examples.water_data import frame

    return frame()


water = Pipeline(
    "water",
    task="regression",
    events=Events(
        "water_reading.avsc", id="event_id", key="branch", time="measured_at", expect={"flow": between(0, 1_000)}
    ),
    labels=Labels("water_outcome.avsc", id="event_id", time="known_at", y="flow_ahead", ttl="12h"),
    features={
        "flow": field("flow"),
        "hour": hour_of,
        "mean_3h": mean("flow", by="branch", over="3h", tile="1h"),
        "mean_24h": mean("flow", by="branch", over="24h", tile="1h"),
        "last_outcome": last(label(), by="branch", over="24h", tile="1h"),
    },
    models={
        "linear": StandardScaler() | LinearRegression(optimizer=Adam(0.1), intercept_lr=0.1),
        "forest": AMFRegressor(n_estimators=10, seed=1),
    },
    champion="forest",
    evaluate_every=200,
    data=measurements,
)
