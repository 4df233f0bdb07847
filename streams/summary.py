"""The summary of a task: what came in, what became of it, whether the sums are right, how good the models are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from headrace.processors.baselines import BASELINES
from headrace.streams.stages.chain import Chain
from headrace.streams.topology import Group

__all__ = ["Summary", "counted", "summary_of", "tells"]

_OF_EVENTS = ("events", "features", "duplicates")


class Summary(msgspec.Struct):
    """Counts and metrics of a pipeline. The conservation laws are `laws`.

    `unanswered` has the events on which a model failed: its metrics are of the others only.
    """

    events: int = 0
    features: int = 0
    dead_letters: dict[str, int] = {}
    label_dead_letters: int = 0
    duplicates: int = 0
    predictions: int = 0
    history: int = 0
    labelled: int = 0
    expired: int = 0
    pending: int = 0
    labels: dict[str, int] = {}
    unanswered: dict[str, int] = {}
    alerts: int = 0
    models: dict[str, dict[str, float | None]] = {}
    baselines: dict[str, dict[str, float | None]] = {}

    @property
    def laws(self) -> dict[str, bool]:
        """The conservation laws: nothing vanishes. Those that span a cut belong to no single group and are left out.

        `dead_letters` counts events by reason. Those refused by the champion have features already, and are in the
        last law; so are, in a group that reads features instead of events, those that it cannot read.
        """
        dead = sum(self.dead_letters.values())
        unpredicted = self.dead_letters.get("predict_error", 0) if self.events else dead
        dead -= unpredicted
        laws = {
            "events = features + dead letters + duplicates": self.events == self.features + dead + self.duplicates,
            "predictions = labelled + expired + pending": self.predictions
            == self.labelled + self.expired + self.pending,
            "features = predictions + refused by the champion": self.features == self.predictions + unpredicted,
        }
        if self.features and not self.events:
            del laws["events = features + dead letters + duplicates"]
        if self.features and not self.predictions + unpredicted:
            del laws["features = predictions + refused by the champion"]
        return laws

    def plain(self) -> dict[str, Any]:
        """As a dict for JSON, laws included."""
        return dict(msgspec.to_builtins(self)) | {"laws": self.laws}


def tells(group: Group, count: str) -> bool:
    """Whether this group tells the count of that name: where stages run apart, several of them know of one."""
    if count in _OF_EVENTS:
        return group.front
    return group.watches if count == "alerts" else group.back


def summary_of(chain: Chain) -> Summary:
    """The summary of one task."""
    found = counted(chain.counts, chain.pending)
    scores = {name: _named(values) for name, values in chain.summary().items()}
    found.models = {name: values for name, values in scores.items() if name not in BASELINES}
    found.baselines = {name: values for name, values in scores.items() if name in BASELINES}
    return found


def counted(counts: Mapping[str, int], pending: int) -> Summary:
    """The summary that these counts of a task make, without models."""
    dead: dict[str, int] = {}
    label_dead = 0
    for name, count in counts.items():
        if name.startswith("dead."):
            _, stage, reason = name.split(".", 2)
            if stage in ("validate", "featurize", "predict"):
                dead[reason] = dead.get(reason, 0) + count
            elif stage != "evaluate":  # commands that nobody can read
                label_dead += count
    return Summary(
        events=counts.get("events", 0),
        features=counts.get("features", 0),
        dead_letters=dict(sorted(dead.items())),
        label_dead_letters=label_dead,
        duplicates=counts.get("duplicates", 0),
        predictions=counts.get("predictions", 0),
        history=counts.get("history", 0),
        labelled=counts.get("labelled", 0),
        expired=counts.get("expired", 0),
        pending=pending,
        labels={name[7:]: count for name, count in sorted(counts.items()) if name.startswith("labels.")},
        unanswered={name[13:]: count for name, count in sorted(counts.items()) if name.startswith("model_errors.")},
        alerts=counts.get("alerts", 0),
    )


_NAMES = {"ROCAUC": "roc_auc", "Accuracy": "accuracy", "MacroF1": "macro_f1", "LogLoss": "log_loss"}


def _named(values: dict[str, float | None]) -> dict[str, float | None]:
    return {_NAMES.get(name, name.lower()): value for name, value in values.items()}
