"""Avro's integers: zigzag, then seven bits a byte, the last byte below 128."""

from __future__ import annotations

from functools import cache
from operator import index

__all__ = ["ENDS", "HEADS", "high_parts", "int_bytes", "long_bytes", "long_table", "read_more"]

_BASE = 1 << 14
ENDS: tuple[bytes, ...] = tuple(
    bytes((u,)) if u < 128 else bytes((u & 127 | 128, u >> 7)) for u in range(_BASE)
)  # the last one or two bytes of a number
HEADS: tuple[bytes, ...] = tuple(bytes((u & 127 | 128, u >> 7 | 128)) for u in range(_BASE))  # two bytes, more follow
_MASK = _BASE - 1


def long_bytes(value: int) -> bytes:
    """The bytes of a 64-bit integer; ValueError if it is longer, TypeError if it is none."""
    value = index(value)
    if not -(2**63) <= value < 2**63:
        raise ValueError(f"{value} does not fit 64 bits")
    u = (value << 1) ^ (value >> 63)
    if u < _BASE:
        return ENDS[u]
    if u < 1 << 28:
        return HEADS[u & _MASK] + ENDS[u >> 14]
    if u < 1 << 42:
        return HEADS[u & _MASK] + HEADS[u >> 14 & _MASK] + ENDS[u >> 28]
    head = HEADS[u & _MASK] + HEADS[u >> 14 & _MASK] + HEADS[u >> 28 & _MASK]
    u >>= 42
    return head + (ENDS[u] if u < _BASE else HEADS[u & _MASK] + ENDS[u >> 14])


def int_bytes(value: int) -> bytes:
    """The bytes of a 32-bit integer; ValueError if it is longer, TypeError if it is none."""
    value = index(value)
    if not -(2**31) <= value < 2**31:
        raise ValueError(f"{value} does not fit 32 bits")
    return long_bytes(value)


@cache
def long_table() -> tuple[bytes, ...]:
    """The bytes of 0, 1, 2, ... as far as two bytes reach."""
    return ENDS[::2]


def high_parts() -> dict[int, bytes]:
    """What follows `HEADS`: the bytes of each number, zigzag already and without its 28 lowest bits."""
    return _HighParts()


class _HighParts(dict[int, bytes]):
    """The bytes that follow the first four of a number, by what is left of it: made when asked for, and then kept.

    Times and offsets of records that follow one another differ in their low bits only.
    """

    def __missing__(self, high: int) -> bytes:
        if len(self) >= _BASE:
            self.clear()
        parts, left = [], high
        while left >= _BASE:
            parts.append(HEADS[left & _MASK])
            left >>= 14
        made = self[high] = b"".join((*parts, ENDS[left]))
        return made


def read_more(data: bytes, at: int, first: int) -> tuple[int, int]:
    """The zigzag value that begins with the byte `first`, of at least 128, and goes on at `at`; and where it ends."""
    u = first & 127
    shift = 7
    for byte in data[at : at + 9]:
        at += 1
        if byte < 128:
            u |= byte << shift
            if u >= 1 << 64:
                break
            return u, at
        u |= (byte & 127) << shift
        shift += 7
    raise ValueError("an integer does not end")
