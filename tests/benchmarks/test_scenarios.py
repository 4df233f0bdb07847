"""Every benchmark scenario in a form so small that it says nothing about speed, so that none of them rots."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import pytest

from benchmarks import declared, latency, memory, overhead, overload, peers, recovery, scale
from benchmarks.latency import percentile
from benchmarks.peers import environments
from benchmarks.peers.flight_windows import NAMES, add_event, add_outcome, empty, entities, features
from benchmarks.place import Place, place
from headrace.examples.flights_data import events, flights, labels


@pytest.fixture(scope="module")
def here() -> Iterator[Place]:
    """One broker for all scenarios."""
    with place() as made:
        yield made


@pytest.fixture
def on(here: Place, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Lets a scenario take place on that broker rather than on one of its own."""

    @contextmanager
    def shared() -> Iterator[Place]:
        yield here

    def bind(module: ModuleType) -> ModuleType:
        monkeypatch.setattr(importlib.import_module(module.__name__), "place", shared)
        return module

    return bind


@pytest.fixture
def said() -> list[Any]:
    """What a scenario reports: a table, and remarks."""
    return []


def test_latency_measures_lane_and_copy(on: Any, said: list[Any]) -> None:
    """Every event is measured with both, in an open loop, and the ratio of the medians' pair is reported."""
    found = on(latency).run(said.append, rates=(100,), seconds=1.0, rounds=1, warm_up_s=0.5)
    lane, copy = found["at_100"]["lane"], found["at_100"]["copy"]
    assert lane["events"] == copy["events"] == 100
    assert 0 < lane["p50"] <= lane["p99"] <= lane["p99.9"] <= lane["max"]
    assert found["p99_over_copy"] == lane["p99"] / copy["p99"]
    assert len(said) == 1


def test_scale_varies_keys_and_workers(on: Any, said: list[Any]) -> None:
    """A row for every value; for keys with the checkpoint and the recovery that followed it."""
    found = on(scale).run(said.append, events=300, rounds=1, varied={"keys": (100, 200), "workers": (2,)})
    assert list(found["keys"]) == ["100", "200"]
    assert found["keys"]["200"]["checkpoint_entries"] > found["keys"]["100"]["checkpoint_entries"] > 0
    assert found["keys_ratio"] > 0
    assert found["workers"]["2"]["events_per_s"] > 0


def test_recovery_kills_and_compares_with_a_changelog(on: Any, said: list[Any]) -> None:
    """After the kill no more is replayed than there was; the changelog holds every update of the state."""
    found = on(recovery).run(said.append, keys=(50,), replayed=200, rounds=1, changelog_events=300)
    killed = found["keys"]["50"]
    assert killed["replayed_records"] <= 400  # none, if a slow recovery before made a checkpoint due at once
    assert killed["kill_to_prediction_s"] > killed["process_start_s"] + killed["recovery_s"]
    assert found["changelog"]["changelog"]["updates_per_event"] >= 3
    assert found["changelog"]["journal"]["updates_per_event"] == 0


def test_overhead_reads_the_brokers_files(on: Any, said: list[Any]) -> None:
    """What is published takes bytes, and so does the journal, which takes more in small transactions."""
    found = on(overhead).run(said.append, events=400, live_events=200, live_batch=20)
    caught_up, live = (found[way]["bytes_per_event"] for way in ("catching_up", "live"))
    assert all(caught_up[role] > 10 for role in ("events", "labels", "features", "predictions", "examples", "state"))
    assert 0 < caught_up["journal"] < live["journal"]
    assert found["live"]["transactions"] > found["catching_up"]["transactions"]


def test_overload_loses_nothing(on: Any, said: list[Any]) -> None:
    """All that was sent is predicted once, in order, and memory was sampled meanwhile."""
    found = on(overload).run(said.append, seconds=1.0, probe=300, probes=1)
    assert found["predicted"] == found["events"] > 0
    assert found["rss_peak_mb"] >= found["rss_start_mb"] > 0


def test_memory_is_sampled_while_nothing_is_lost(on: Any, said: list[Any]) -> None:
    """All that was sent is predicted once, in order; the slope is that of the samples after the warm-up."""
    found = on(memory).run(said.append, seconds=3.0, rate=100, warm_up_s=1.0)
    assert found["predicted"] == 300
    assert all(rss > 10 for rss in found["rss_mb"])
    assert isinstance(found["slope_mb_per_hour"], float)


def test_peers_compute_the_same_features() -> None:
    """What the peers keep and compute gives the features of the example pipeline, taken in the order of time."""
    frame = flights(12_000)
    stream = [(e["scheduled_departure"], 1, e) for e in events(frame)] + [
        (k["arrived_at"], 0, k) for k in labels(frame)
    ]
    held: dict[str, dict[str, Any]] = {}
    waiting: dict[str, dict[str, str]] = {}
    found = []
    for time_ms, rank, record in sorted(stream, key=lambda item: item[:2]):
        if rank == 0:
            for column, key in waiting.pop(record["event_id"]).items():
                add_outcome(column, held.setdefault(f"{column}:{key}", empty()), time_ms, record["arr_delay"] > 15)
            continue
        keys = entities(record)
        mine = {column: held.setdefault(f"{column}:{key}", empty()) for column, key in keys.items()}
        found.append(features(record, mine))
        for column, entity in mine.items():
            add_event(column, entity, time_ms)
        waiting[record["event_id"]] = keys
    ours = declared.flights("same").backtest(frame).features[list(NAMES)].to_dict("records")
    assert ours == found


@pytest.mark.parametrize("peer", environments.PEERS)
def test_peer_does_the_same_work(peer: str, on: Any, said: list[Any]) -> None:
    """The peer's process on the same broker has our features, on every event those that do not depend on labels."""
    if "HEADRACE_TEST_PEERS" not in os.environ and not environments.installed(peer):
        pytest.skip(
            f"the environment of {peer} is not there: HEADRACE_TEST_PEERS=1 makes it, or make bench SCENARIO=peers"
        )
    found = on(peers).run(said.append, 300, rounds=1, peers=(peer,))
    assert found[f"{peer}_detail"]["agreement"]["event_features"] == 300
    assert found[peer] > 0


def test_percentile_takes_the_value_above_the_share() -> None:
    """Of a hundred values, one lies above the 99th percentile's."""
    assert percentile(list(range(100)), 0.99) == 99
    assert percentile([5.0], 0.999) == 5.0
