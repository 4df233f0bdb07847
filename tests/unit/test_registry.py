"""The registry: a fold over facts, and what becomes of commands."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from headrace.processors.registry import COMMANDS, answer, applies, fold, fresh
from headrace.schemas.records import Command, Fact
from headrace.streams.errors import Aborted
from headrace.streams.log import Record
from headrace.streams.models.registry import answers
from tests.small import small


def fact(version: int, kind: str, model: str, status: str, **more: Any) -> Fact:
    """A fact."""
    given = {"champion": None, "shard": 0, "n": 0, "time_ms": None, "at": {}, "by": "me", "why": "", "evidence": {}}
    return Fact(**({"version": version, "kind": kind, "model": model, "status": status} | given | more))


def registry(*decided: tuple[Any, ...]) -> dict[str, Any]:
    """Champion a, challengers b and c, then these facts."""
    out = fresh()
    facts = [("registered", "a", "champion"), ("registered", "b", "challenger"), ("registered", "c", "challenger")]
    for version, (kind, model, status, *evidence) in enumerate([*facts, *decided], 1):
        fold(out, fact(version, kind, model, status, evidence=evidence[0] if evidence else {}))
    return out


def asked(state: dict[str, Any], kind: str, model: str | None = None, **more: Any) -> Any:
    """What becomes of a command."""
    return answer(state, Command(**({"id": "c", "kind": kind, "shard": 0, "by": "me", "model": model} | more)), 0)


PROMOTED_B = ("promoted", "b", "champion")
PROMOTED_C = ("promoted", "c", "champion")
CANARY_B = ("canary", "b", "canary", {"share": 0.1})
RETIRED_B = ("retired", "b", "retired")


def statuses(state: dict[str, Any]) -> dict[str, str]:
    """Each model's."""
    return {name: entry["status"] for name, entry in state["models"].items()}


def test_a_promotion_makes_a_challenger_of_the_champion() -> None:
    """And remembers whom to roll back to."""
    state = registry(PROMOTED_B)
    assert statuses(state) == {"a": "challenger", "b": "champion", "c": "challenger"}
    assert (state["champion"], state["past"]) == ("b", ["a"])


def test_a_rollback_goes_back_one_step() -> None:
    """Twice goes back two; then there is nobody left."""
    state = registry(PROMOTED_B, PROMOTED_C)
    for wanted in ("b", "a"):
        found = asked(state, "rollback")
        assert (found.kind, found.model) == ("rolled_back", wanted)
        fold(state, fact(state["version"] + 1, *found[:3]))
        assert state["champion"] == wanted
    assert asked(state, "rollback").why == "there was no champion before a"


def test_a_rollback_may_name_an_earlier_champion() -> None:
    """What came after it is forgotten; who never was champion is refused."""
    state = registry(PROMOTED_B, PROMOTED_C)
    assert asked(state, "rollback", "a").kind == "rolled_back"
    fold(state, fact(6, "rolled_back", "a", "champion"))
    assert (state["champion"], state["past"]) == ("a", [])
    assert asked(state, "rollback", "b").why == "b was never the champion: promote it"


def test_the_second_of_two_contradicting_commands_is_told() -> None:
    """Both saw the same version; the first has changed it."""
    state = registry()
    first = asked(state, "promote", "b", saw=3)
    fold(state, fact(4, *first[:3]))
    second = asked(state, "promote", "c", saw=3)
    assert second.kind == "refused"
    assert second.why.endswith("has changed since: version 4 is promoted of b")


def test_a_refusal_makes_nobodys_command_stale() -> None:
    """It is a fact, but changes nothing."""
    state = registry()
    before = {**state}
    fold(state, fact(4, "refused", "nobody", "challenger", command="c0"))
    assert {**state, "version": 3, "commands": []} == before
    assert asked(state, "promote", "b", saw=3).kind == "promoted"


@pytest.mark.parametrize(
    ("decided", "kind", "model", "more", "why"),
    [
        ([], "promote", "nobody", {}, "there is no model 'nobody'; there are a, b, c"),
        ([], "promote", None, {}, "promote needs a model"),
        ([], "promote", "a", {}, "a is the champion already"),
        ([], "approve", "b", {}, "nothing is proposed of b: promote it, or wait for the gate"),
        ([], "retire", "a", {}, "a is the champion: promote another first"),
        ([RETIRED_B], "promote", "b", {}, "b is retired"),
        ([PROMOTED_B], "rollback", "b", {}, "b is the champion already"),
        ([], "canary", "b", {}, "canary needs a share of keys, from 0 (none) to 1"),
        ([], "canary", "b", {"share": 0.0}, "b is no canary"),
        ([], "canary", "a", {"share": 0.5}, "a is the champion: it serves all other keys"),
        ([], "promote", "b", {"saw": 9}, "it names version 9 of the registry, which is at 3"),
        ([], "promote", "b", {"shard": 2}, "it is for shard 2, but came to shard 0"),
        (
            [],
            "dance",
            "b",
            {},
            f"there is no command 'dance'; the commands are {', '.join(COMMANDS)}",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(decided: Any, kind: str, model: Any, more: Any, why: str) -> None:
    """Each with what is wrong."""
    found = asked(registry(*decided), kind, model, **more)
    assert (found.kind, found.why) == ("refused", why)


@pytest.mark.parametrize("share", ["lots", None, True, 1.5, float("nan")])
def test_a_canary_s_share_is_a_share(share: Any) -> None:
    """A fact that nobody's worker wrote must not stop who reads the registry."""
    state = registry()
    with pytest.raises(ValueError, match="does not fit"):
        fold(state, fact(state["version"] + 1, "canary", "b", "canary", evidence={"share": share}))


def test_there_is_one_canary() -> None:
    """Another takes its place; zero ends it; promotion and retirement end it too."""
    state = registry(CANARY_B)
    assert (state["canary"], statuses(state)["b"]) == (["b", 0.1], "canary")
    assert asked(state, "canary", "b", share=0.0)[:3] == ("shadow", "b", "challenger")
    fold(state, fact(5, "canary", "c", "canary", evidence={"share": 0.2}))
    assert (state["canary"], statuses(state)["b"]) == (["c", 0.2], "challenger")
    fold(state, fact(6, "promoted", "c", "champion"))
    assert state["canary"] is None
    assert registry(CANARY_B, RETIRED_B)["canary"] is None


def test_an_approval_needs_a_proposal_and_uses_it_up() -> None:
    """The proposal's version is its evidence."""
    state = registry(("proposed", "b", "challenger"))
    found = asked(state, "approve", "b", saw=4)
    assert (found.kind, found.evidence) == ("promoted", {"before": "a", "proposal": 4})
    fold(state, fact(5, *found[:3]))
    assert state["proposals"] == {}


def test_who_is_retired_is_forgotten_as_champion() -> None:
    """A rollback passes it over."""
    state = registry(PROMOTED_B, PROMOTED_C, RETIRED_B)
    assert asked(state, "rollback").model == "a"


def test_a_gap_in_the_facts_is_an_error() -> None:
    """Versions are dense, or somebody else wrote one."""
    with pytest.raises(ValueError, match="fact 5 does not follow version 3"):
        fold(registry(), fact(5, *PROMOTED_B))


@pytest.mark.parametrize(
    ("kind", "model", "evidence"),
    [
        ("promoted", "nobody", {}),
        ("retired", "nobody", {}),
        ("canary", "b", {}),
        ("retraining", "d", {"base": "a"}),
        ("retraining", "d", {"base": ["a"], "hash": "", "from_n": 0, "from_ms": None}),
    ],
)
def test_a_fact_that_fits_nothing_is_an_error_and_changes_nothing(kind: str, model: str, evidence: Any) -> None:
    """Whoever reads a topic that others may write to is told of it as of a gap."""
    state, before = registry(), registry()
    with pytest.raises(ValueError, match=f"fact 4, {kind} of {model}, does not fit the registry"):
        fold(state, fact(4, kind, model, "challenger", evidence=evidence))
    assert state == before


@pytest.mark.parametrize(
    ("kind", "status"), [("registered", "zombie"), ("registered", None), ("promoted", "zombie"), ("proposed", "")]
)
def test_a_fact_of_no_known_status_fits_nothing(kind: str, status: Any) -> None:
    """Whoever shows models by their status knows them all."""
    state, before = registry(), registry()
    with pytest.raises(ValueError, match="does not fit the registry"):
        fold(state, fact(4, kind, "b", status))
    assert state == before


def test_facts_of_a_later_version_of_headrace_only_count() -> None:
    """An unknown kind changes nothing but the version."""
    state = registry()
    fold(state, fact(4, "knighted", "b", "knight"))
    assert (state["version"], statuses(state)) == (4, statuses(registry()))


@pytest.mark.parametrize(
    ("kind", "model", "does"),
    [
        ("promoted", "b", True),
        ("promoted", "a", False),
        ("promoted", "nobody", False),
        ("proposed", "b", True),
        ("shadow", "b", False),
        ("retired", "a", False),
        ("dance", "b", False),
        ("retired", "nobody", False),
        ("retired", "new", True),
        ("promoted", "new", False),
    ],
)
def test_decisions_of_a_gate_must_make_sense(kind: str, model: str, does: bool) -> None:
    """As things are now."""
    catching_up = ("retraining", "new", "retraining", {"base": "b", "hash": "", "from_n": 0, "from_ms": None})
    assert applies(registry(catching_up), kind, model) is does


@pytest.mark.parametrize("kind", ["promoted", "rolled_back"])
def test_a_proposal_lapses_when_another_champion_takes_over(kind: str) -> None:
    """Its evidence is about the champion of then; the gate proposes it again if it is better than the one of now."""
    state = registry(("proposed", "b", "challenger"), ("promoted", "c", "champion"))
    assert state["proposals"] == {}
    state = registry(("promoted", "c", "champion"), ("proposed", "b", "challenger"), (kind, "a", "champion"))
    assert state["proposals"] == {}
    said = "nothing is proposed of b: promote it, or wait for the gate"
    found = answer(state, Command("x", "approve", 0, "me", "b"), 0)
    assert (found.kind, found.why) == ("refused", said)
    assert applies(state, "proposed", "b")


def test_a_proposal_is_made_once() -> None:
    """Until it is approved or the model retires."""
    assert not applies(registry(("proposed", "b", "challenger")), "proposed", "b")


def test_the_answer_to_a_command_is_waited_for_while_kafka_is_away():
    """It ended with "No Kafka broker answers", and not a word of the command, which was written."""
    outage = [Aborted("No Kafka broker answers any more")]
    promoted = fact(4, "promoted", "b", "champion", command="c")

    def stable(*_: Any) -> int:
        if outage:
            raise outage.pop()
        return 8

    record = Record("r", 0, 7, None, msgspec.json.encode(promoted), 0, None)
    reader = SimpleNamespace(watermarks=lambda *_: (0, 8), stable=stable, read=lambda *_: iter([record]))
    assert answers(small(), reader, "c", {0: 7}, 9.0) == {0: promoted}
