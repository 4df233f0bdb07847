"""The records Headrace publishes, and the input record it is given.

JSON records are msgspec structs, encoded in field order. Published bytes name input coordinates only:
no output offset and no wall clock. Times are milliseconds since 1970-01-01T00:00:00Z (event time).
"""

from __future__ import annotations

from typing import Annotated, Any, NamedTuple

import msgspec

__all__ = [
    "BEFORE_ALL",
    "REASONS",
    "Acknowledgement",
    "Alert",
    "Command",
    "Evaluation",
    "Fact",
    "Input",
    "Long",
    "Prediction",
    "Shadow",
    "version_of",
]

BEFORE_ALL = -(2**62)
"""The time of what has none, and stream time before the first event."""


def version_of(model: str, shard: int, n: int) -> str:
    """What predictions are stamped with and snapshots are called: name/shard@n, n being the examples so far."""
    return f"{model}/{shard}@{n}"


def _says(description: str) -> msgspec.Meta:
    """What a field means: it is in the JSON Schema, and in docs/topics.md."""
    return msgspec.Meta(description=description)


class Input(NamedTuple):
    """One input record as the chain sees it; `payload` is what `value` decoded to, or a `BadRecord`."""

    time_ms: int
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    timestamp_ms: int
    payload: Any


class Prediction(msgspec.Struct, frozen=True, gc=False):
    """One answer of the champion (or, on the shadow topic, of a challenger)."""

    event_id: Annotated[str | int, _says("the event's id")]
    time_ms: Annotated[int, _says("event time")]
    prediction: Annotated[
        bool | int | float | str | None,
        _says("a bool (binary), a label (multiclass) or a number (regression); null without an answer"),
    ]
    probability: Annotated[float | None, _says("of true (binary); null otherwise")]
    probabilities: Annotated[dict[str, float] | None, _says("by label (multiclass); null otherwise")]
    reason: Annotated[str | None, _says("why there is no answer: `untrained`; null otherwise")]
    model: Annotated[str, _says("the version that answered: name/shard@n, n being the examples so far")]
    learned_until_ms: Annotated[int | None, _says("the latest label time that it had learned; null if none")]
    behind_ms: Annotated[int | None, _says("how far the event's time is ahead of that; null if it had learned nothing")]
    partition: Annotated[int, _says("of the event in the events topic")]
    offset: Annotated[int, _says("of the event in its partition")]
    columns: Annotated[dict[str, Any], _says("the event's columns that the pipeline passes on, by name")]


class Shadow(Prediction, frozen=True, gc=False):
    """What a model that does not serve this event would have answered."""

    role: Annotated[str, _says("champion (where a canary serves), challenger or canary")]


_LARGEST = 2**63 - 1
Long = Annotated[int, msgspec.Meta(ge=-_LARGEST, le=_LARGEST)]
"""What state can hold: the numbers of a command become part of it."""


class Command(msgspec.Struct, frozen=True, tag_field="record", tag="command"):
    """What somebody wants of a model: one copy in each partition that it is for. What became of it is a fact."""

    id: Annotated[str, msgspec.Meta(min_length=1, max_length=100), _says("its own; a copy that came before is ignored")]
    kind: Annotated[
        str,
        msgspec.Meta(max_length=40),
        _says("promote, approve, rollback, retire, canary, retrain; adopt, which workers send themselves"),
    ]
    shard: Annotated[Long, _says("the model shard that this copy is for: its partition")]
    by: Annotated[str, msgspec.Meta(max_length=200), _says("who")]
    model: Annotated[
        Annotated[str, msgspec.Meta(max_length=100)] | None, _says("which model; null: rollback to the champion before")
    ] = None
    why: Annotated[str, msgspec.Meta(max_length=2_000), _says("for people")] = ""
    saw: Annotated[
        Annotated[int, msgspec.Meta(ge=0, le=_LARGEST)] | None,
        _says("the registry version that its author saw: refused when it has changed since; null: whatever it is"),
    ] = None
    share: Annotated[
        Annotated[float, msgspec.Meta(ge=0, le=1)] | None,
        _says("canary: the share of keys that the model serves; 0 stops it"),
    ] = None
    name: Annotated[
        Annotated[str, msgspec.Meta(max_length=100)] | None, _says("retrain: what the new model is to be called")
    ] = None
    from_n: Annotated[
        Annotated[int, msgspec.Meta(ge=0, le=_LARGEST)] | None, _says("retrain: leave out the first so many examples")
    ] = None
    from_ms: Annotated[Long | None, _says("retrain: leave out examples whose label time is before this")] = None
    signature: Annotated[
        Annotated[str, msgspec.Meta(max_length=128)] | None,
        _says("Ed25519, hexadecimal, where the pipeline declares operators: only then it is obeyed"),
    ] = None


class Fact(msgspec.Struct, frozen=True, tag_field="record", tag="fact"):
    """What happened to a model, numbered: the registry is the fold of these, and of nothing else."""

    version: Annotated[int, _says("of the registry of this shard, this fact included: 1, 2, 3 ...")]
    kind: Annotated[
        str,
        _says(
            "registered, promoted, proposed, rolled_back, canary, shadow (a canary ended), retired, refused, "
            "retraining, caught_up"
        ),
    ]
    model: Annotated[str | None, _says("which model it is about")]
    status: Annotated[
        str | None,
        _says("what that model is from now on: champion, challenger, canary, retraining or retired; null: unknown"),
    ]
    champion: Annotated[str | None, _says("who serves from now on")]
    shard: Annotated[int, _says("the model shard: the partition")]
    n: Annotated[int, _says("examples that the models had learned: with the name and shard, the version")]
    time_ms: Annotated[int | None, _says("stream time; null before the first event")]
    at: Annotated[
        dict[str, int],
        _says("input offsets, by role: of the example or command that decided, else of the records that come next"),
    ]
    by: Annotated[
        str,
        _says(
            "who: a person, `gate`, `declaration`, `drift` (a reaction), `schedule`, `worker` (a copy has caught up) "
            "or `control` (a policy)"
        ),
    ]
    why: Annotated[str, _says("for people; of a refused command, what is wrong with it")]
    evidence: Annotated[dict[str, Any], _says("what the decision rests on, by name")]
    command: Annotated[str | None, _says("id of the command that it answers; null: there was none")] = None
    saw: Annotated[int | None, _says("the registry version that the command's author saw")] = None


class Evaluation(msgspec.Struct, frozen=True):
    """Progressive metrics of one model or baseline, overall or in a window of examples."""

    model: Annotated[str, _says("name of the model or baseline")]
    role: Annotated[str, _says("champion, challenger or baseline")]
    shard: Annotated[int, _says("the model's shard: the partition that trained it")]
    segment: Annotated[
        str | None,
        _says("the part of the events that is evaluated, as `column=value`; null: all; `column`: between its parts"),
    ]
    window: Annotated[
        str,
        _says(
            "`overall`, `last-N`: a window of N examples; `disparity-overall`, `disparity-last-N`: how far apart a "
            "column's parts are there; `gate`: how a challenger stands against the champion; or "
            "`proxy-N`, `proxy-scored-N`: N predictions, before and after their labels came (drift.md)"
        ),
    ]
    n: Annotated[int, _says("examples in the window")]
    scored: Annotated[int, _says("of these, how many the model had answered")]
    first_n: Annotated[int, _says("running number of its first example")]
    last_n: Annotated[int, _says("running number of its last example")]
    first_time_ms: Annotated[int, _says("label time of its first example")]
    last_time_ms: Annotated[int, _says("label time of its last example")]
    metrics: Annotated[dict[str, float | None], _says("name to value; null where a metric is not defined yet")]
    between: Annotated[
        dict[str, list[str]] | None, _says("of a disparity: metric to the worst and the best part; else null")
    ] = None


class Alert(msgspec.Struct, frozen=True):
    """What an operator may want to know of one signal, with its evidence; records with one id are one matter."""

    alert_id: Annotated[str, _says("hash of the first evidence: the same matter has the same id")]
    kind: Annotated[
        str, _says("what happened: error_drift, feature_drift, label_drift, prediction_drift, snapshot_refused")
    ]
    signal: Annotated[
        str, _says("what was watched: error, label, prediction, feature:NAME, features:NAME+NAME or model:VERSION")
    ]
    severity: Annotated[str, _says("info, warning or critical")]
    status: Annotated[str, _says("opened, updated (it goes on, or has become stronger) or resolved (nothing new)")]
    message: Annotated[str, _says("one sentence for people")]
    detector: Annotated[str, _says("the detector with its parameters")]
    statistic: Annotated[
        dict[str, float],
        _says("the last finding: score, threshold, distance, means before and after; what is unknown is absent"),
    ]
    strength: Annotated[float, _says("score by threshold; 1 where the detector only says yes")]
    n: Annotated[int, _says("values in which the last finding shows")]
    topic: Annotated[str, _says("the topic that the offsets refer to")]
    partition: Annotated[int, _says("of that topic")]
    first_offset: Annotated[int, _says("where the values begin in which the first finding shows")]
    last_offset: Annotated[int, _says("of the value on which the last finding was made")]
    opened_ms: Annotated[int, _says("stream time at which the alert was opened")]
    time_ms: Annotated[int, _says("stream time of this record (errors and labels: label time)")]
    findings: Annotated[int, _says("detections since it was opened")]
    examples: Annotated[list[str | int], _says("ids of events among those that differ most, at most three")]
    segments: Annotated[
        dict[str, float],
        _says("by how much the mean has changed in the gate's segments where it changed most, at most three; numbers"),
    ] = {}

    def broken_down(self, segments: dict[str, float]) -> Alert:
        """The same alert with these segments."""
        return msgspec.structs.replace(self, segments=segments)


class Acknowledgement(msgspec.Struct, frozen=True, tag_field="record", tag="acknowledgement"):
    """Somebody has seen an alert: the last one of an alert counts. When it was is the record's own Kafka time."""

    alert_id: Annotated[str, msgspec.Meta(min_length=1, max_length=100), _says("of the alert")]
    by: Annotated[str, msgspec.Meta(min_length=1, max_length=200), _says("who")]
    note: Annotated[str, msgspec.Meta(max_length=2_000), _says("for people")] = ""


REASONS: dict[str, str] = {
    "null": "the record has no value",
    "too_large": "the value or the key is longer than the declared maximum",
    "not_utf8": "the value is not UTF-8",
    "malformed": "the value is not a whole document of the declared format",
    "too_deep": "the document is nested too deeply",
    "missing_field": "a required field is absent",
    "wrong_type": "a field has another type than the schema says",
    "non_finite": "a number is NaN, infinite, or too large to represent",
    "out_of_range": "a number is outside the declared range",
    "not_allowed": "a value is not among the declared ones",
    "unknown_schema": "the schema that the record names is not known",
    "far_future": "the event time is too far ahead of the record's own Kafka time",
    "feature_error": "a feature raised",
    "feature_nan": "a feature is NaN or infinite",
    "feature_type": "a feature has another type than it declares, or is text too long for a window",
    "predict_error": "the champion raised, or answered what is none of the task, or no number",
    "train_error": "a model raised while learning",
    "bad_label": "the label function raised or gave an illegal label",
    "orphan": "no event with this id came to the label's partition within its time to live",
    "late_label": "the label came after its event had expired",
}
