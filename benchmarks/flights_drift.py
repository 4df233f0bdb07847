"""The alerts of a whole year of flights, as a table: docs/drift-flights.md's, from the memory runtime.

python -m benchmarks.flights_drift [EVENTS]
"""

from __future__ import annotations

import copy
import json
import sys
from datetime import UTC, datetime
from typing import Any

from headrace import (
    Proxies,
    previous,
    watch_error,
    watch_feature,
    watch_features,
    watch_label,
    watch_prediction,
)
from headrace.examples.flights import flights as example
from headrace.examples.flights_data import flights as rows

__all__ = ["WATCHES", "main", "table"]

WATCHES = [
    watch_error(every=7_000, false_alarms_every=10_000_000, reference=previous("28d"), cooldown="7d"),
    watch_label(every=7_000, false_alarms_every=10_000_000, reference=previous("28d"), cooldown="7d"),
    watch_prediction(every=7_000, false_alarms_every=10_000_000, reference=previous("28d"), cooldown="7d"),
    watch_feature("distance", statistic="ks", every=7_000, false_alarms_every=10_000_000, cooldown="7d"),
    watch_feature("hour", every=7_000, false_alarms_every=10_000_000, cooldown="7d"),
    watch_features(("distance", "hour", "weekday"), every=7_000, false_alarms_every=10_000_000, cooldown="7d"),
]


def table(alerts: list[dict[str, Any]]) -> str:
    """One row for each alert, in the order of opening: when, what, how long, what was said first."""
    by_id: dict[str, list[dict[str, Any]]] = {}
    for alert in alerts:
        by_id.setdefault(alert["alert_id"], []).append(alert)
    lines = ["| opened | signal | strength | days open | findings | what it found |", "|---|---|---|---|---|---|"]
    for records in sorted(by_id.values(), key=lambda records: records[0]["opened_ms"]):
        first, last = records[0], records[-1]
        days = (last["time_ms"] - first["opened_ms"]) / 86_400_000
        said = first["message"].partition(": ")[2]
        strength = max(record["strength"] for record in records)
        when = datetime.fromtimestamp(first["opened_ms"] / 1000, UTC).strftime("%d %b %H:%M")
        found = (f"`{first['signal']}`", f"{strength:.2f}", f"{days:.1f}", str(last["findings"]), said)
        lines.append(f"| {when} | {' | '.join(found)} |")
    return "\n".join(lines)


def main() -> None:
    """Run the year, print the table, and how many alerts there were of each signal."""
    limit = int(sys.argv[1]) if len(sys.argv) > 1 else 400_000
    pipeline = copy.copy(example)
    pipeline.models = {"logreg": example.fresh_models()["logreg"]}
    pipeline.drift = tuple(WATCHES)
    pipeline.proxies = Proxies(every=10_000)
    done = pipeline.backtest(rows(limit))
    alerts = [json.loads(value or b"") for _, _, value, _ in done.outputs.get("alerts", [])]
    print(table(alerts))
    opened = [alert["signal"] for alert in alerts if alert["status"] == "opened"]
    print({signal: opened.count(signal) for signal in sorted(set(opened))}, "in", limit)
    scored = [json.loads(v or b"") for _, _, v, _ in done.outputs["evaluations"] if b'"proxy-scored' in (v or b"")]
    for record in scored:
        print(record["last_n"], json.dumps(record["metrics"]))


if __name__ == "__main__":
    main()
