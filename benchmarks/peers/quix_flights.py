"""The flights pipeline in Quix Streams: exactly-once, its state in RocksDB with changelogs, one process.

As its documentation has it: the inputs concatenated into one dataframe (so that Quix aligns them by their timestamps),
stateful functions over `State`, the default commit interval. All records have one key, which spares Quix the
repartitioning that windows by four different columns would otherwise cost. The model lives in memory.

Arguments: bootstrap, events, labels, predictions, group, state folder, number of records.
"""

from __future__ import annotations

import json
import resource
import sys
import time

from flight_windows import add_event, add_outcome, empty, entities, features
from quixstreams import Application
from river.linear_model import LogisticRegression
from river.preprocessing import StandardScaler


def say(what, **more):
    print(json.dumps({"what": what, "at": time.monotonic(), **more}), flush=True)


def cpu_s():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def peak_rss_kb():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))


def main(bootstrap, events, labels, predictions, group, folder, total):
    app = Application(
        broker_address=bootstrap,
        consumer_group=group,
        auto_offset_reset="earliest",
        processing_guarantee="exactly-once",
        state_dir=folder,
        loglevel="WARNING",
    )
    sink = app.topic(predictions, value_serializer="json", key_serializer="bytes")
    inputs = [app.topic(name, value_deserializer="json", key_deserializer="bytes") for name in (events, labels)]
    model = StandardScaler() | LogisticRegression()
    seen = 0
    began_cpu_s = 0.0

    def process(value, state):
        nonlocal seen, began_cpu_s
        if seen == 0:
            began_cpu_s = cpu_s()
            say("first")
        seen += 1
        if seen == total:
            app.stop()
        if "arr_delay" in value:
            return outcome(value, state)
        keys = entities(value)
        held = {column: state.get(f"{column}:{key}") or empty() for column, key in keys.items()}
        x = features(value, held)
        p = model.predict_proba_one(x)[True]
        for column in ("carrier", "origin", "tailnum"):
            if column in held:
                add_event(column, held[column], value["scheduled_departure"])
                state.set(f"{column}:{keys[column]}", held[column])
        state.set(f"pending:{value['event_id']}", {"keys": keys, "x": x})
        return {"event_id": value["event_id"], "prediction": p, "features": x}

    def outcome(value, state):
        name = f"pending:{value['event_id']}"
        waiting = state.get(name)
        if waiting is None:
            return None
        state.delete(name)
        late = value["arr_delay"] > 15
        for column, key in waiting["keys"].items():
            held = state.get(f"{column}:{key}") or empty()
            add_outcome(column, held, value["arrived_at"], late)
            state.set(f"{column}:{key}", held)
        model.learn_one(waiting["x"], late)
        return None

    stream = app.dataframe(inputs[0]).concat(app.dataframe(inputs[1]))
    stream.apply(process, stateful=True).filter(lambda value: value is not None).to_topic(sink)
    app.run()
    say("ended", cpu_s=cpu_s() - began_cpu_s, peak_rss_kb=peak_rss_kb())


if __name__ == "__main__":
    main(*sys.argv[1:7], int(sys.argv[7]))
