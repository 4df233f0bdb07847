"""The models of a new pipeline: a linear one and a tree, each with what its features ask for."""

from __future__ import annotations

import re

from headrace.streams.scaffold.plan import Plan
from headrace.streams.scaffold.source import WIDTH, imported, quoted

__all__ = ["models", "named"]

_ESTIMATORS = {
    "binary": ("LogisticRegression()", "HoeffdingAdaptiveTreeClassifier(seed=1)"),
    "multiclass": ("SoftmaxRegression()", "HoeffdingAdaptiveTreeClassifier(seed=1)"),
    "regression": (
        "TargetStandardScaler(LinearRegression())",
        "TargetStandardScaler(HoeffdingAdaptiveTreeRegressor(seed=1))",
    ),
}

_RIVER = (
    ("river.compose", "Discard"),
    ("river.compose", "Select"),
    ("river.feature_extraction", "BagOfWords"),
    ("river.linear_model", "LinearRegression"),
    ("river.linear_model", "LogisticRegression"),
    ("river.linear_model", "SoftmaxRegression"),
    ("river.preprocessing", "FeatureHasher"),
    ("river.preprocessing", "OneHotEncoder"),
    ("river.preprocessing", "StandardScaler"),
    ("river.preprocessing", "TargetStandardScaler"),
    ("river.tree", "HoeffdingAdaptiveTreeClassifier"),
    ("river.tree", "HoeffdingAdaptiveTreeRegressor"),
)


def models(plan: Plan) -> tuple[list[str], list[str]]:
    """The models as lines, and River's imports that they need."""
    kinds = list(plan.features.values())
    numbers = "number" in kinds or "flag" in kinds or plan.hour or plan.weekday or plan.span is not None
    words, texts = named(plan, "category"), named(plan, "text")
    rest = f"Discard({', '.join(['*CATEGORIES'] * bool(words) + [quoted(name) for name in texts])})"
    scaled = [f"({rest} | StandardScaler())" if words or texts else "StandardScaler()"] if numbers else []
    coded = ["(Select(*CATEGORIES) | OneHotEncoder(drop_zeros=True))"] if words else []
    bags = [f"(BagOfWords(on={quoted(name)}) | FeatureHasher(n_features=16_384, seed=1))" for name in texts]
    linear, tree = _ESTIMATORS[plan.task]
    lines = _entry("linear", scaled + coded + bags, linear)
    left = [f"Discard({', '.join(quoted(name) for name in texts)})"] if texts else []
    # A regression tree's leaves are linear models: they need numbers, and scaled ones.
    lines += _entry("tree", (scaled + coded if plan.task == "regression" else []) or left, tree)
    modules: dict[str, list[str]] = {}
    for module, word in _RIVER:
        if re.search(rf"\b{word}\(", "".join(lines)):
            modules.setdefault(module, []).append(word)
    return lines, [imported(module, found) for module, found in modules.items()]


def named(plan: Plan, kind: str) -> list[str]:
    """The features that are used like this."""
    return [name for name, of in plan.features.items() if of == kind]


def _entry(name: str, parts: list[str], last: str) -> list[str]:
    """A model as a formatter would have it: in one line, else in two, else one step a line."""
    joined = " + ".join(parts)
    first = f"({joined})" if len(parts) > 1 else joined
    whole = f"{first} | {last}" if parts else last
    if len(whole) + len(name) <= WIDTH - 11:
        return [f'        "{name}": {whole},']
    if len(whole) <= WIDTH - 12:
        return [f'        "{name}": (', f"            {whole}", "        ),"]
    if len(first) <= WIDTH - 12:
        return [f'        "{name}": (', f"            {first}", f"            | {last}", "        ),"]
    steps = [f"                {'+ ' if i else ''}{part}" for i, part in enumerate(parts)]
    return [f'        "{name}": (', "            (", *steps, "            )", f"            | {last}", "        ),"]
