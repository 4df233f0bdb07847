"""``headrace keys``: the key that signs this user's snapshots, and the public keys that are trusted."""

from __future__ import annotations

from pathlib import Path

import click

from headrace.streams.commands.options import Commands, Headrace, json_option
from headrace.streams.commands.output import confirm, emit, say, show
from headrace.streams.models.keys import distrust, key_path, new_key, signing_key, trust, trusted_keys

__all__ = ["keys"]


@click.group(cls=Commands, name="keys")
def keys() -> None:
    """The signing key of this user, and the keys that are trusted."""


@keys.command(name="show", cls=Headrace)
@json_option
def show_(json_to: str | None) -> None:
    """Show where the signing key lies, its id and public half, and the ids that are trusted. The key itself never."""
    own, trusted = signing_key(), trusted_keys()
    value = {
        "file": str(key_path()),
        "id": own.key_id.hex(),
        "public": own.verify_key.pem().decode(),
        "operator": own.verify_key.raw.hex(),
        "trusted": [key_id.hex() for key_id in trusted],
    }
    if emit(json_to, value):
        say(f"Signing key {value['id']} in {value['file']}; its public half, for `headrace keys trust` elsewhere:")
        for line in str(value["public"]).splitlines():
            say(line)
        say(f'To let only its owner command a pipeline: Pipeline(..., operators=["{value["operator"]}"])')
        show("trusted", ("id", ""), [(key.hex(), "own" if key == own.key_id else "") for key in trusted])


@keys.command(cls=Headrace)
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
def new(yes: bool, json_to: str | None) -> None:
    """Make a new signing key. What the old one signed stays trusted; the old one itself is destroyed."""
    if key_path().exists() and not yes:
        confirm(f"replace the key in {key_path()}")
    before, after = new_key()
    value = {"file": str(key_path()), "id": after.hex(), "before": None if before is None else before.hex()}
    if emit(json_to, value):
        say(f"New signing key {value['id']} in {value['file']}. Restart the workers, and trust it where they run.")


@keys.command(name="trust", cls=Headrace)
@click.argument("key", metavar="FILE|ID")
@click.option("--remove", is_flag=True, help="No longer trust the key with this id.")
@json_option
def trust_(key: str, remove: bool, json_to: str | None) -> None:
    """Trust the public key in a PEM file (- for stdin): snapshots signed with it are read from now on."""
    if remove:
        key_id, what = distrust(key), "no longer trusted"
    else:
        content = click.get_binary_stream("stdin").read() if key == "-" else None
        key_id, what = trust(Path(key), content), "trusted"
    if emit(json_to, {"id": key_id.hex(), "trusted": not remove}):
        say(f"{key_id.hex()} is {what}.")
