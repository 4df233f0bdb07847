"""Packing: values as bytes, and back; what checkpoints hold."""

from __future__ import annotations

from typing import Any

import msgspec

__all__ = ["pack", "unpack"]

_NESTED = (list, dict)
_decoder = msgspec.msgpack.Decoder()

pack = msgspec.msgpack.Encoder().encode


def unpack(data: bytes) -> Any:
    """What `pack` wrote, with tuples where lists were: values in stores are immutable."""
    return _tuples(_decoder.decode(data))


def _tuples(value: Any) -> Any:
    if type(value) is list:
        return tuple([_tuples(item) if type(item) in _NESTED else item for item in value])
    if type(value) is dict:
        return {key: _tuples(item) for key, item in value.items()}
    return value
