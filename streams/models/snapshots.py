"""Signed snapshots of models, detectors and metrics: what was sealed with a trusted key opens as it was, or not at all.

Reading a pickle is running it, so nothing is parsed before the signature holds, and the signature covers the header,
which covers the payload by its SHA-256:

    magic 8 | key id 8 | header length 4 | payload length 8 | Ed25519 signature 64 | header (JSON) | payload

The fallback of every `SnapshotError` is the same: rebuild the state by replay.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping
from importlib import metadata
from typing import Any, Final, Literal, get_args

import msgspec
import numpy as np

from headrace.streams.errors import UNREADABLE, HeadraceError
from headrace.streams.identity.deepstack import on_deep_stack
from headrace.streams.identity.hashing import python_version
from headrace.streams.identity.pickling import Extra, ForbiddenGlobal, dumps, loads
from headrace.streams.models.keys import SigningKey, VerifyKey

__all__ = [
    "Header",
    "Reason",
    "Sealed",
    "SnapshotError",
    "chunk",
    "join_chunks",
    "open_sealed",
    "relabelled",
    "seal",
    "verified",
]

Reason = Literal[
    "malformed",  # not a snapshot, or cut short
    "untrusted",  # signed with a key that is not trusted here
    "forged",  # the signature does not hold: header changed or damaged
    "corrupt",  # the payload is not the one that was signed
    "wrong_name",  # a snapshot of something else
    "outdated",  # made with other versions of Python, River or numpy
    "forbidden",  # the pickle names something that is not on the list
    "unreadable",  # the pickle does not load
    "unsealable",  # the object cannot be pickled
    "incomplete",  # chunks are missing or do not belong together
]

_MAGIC: Final = b"HRSNAP1\n"
_CHUNK_MAGIC: Final = b"HRCHNK1\n"
_PREFIX: Final = struct.Struct(">8s8sIQ64s")
_CHUNK: Final = struct.Struct(">8s16sIIQ")
_DOMAIN: Final = b"headrace snapshot 1\0"
_LARGEST_HEADER: Final = 65_536
_LARGEST_PAYLOAD: Final = 4 * 1024**3
_COMPRESS_FROM: Final = 16_384


class SnapshotError(HeadraceError):
    """A snapshot cannot be made or used; `reason` is one of `Reason`."""

    def __init__(self, reason: Reason, detail: str) -> None:
        if reason not in get_args(Reason):
            raise ValueError(f"reason {reason!r}: must be one of {', '.join(get_args(Reason))}")
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a snapshot says of itself, signed: no clock, and input coordinates only.

    `n` counts what the object has learned, of which the first `since` were not its own to learn; `at` is where in the
    log it stands (journal number, input offsets, stream time). `state` is the canonical hash of the object,
    `spec`, `code` and `environment` name what it was made with. `raw_bytes` is the payload's size before compression.
    """

    name: str
    version: str
    n: int
    at: dict[str, Any]
    libraries: dict[str, str]
    codec: Literal["none", "zstd"]
    sha256: str
    raw_bytes: int
    since: int = 0
    state: str = ""
    spec: str = ""
    code: str = ""
    environment: str = ""


def libraries() -> dict[str, str]:
    """Give the versions that a snapshot depends on: it is not opened under others."""
    return {"python": python_version(), "river": metadata.version("river"), "numpy": np.__version__}


def seal(obj: Any, *, name: str, version: str, n: int, at: Mapping[str, Any], key: SigningKey, **more: Any) -> bytes:
    """Pickle, compress and sign `obj`; `more` are the header's other fields.

    Raises `SnapshotError` (unsealable) for what cannot be pickled. What can be pickled but not opened again
    is told by `pickling.forbidden_globals`: ask it once, when a model is declared.
    """
    try:
        raw = on_deep_stack(lambda: dumps(obj))
    except Exception as error:
        raise SnapshotError("unsealable", f"{name}: {error}; keep what it holds to what can be pickled") from error
    codec, payload = _compressed(raw)
    header = Header(
        name=name,
        version=version,
        n=n,
        at=dict(at),
        libraries=_LIBRARIES,
        codec=codec,
        sha256=hashlib.sha256(payload).hexdigest(),
        raw_bytes=len(raw),
        **more,
    )
    return _written(header, payload, key)


def relabelled(data: bytes, *, trusted: Mapping[bytes, VerifyKey], key: SigningKey, **changed: Any) -> bytes:
    """The same object under a header that says more of it, signed anew; raises `SnapshotError` as opening does."""
    header, payload = _checked(data, trusted)
    return _written(msgspec.structs.replace(header, **changed), bytes(payload), key)


def verified(data: bytes, *, trusted: Mapping[bytes, VerifyKey]) -> Header:
    """The header of what is, byte for byte, what a trusted key signed; the pickle is not read."""
    return _checked(data, trusted)[0]


def open_sealed(
    data: bytes, *, expect_name: str, trusted: Mapping[bytes, VerifyKey], extra: Extra = (), any_libraries: bool = False
) -> tuple[Any, Header]:
    """Verify a snapshot and give its object and header; raises `SnapshotError` and nothing else for what is in `data`.

    In this order: signature, size and SHA-256 of the payload, name, library versions, and only then the pickle, which
    may name nothing off the list (`extra` adds to it: the author's own classes). With `any_libraries` the versions are
    not compared.
    """
    header, payload = _checked(data, trusted)
    if header.name != expect_name:
        raise SnapshotError("wrong_name", f"{header.name!r} where {expect_name!r} was expected")
    if header.libraries != _LIBRARIES and not any_libraries:
        raise SnapshotError("outdated", f"{expect_name}: made with {header.libraries}, here is {_LIBRARIES}")
    return _unpickled(_decompressed(payload, header), expect_name, extra), header


def chunk(data: bytes, size: int = 500_000) -> list[bytes]:
    """Cut `data` into pieces of at most `size` bytes, each with a 40-byte frame that says which part of what it is."""
    if size <= _CHUNK.size:
        raise ValueError(f"size {size}: must be more than {_CHUNK.size}")
    step = size - _CHUNK.size
    count = max(1, -(-len(data) // step))
    digest = hashlib.sha256(data).digest()[:16]
    return [
        _CHUNK.pack(_CHUNK_MAGIC, digest, i, count, len(data)) + data[i * step : (i + 1) * step] for i in range(count)
    ]


def join_chunks(chunks: list[bytes]) -> bytes:
    """Put the pieces together again, in any order; raises `SnapshotError` unless they are one whole, each once."""
    if not chunks:
        raise SnapshotError("incomplete", "no chunks")
    if any(len(piece) < _CHUNK.size for piece in chunks):
        raise SnapshotError("incomplete", "a chunk is cut short")
    frames = [_CHUNK.unpack_from(piece) for piece in chunks]
    if len({(magic, digest, count, total) for magic, digest, _, count, total in frames}) != 1:
        raise SnapshotError("incomplete", "the chunks are of different snapshots")
    magic, digest, _, count, total = frames[0]
    parts = {frame[2]: piece[_CHUNK.size :] for frame, piece in zip(frames, chunks, strict=True)}
    if magic != _CHUNK_MAGIC or len(chunks) != count or len(parts) != count or max(parts) != count - 1:
        raise SnapshotError("incomplete", f"{len(parts)} different chunks of {count}")
    data = b"".join(parts[i] for i in range(count))
    if len(data) != total or hashlib.sha256(data).digest()[:16] != digest:
        raise SnapshotError("incomplete", "the chunks do not add up to what was cut")
    return data


def _written(header: Header, payload: bytes, key: SigningKey) -> bytes:
    encoded = msgspec.json.encode(header)
    if len(encoded) > _LARGEST_HEADER or header.raw_bytes > _LARGEST_PAYLOAD:
        raise SnapshotError("unsealable", f"{header.name}: too large ({header.raw_bytes} bytes, header {len(encoded)})")
    signature = key.sign(_signed(key.key_id, encoded, len(payload)))
    return _PREFIX.pack(_MAGIC, key.key_id, len(encoded), len(payload), signature) + encoded + payload


def _checked(data: bytes, trusted: Mapping[bytes, VerifyKey]) -> tuple[Header, memoryview]:
    """Give header and payload, when both are as they were signed."""
    header, start, length = _verified(data, trusted)
    payload = memoryview(data)[start:]
    if len(payload) != length or hashlib.sha256(payload).hexdigest() != header.sha256:
        raise SnapshotError("corrupt", f"{header.name}: the payload is not the one that was signed")
    return header, payload


def _signed(key_id: bytes, header: bytes, length: int) -> bytes:
    return _DOMAIN + struct.pack(">8sIQ", key_id, len(header), length) + header


def _verified(data: bytes, trusted: Mapping[bytes, VerifyKey]) -> tuple[Header, int, int]:
    """Give header, start and length of the payload; until the signature holds only fixed fields are looked at."""
    if len(data) < _PREFIX.size:
        raise SnapshotError("malformed", f"{len(data)} bytes are too few")
    magic, key_id, header_length, length, signature = _PREFIX.unpack_from(data)
    start = _PREFIX.size + header_length
    if magic != _MAGIC or header_length > _LARGEST_HEADER or len(data) < start:
        raise SnapshotError("malformed", "no snapshot, or cut short")
    key = trusted.get(key_id)
    if key is None:
        raise SnapshotError("untrusted", f"signed with {key_id.hex()}, which is not among the trusted keys")
    encoded = bytes(data[_PREFIX.size : start])
    if not key.verify(signature, _signed(key_id, encoded, length)):
        raise SnapshotError("forged", f"the signature is not that of {key_id.hex()}")
    try:
        return msgspec.json.decode(encoded, type=Header), start, length
    except UNREADABLE as error:
        raise SnapshotError("malformed", f"header: {error}") from error


def _unpickled(raw: bytes, name: str, extra: Extra) -> Any:
    try:
        return on_deep_stack(lambda: loads(raw, extra))
    except ForbiddenGlobal as error:
        raise SnapshotError("forbidden", f"{name}: {error}") from error
    except Exception as error:
        raise SnapshotError("unreadable", f"{name}: {type(error).__name__}: {error}") from error
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # Rust's panics are no Exception
            raise
        raise SnapshotError("unreadable", f"{name}: panic: {error}") from error


def _compressed(raw: bytes) -> tuple[Literal["none", "zstd"], bytes]:
    """Compress what is worth it: zstd 1 costs a tenth of the pickling, zlib 1 two to three times the pickling."""
    if len(raw) < _COMPRESS_FROM:
        return "none", raw
    import pyarrow  # a tenth of a second to import, and small models never need it

    payload: bytes = pyarrow.compress(raw, codec="zstd", asbytes=True)
    return ("zstd", payload) if len(payload) < len(raw) else ("none", raw)


def _decompressed(payload: memoryview, header: Header) -> bytes:
    if header.codec == "none":
        return bytes(payload)
    if not 0 < header.raw_bytes <= _LARGEST_PAYLOAD:
        raise SnapshotError("malformed", f"raw_bytes = {header.raw_bytes}")
    import pyarrow

    try:
        raw: bytes = pyarrow.decompress(payload, decompressed_size=header.raw_bytes, codec="zstd", asbytes=True)
    except (pyarrow.ArrowException, OSError, ValueError, MemoryError) as error:
        raise SnapshotError("corrupt", f"{header.name}: {error}") from error
    return raw


_LIBRARIES: Final = libraries()


class Sealed:
    """How the stores write objects: sealed with one key, opened with any trusted one.

    With `any_libraries` also those that other versions of Python, River or NumPy have written.
    """

    def __init__(
        self, key: SigningKey, trusted: Mapping[bytes, VerifyKey], extra: Extra = (), *, any_libraries: bool = False
    ) -> None:
        self.key, self.trusted, self.extra, self.any_libraries = key, trusted, extra, any_libraries

    def seal(self, name: str, value: Any) -> bytes:
        """The bytes of a snapshot."""
        return seal(value, name=name, version="", n=0, at={}, key=self.key)

    def open(self, name: str, data: bytes) -> Any:
        """The object of a snapshot; raises `SnapshotError`."""
        return open_sealed(
            data, expect_name=name, trusted=self.trusted, extra=self.extra, any_libraries=self.any_libraries
        )[0]
