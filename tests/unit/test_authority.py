"""Whose commands are obeyed: signatures over commands, in the chain."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from headrace.schemas.records import Command
from headrace.streams.errors import DeclarationError
from headrace.streams.models.authority import refusal, sign
from headrace.streams.models.keys import KEY_VARIABLE, signing_key
from tests.small import CLASSES, Scripted, event, known, play, small

EVENTS = [event(f"e{n}", n) for n in range(20)]
LABELS = [known(f"e{n}", n + 0.5, n % 3 == 0) for n in range(20)]


@pytest.fixture
def key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The public half of a signing key of this test's own."""
    monkeypatch.setenv(KEY_VARIABLE, str(tmp_path / "signing.pem"))
    return signing_key().verify_key.raw.hex()


def pipeline(*operators: str, **changed: Any) -> Any:
    """Two models, and who may command."""
    models = {"old": Scripted(), "new": Scripted()}
    return small(**({"models": models, "champion": "old", "classes": CLASSES, "operators": operators} | changed))


def facts(declared: Any, *commands: Command) -> list[dict[str, Any]]:
    """The facts after the declared models are registered."""
    wanted = [((c.model or "").encode(), msgspec.json.encode(c)) for c in commands]
    made = play(declared, EVENTS, LABELS, commands=wanted)
    return [json.loads(value or b"") for _, _, value, _ in made.outputs["registry"]][2:]


PROMOTE = Command("c1", "promote", 0, "me", "new", saw=2)


def test_a_signed_command_is_obeyed(key: str) -> None:
    """The signature of a declared operator counts, and the id answers to whoever waits."""
    declared = pipeline("00" * 32, key)
    assert [(f["kind"], f["command"]) for f in facts(declared, sign(declared, PROMOTE))] == [("promoted", "c1")]


def test_without_operators_nothing_is_signed(key: str) -> None:
    """Everybody's command counts, and carries no signature."""
    declared = pipeline()
    assert sign(declared, PROMOTE) is PROMOTE
    assert [fact["kind"] for fact in facts(declared, PROMOTE)] == ["promoted"]


def test_forged_commands_are_refused_and_leave_the_id_free(key: str) -> None:
    """The forger is told, changes nothing, and cannot keep the real command with that id from being obeyed."""
    declared = pipeline(key)
    found = facts(declared, PROMOTE, sign(declared, msgspec.structs.replace(PROMOTE, saw=3)))
    assert [(f["kind"], f["command"], f["champion"]) for f in found] == [
        ("refused", None, "old"),
        ("promoted", "c1", "new"),
    ]
    assert found[0]["evidence"] == {"command": "c1"}
    assert "operator" in found[0]["why"]


@pytest.mark.parametrize(
    "change",
    [
        {"model": "old"},
        {"kind": "retire"},
        {"saw": 9},
        {"by": "somebody else"},
        {"shard": 1},
        {"id": "c2"},
        {"signature": None},
        {"signature": ""},
        {"signature": "no digits"},
        {"signature": "00" * 64},
    ],
    ids=lambda change: f"{next(iter(change))}",
)
def test_an_altered_command_is_not_obeyed(key: str, change: dict[str, Any]) -> None:
    """The signature covers every field."""
    declared = pipeline(key)
    assert refusal(declared, msgspec.structs.replace(sign(declared, PROMOTE), **change), 0) is not None


def test_a_command_copied_to_another_shard_leaves_the_id_free(key: str) -> None:
    """The copy is signed, and yet no reason not to obey the command of that id when it comes."""
    declared = pipeline(key)
    copied = sign(declared, msgspec.structs.replace(PROMOTE, shard=1))
    assert [(f["kind"], f["command"]) for f in facts(declared, copied, sign(declared, PROMOTE))] == [
        ("refused", None),
        ("promoted", "c1"),
    ]


def test_a_signature_for_another_pipeline_is_not_one_for_this(key: str) -> None:
    """A command cannot be carried over from a registry where it was legitimate."""
    declared, other = pipeline(key), pipeline(key, name="other")
    assert refusal(other, sign(other, PROMOTE), 0) is None
    assert refusal(declared, sign(other, PROMOTE), 0) is not None


@pytest.mark.parametrize("wrong", ["", "00", "Z" * 64, "0" * 63, 5])
def test_what_is_no_key_is_refused_at_declaration(wrong: Any) -> None:
    """With the legal form."""
    with pytest.raises(DeclarationError, match="64 hexadecimal digits"):
        pipeline(wrong)
