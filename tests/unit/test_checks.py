"""The contract of processors, checked on every one of them; a new processor without a scenario fails here."""

from __future__ import annotations

import importlib
import inspect
import json
import os
import pkgutil
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest
from river import drift

import headrace.processors
from headrace.processors.base import StoreSpec
from headrace.processors.baselines import Baselines
from headrace.processors.checks import CHECKS, Checked, Scenario
from headrace.processors.compare import Compare
from headrace.processors.drift import Drift
from headrace.processors.evaluate import Evaluate
from headrace.processors.features import count, field, label, mean, time_since_last
from headrace.processors.featurize import Featurize
from headrace.processors.gate import Gate
from headrace.processors.join import Early, Join
from headrace.processors.predict import Predict, validated
from headrace.processors.proxies import Proxies, Proxy
from headrace.processors.registry import CELL, Registry
from headrace.processors.scan import Scan
from headrace.processors.segments import Segments
from headrace.processors.validate import Validate
from headrace.schemas.records import Command, Evaluation, Fact
from headrace.streams.identity.hashing import state_hash
from headrace.streams.state import Stores
from tests.small import Pickled

HOUR_MS = 3_600_000


def hour(n: int, round_: int = 0) -> int:
    return (n + 100 * round_) * HOUR_MS


# -- scenarios ---------------------------------------------------------------------------------------------------------


def event(n: int, round_: int = 0) -> SimpleNamespace:
    return SimpleNamespace(
        at=hour(n, round_), shop=f"{'abc'[n % 3]}{round_}", spent=n * 0.5, note="x" if n % 4 else None, late=n % 5 == 0
    )


def featurized(processor: Featurize, state: Any, item: Any) -> Any:
    x = processor.process(item, item.at, item.at, state)
    processor.update(processor.outcome_keys(item), item.late, item.at, item.at, state)
    return x


def joined(processor: Join, state: Any, item: Any) -> Any:
    kind, event_id, time_ms, offset, y = item
    overtaken = processor.expire(time_ms, state)
    if kind == "event":
        return overtaken, processor.process(event_id, (time_ms, offset, "kept"), state)
    return overtaken, processor.update(event_id, Early(time_ms, offset, 0, y, b"key", None), state)


def steps(round_: int = 0) -> list[tuple[Any, ...]]:
    """Labelled, early, duplicate, corrected, expired, late and orphan ones."""
    out: list[tuple[Any, ...]] = []
    for n in range(24):
        event_id = f"{round_}/{n}"
        kinds = {0: [("event", True), ("label", True)], 1: [("label", True), ("event", True), ("label", False)]}
        for kind, y in kinds.get(n % 4, [("event", True)] if n % 4 == 2 else [("label", False)]):
            out.append((kind, event_id, hour(n, round_), len(out), y))
        if n >= 6:
            out.append(("label", f"{round_}/{n - 6}", hour(n, round_), len(out), n % 3 == 0))
    return out


def shifted(item: tuple[Any, ...], round_: int) -> tuple[Any, ...]:
    kind, event_id, time_ms, offset, y = item
    return kind, f"{round_}:{event_id}", time_ms + hour(0, round_), offset, y


def scored(processor: Evaluate, state: Any, item: Any) -> list[Evaluation]:
    n, y, answers = item
    return processor.process(y, answers, n, hour(n), state)


def compared(processor: Compare, state: Any, item: Any) -> Any:
    n, y, answers, segment = item
    processor.begin("a", ["b"], n, n, state, canary="b")
    processor.update_many([(y, answers, (segment,), "b/0@1")], state)
    return processor.look(n, n, state) if n % 5 == 0 else processor.wanting("b", state)


def segmented(processor: Segments, state: Any, item: Any) -> list[Evaluation]:
    n, y, answers, segment = item
    rows = [(y, answers, processor.compile(state)((segment,)), n, hour(n))]
    return processor.process_many(rows, state, {"a": "champion", "b": "challenger"})[0]


def answered(n: int) -> tuple[Any, ...]:
    a, b, half = (({True: p, False: 1 - p}) for p in (n % 10 / 10, n % 7 / 7, 0.5))
    return n, n % 3 == 0, (a, None if n % 11 == 0 else b, half, half), "xyz"[n % 3]


def watched(processor: Drift, state: Any, item: Any) -> Any:
    n, value = item
    return processor.process(value, hour(n), 0, n, state, n) or n % 7


def based(processor: Baselines, state: Any, item: Any) -> Any:
    answer = processor.answer(state)
    processor.update(item, state)
    return answer


def served(processor: Predict, state: Any, item: Any) -> Any:
    try:
        return processor.process(validated("binary")(item))
    except ValueError as error:
        return str(error)


def decided(processor: Registry, state: Any, item: Any) -> Any:
    n, kind, model = item
    registry = state[CELL].value
    while len(registry["models"]) < 3:
        name = "abc"[len(registry["models"])]
        status = "challenger" if registry["models"] else "champion"
        place = (name, status, "a", 0, 0, None, {}, "me", "", {})
        processor.update(Fact(registry["version"] + 1, "registered", *place), state)
    found = processor.process(Command(str(n), kind, 0, "me", model, share=n % 3 / 4), state)
    place = (found.model, found.status, None, 0, n, hour(n), {}, "me", found.why, found.evidence, str(n))
    processor.update(Fact(registry["version"] + 1, found.kind, *place), state)
    return found, registry["champion"], registry["canary"], registry["past"][-3:]


SCENARIOS: dict[str, Scenario] = {
    "Validate": Scenario(
        lambda: Validate(5 * HOUR_MS),
        lambda processor, state, item: (processor.process(item[0], item[1], state), item[0]),
        [(n % 7 if n % 3 else n, hour(n)) for n in range(40)],
        later=lambda item, round_: (item[0] + 1_000 * round_, item[1] + hour(0, round_)),
    ),
    "Featurize": Scenario(
        lambda: Featurize(
            {
                "spent": field("spent"),
                "note": field("note"),
                "visits": count(by="shop", over="4h"),
                "late": mean(label(), by="shop", over="6h", tile="2h"),
                "since": time_since_last(by=("shop", "note"), over="12h"),
                "all": mean("spent", by=None, over="3h"),
            },
            {"at": "long", "shop": "string", "spent": "double", "note": "string"},
            {"note"},
            "binary",
            HOUR_MS,
        ),
        featurized,
        [event(n) for n in range(40)],
        later=lambda item, round_: event(item.at // HOUR_MS, round_),
        widened=lambda item: SimpleNamespace(**vars(item), more="new"),
        narrowed=lambda item: SimpleNamespace(**(vars(item) | {"note": None})),
    ),
    "Predict": Scenario(
        lambda: Predict("binary"),
        served,
        [{True: 0.5, False: 0.5}, {True: 0.2, False: 0.8}, {False: 1.0}, True, None, {}, {True: float("nan")}, "yes"],
    ),
    "Join": Scenario(lambda: Join(4 * HOUR_MS), joined, steps(), later=shifted),
    "Evaluate": Scenario(
        lambda: Evaluate("binary", ("a", "b"), {"a": "champion", "b": "baseline"}, every=7),
        scored,
        [(n, n % 3 == 0, ({True: n % 10 / 10, False: 1 - n % 10 / 10}, None if n % 4 else True)) for n in range(1, 31)],
        later=lambda item, round_: item,
    ),
    "Compare": Scenario(
        lambda: Compare("binary", ("a", "b"), Gate(minimum=10, every=5, renew=25, segments=("where",))),
        compared,
        [answered(n) for n in range(1, 61)],
        later=lambda item, round_: item,
    ),
    "Segments": Scenario(
        lambda: Segments("binary", ("a", "b"), ("where",), most=2, every=7),
        segmented,
        [answered(n) for n in range(1, 31)],
        later=lambda item, round_: (*item[:3], f"{item[3]}{round_}"),
    ),
    "Registry": Scenario(
        Registry,
        decided,
        [(n, ("promote", "canary", "rollback", "dance")[n % 4], "abc"[n % 7 % 3]) for n in range(120)],
    ),
    "Baselines": Scenario(
        lambda: Baselines("multiclass"), based, ["a", "b", "a", "c", "c", "b", "a"], later=lambda item, round_: item
    ),
    "Proxy": Scenario(
        lambda: Proxy("binary", Proxies(every=10), ("a",), 10_000),
        lambda processor, state, row: processor.process_many([row], state),
        [
            row
            for n in range(40)
            for row in (
                ("p", (n % 3 == 0, 0.1 + n / 50, None), n, n),
                ("x", {"a": str(n % 7)}, n, n),
                ("y", n % 3 == 0, n % 2 == 0, 0.1 + n / 50, n, n + 9, n),
            )
        ],
    ),
    "Drift": Scenario(
        lambda: Drift("error", drift.ADWIN(clock=1, grace_period=5), topic="t"),
        watched,
        [(n, float(n >= 100)) for n in range(150)],
    ),
    "Drift:scan": Scenario(
        lambda: Drift("feature:x", Scan("ks", every=16, false_alarms_every=2_000), topic="t", kind="feature"),
        watched,
        [(n, float(n * n % 53 + 60 * (n >= 260))) for n in range(340)],
    ),
}


# -- checks ------------------------------------------------------------------------------------------------------------


def processors() -> set[str]:
    """Every class of the room that processes, or asks for stores: what the rules of processors hold for."""
    found = set()
    for module in pkgutil.iter_modules(headrace.processors.__path__):
        loaded = importlib.import_module(f"headrace.processors.{module.name}")
        for name, value in vars(loaded).items():
            if inspect.isclass(value) and value.__module__ == loaded.__name__:
                found |= (
                    {name} if any(callable(getattr(value, verb, None)) for verb in ("process", "stores")) else set()
                )
    return found


def checked(name: str) -> Checked:
    return Checked(SCENARIOS[name], lambda wanted: Stores(wanted, Pickled()), state_hash)


def test_every_processor_has_a_scenario() -> None:
    """A processor that is added without one is noticed."""
    assert processors() == {name.partition(":")[0] for name in SCENARIOS}


@pytest.mark.parametrize(
    ("name", "check"), [pytest.param(name, check, id=f"{name}:{check}") for name in SCENARIOS for check in CHECKS]
)
def test_the_contract(name: str, check: str) -> None:
    """Each processor keeps each promise of `headrace.processors.checks`."""
    getattr(checked(name), check)()


def test_the_hash_seed_changes_no_output() -> None:
    """Outputs and state of every scenario are those of a process with another seed."""

    def said(seed: str) -> dict[str, Any]:
        code = "import json; from tests.unit import test_checks as t; print(json.dumps(t.hashes()))"
        here = {"PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)}
        done = subprocess.run([sys.executable, "-c", code], env=os.environ | here, capture_output=True, text=True)
        return dict(json.loads(done.stdout))

    assert said("1") == hashes()


def hashes() -> dict[str, list[str]]:
    """By processor: a hash of its outputs and one of its state."""
    out = {}
    for name in SCENARIOS:
        run = checked(name)
        home, outputs = run.run(SCENARIOS[name].inputs)
        out[name] = [repr(outputs), state_hash(home.contents())]
    return out


# -- the checks themselves ---------------------------------------------------------------------------------------------


class Broken:
    """A processor that breaks every promise, one at a time."""

    def __init__(self, how: str) -> None:
        self.how = how

    def stores(self) -> tuple[StoreSpec, ...]:
        return (StoreSpec("kept", "keyed"), StoreSpec("cell", "cell", initial=lambda: [0]))

    def process(self, item: dict[str, Any], state: Any) -> int:
        cell = state["cell"].value
        cell[0] += 1
        if self.how == "configuration_only":
            self.seen = item
        if self.how == "input_untouched":
            item["seen"] = True
        if self.how == "bounded_memory":
            state["kept"].put(item["id"], cell[0])
        if self.how == "new_and_missing_fields":
            return len(item)
        if self.how == "seed_stable":
            return id(cell)
        if self.how == "restore":
            self.__dict__["total"] = self.__dict__.get("total", 0) + 1
            return int(self.__dict__["total"])
        if self.how == "spread":
            state["kept"].data[item["id"] % 2] = cell[0]  # behind the store's back
        return cell[0]


@pytest.mark.parametrize("how", CHECKS)
def test_a_broken_promise_is_noticed(how: str) -> None:
    """Each check fails on a processor that breaks what it checks."""
    scenario = Scenario(
        lambda: Broken(how),
        lambda processor, state, item: processor.process(item, state),
        [{"id": n} for n in range(20)],
        later=lambda item, round_: {"id": item["id"] + 100 * round_},
        widened=lambda item: item | {"more": 1},
    )
    with pytest.raises(AssertionError):
        getattr(Checked(scenario, lambda wanted: Stores(wanted, Pickled()), state_hash), how)()
