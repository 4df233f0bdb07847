"""A synthetic pipeline with six lanes, a model each, and records for it with everything that makes life hard."""

from __future__ import annotations

import json
import random
from typing import Any, NamedTuple

from river import optim
from river.linear_model import LogisticRegression
from river.naive_bayes import GaussianNB
from river.preprocessing import StandardScaler

from headrace import (
    Events,
    Gate,
    Labels,
    Pipeline,
    Versions,
    between,
    count,
    field,
    label,
    mean,
    time_since_last,
    variance,
)

__all__ = ["LANES", "Record", "Traffic", "soak", "traffic"]

LANES = 6
_ENTITIES = 60
_COMMANDS = 40
_START_MS = 1_700_000_000_000
_STRING, _DOUBLE, _BOOL = "string", "double", "boolean"
_TIME = {"type": "long", "logicalType": "timestamp-millis"}


def _schema(name: str, **fields: Any) -> dict[str, Any]:
    return {"type": "record", "name": name, "fields": [{"name": n, "type": t} for n, t in fields.items()]}


soak = Pipeline(
    "soak",
    task="binary",
    events=Events(
        _schema("Reading", id=_STRING, device=_STRING, at=_TIME, level=_DOUBLE),
        id="id",
        key="device",
        time="at",
        expect={"level": between(0.0, 100.0)},
        duplicates_within="3h",
    ),
    labels=Labels(_schema("Outcome", id=_STRING, known=_TIME, alarm=_BOOL), id="id", time="known", y="alarm", ttl="3h"),
    features={
        "level": field("level"),
        "readings_10m": count(by="device", over="10m", tile="1m"),
        "level_10m": mean("level", by="device", over="10m", tile="1m", default=0.0),
        "spread_10m": variance("level", by="device", over="10m", tile="1m", default=0.0),
        "alarms_30m": mean(label(), by="device", over="30m", tile="5m", default=0.0),
        "since_s": time_since_last(by="device", default=0.0),
    },
    models={
        "logreg": StandardScaler() | LogisticRegression(),
        "hasty": StandardScaler() | LogisticRegression(optim.SGD(0.5)),
        "bayes": GaussianNB(),
    },
    champion="hasty",
    gate=Gate(minimum=300, every=50),
    shadow=0.2,
    versions=Versions(every=500),
    partitions=LANES,
    evaluate_every=200,
)


class Record(NamedTuple):
    """A record to be published."""

    role: str
    lane: int
    key: bytes
    value: bytes


class Traffic(NamedTuple):
    """Records in the order of publishing, and what must become of them.

    `ids` are the valid events by lane in their order, `labelled` the ids that get a label, `duplicates` and `broken`
    how many records repeat an id or cannot be read, `commands` the ids of what was asked of every lane's registry.
    """

    records: list[Record]
    ids: list[list[str]]
    labelled: set[str]
    duplicates: int
    broken: int
    commands: list[str]


def traffic(events: int, seed: int) -> Traffic:
    """`events` valid events with labels for most, some twice, some late, and some that are no events at all."""
    chance = random.Random(seed)
    queue: list[tuple[float, int, Record]] = []
    ids: list[list[str]] = [[] for _ in range(LANES)]
    labelled: set[str] = set()
    duplicates = broken = 0
    for i in range(events):
        entity = chance.randrange(_ENTITIES)
        lane, key = entity % LANES, f"device-{entity}".encode()
        at = _START_MS + i * 200 - (chance.randrange(60_000) if chance.random() < 0.05 else 0)
        level = min(100.0, max(0.0, chance.gauss(30 + entity % 7 * 6, 15)))
        name = f"e{i}"
        event = json.dumps({"id": name, "device": key.decode(), "at": at, "level": level}).encode()
        queue.append((i, len(queue), Record("events", lane, key, event)))
        ids[lane].append(name)
        if chance.random() < 0.02:
            duplicates += 1
            queue.append((i + chance.random() * 500, len(queue), Record("events", lane, key, event)))
        if chance.random() < 0.01:
            broken += 1
            queue.append((i, len(queue), Record("events", lane, key, event[:-7])))
        if chance.random() < 0.95:
            labelled.add(name)
            known = at + chance.randrange(5_000, 300_000)
            outcome = {"id": name, "known": known, "alarm": level + chance.gauss(0, 10) > 50}
            queue.append(
                (i + chance.random() * 300, len(queue), Record("labels", lane, key, json.dumps(outcome).encode()))
            )
    commands = [f"c{n}" for n in range(_COMMANDS)]
    for name in commands:
        at, told = chance.uniform(0, events), _command(chance, name)
        for lane in range(LANES):
            record = json.dumps({"record": "command", "id": name, "shard": lane, "by": "soak", **told}).encode()
            queue.append((at, len(queue), Record("registry", lane, b"", record)))
    queue.sort()
    return Traffic([record for _, _, record in queue], ids, labelled, duplicates, broken, commands)


def _command(chance: random.Random, name: str) -> dict[str, Any]:
    """A promotion, a rollback, a canary, a retraining, a retirement; some make no sense."""
    kind = chance.choice(("promote", "promote", "rollback", "canary", "approve", "retrain", "retrain", "retire"))
    told: dict[str, Any] = {"kind": kind, "model": chance.choice((*soak.models, "nobody")), "saw": None}
    if kind == "rollback":
        told["model"] = chance.choice((None, *soak.models))
    elif kind == "canary":
        told["share"] = chance.choice((0.0, 0.3))
    elif kind == "retrain":
        told |= {"name": f"again-{name}", "from_n": chance.choice((0, 100))}
    elif kind == "retire":
        told["model"] = f"again-c{chance.randrange(_COMMANDS)}"  # declared ones are needed to the end
    if chance.random() < 0.2:
        told["saw"] = 5
    return told
