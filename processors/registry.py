"""Registry: which models there are, what each of them is, and who serves. A pure fold over numbered facts.

    registered ─► challenger ─► canary ─► champion        retired: never serves, predicts or learns again
     retraining ─────►▲            │          │
                      └────────────┴──────────┘           (promotion of another, rollback, end of a canary)

`fold` is the only way in which a registry changes: in a task, which makes the facts, and in whoever reads the topic.
`answer` says what becomes of a command: the fact that it leads to, or why it is refused. One champion always: the fact
that makes one ends the other's time.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from headrace.processors.base import State, StoreSpec
from headrace.processors.baselines import BASELINES
from headrace.schemas.records import Command, Fact

__all__ = [
    "CELL",
    "COMMANDS",
    "LONGEST_BASE",
    "MOST_RETRAINED",
    "NAME",
    "SERVING",
    "STATUSES",
    "Answer",
    "Registry",
    "answer",
    "applies",
    "fold",
    "fresh",
    "retrained",
    "standing",
]

CELL = "registry"
SERVING = ("champion", "canary")
STATUSES = ("champion", "canary", "challenger", "retraining", "retired")
_KEPT = 100
"""Past champions and command ids that are remembered."""
MOST_RETRAINED = 8
"""Retrained models that may be there at a time; who is retired does not count."""
LONGEST_BASE = 89
"""Characters of a model's name of which copies are made: theirs, ``NAME-1`` and so on, have a hundred at most."""
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
"""What a model may be called."""


class Answer(NamedTuple):
    """What a command comes to: the kind of the fact, its model, that model's status, and more."""

    kind: str
    model: str | None
    status: str | None
    why: str
    evidence: dict[str, Any]


class Registry:
    """The registry of one shard as a processor: its one cell holds what `fold` makes of the facts so far.

    >>> registry = fresh()
    >>> for version, (model, status) in enumerate([("old", "champion"), ("new", "challenger")], 1):
    ...     fold(registry, Fact(version, "registered", model, status, "old", 0, 0, None, {}, "declaration", "", {}))
    >>> answer(registry, Command("c1", "promote", 0, "me", "new", saw=2), 0).kind
    'promoted'
    >>> answer(registry, Command("c2", "promote", 0, "me", "new", saw=1), 0).why
    'it was decided on version 1 of the registry, which has changed since: version 2 is registered of new'
    """

    def __init__(self, shard: int = 0) -> None:
        self.shard = shard

    def stores(self) -> tuple[StoreSpec, ...]:
        """The one cell."""
        return (StoreSpec(CELL, "cell", fresh),)

    def process(self, command: Command, state: State) -> Answer:
        """What becomes of a command; nothing changes before the fact does it."""
        return answer(state[CELL].value, command, self.shard)

    def update(self, fact: Fact, state: State) -> None:
        """Take the next fact."""
        fold(state[CELL].value, fact)


def fresh() -> dict[str, Any]:
    """A registry before the first fact, in plain values.

    ``models`` has status, last version, hash and what it was retrained from by name; ``past`` the champions before, the
    latest last; ``schedules`` how often, and when last, each model was retrained by schedule.
    """
    return {
        "version": 0,
        "changed": 0,
        "last": None,
        "epoch": -1,
        "declared": None,
        "champion": None,
        "canary": None,
        "models": {},
        "past": [],
        "proposals": {},
        "schedules": {},
        "began": None,
        "commands": [],
    }


def fold(registry: dict[str, Any], fact: Fact) -> None:
    """Take the next fact into the registry, in place; ValueError when it is not the next one."""
    if fact.version != registry["version"] + 1:
        raise ValueError(f"fact {fact.version} does not follow version {registry['version']} of the registry")
    if not _fits(registry, fact):
        raise ValueError(f"fact {fact.version}, {fact.kind} of {fact.model}, does not fit the registry")
    registry["version"] = fact.version
    if fact.command is not None:
        registry["commands"] = [*registry["commands"][1 - _KEPT :], fact.command]
    take = _TAKES.get(fact.kind)
    if take is None or fact.model is None:
        return
    registry["changed"], registry["last"] = fact.version, f"{fact.kind} of {fact.model}"
    take(registry, fact, fact.model)


def answer(registry: Mapping[str, Any], command: Command, shard: int) -> Answer:
    """What becomes of a command: an answer of the kind ``refused`` says in `why` what is wrong with it."""
    wrong = _misplaced(registry, command, shard)
    if wrong is None:
        found = _ANSWERS[command.kind](registry, command)
        if isinstance(found, Answer):
            return found
        wrong = found
    entry = registry["models"].get(command.model)
    return Answer("refused", command.model, entry and entry["status"], wrong, {"asked": command.kind})


def standing(registry: Mapping[str, Any], model: str) -> dict[str, Any]:
    """What a known model is now, for people: status, a canary's share of the keys, since which version, if proposed."""
    tried = registry["canary"]
    return {
        "status": registry["models"][model]["status"],
        "share": float(tried[1]) if tried is not None and tried[0] == model else None,
        "since": registry["models"][model]["since"],
        "proposed": model in registry["proposals"],
    }


def retrained(registry: Mapping[str, Any]) -> dict[str, str]:
    """The status of each retrained model that has not retired, the oldest first."""
    models = registry["models"].items()
    return {name: e["status"] for name, e in models if e["base"] is not None and e["status"] != "retired"}


def applies(registry: Mapping[str, Any], kind: str, model: str) -> bool:
    """Whether a decision of this kind makes sense for this model as things are."""
    status = _status(registry, model)
    if status in (None, "retired", "retraining"):
        return status == "retraining" and kind == "retired"
    if kind in ("promoted", "rolled_back", "proposed", "canary", "retired"):
        return status != "champion" and not (kind == "proposed" and model in registry["proposals"])
    return kind == "shadow" and status == "canary"


# -- the fold ------------------------------------------------------------------------------------------------------


def _registered(registry: dict[str, Any], fact: Fact, model: str) -> None:
    registry["models"][model] = {
        "status": fact.status,
        "since": fact.version,
        "hash": fact.evidence.get("hash"),
        "base": None,
    }
    if fact.status == "champion":
        registry["champion"] = model


def _crown(registry: dict[str, Any], fact: Fact, model: str) -> None:
    """Make this one the champion, and a challenger of the one before, about whom all proposals were."""
    before = registry["champion"]
    if before is not None and before != model and _status(registry, before) == "champion":
        _set(registry, before, "challenger", fact.version)
    _end_canary(registry, model)
    if before != model:
        registry["proposals"].clear()
    registry["champion"] = model
    _set(registry, model, "champion", fact.version)


def _promoted(registry: dict[str, Any], fact: Fact, model: str) -> None:
    before = registry["champion"]
    _crown(registry, fact, model)
    if before is not None and before != model:
        registry["past"] = [*registry["past"][1 - _KEPT :], before]


def _rolled_back(registry: dict[str, Any], fact: Fact, model: str) -> None:
    _crown(registry, fact, model)
    past = registry["past"]
    while past and past.pop() != model:
        pass


def _canary(registry: dict[str, Any], fact: Fact, model: str) -> None:
    before = registry["canary"]
    if before is not None and before[0] != model:
        _set(registry, before[0], "challenger", fact.version)
    registry["canary"] = [model, fact.evidence["share"]]
    _set(registry, model, "canary", fact.version)


def _shadow(registry: dict[str, Any], fact: Fact, model: str) -> None:
    _end_canary(registry, model)
    _set(registry, model, "challenger", fact.version)


def _retired(registry: dict[str, Any], fact: Fact, model: str) -> None:
    _end_canary(registry, model)
    registry["proposals"].pop(model, None)
    registry["past"] = [name for name in registry["past"] if name != model]
    _set(registry, model, "retired", fact.version)


def _proposed(registry: dict[str, Any], fact: Fact, model: str) -> None:
    registry["proposals"][model] = fact.version


def _retraining(registry: dict[str, Any], fact: Fact, model: str) -> None:
    told = fact.evidence
    registry["models"][model] = {
        "status": "retraining",
        "since": fact.version,
        "hash": told["hash"],
        "base": told["base"],
        "from_n": told["from_n"],
        "from_ms": told["from_ms"],
    }
    if fact.by == "schedule":
        count = registry["schedules"].get(told["base"], [0, 0, 0])[0]
        registry["schedules"][told["base"]] = [count + 1, fact.n, fact.time_ms]


def _caught_up(registry: dict[str, Any], fact: Fact, model: str) -> None:
    _set(registry, model, "challenger", fact.version)


_TAKES = {
    "retraining": _retraining,
    "caught_up": _caught_up,
    "registered": _registered,
    "promoted": _promoted,
    "rolled_back": _rolled_back,
    "canary": _canary,
    "shadow": _shadow,
    "retired": _retired,
    "proposed": _proposed,
}


_NEEDS: dict[str, tuple[str, ...]] = {"canary": ("share",), "retraining": ("base", "hash", "from_n", "from_ms")}


def _fits(registry: Mapping[str, Any], fact: Fact) -> bool:
    """Whether a fact is about a model that is there, and says what there is to say: nobody's fact need not."""
    if fact.model is None or fact.kind not in _TAKES:
        return True
    if fact.status not in (STATUSES if fact.kind == "registered" else (*STATUSES, None)):
        return False
    known = fact.kind in ("registered", "retraining") or fact.model in registry["models"]
    told = all(name in fact.evidence for name in _NEEDS.get(fact.kind, ()))
    if not known or not told:
        return False
    if fact.kind == "canary":
        share = fact.evidence["share"]
        return type(share) in (int, float) and 0 <= share <= 1
    return fact.kind != "retraining" or isinstance(fact.evidence["base"], str)


def _set(registry: dict[str, Any], model: str, status: str, version: int) -> None:
    registry["models"][model] |= {"status": status, "since": version}


def _end_canary(registry: dict[str, Any], model: str) -> None:
    if registry["canary"] is not None and registry["canary"][0] == model:
        registry["canary"] = None


# -- commands ------------------------------------------------------------------------------------------------------


def _misplaced(registry: Mapping[str, Any], command: Command, shard: int) -> str | None:
    """What is wrong with a command whatever it asks for."""
    if command.kind not in _ANSWERS:
        return f"there is no command {command.kind!r}; the commands are {', '.join(_ANSWERS)}"
    if command.shard != shard:
        return f"it is for shard {command.shard}, but came to shard {shard}"
    saw = command.saw
    if saw is not None and saw > registry["version"]:
        return f"it names version {saw} of the registry, which is at {registry['version']}"
    if saw is not None and saw < registry["changed"]:
        return (
            f"it was decided on version {saw} of the registry, which has changed since: "
            f"version {registry['changed']} is {registry['last']}"
        )
    if command.model is not None and command.model not in registry["models"]:
        return f"there is no model {command.model!r}; there are {', '.join(registry['models'])}"
    if command.model is None and command.kind != "rollback":
        return f"{command.kind} needs a model"
    if command.model is not None and _status(registry, command.model) == "retired":
        return f"{command.model} is retired"
    if _status(registry, command.model) == "retraining" and command.kind not in ("retire", "adopt"):
        return f"{command.model} is still catching up"
    return None


def _promote(registry: Mapping[str, Any], command: Command) -> Answer | str:
    model = command.model
    if model == registry["champion"]:
        return f"{model} is the champion already"
    return Answer("promoted", model, "champion", command.why, {"before": registry["champion"]})


def _approve(registry: Mapping[str, Any], command: Command) -> Answer | str:
    model = command.model
    if model not in registry["proposals"]:
        return f"nothing is proposed of {model}: promote it, or wait for the gate"
    evidence = {"before": registry["champion"], "proposal": registry["proposals"][model]}
    return Answer("promoted", model, "champion", command.why, evidence)


def _rollback(registry: Mapping[str, Any], command: Command) -> Answer | str:
    past = registry["past"]
    model = command.model or (past[-1] if past else None)
    if model is None:
        return f"there was no champion before {registry['champion']}"
    if model == registry["champion"]:
        return f"{model} is the champion already"
    if model not in past:
        return f"{model} was never the champion: promote it"
    return Answer("rolled_back", model, "champion", command.why, {"before": registry["champion"]})


def _retire(registry: Mapping[str, Any], command: Command) -> Answer | str:
    if command.model == registry["champion"]:
        return f"{command.model} is the champion: promote another first"
    return Answer("retired", command.model, "retired", command.why, {})


def _try(registry: Mapping[str, Any], command: Command) -> Answer | str:
    model, share = command.model, command.share
    if share is None:
        return "canary needs a share of keys, from 0 (none) to 1"
    if model == registry["champion"]:
        return f"{model} is the champion: it serves all other keys"
    if share:
        return Answer("canary", model, "canary", command.why, {"share": share})
    if _status(registry, model) != "canary":
        return f"{model} is no canary"
    return Answer("shadow", model, "challenger", command.why, {})


def _retrain(registry: Mapping[str, Any], command: Command) -> Answer | str:
    base, name, models = str(command.model), command.name, registry["models"]
    if models[base]["base"] is not None:
        return f"{base} was itself retrained: retrain {models[base]['base']}"
    if name is None or NAME.fullmatch(name) is None or name in BASELINES:
        return f"a model cannot be called {name!r}"
    if name in models:
        return f"there is a model {name} already"
    living = retrained(registry)
    if len(living) >= MOST_RETRAINED:
        return f"there are {MOST_RETRAINED} retrained models already: retire one of {', '.join(living)}"
    told = {"base": base, "hash": models[base]["hash"], "from_n": command.from_n or 0, "from_ms": command.from_ms}
    return Answer("retraining", name, "retraining", command.why, told)


def _adopt(registry: Mapping[str, Any], command: Command) -> Answer | str:
    if _status(registry, command.model) != "retraining":
        return f"{command.model} is not catching up"
    return Answer("caught_up", command.model, "challenger", command.why, {})


_ANSWERS = {
    "promote": _promote,
    "approve": _approve,
    "rollback": _rollback,
    "retire": _retire,
    "canary": _try,
    "retrain": _retrain,
    "adopt": _adopt,
}
COMMANDS = tuple(_ANSWERS)


def _status(registry: Mapping[str, Any], model: str | None) -> str | None:
    entry = registry["models"].get(model)
    return None if entry is None else str(entry["status"])
