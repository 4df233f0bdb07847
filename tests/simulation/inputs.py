"""Inputs as the world sends them: duplicates, disorder, labels first, orphans, corrections, late ones, garbage."""

from __future__ import annotations

import json
from random import Random
from typing import NamedTuple

from tests.simulation.pipelines import SPAN_MS, T0_MS

__all__ = ["Sent", "commands", "inputs"]

_GARBAGE = (
    b"",
    None,
    b"{",
    b"\xff\xfe",
    b"[1]",
    b'{"id": 3}',
    b'{"id":"x","who":"a","t":1e400,"v":1,"c":null}',
    b"null",
)


class Sent(NamedTuple):
    """A record to publish: to which input, where, and at which time of its own."""

    time_ms: int
    role: str
    partition: int
    key: bytes
    value: bytes | None


def inputs(rng: Random, partitions: int, count: int) -> list[Sent]:
    """About `count` records for both inputs, in the order in which they would be published live."""
    sent: list[Sent] = []
    for n in range(count // 2):
        who = f"k{rng.randrange(5)}"
        partition = sum(who.encode()) % partitions
        time_ms = T0_MS + rng.randrange(SPAN_MS)
        event = {"id": f"e{n}", "who": who, "t": time_ms, "v": round(rng.gauss(0, 5), 3), "c": rng.choice(["x", None])}
        _odd(rng, event)
        key = who.encode()
        sent.append(_of("events", partition, key, event, time_ms))
        for _ in range(rng.choice((0,) * 8 + (1, 2))):
            again = dict(event, v=rng.choice([event["v"], 7.0]))
            sent.append(_of("events", partition, key, again, time_ms + rng.randrange(3_600_000)))
        sent += _labels(rng, event, partition, key, time_ms)
    for _ in range(rng.randrange(4)):
        role = rng.choice(("events", "labels"))
        sent.append(Sent(T0_MS + rng.randrange(SPAN_MS), role, rng.randrange(partitions), b"k0", rng.choice(_GARBAGE)))
    sent.sort(key=lambda record: record.time_ms)
    return sent


def commands(rng: Random, partitions: int) -> list[Sent]:
    """What people ask of the registry: promotions, rollbacks, canaries, nonsense, the same again, and garbage."""
    sent: list[Sent] = []
    for n in range(rng.randint(1, 12)):
        kind = rng.choice(
            ("promote", "promote", "rollback", "canary", "retire", "approve", "dance", "retrain", "adopt")
        )
        model = rng.choice(("logreg", "alma", "alma", "nobody", None, "again", "again"))
        told: dict[str, object] = {"record": "command", "id": f"c{n}", "kind": kind, "by": "sim", "model": model}
        told |= {"saw": rng.choice((None, None, None, 2, 3, 4)), "share": rng.choice((None, 0.0, 0.5, 1.0))}
        if kind == "retrain":
            told |= {"model": rng.choice(("logreg", "alma")), "name": rng.choice(("again", "new"))}
            told |= {"from_n": rng.choice((None, 0, 5, 500)), "from_ms": rng.choice((None, T0_MS + SPAN_MS // 2))}
        for partition in range(partitions):
            record = told | {"shard": partition if rng.random() < 0.95 else 9}
            sent += [_of("registry", partition, b"", record, 0)] * rng.choice((1, 1, 1, 2))
        if rng.random() < 0.2:
            sent.append(Sent(0, "registry", rng.randrange(partitions), b"", rng.choice(_GARBAGE)))
    return sent


def _odd(rng: Random, event: dict[str, object]) -> None:
    """Some events are wrong, or make a feature fail."""
    roll = rng.random()
    if roll < 0.02:
        event["v"] = 1000
    elif roll < 0.04:
        event["v"] = 13.0
    elif roll < 0.05:
        event["v"] = "seven"
    elif roll < 0.06:
        event["t"] = T0_MS + 10 * 365 * 86_400_000
    elif roll < 0.07:
        del event["who"]
    elif roll < 0.09:
        event["t"] = int(str(event["t"])) - rng.randrange(4 * 3_600_000)


def _labels(rng: Random, event: dict[str, object], partition: int, key: bytes, time_ms: int) -> list[Sent]:
    """None, one, or several labels of an event: in time, late, before it, again, corrected; or of an unknown event."""
    roll = rng.random()
    if roll < 0.1:
        return []
    delay = rng.choice((600_000, 1_800_000, 7_200_000, -900_000)) * rng.random()
    at = time_ms + int(delay)
    y: object = rng.random() < 0.4
    out = [_of("labels", partition, key, {"id": event["id"], "t": at, "y": y}, at)]
    if roll < 0.2:
        later = at + rng.randrange(1_800_000)
        other = rng.choice([y, not y])
        out.append(_of("labels", partition, key, {"id": event["id"], "t": later, "y": other}, later))
    elif roll < 0.24:
        out.append(_of("labels", partition, key, {"id": f"unknown-{event['id']}", "t": at, "y": True}, at))
    elif roll < 0.26:
        out.append(_of("labels", partition, key, {"id": event["id"], "t": at, "y": "maybe"}, at))
    return out


def _of(role: str, partition: int, key: bytes, record: dict[str, object], time_ms: int) -> Sent:
    return Sent(time_ms, role, partition, key, json.dumps(record).encode())
