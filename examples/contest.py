"""The flights once more, led by a poor model: three others may show that they are better, and one of them is sabotaged.

The champion has no scaler in front of it, a common mistake. The gate compares every model with it, example by example,
and promotes whom the evidence is for. It reads the same events and labels as `flights`.
"""

from __future__ import annotations

from typing import Any

from river.linear_model import LogisticRegression
from river.optim import SGD
from river.preprocessing import StandardScaler
from river.tree import HoeffdingAdaptiveTreeClassifier

from headrace import Gate, Pipeline
from headrace.examples.flights import flights

__all__ = ["Sabotaged", "contest"]


def scaled() -> Any:
    """Logistic regression on scaled features, in small steps."""
    return StandardScaler() | LogisticRegression(SGD(0.002))


class Sabotaged:
    """A good model whose labels somebody has turned round."""

    def __init__(self) -> None:
        self.model = scaled()

    def clone(self) -> Sabotaged:
        """An untrained one."""
        return Sabotaged()

    def predict_one(self, x: dict[str, Any]) -> Any:
        """The model's answer."""
        return self.model.predict_one(x)

    def predict_proba_one(self, x: dict[str, Any]) -> Any:
        """The model's probabilities."""
        return self.model.predict_proba_one(x)

    def learn_one(self, x: dict[str, Any], y: Any) -> None:
        """Learn the opposite of what was."""
        self.model.learn_one(x, not y)


contest = Pipeline(
    "contest",
    task=flights.task,
    events=flights.events,
    labels=flights.labels,
    features=flights.features,
    models={
        "poor": LogisticRegression(),
        "logreg": scaled(),
        "hat": HoeffdingAdaptiveTreeClassifier(seed=1),
        "sabotaged": Sabotaged(),
    },
    champion="poor",
    gate=Gate(minimum=500, segments=("origin",), margin=0.02),
    columns=["origin"],
    topics={"events": "flights.events", "labels": "flights.labels"},
    classes=[(__name__, "Sabotaged")],
    data=flights.data,
)
