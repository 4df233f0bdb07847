"""Whatever is asked of a registry, in whatever order: one champion, dense versions, and a fold that repeats itself."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from headrace.processors.registry import COMMANDS, answer, fold, fresh
from headrace.processors.split import chooses
from headrace.schemas.records import Command, Fact

MODELS = ("a", "b", "c")

commands = st.lists(
    st.builds(
        Command,
        id=st.uuids().map(str),
        kind=st.sampled_from([*COMMANDS, "dance"]),
        shard=st.sampled_from([0, 0, 0, 1]),
        by=st.just("me"),
        model=st.sampled_from([*MODELS, None, "nobody"]),
        saw=st.one_of(st.none(), st.integers(0, 30)),
        share=st.sampled_from([None, 0.0, 0.3, 1.0]),
    ),
    max_size=40,
)


def facts_of(asked: list[Command]) -> tuple[dict[str, Any], list[Fact]]:
    """The registry after these commands, and the facts that led there."""
    registry, facts = fresh(), []

    def note(kind: str, model: str | None, status: str | None, evidence: Any, command: str | None = None) -> None:
        champion = model if status == "champion" else registry["champion"]
        place = (0, 0, None, {}, "me", "")
        facts.append(Fact(registry["version"] + 1, kind, model, status, champion, *place, evidence, command))
        fold(registry, facts[-1])

    for name in MODELS:
        note("registered", name, "champion" if name == "a" else "challenger", {"hash": name})
    for command in asked:
        kind, model, status, _, evidence = answer(registry, command, 0)
        note(kind, model, status, evidence, command.id)
    return registry, facts


@given(commands)
def test_there_is_one_champion_and_at_most_one_canary(asked: list[Command]) -> None:
    """After every prefix of any commands; and nobody who is retired comes back."""
    registry, retired = fresh(), set()
    for fact in facts_of(asked)[1]:
        fold(registry, fact)
        status = {name: entry["status"] for name, entry in registry["models"].items()}
        if len(status) == len(MODELS):
            assert [name for name, s in status.items() if s == "champion"] == [registry["champion"]]
            assert [name for name, s in status.items() if s == "canary"] == (registry["canary"] or [])[:1]
        retired |= {name for name, s in status.items() if s == "retired"}
        assert all(status[name] == "retired" for name in retired)
        assert fact.champion == registry["champion"] or fact.version < len(MODELS)


@given(commands)
def test_whoever_reads_the_facts_has_the_same_registry(asked: list[Command]) -> None:
    """Through JSON, as the topic carries them; versions are dense."""
    registry, facts = facts_of(asked)
    read = fresh()
    for fact in facts:
        fold(read, msgspec.json.decode(msgspec.json.encode(fact), type=Fact))
    assert read == registry
    assert [fact.version for fact in facts] == list(range(1, len(facts) + 1))


@given(st.lists(st.binary(max_size=12), unique=True, max_size=50), st.floats(0, 1), st.floats(0, 1))
def test_a_larger_share_holds_all_keys_of_a_smaller_one(keys: list[bytes], one: float, other: float) -> None:
    """So nobody is moved back and forth while a canary grows; none are none, and one is everybody."""
    small, large = sorted((one, other))
    inner, outer = chooses(small, "m"), chooses(large, "m")
    assert all(outer(key) for key in keys if inner(key))
    assert not any(map(chooses(0.0), keys))
    assert all(map(chooses(1.0), keys))
