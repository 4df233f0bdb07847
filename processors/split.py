"""Split: a share of keys or ids, always the same ones."""

from __future__ import annotations

from collections.abc import Callable
from zlib import crc32

__all__ = ["chooses", "chooses_id"]

_MASK = 0xFFFFFFFF
_GOLDEN = 0x9E3779B1


def chooses(share: float, salt: str = "") -> Callable[[bytes], bool]:
    """A function that answers whether a key is in this share; another salt draws another share.

    CRC-32, then Fibonacci hashing (Knuth, The Art of Computer Programming, volume 3, 6.4): the same on every machine
    and in every process.

    >>> mine = chooses(0.25, "canary")
    >>> sum(mine(str(n).encode()) for n in range(10_000))
    2439
    """
    if not 0.0 <= share <= 1.0:
        raise ValueError(f"share must be from 0 to 1; got {share!r}")
    below, seed = round(share * 2**32), crc32(salt.encode()) if salt else 0

    def chosen(key: bytes) -> bool:
        return ((crc32(key) ^ seed) * _GOLDEN & _MASK) < below

    return chosen


def chooses_id(share: float) -> Callable[[object], bool]:
    """`chooses` for ids, which are text or integers."""
    below = round(share * 2**32)

    def chosen(value: object) -> bool:
        return (crc32(str(value).encode("utf-8", "surrogatepass")) * _GOLDEN & _MASK) < below

    return chosen
