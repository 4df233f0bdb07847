"""Train: every model learns from the same examples, in the same order."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from headrace.processors.base import State, described

__all__ = ["Train"]


class Train:
    """Lets each model learn one example. The models are the state: cells under their names."""

    def __init__(self, models: tuple[str, ...]) -> None:
        self.models = models

    def process(self, x: Mapping[str, Any], y: Any, state: State) -> dict[str, str]:
        """What went wrong, by model; a model that raises does not keep the others from learning."""
        failed = {}
        for name in self.models:
            try:
                state[name].value.learn_one(x, y)
            except Exception as error:
                failed[name] = described(error)
        return failed
