"""A processor's state as the runtime keeps it, for tests that have no chain around the processor."""

from __future__ import annotations

from typing import Any

from headrace.streams.state import Stores

__all__ = ["fresh_state"]


def fresh_state(processor: Any) -> dict[str, Any]:
    """The processor's stores by name, and their indexes, as before the first record."""
    return Stores({"processor": tuple(processor.stores())}, None).states["processor"]
