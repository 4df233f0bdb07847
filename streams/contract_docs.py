"""The contract for producers and consumers, made from a pipeline's schemas: field tables, JSON and Avro schemas.

    python -m headrace.streams.contract_docs headrace.examples.flights:flights docs/topics.md   # renew a page in place
    python -m headrace.streams.contract_docs flights.py:flights                                 # your pipeline's tables
    python -m headrace.streams.contract_docs flights.py:flights --json                          # its schemas, by topic

In a page, what lies between ``<!-- generated: NAME -->`` and ``<!-- end -->`` is replaced; the rest is written by hand.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from headrace.processors.features import Field, Label, Window
from headrace.processors.windows import spell
from headrace.schemas.contract import Schema
from headrace.schemas.records import REASONS, Acknowledgement, Alert, Command, Evaluation, Fact, Prediction, Shadow
from headrace.streams.errors import UsageError
from headrace.streams.loading import load_pipeline
from headrace.streams.pipeline import Events, Labels, Pipeline
from headrace.streams.stages.chain import Chain
from headrace.streams.topics import topic_name, topic_specs
from headrace.streams.topology import group_of

__all__ = ["HEADERS", "STAGE_REASONS", "blocks", "renewed", "schemas"]

_UNREADABLE = (
    "null",
    "too_large",
    "not_utf8",
    "malformed",
    "too_deep",
    "missing_field",
    "wrong_type",
    "non_finite",
    "out_of_range",
    "not_allowed",
    "unknown_schema",
    "far_future",
)
STAGE_REASONS: dict[str, tuple[str, ...]] = {
    "validate": _UNREADABLE,
    "featurize": ("feature_error", "feature_nan", "feature_type"),
    "predict": ("predict_error",),
    "join": (*_UNREADABLE, "bad_label", "orphan", "late_label"),
    "train": ("train_error",),
    "evaluate": ("malformed",),
}
"""Which stage refuses a record for which reasons. Stages run apart may also find a record between them damaged."""

HEADERS: dict[str, str] = {
    "reason": "one of the reasons below",
    "detail": "what exactly is wrong, for people",
    "stage": "the stage that refused it",
    "topic": "where it came from",
    "partition": "of that topic, in decimal digits",
    "offset": "in that partition, in decimal digits",
    "cut": "only where something is missing: the bytes that the key and the value had, in decimal digits",
}
"""The headers of a dead letter, in order; all are text in UTF-8."""

_CARRIES = {
    "events": ("the entity: `{key}`", "an event", "you"),
    "labels": ("as its event", "a label", "you"),
    "features": ("as the event", "features of a valid event: Avro, single object", "validate, featurize"),
    "predictions": ("as the event", "the champion's answer: JSON", "predict"),
    "shadow": ("as the event", "what other models would have answered, for a share of the events: JSON", "predict"),
    "examples": ("as the event", "features, label, served prediction: Avro, single object", "join"),
    "evaluations": ("the model's name", "metrics: JSON", "evaluate"),
    "alerts": ("the alert's id", "an alert: JSON", "drift"),
    "models": ("`name/shard@n#chunk`", "versions of the models: signed snapshots, in chunks", "evaluate"),
    "registry": ("the model", "commands and facts about models: JSON", "you, evaluate"),
    "control": ("the alert's id", "acknowledgements of people: JSON", "the control plane"),
    "dead-letter": ("the refused record's", "the refused record's bytes, reasons in headers", "all"),
    "journal": ("the group of stages", "what was processed in which order: internal", "all"),
    "state": ("store and key", "checkpoints: internal", "all"),
    "savepoints": ("group, number, store and key", "whole states for audit: internal", "all"),
}
_SHOWN = ("cleanup.policy", "retention.ms")
_BLOCK = re.compile(r"(<!-- generated: (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)


def blocks(pipeline: Pipeline) -> dict[str, str]:
    """The generated parts of the page, by name."""
    found = schemas(pipeline)
    return {
        "topics": _topics(pipeline),
        "events": _input(pipeline.event_schema, pipeline.events),
        "labels": _input(pipeline.label_schema, pipeline.labels),
        "features": _avro(found["features"], pipeline.features),
        "examples": _avro(found["examples"], pipeline.features),
        "predictions": _json(found["predictions"]),
        "shadow": _json(found["shadow"]),
        "commands": _json(_struct(Command)),
        "facts": _json(_struct(Fact)),
        "evaluations": _json(found["evaluations"]),
        "alerts": _json(found["alerts"]),
        "acknowledgements": _json(found["control"]),
        "dead-letter-headers": _table(("header", "value"), ((f"`{name}`", text) for name, text in HEADERS.items())),
        "reasons": _reasons(),
    }


def schemas(pipeline: Pipeline) -> dict[str, Any]:
    """The schema of each topic's values, by role: Avro for events, labels, features and examples, else JSON Schema."""
    chain = Chain(pipeline, group_of())
    return {
        "events": dict(pipeline.event_schema.avro),
        "labels": dict(pipeline.label_schema.avro),
        "features": chain.features_wire.schema,
        "examples": chain.examples_wire.schema,
        "predictions": _struct(Prediction),
        "shadow": _struct(Shadow),
        "registry": {"anyOf": [_struct(Command), _struct(Fact)]},
        "evaluations": _struct(Evaluation),
        "alerts": _struct(Alert),
        "control": _struct(Acknowledgement),
    }


def renewed(page: str, pipeline: Pipeline) -> str:
    """The page with its generated parts made anew; ValueError names a part that there is not."""
    made = blocks(pipeline)

    def replace(match: re.Match[str]) -> str:
        if match[2] not in made:
            raise ValueError(f"nothing called {match[2]!r} is generated; legal: {', '.join(made)}")
        return f"{match[1]}{made[match[2]]}\n{match[3]}"

    return _BLOCK.sub(replace, page)


def main(arguments: Sequence[str]) -> int:
    """The command; 2 is wrong use."""
    names = [argument for argument in arguments if argument != "--json"]
    if not 1 <= len(names) <= 2 or (len(names) == 2 and "--json" in arguments):
        sys.stderr.write("usage: python -m headrace.streams.contract_docs PIPELINE [PAGE | --json]\n")
        return 2
    try:
        pipeline = load_pipeline(names[0])
    except UsageError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    if "--json" in arguments:
        by_topic = {topic_name(pipeline, role): schema for role, schema in schemas(pipeline).items()}
        sys.stdout.write(json.dumps(by_topic, indent=2) + "\n")
    elif len(names) == 2:
        page = Path(names[1])
        page.write_text(renewed(page.read_text(encoding="utf-8"), pipeline), encoding="utf-8")
    else:
        sys.stdout.write("\n\n".join(f"## {name}\n\n{text}" for name, text in blocks(pipeline).items()) + "\n")
    return 0


# -- tables ------------------------------------------------------------------------------------------------------


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *([cell.replace("|", r"\|") for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _topics(pipeline: Pipeline) -> str:
    def rows() -> Iterable[Sequence[str]]:
        for spec in topic_specs(pipeline):
            key, value, by = _CARRIES[spec.role]
            if spec.role in ("features", "examples") and spec.role not in pipeline.publish:
                by = "nobody, as `publish` leaves it out"
            settings = ", ".join(f"{name}={spec.config[name]}" for name in _SHOWN if name in spec.config)
            settings = f"yours; `--apply` makes {settings}" if spec.role in ("events", "labels") else settings
            yield f"`{spec.name}`", key.format(key=pipeline.events.key), value, by, str(spec.partitions), settings

    return _table(("topic", "key", "value", "written by", "partitions", "settings"), rows())


def _input(schema: Schema, declared: Events | Labels) -> str:
    roles = {declared.id: "id", declared.time: "time"}
    if isinstance(declared, Events):
        roles[declared.key] = "key"

    def rows() -> Iterable[Sequence[str]]:
        for name, avro in zip(schema.names, schema.avro["fields"], strict=True):
            field = schema.field(name)
            expected = field.expected if field.logical is None else f"{field.expected} ({field.logical})"
            if field.kind == "bytes" and declared.format == "json":
                expected = expected.replace("bytes", "bytes in base64", 1)
            meaning = str(avro.get("doc", "")).rstrip(".")
            role = f"**{roles[name]}**: " if name in roles else ""
            yield f"`{name}`", expected, "yes" if field.required else "no", f"{role}{meaning}"

    limit = f"Format: {declared.format}, at most {declared.max_bytes:,} bytes."
    table = _table(("field", "type", "required", "meaning"), rows())
    if declared.format == "json":
        return f"{limit}\n\n{table}"
    single = "single objects of the schema below"
    if declared.schemas:
        ids = " or ".join(str(number) for number in sorted(declared.schemas))
        single = f"framed with the registry's id {ids}, or {single} or of one of those"
    return f"{limit} Records are {single}.\n\n{table}\n\n{_shown(schema.avro)}"


def _avro(schema: Mapping[str, Any], features: Mapping[str, Any]) -> str:
    def rows(fields: Iterable[Mapping[str, Any]], prefix: str = "") -> Iterable[Sequence[str]]:
        for field in fields:
            inner = field["type"] if isinstance(field["type"], Mapping) else {}
            name = f"{prefix}{field['name']}"
            if inner.get("type") == "record":
                yield from rows(inner["fields"], f"{name}.")
            else:
                known = features.get(field["name"]) if prefix == "features." else None
                meaning = field.get("doc", "").rstrip(".") if known is None else _feature(known)
                yield f"`{name}`", _avro_type(field["type"]), meaning

    return f"{_table(('field', 'type', 'meaning'), rows(schema['fields']))}\n\n{_shown(schema)}"


def _shown(schema: Mapping[str, Any]) -> str:
    text = json.dumps(schema, indent=None, ensure_ascii=False)
    return f"<details><summary>The schema</summary>\n\n```json\n{text}\n```\n\n</details>"


def _json(schema: Mapping[str, Any]) -> str:
    rows = (
        (f"`{name}`", _json_type(field), field.get("description", ""))
        for name, field in schema["properties"].items()
        if "enum" not in field
    )
    return _table(("field", "type", "meaning"), rows)


def _reasons() -> str:
    def stages(reason: str) -> str:
        return ", ".join(stage for stage, reasons in STAGE_REASONS.items() if reason in reasons)

    return _table(
        ("reason", "meaning", "stage"), ((f"`{reason}`", text, stages(reason)) for reason, text in REASONS.items())
    )


def _struct(struct: type[msgspec.Struct]) -> dict[str, Any]:
    schema = msgspec.json.schema(struct)
    inner: dict[str, Any] = schema["$defs"][struct.__name__]
    return inner


def _json_type(field: Mapping[str, Any]) -> str:
    if "anyOf" in field:
        return " or ".join(_json_type(choice) for choice in field["anyOf"])
    if field.get("type") == "array":
        inner = _json_type(field["items"])
        return f"array of ({inner})" if " or " in inner else f"array of {inner}"
    values = field.get("additionalProperties")
    if field.get("type") == "object" and isinstance(values, Mapping):
        inner = _json_type(values) if values else ""
        return f"object of ({inner})" if " or " in inner else f"object of {inner}" if inner else "object"
    return str(field["type"])


def _avro_type(declared: Any) -> str:
    if isinstance(declared, list):
        return " or ".join(_avro_type(choice) for choice in declared)
    if isinstance(declared, Mapping):
        return str(declared.get("logicalType") or declared["type"])
    return str(declared)


def _feature(feature: Any) -> str:
    """What a feature is, in the words of its declaration."""
    if isinstance(feature, Field):
        return f"the event's `{feature.name}`"
    if isinstance(feature, Window):
        value = feature.value
        of = f" of `{value}`" if isinstance(value, str) else ""
        if isinstance(value, Label):
            of = " of the labels that became known" if value.of is None else f" of the labels `{value.of}`"
        by = f" by {', '.join(f'`{name}`' for name in feature.by)}" if feature.by else ""
        return f"{feature.how.replace('_', ' ')}{of}{by} within {spell(feature.over_ms)}"
    text = (getattr(feature, "__doc__", None) or "").strip().partition("\n")[0].rstrip(".")
    return text or f"function `{getattr(feature, '__name__', feature)}`"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
