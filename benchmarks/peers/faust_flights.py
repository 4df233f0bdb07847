"""The flights pipeline in Faust: two agents, and tables with changelogs for what they keep; at least once, the default.

As its documentation has it: records are models, an agent for each input, predictions leave through a sink. The model
lives in memory. Nothing in Faust aligns two inputs by time.

Arguments, before those of Faust's own command line, in the variable BENCH: bootstrap, events, labels, predictions,
application id, folder, number of records.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from typing import Optional

import faust
from flight_windows import add_event, add_outcome, empty, entities, features
from river.linear_model import LogisticRegression
from river.preprocessing import StandardScaler

bootstrap, events_topic, labels_topic, predictions_topic, name, folder, records = json.loads(os.environ["BENCH"])


class Flight(faust.Record, serializer="json"):
    event_id: str
    carrier: str
    flight: int
    origin: str
    dest: str
    distance: float
    scheduled_departure: int
    scheduled_arrival: int
    tailnum: Optional[str] = None  # noqa: UP045 - Faust reads the annotation


class Arrival(faust.Record, serializer="json"):
    event_id: str
    arrived_at: int
    arr_delay: int


app = faust.App(
    name,
    broker=f"kafka://{bootstrap}",
    datadir=folder,
    store="memory://",
    topic_partitions=1,
    topic_replication_factor=1,
    web_enabled=False,
    topic_disable_leader=True,
)
flights = app.topic(events_topic, value_type=Flight, key_type=bytes)
arrivals = app.topic(labels_topic, value_type=Arrival, key_type=bytes)
predictions = app.topic(predictions_topic, value_serializer="json", key_serializer="raw")
entity_table = app.Table("entities", default=empty, partitions=1)
pending_table = app.Table("pending", default=dict, partitions=1)
model = StandardScaler() | LogisticRegression()
seen = [0, 0.0]


def say(what, **more):
    os.write(1, json.dumps({"what": what, "at": time.monotonic(), **more}).encode() + b"\n")  # Faust takes sys.stdout


def cpu_s():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def peak_rss_kb():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))


def tick():
    if seen[0] == 0:
        seen[1] = cpu_s()
        say("first")
    seen[0] += 1
    if seen[0] == records:
        say("ended", cpu_s=cpu_s() - seen[1], peak_rss_kb=peak_rss_kb())


@app.agent(flights, sink=[predictions])
async def predict(stream):
    async for flight in stream:
        event = {name: getattr(flight, name) for name in ("carrier", "origin", "dest", "tailnum", "distance")}
        event["scheduled_departure"] = flight.scheduled_departure
        keys = entities(event)
        held = {column: entity_table[f"{column}:{key}"] for column, key in keys.items()}
        x = features(event, held)
        p = model.predict_proba_one(x)[True]
        for column in ("carrier", "origin", "tailnum"):
            if column in held:
                add_event(column, held[column], flight.scheduled_departure)
                entity_table[f"{column}:{keys[column]}"] = held[column]
        pending_table[flight.event_id] = {"keys": keys, "x": x}
        tick()
        yield {"event_id": flight.event_id, "prediction": p, "features": x}


@app.agent(arrivals)
async def learn(stream):
    async for arrival in stream:
        waiting = pending_table.get(arrival.event_id)
        if waiting:
            pending_table.pop(arrival.event_id)
            late = arrival.arr_delay > 15
            for column, key in waiting["keys"].items():
                held = entity_table[f"{column}:{key}"]
                add_outcome(column, held, arrival.arrived_at, late)
                entity_table[f"{column}:{key}"] = held
            model.learn_one(waiting["x"], late)
        tick()


if __name__ == "__main__":
    sys.argv = [sys.argv[0], "--datadir", folder, "worker", "-l", "warn"]
    app.main()
