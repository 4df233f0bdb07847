"""The flights pipeline over real flights is the plain loop of tests/oracle.py, bit for bit."""

from __future__ import annotations

import copy
from functools import cache
from typing import Any

import pytest

from headrace import Backtest, Pipeline
from headrace.examples.flights import flights
from headrace.examples.flights_data import events, labels
from headrace.examples.flights_data import flights as data
from tests import oracle

FLIGHTS = 5_000


@cache
def plain(count: int) -> dict[str, Any]:
    """What the plain loop says of the first flights of 2013."""
    frame = data(count)
    return oracle.run(events(frame), labels(frame), oracle.Spec(models=flights.fresh_models()))


@cache
def ran(count: int, champion: str) -> Backtest:
    """The same flights through the runtime in memory."""
    return with_champion(champion).backtest(data(count))


def with_champion(name: str) -> Pipeline:
    changed = copy.copy(flights)
    changed.champion = name
    return changed


def predictions(result: Backtest, expected: list[float | None]) -> dict[str, int]:
    """How many published probabilities equal the loop's answer, differ from it, or come before the first example."""
    found = {"compared": 0, "different": 0, "untrained": 0}
    rows = result.predictions
    for said, answer, version in zip(rows["probability"], expected, rows["model"], strict=True):
        if version.endswith("@0"):
            found["untrained"] += 1
        else:
            found["compared"] += 1
            found["different"] += said != answer and not (answer is None and said != said)
    return found


def features(result: Backtest) -> list[dict[str, Any]]:
    decode = result.task.chain.features_wire.decode
    return [decode(value)["features"] for _, _, value, _ in result.outputs["features"]]


def learned(result: Backtest) -> list[tuple[str, bool]]:
    decode = result.task.chain.examples_wire.decode
    rows = [decode(value) for _, _, value, _ in result.outputs["examples"]]
    return [(row["event_id"], row["label"]) for row in rows]


def compared(count: int, champion: str) -> dict[str, Any]:
    """Everything at once, for docs/equality.md."""
    loop, result = plain(count), ran(count, champion)
    return predictions(result, loop["predictions"][champion]) | {
        "features equal": features(result) == loop["features"],
        "learned equal": learned(result) == loop["learned"],
        "metrics equal": all(measures(result, model) == measures_of(loop, model) for model in flights.models),
        "metrics": loop["metrics"],
        "counts": loop["counts"],
    }


def measures(result: Backtest, model: str) -> dict[str, Any]:
    return {name: result.metrics[model][name] for name in ("ROCAUC", "Accuracy")}


def measures_of(loop: dict[str, Any], model: str) -> dict[str, Any]:
    return {name: loop["metrics"][model][name] for name in ("ROCAUC", "Accuracy")}


@pytest.mark.parametrize("champion", list(flights.models))
def test_predictions_are_the_plain_loop_s(champion: str) -> None:
    """Every published probability is the loop's, as a float; few come before the first example."""
    found = predictions(ran(FLIGHTS, champion), plain(FLIGHTS)["predictions"][champion])
    assert found["different"] == 0
    assert found["untrained"] < 100
    assert found["compared"] + found["untrained"] == FLIGHTS


def test_features_are_the_plain_loop_s() -> None:
    """All features of all events, values and order of names, in the order of the events."""
    ours, loops = features(ran(FLIGHTS, "logreg")), plain(FLIGHTS)["features"]
    assert ours == loops
    assert [list(x) for x in ours] == [list(x) for x in loops]


def test_what_is_learned_is_the_plain_loop_s() -> None:
    """The same examples with the same labels, in the same order."""
    assert learned(ran(FLIGHTS, "logreg")) == plain(FLIGHTS)["learned"]


@pytest.mark.parametrize("model", list(flights.models))
def test_metrics_are_the_plain_loop_s(model: str) -> None:
    """ROC AUC and accuracy of champion and challenger alike are River's floats."""
    assert measures(ran(FLIGHTS, "logreg"), model) == measures_of(plain(FLIGHTS), model)


def test_counts_are_the_plain_loop_s() -> None:
    """Events, duplicates, predictions, labelled, expired and pending; the laws hold."""
    summary, loop = ran(FLIGHTS, "logreg").summary, plain(FLIGHTS)["counts"]
    ours = {name: getattr(summary, name) for name in ("events", "duplicates", "predictions", "labelled", "expired")}
    assert ours | {"pending": summary.pending} == {name: loop[name] for name in [*ours, "pending"]}
    assert summary.expired > 0
    assert all(summary.laws.values())


def test_the_models_end_as_the_plain_loop_s() -> None:
    """After the last example they answer alike."""
    ours, loops = ran(FLIGHTS, "logreg").task.chain.stores.states["models"], plain(FLIGHTS)["models"]
    for x in plain(FLIGHTS)["features"][:: FLIGHTS // 50]:
        for name in flights.models:
            assert ours[name].value.predict_proba_one(x) == loops[name].predict_proba_one(x)


def test_which_model_is_champion_changes_only_what_is_published() -> None:
    """Examples have the same features, labels and order, and metrics are the same, under either champion."""
    first, second = ran(FLIGHTS, "logreg"), ran(FLIGHTS, "hat")
    assert first.metrics == second.metrics
    assert learned(first) == learned(second)
    assert [o[:3] for o in first.outputs["features"]] == [o[:3] for o in second.outputs["features"]]
    assert first.outputs["predictions"] != second.outputs["predictions"]
