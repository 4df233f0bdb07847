"""peers: the flights pipeline in Quix Streams and in Faust, on the same broker, over the same inputs published first.

Throughput is events divided by the time from the first input taken to the last prediction that a read_committed
consumer can read. Features must be the same wherever the peer had the same inputs before the event, else the run fails;
where it had not, that is said, and its ROC AUC stands beside ours.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from rich.table import Table
from river import metrics

from benchmarks import declared
from benchmarks.declared import Records
from benchmarks.peers.environments import PEERS, python
from benchmarks.peers.flight_windows import LATE, NAMES
from benchmarks.place import Place, Site, place
from headrace.streams.stages.chain import Chain
from headrace.streams.topology import group_of

__all__ = ["run"]

SEED = 1
"""Of nothing random: the flights are the first of 2013. Kept so that every scenario has one."""

_SCRIPTS = Path(__file__).parent
_TITLES = {"quix": "Quix Streams", "faust": "Faust"}


def run(
    report: Callable[[Any], None], events: int = 20_000, rounds: int = 3, peers: tuple[str, ...] = PEERS
) -> dict[str, Any]:
    """Each peer in turn with ours, `rounds` times; raises ValueError when features that must agree do not."""
    interpreters = {peer: python(peer) for peer in peers}
    found: dict[str, Any] = {"seed": SEED, "events": events, "rounds": rounds}
    with place() as here:
        _ours(here, events)  # a broker that has done nothing yet is slower
        for peer in peers:
            runs = []
            for number in range(rounds):
                order = (_ours, _theirs) if number % 2 else (_theirs, _ours)
                pair = {
                    way.__name__: way(here, events, *((peer, interpreters[peer]) if way is _theirs else ()))
                    for way in order
                }
                runs.append(pair)
            found[peer], found[f"{peer}_detail"] = _compared(peer, runs)
        if "quix" in peers:
            found["quix_unstamped"] = _unstamped(here, events, interpreters["quix"])
    report(_table(found, peers))
    for peer in peers:
        agreement = found[f"{peer}_detail"]["agreement"]
        report(f"{_TITLES[peer]}: {agreement['said']}")
    if "quix" in peers:
        report(
            "Quix Streams where Kafka's times are those of publishing, not of the events: ROC AUC "
            f"{found['quix_unstamped']['auc']:.4f}, {found['quix_unstamped']['agreement']['said']}"
        )
    return found


def _ours(here: Place, events: int) -> dict[str, Any]:
    site = here.site("flights")
    records = _records(events)
    site.publish(records, stamped=True)
    watcher = _Watcher(site, site.topic("predictions"))
    worker = site.worker()
    began = worker.await_("ready")["at"]
    finished = watcher.until(events, worker)
    ended = worker.await_("ended")
    features = _our_features(site)
    predictions = {_event_id(r.value): _probability(r.value) for r in site.read("predictions")}
    site.drop()
    return _result(events, began, finished, ended, records, features, predictions)


def _theirs(here: Place, events: int, peer: str, interpreter: Path, stamped: bool = True) -> dict[str, Any]:
    site = here.site("flights")
    records = _records(events)
    site.publish(records, stamped=stamped)
    name = f"{site.pipeline.name}-{peer}"
    output = f"{name}.predictions"
    here.cluster.create([(output, 1, {})])
    watcher = _Watcher(site, output)
    arguments = [here.cluster.bootstrap, site.topic("events"), site.topic("labels"), output, name]
    folder = here.folder / uuid.uuid4().hex[:8]
    total = sum(len(part) for part in records)
    script = str(_SCRIPTS / f"{peer}_flights.py")
    given = [*arguments, str(folder), total]
    command = [str(interpreter), script, *(map(str, given) if peer == "quix" else ())]
    process = here.spawn(command, {"BENCH": json.dumps(given), "PYTHONPATH": ""})
    began = process.await_("first")["at"]
    finished = watcher.until(events, process)
    ended = process.await_("ended")
    process.kill()
    made = [json.loads(record.value) for record in watcher.records]
    features = {one["event_id"]: one["features"] for one in made}
    predictions = {one["event_id"]: one["prediction"] for one in made}
    created = [topic for topic in here.cluster.admin.list_topics(timeout=10).topics if name in topic]
    here.cluster.delete(created)
    site.drop()
    return _result(events, began, finished, ended, records, features, predictions)


def _records(events: int) -> Records:
    """The flights, all under one key: Quix keeps state by key, and none of the windows goes by that of the records.

    Kafka's time of an event is a millisecond after its label's would be: where both are of one minute, the label comes
    first with whoever aligns inputs by that time, as it does in ours.
    """
    flights, arrivals = declared.flight_records(events)
    return (
        [record._replace(key=b"flights", time_ms=record.time_ms + 1) for record in flights],
        [record._replace(key=b"flights") for record in arrivals],
    )


def _unstamped(here: Place, events: int, interpreter: Path) -> dict[str, Any]:
    """What Quix makes of the same inputs when Kafka's times are those of publishing: it reads in that order."""
    pair = {"_ours": _ours(here, events), "_theirs": _theirs(here, events, "quix", interpreter, stamped=False)}
    return {"auc": pair["_theirs"]["auc"], "our_auc": pair["_ours"]["auc"], "agreement": _agreement("quix", pair)}


class _Watcher:
    """A read_committed consumer of predictions that notes when the last one could be read."""

    def __init__(self, site: Site, topic: str) -> None:
        self.records: list[Any] = []
        self._reader = site.place.cluster.reader()
        self._reader.follow({(topic, 0): 0})

    def until(self, count: int, process: Any, patience_s: float = 120.0) -> float:
        """When the last of `count` predictions was there."""
        progressed = time.monotonic()
        while len(self.records) < count:
            records = self._reader.poll(5_000, 0.05)
            now = time.monotonic()
            if records:
                progressed = now
                self.records += records
            elif now - progressed > patience_s:
                raise RuntimeError(f"{len(self.records)} of {count} predictions came:\n{process.tail()}")
        self._reader.close()
        return now


def _our_features(site: Site) -> dict[str, dict[str, Any]]:
    """As a consumer of the topic reads them."""
    decode = Chain(site.pipeline, group_of()).features_wire.decode
    out = {}
    for record in site.read("features"):
        value = decode(record.value)
        out[value["event_id"]] = {name: value["features"][name] for name in NAMES}
    return out


def _event_id(value: bytes) -> str:
    return str(msgspec.json.decode(value)["event_id"])


def _probability(value: bytes) -> float:
    """The champion's; 0.5 where it gave none because it was untrained, as River's does."""
    probability = msgspec.json.decode(value)["probability"]
    return 0.5 if probability is None else float(probability)


def _result(
    events: int, began: float, finished: float, ended: dict[str, Any], records: Any, features: Any, predictions: Any
) -> dict[str, Any]:
    return {
        "events_per_s": events / (finished - began),
        "cpu_us_per_event": ended["cpu_s"] / events * 1e6,
        "peak_rss_mb": ended["peak_rss_kb"] / 1024,
        "auc": _auc(records, predictions),
        "features": features,
        "predictions": predictions,
    }


def _auc(records: Any, predictions: dict[str, float]) -> float:
    auc = metrics.ROCAUC()
    for record in records[1]:
        label = json.loads(record.value)
        auc.update(label["arr_delay"] > 15, predictions[label["event_id"]])
    return float(auc.get())


def _compared(peer: str, runs: list[dict[str, Any]]) -> tuple[float, dict[str, Any]]:
    ratios = [pair["_ours"]["events_per_s"] / pair["_theirs"]["events_per_s"] for pair in runs]
    detail: dict[str, Any] = {"ratios": ratios, "agreement": _agreement(peer, runs[-1])}
    for way in ("_ours", "_theirs"):
        detail[way.strip("_")] = {
            figure: statistics.median(pair[way][figure] for pair in runs)
            for figure in ("events_per_s", "cpu_us_per_event", "peak_rss_mb", "auc")
        }
    return statistics.median(ratios), detail


def _agreement(peer: str, pair: dict[str, Any]) -> dict[str, Any]:
    """How many events have the same features; those over labels may differ where labels came at other times."""
    ours, theirs = pair["_ours"]["features"], pair["_theirs"]["features"]
    if ours.keys() != theirs.keys():
        raise ValueError(f"{peer} predicted {len(theirs)} different events, we {len(ours)}")
    of_events = [name for name in NAMES if name not in LATE.values()]
    same_events = sum(all(_same(ours[i][n], theirs[i][n]) for n in of_events) for i in ours)
    same_all = sum(all(_same(ours[i][n], theirs[i][n]) for n in NAMES) for i in ours)
    same_predictions = sum(p == pair["_theirs"]["predictions"][i] for i, p in pair["_ours"]["predictions"].items())
    if same_events != len(ours):
        i = next(i for i in ours if not all(_same(ours[i][n], theirs[i][n]) for n in of_events))
        raise ValueError(f"{peer}: the comparison is void, features of {i} differ:\n{ours[i]}\n{theirs[i]}")
    said = (
        f"of {len(ours)} events, {same_events} agree in the {len(of_events)} features over events, {same_all} in the "
        f"{len(LATE)} over labels too, {same_predictions} in the prediction to the last bit"
        + ("." if same_all == len(ours) else ": it had not the same labels before the others.")
    )
    return {
        "events": len(ours),
        "event_features": same_events,
        "all_features": same_all,
        "predictions": same_predictions,
        "said": said,
    }


def _same(a: float, b: float) -> bool:
    return abs(a - b) <= 1e-9 * max(1.0, abs(a))


def _table(found: dict[str, Any], peers: tuple[str, ...]) -> Table:
    table = Table(title="peers: flights, inputs published first")
    for column in ("", "events", "events/s", "CPU us/event", "peak RSS MB", "ROC AUC", "ours over theirs", "[min-max]"):
        table.add_column(column, justify="left" if not column else "right")
    for peer in peers:
        detail = found[f"{peer}_detail"]
        for title, way in ((_TITLES[peer], "theirs"), ("Headrace", "ours")):
            row = detail[way]
            ratio = (f"{found[peer]:.1f}", f"[{min(detail['ratios']):.1f}-{max(detail['ratios']):.1f}]")
            table.add_row(
                title,
                str(found["events"]),
                f"{row['events_per_s']:,.0f}",
                f"{row['cpu_us_per_event']:.0f}",
                f"{row['peak_rss_mb']:.0f}",
                f"{row['auc']:.4f}",
                *(ratio if way == "ours" else ("", "")),
            )
    return table


if __name__ == "__main__":
    run(print, {"quix": int(sys.argv[1]), "faust": int(sys.argv[2])}, int(sys.argv[3]))
