"""The journal: one record a transaction, from which everything else can be made again.

It holds the interleaving of a batch (run lengths of the inputs taking turns), the offsets where it begins and ends, and
a digest of what came out. Sequence numbers are dense and its own: an offset is unknown inside its transaction. An epoch
opens with the whole specification, so that a changed one can be named rather than only noticed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec

from headrace.streams.errors import UNREADABLE, Lost

__all__ = ["Entry", "Epoch", "changes", "digest", "numbers", "read", "spec_hash", "varints", "write"]


class Epoch(msgspec.Struct, frozen=True, array_like=True, tag="epoch"):
    """A new specification, code or environment holds from here on."""

    seq: int
    epoch: int
    spec_hash: str
    spec: dict[str, Any]
    environment: dict[str, Any]


class Entry(msgspec.Struct, frozen=True, array_like=True, tag="batch"):
    """One batch: what was read, in which order, and what it made.

    `starts` and `ends` are offsets by input rank: records in [start, end) were processed. `runs` are run lengths, the
    inputs taking turns from rank 0, as LEB128 varints. `digest` is of the outputs, `outputs` their number.
    """

    seq: int
    epoch: int
    starts: list[int]
    ends: list[int]
    runs: bytes
    outputs: int
    digest: bytes


_ABSENT: Any = object()
_decode: Callable[[bytes], Entry | Epoch] = msgspec.msgpack.Decoder(Entry | Epoch).decode
write = msgspec.msgpack.Encoder().encode


def read(value: bytes) -> Entry | Epoch:
    """One journal record; raises `Lost` for what is none."""
    try:
        return _decode(value)
    except UNREADABLE as error:
        raise Lost(f"A journal record is damaged ({error}): what follows it cannot be recomputed.") from error


def digest(outputs: Sequence[tuple[str, bytes | None, bytes | None, Any]]) -> bytes:
    """BLAKE2b of all outputs, their topics, keys, values and headers, in order; nothing can move between fields."""
    if not outputs:
        return hashlib.blake2b(write([]), digest_size=16).digest()
    roles, keys, values, headers = zip(*outputs, strict=True)
    if None in keys or None in values or any(headers):
        parts, lengths = _told_apart(outputs)
    else:
        parts, lengths = [b""] * (3 * len(outputs)), [0] * (2 * len(outputs))
        names = {role: role.encode() for role in set(roles)}
        parts[::3], parts[1::3], parts[2::3] = map(names.__getitem__, roles), keys, values
        lengths[::2], lengths[1::2] = map(len, keys), map(len, values)
    parts.append(write(lengths))
    return hashlib.blake2b(b"".join(parts), digest_size=16).digest()


def _told_apart(outputs: Sequence[tuple[str, bytes | None, bytes | None, Any]]) -> tuple[list[bytes], list[int]]:
    """All fields and their lengths, where some are absent (-1) or have headers (-2 and less)."""
    parts: list[bytes] = []
    lengths: list[int] = []
    for role, key, value, headers in outputs:
        parts.append(role.encode())
        for field in (key, value):
            lengths.append(-1 if field is None else len(field))
            if field is not None:
                parts.append(field)
        if headers:
            flat = write(headers)
            lengths.append(-2 - len(flat))
            parts.append(flat)
    return parts, lengths


def varints(numbers: Iterable[int]) -> bytes:
    """LEB128 of each number."""
    out = bytearray()
    for number in numbers:
        while number > 127:
            out.append(number & 127 | 128)
            number >>= 7
        out.append(number)
    return bytes(out)


def numbers(data: bytes) -> list[int]:
    """What `varints` wrote."""
    out = []
    value = shift = 0
    for byte in data:
        value |= (byte & 127) << shift
        if byte & 128:
            shift += 7
        else:
            out.append(value)
            value = shift = 0
    return out


def spec_hash(spec: dict[str, Any], environment: dict[str, Any]) -> str:
    """Short hash of everything that determines outputs."""
    data = msgspec.json.encode([spec, environment], order="deterministic")
    return hashlib.blake2b(data, digest_size=8).hexdigest()


def changes(before: Any, after: Any, path: str = "") -> list[str]:
    """What differs between two specifications, as `a.b.c` paths."""
    if isinstance(before, dict) and isinstance(after, dict):
        out = []
        for key in sorted({*before, *after}):
            out += changes(before.get(key, _ABSENT), after.get(key, _ABSENT), f"{path}.{key}" if path else str(key))
        return out
    return [] if _listed(before) == _listed(after) else [path or "specification"]


def _listed(value: Any) -> Any:
    """With lists where tuples are: a checkpoint gives back the one, the journal the other."""
    if isinstance(value, list | tuple):
        return [_listed(item) for item in value]
    return {key: _listed(item) for key, item in value.items()} if isinstance(value, dict) else value
