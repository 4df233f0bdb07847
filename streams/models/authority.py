"""Authority: whose commands a pipeline obeys.

Whoever may write to `P.registry` may command, unless the pipeline declares `operators`: public keys (Ed25519, RFC
8032). Then a command counts only under a signature by one of them over the pipeline's name and the whole command, so
that it can be neither forged nor altered, nor taken over from another pipeline. Keys and commands are both in the log:
replay comes to the same.
"""

from __future__ import annotations

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from headrace.schemas.records import Command
from headrace.streams.models.keys import VerifyKey, signing_key
from headrace.streams.pipeline import Pipeline

__all__ = ["obeyed", "refusal", "sign"]

_encode = msgspec.json.Encoder().encode
_UNSIGNED = "not signed by an operator whom the pipeline declares"


def obeyed(pipeline: Pipeline) -> bool:
    """Whether the pipeline obeys what this user signs."""
    return not pipeline.operators or signing_key().verify_key.raw.hex() in pipeline.operators


def sign(pipeline: Pipeline, command: Command) -> Command:
    """The command under this user's signature; as it is where the pipeline declares no operators."""
    if not pipeline.operators:
        return command
    return msgspec.structs.replace(command, signature=signing_key().sign(_message(pipeline, command)).hex())


def refusal(pipeline: Pipeline, command: Command, shard: int) -> str | None:
    """Why the pipeline does not obey whoever sent this to the shard, or None.

    A signed command that somebody copied to another shard is refused like a forged one: there, the id is that of the
    copy which its author sent.
    """
    if not pipeline.operators:
        return None
    if command.shard != shard:
        return f"it is for shard {command.shard}, but came to shard {shard}"
    try:
        signature, message = bytes.fromhex(command.signature or ""), _message(pipeline, command)
    except ValueError:
        return _UNSIGNED
    keys = [VerifyKey(Ed25519PublicKey.from_public_bytes(bytes.fromhex(key))) for key in pipeline.operators]
    return None if any(key.verify(signature, message) for key in keys) else _UNSIGNED


def _message(pipeline: Pipeline, command: Command) -> bytes:
    bare = _encode(msgspec.structs.replace(command, signature=None))
    return b"headrace command\n" + str(pipeline.name).encode() + b"\n" + bare
