"""What the registry says: each shard's models as they are now, and its facts, the latest of them whole."""

from __future__ import annotations

from collections import deque
from typing import Any

import msgspec

from headrace.processors.registry import fold, fresh, standing
from headrace.schemas.records import Fact

__all__ = ["Shards"]

_FACTS = 200


class Shards:
    """The fold of facts, by shard. A fact that does not follow the one before is counted as odd, and left out."""

    def __init__(self, count: int) -> None:
        self._registries = [fresh() for _ in range(count)]
        self._facts: list[deque[Fact]] = [deque(maxlen=_FACTS) for _ in range(count)]
        self.odd = 0

    def take(self, shard: int, fact: Fact) -> None:
        """Take the next fact of a shard."""
        try:
            fold(self._registries[shard], fact)
        except (ValueError, IndexError, KeyError):
            self.odd += 1
        else:
            self._facts[shard].append(fact)

    def view(self) -> dict[str, Any]:
        """Models and facts of every shard as plain values, the latest facts first."""
        return {
            "shards": [
                {
                    "shard": number,
                    "version": registry["version"],
                    "champion": registry["champion"],
                    "past": list(registry["past"][-5:]),
                    "models": [{"model": name, **standing(registry, name)} for name in registry["models"]],
                    "facts": [msgspec.to_builtins(fact) for fact in reversed(self._facts[number])],
                }
                for number, registry in enumerate(self._registries)
            ],
            "odd": self.odd,
        }
