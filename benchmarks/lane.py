"""lane: flights, all published first, from raw JSON to committed predictions, features, examples and learning.

Beside it, in turn, the plain loop: the same work in one process without Kafka (`loop.py`). Each run is a process of its
own. A lane's time goes from the moment that its task is ready, before the first fetch, to its last commit; the loop's
from the first event to the last label.

    ratio_to_loop           logistic regression, River's own methods
    compiled_ratio          the same through its kernel (`processors/compiled.py`)
    tree_ratio              a Hoeffding adaptive tree, through its kernel (`processors/adaptive_tree.py`)
    tree_rivers_ratio       the same by River's own methods
    drift_ratio             as compiled_ratio, with three ADWIN detectors, which the loop does not have
    predictions_only_ratio  as compiled_ratio, features and examples not published
    plain_windows_ratio     as compiled_ratio, the loop with windows written by hand for these features instead of ours

Each has a second opinion for busy machines: the loop's processor time over that of the lane's process (`cpu_ratio`,
the client's threads included) and over that of its one thread that processes (`main_cpu_ratio`).
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Callable, Sequence
from typing import Any

from rich.table import Table

from benchmarks import declared
from benchmarks.place import Place, place

__all__ = ["VARIANTS", "run"]

VARIANTS: dict[str, dict[str, Any]] = {
    "ratio_to_loop": {"plans": ["steps", "model"]},
    "compiled_ratio": {},
    "tree_ratio": {"model": "hat"},
    "tree_rivers_ratio": {"model": "hat", "plans": ["model"]},
    "drift_ratio": {"drift": True},
    "predictions_only_ratio": {"publish": []},
    "plain_windows_ratio": {},
}
_SLOW = 4
"""A tree takes so many times as long: it is given as many times fewer events."""


def run(
    report: Callable[[Any], None],
    events: int = 100_000,
    rounds: int = 5,
    variants: Sequence[str] = tuple(VARIANTS),
    settings: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Lane and loop in turn, `rounds` pairs of each variant; the medians of the ratios, and all of them."""
    found: dict[str, Any] = {"events": events, "rounds": rounds}
    with place() as here:
        _lane(here, {}, min(events, 10_000), settings or {})  # a broker's first transactions are slow
        for name in variants:
            options = VARIANTS[name]
            count = events // _SLOW if options.get("model") == "hat" else events
            plain = name == "plain_windows_ratio"
            pairs = [_pair(here, options, count, settings or {}, i % 2 == 1, plain) for i in range(rounds)]
            found[name] = statistics.median(pair["ratio"] for pair in pairs)
            found[f"{name}_detail"] = _detail(pairs, count)
    report(_table(found, variants))
    return found


def _pair(
    here: Place, options: dict[str, Any], events: int, settings: dict[str, Any], swap: bool, plain_windows: bool
) -> dict[str, Any]:
    ways: dict[str, Callable[[], dict[str, Any]]] = {
        "lane": lambda: _lane(here, options, events, settings),
        "loop": lambda: _loop(here, options, events, plain_windows),
    }
    order = ("loop", "lane") if swap else ("lane", "loop")
    pair: dict[str, Any] = {way: ways[way]() for way in order}
    if pair["lane"]["roc_auc"] != pair["loop"]["roc_auc"]:
        raise RuntimeError(f"the lane's ROC AUC is not the loop's: {pair}")
    return pair | {"ratio": pair["loop"]["seconds"] / pair["lane"]["seconds"]}


def _lane(here: Place, options: dict[str, Any], events: int, settings: dict[str, Any]) -> dict[str, Any]:
    site = here.site("flights", **options)
    records = declared.flight_records(events)
    site.publish(records)
    ended = site.worker(**settings).await_("ended")
    site.drop()
    expected = len(records[0]) + len(records[1])
    if ended["inputs"] != expected:
        raise RuntimeError(f"{ended['inputs']} of {expected} inputs were processed")
    figures = {name: ended[name] for name in ("seconds", "cpu_s", "main_cpu_s", "transactions", "peak_rss_kb")}
    return figures | {"roc_auc": next(iter(ended["summaries"]["0"].values()))["ROCAUC"]}


def _loop(here: Place, options: dict[str, Any], events: int, plain_windows: bool) -> dict[str, Any]:
    job = {"kind": "flights", "options": options, "events": events, "plain_windows": plain_windows}
    ended = here.spawn([sys.executable, "-m", "benchmarks.loop", json.dumps(job)]).await_("ended")
    return {name: ended[name] for name in ("seconds", "cpu_s", "roc_auc")}


def _detail(pairs: Sequence[dict[str, Any]], events: int) -> dict[str, Any]:
    def per_s(way: str) -> int:
        return round(events / statistics.median(pair[way]["seconds"] for pair in pairs))

    def cpu_us(way: str) -> float:
        return round(statistics.median(pair[way]["cpu_s"] for pair in pairs) / events * 1e6, 2)

    ratios = sorted(pair["ratio"] for pair in pairs)
    by_cpu = [pair["loop"]["cpu_s"] / pair["lane"]["cpu_s"] for pair in pairs]
    by_main = [pair["loop"]["cpu_s"] / pair["lane"]["main_cpu_s"] for pair in pairs]
    return {
        "ratios": [round(ratio, 3) for ratio in ratios],
        "cpu_ratio": round(statistics.median(by_cpu), 3),
        "main_cpu_ratio": round(statistics.median(by_main), 3),
        "lane_events_per_s": per_s("lane"),
        "loop_events_per_s": per_s("loop"),
        "lane_cpu_us": cpu_us("lane"),
        "loop_cpu_us": cpu_us("loop"),
        "events": events,
        "transactions": statistics.median(pair["lane"]["transactions"] for pair in pairs),
        "peak_rss_mb": round(max(pair["lane"]["peak_rss_kb"] for pair in pairs) / 1024),
    }


def _table(found: dict[str, Any], variants: Sequence[str]) -> Table:
    table = Table(title=f"lane against the plain loop, {found['events']} flights, {found['rounds']} pairs")
    for column in ("variant", "median", "min to max", "lane ev/s", "loop ev/s", "CPU", "main CPU"):
        table.add_column(column, justify="left" if column == "variant" else "right")
    for name in variants:
        detail = found[f"{name}_detail"]
        span = f"{detail['ratios'][0]:.2f} to {detail['ratios'][-1]:.2f}"
        figures = [f"{detail[key]:,}" for key in ("lane_events_per_s", "loop_events_per_s")]
        costs = [f"{detail[key]:.2f}" for key in ("cpu_ratio", "main_cpu_ratio")]
        table.add_row(name, f"{found[name]:.2f}", span, *figures, *costs)
    return table
