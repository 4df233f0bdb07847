"""The declaration of a new pipeline, as its author would have written it."""

from __future__ import annotations

import re

from headrace.streams.scaffold.estimators import models, named
from headrace.streams.scaffold.plan import Plan
from headrace.streams.scaffold.source import imported, listing, quoted, safe

__all__ = ["declaration"]


def declaration(plan: Plan, name: str, module: str) -> str:
    """The module that declares the pipeline."""
    functions, features = _functions(plan), features_of(plan)
    y, label_function = _label(plan)
    drift = ["watch_error(only_worse=True)", "watch_label()", "watch_prediction()"]
    imports = ["Events", "Gate", "Labels", "Pipeline"]
    imports += sorted(
        word
        for word in ("count", "field", "label", "last", "mean", "time_since_last")
        if any(re.search(rf"\b{word}\(", made) for made in features.values())
    )
    imports += ["watch_error", "watch_label", "watch_prediction"]
    entries, from_river = models(plan)
    words = named(plan, "category")
    categories = listing("CATEGORIES", words) if words else []
    late = "" if plan.ttl == "2d" else f', duplicates_within="{plan.ttl}"'
    every = max(50, min(1_000, len(plan.table.rows) // 20))
    lines = [
        f'"""Predicts {plan.label_field} {_about(plan)}, and learns from what turned out.',
        "",
        "Every feature is known when the event happens. The label comes later, on a topic of its own; until then the",
        "prediction waits. README.md says what was assumed, and how to run it.",
        '"""',
        "",
        imported("headrace", imports),
        *from_river,
        "",
        f'__all__ = ["{module}"]',
        "",
        *categories,
        "",
        *label_function,
        *functions,
        "def rows():",
        '    """Every row of the file. A worker reads none of them, and needs no pandas."""',
        f"    from {module}loader import frame",
        "",
        "    return frame()",
        "",
        "",
        f"{module} = Pipeline(",
        f'    "{name}",',
        f'    task="{plan.task}",',
        f'    events=Events("event.avsc", id="{plan.id}", key="{plan.key}", time="{plan.time}"{late}),',
        f'    labels=Labels("label.avsc", id="{plan.id}", time="known_at", y={y}, ttl="{plan.ttl}"),',
        "    features={",
        *[f'        "{feature}": {made},' for feature, made in features.items()],
        "    },",
        "    models={",
        *entries,
        "    },",
        '    champion="linear",',
        "    gate=Gate(),  # the tree takes over when it is shown to be better, and never before",
        f"    drift=[{', '.join(drift)}],",
        *([f'    columns=["{plan.key}"],'] if plan.has_key else []),
        f"    evaluate_every={every},",
        "    data=rows,",
        ")",
        "",
    ]
    return "\n".join(lines)


def _about(plan: Plan) -> str:
    return f"of every {plan.key}" if plan.has_key else "of every event"


def features_of(plan: Plan) -> dict[str, str]:
    """Feature → what declares it."""
    features = {name: f'field("{name}"{_default(plan, name)})' for name in plan.features}
    if plan.hour:
        features["hour"] = "hour_of"
    if plan.weekday:
        features["weekday"] = "weekday_of"
    if plan.span is not None:
        features |= _windows(plan, plan.span)
    return features


def _default(plan: Plan, name: str) -> str:
    """Words that are missing are a word of their own; missing numbers are left out of what a model is given."""
    return ', default=""' if plan.features[name] in ("category", "text") and plan.fields[name].missing else ""


def _windows(plan: Plan, span: str) -> dict[str, str]:
    """What an entity did, and what came of it, within the last `span`; without entities, what came of all events."""
    key = plan.key
    by, whose = (f'"{key}"', f"{key}_") if plan.has_key else ("None", "recent_")
    made = {}
    if plan.has_key:
        made[f"{whose}events_{span}"] = f'count(by={by}, over="{span}")'
        made[f"{whose}pause_s"] = f"time_since_last(by={by}, default=0.0)"
    if plan.task == "binary":
        made[f"{whose}label_{span}"] = f'mean(label(), by={by}, over="{span}", default=0.0)'
    if plan.task == "regression":
        made[f"{whose}label_{span}"] = f'mean(label(), by={by}, over="{span}")'
        made[f"{whose}label"] = f'last(label(), by={by}, over="{span}")'
    return made


def _functions(plan: Plan) -> list[str]:
    hour, day = 3_600_000, 86_400_000
    lines: list[str] = []
    if plan.hour:
        lines += [
            "def hour_of(event) -> int:",
            '    """Hour of the day, in UTC."""',
            f"    return int(event.{plan.time} // {hour:_} % 24)",
            "",
            "",
        ]
    if plan.weekday:
        lines += [
            "def weekday_of(event) -> int:",
            '    """Day of the week, in UTC: Monday is 0."""',
            f"    return int((event.{plan.time} // {day:_} + 3) % 7)",
            "",
            "",
        ]
    return lines


def _label(plan: Plan) -> tuple[str, list[str]]:
    """What `y` is, and the function that it names, if it is one."""
    label = plan.label
    assert label is not None
    if plan.task != "binary" or label.kind == "boolean":
        return f'"{plan.label_field}"', []
    positive = str(plan.positive)
    value = {"long": lambda: str(int(positive)), "double": lambda: str(float(positive.replace(",", ".")))}.get(
        label.kind, lambda: quoted(positive)
    )()
    function = f"is_{plan.label_field}".removeprefix("is_is_")
    function = function if function.startswith("is_") else f"is_{function}"
    return function, [
        f"def {function}(outcome) -> bool:",
        f'    """Whether {safe(label.name)} turned out to be {safe(positive)}."""',
        f"    return bool(outcome.{plan.label_field} == {value})",
        "",
        "",
    ]
