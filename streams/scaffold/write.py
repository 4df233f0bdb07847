"""The files of a new pipeline: what an author would have written for this table, to be read and changed."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Mapping
from typing import Any

from headrace.schemas.columns import MISSING, Column
from headrace.streams.scaffold.plan import Plan
from headrace.streams.scaffold.readme import readme

__all__ = ["SAMPLE_ROWS", "files"]

SAMPLE_ROWS = 1_000
_ORDINAL_1970 = 719_163
_WIDTH = 120
_AVRO = {"boolean": "boolean", "long": "long", "double": "double"}
_DTYPES = {"boolean": "boolean", "long": "Int64", "double": "float64"}
_TIMESTAMP: Any = {"type": "long", "logicalType": "timestamp-millis"}


def files(plan: Plan, name: str, module: str, data: str) -> dict[str, bytes]:
    """Name → content of every file. `data` is the path of the table, seen from the pipeline's folder."""
    text = {
        f"{module}.py": _pipeline(plan, name, module),
        f"{module}_data.py": _data(plan, name, data),
        "event.avsc": _event_schema(plan, name),
        "label.avsc": _label_schema(plan, name),
        f"test_{module}.py": _tests(plan, name, module),
        "README.md": readme(plan, name, module, data),
    }
    return {file: content.encode() for file, content in text.items()} | {"sample.csv": _sample(plan)}


# -- the declaration ---------------------------------------------------------------------------------------------------


def _pipeline(plan: Plan, name: str, module: str) -> str:
    functions, features = _functions(plan), _features(plan)
    y, label_function = _label(plan)
    drift = ["watch_error(only_worse=True)", "watch_label()", "watch_prediction()"]
    imports = ["Events", "Gate", "Labels", "Pipeline"]
    imports += sorted(
        word
        for word in ("count", "field", "label", "last", "mean", "time_since_last")
        if any(re.search(rf"\b{word}\(", made) for made in features.values())
    )
    imports += ["watch_error", "watch_label", "watch_prediction"]
    models, from_river = _models(plan)
    words = _named(plan, "category")
    categories = _listing("CATEGORIES", words) if words else []
    late = "" if plan.ttl == "2d" else f', duplicates_within="{plan.ttl}"'
    every = max(50, min(1_000, len(plan.table.rows) // 20))
    lines = [
        f'"""Predicts {plan.label_field} {_about(plan)}, and learns from what turned out.',
        "",
        "Every feature is known when the event happens. The label comes later, on a topic of its own; until then the",
        "prediction waits. README.md says what was assumed, and how to run it.",
        '"""',
        "",
        _import("headrace", imports),
        *from_river,
        "",
        f"from {module}_data import frame",
        "",
        f'__all__ = ["{module}"]',
        "",
        *categories,
        *(_BAG if _named(plan, "text") else []),
        "",
        *label_function,
        *functions,
        f"{module} = Pipeline(",
        f'    "{name}",',
        f'    task="{plan.task}",',
        f'    events=Events("event.avsc", id="{plan.id}", key="{plan.key}", time="{plan.time}"{late}),',
        f'    labels=Labels("label.avsc", id="{plan.id}", time="known_at", y={y}, ttl="{plan.ttl}"),',
        "    features={",
        *[f'        "{feature}": {made},' for feature, made in features.items()],
        "    },",
        "    models={",
        *models,
        "    },",
        '    champion="linear",',
        "    gate=Gate(),  # the tree takes over when it is shown to be better, and never before",
        f"    drift=[{', '.join(drift)}],",
        *([f'    columns=["{plan.key}"],'] if plan.has_key else []),
        f"    evaluate_every={every},",
        *(["    classes=BAG_OF_WORDS,"] if _named(plan, "text") else []),
        "    data=frame,",
        ")",
        "",
    ]
    return "\n".join(lines)


def _about(plan: Plan) -> str:
    return f"of every {plan.key}" if plan.has_key else "of every event"


def _features(plan: Plan) -> dict[str, str]:
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
        label.kind, lambda: _quoted(positive)
    )()
    function = f"is_{plan.label_field}".removeprefix("is_is_")
    function = function if function.startswith("is_") else f"is_{function}"
    return function, [
        f"def {function}(outcome) -> bool:",
        f'    """Whether {_safe(label.name)} turned out to be {_safe(positive)}."""',
        f"    return bool(outcome.{plan.label_field} == {value})",
        "",
        "",
    ]


def _models(plan: Plan) -> tuple[list[str], list[str]]:
    """The models as lines, and River's imports that they need."""
    kinds = list(plan.features.values())
    numbers = "number" in kinds or "flag" in kinds or plan.hour or plan.weekday or plan.span is not None
    words, texts = _named(plan, "category"), _named(plan, "text")
    rest = [f"Discard({', '.join(['*CATEGORIES'] * bool(words) + [_quoted(name) for name in texts])}) | "]
    scaled = [f"({rest[0]}StandardScaler())" if words or texts else "StandardScaler()"] if numbers else []
    coded = ["(Select(*CATEGORIES) | OneHotEncoder(drop_zeros=True))"] if words else []
    bags = [f"(BagOfWords(on={_quoted(name)}) | FeatureHasher(n_features=16_384, seed=1))" for name in texts]
    linear, tree = _ESTIMATORS[plan.task]
    lines = _entry("linear", scaled + coded + bags, linear)
    if plan.task == "regression":  # a tree's leaves are linear models: they need scaled numbers as well
        lines += _entry("tree", scaled + (["Select(*CATEGORIES)"] if words else []), tree)
    else:
        drop = f"Discard({', '.join(_quoted(name) for name in texts)})"
        lines += _entry("tree", [drop] if texts else [], tree)
    modules: dict[str, list[str]] = {}
    for module, word in _RIVER:
        if any(f"{word}(" in line for line in lines):
            modules.setdefault(module, []).append(word)
    return lines, [_import(module, found) for module, found in modules.items()]


def _named(plan: Plan, kind: str) -> list[str]:
    return [name for name, of in plan.features.items() if of == kind]


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


_BAG = [
    "BAG_OF_WORDS = [",
    '    ("operator", "itemgetter"),',
    '    ("river.feature_extraction.vectorize", "strip_accents_unicode"),',
    '    ("river.feature_extraction.vectorize", "tokenize_using_regex_pattern"),',
    "]",
    '"""The functions that a BagOfWords holds: snapshots of the model may name them."""',
    "",
]


def _entry(name: str, parts: list[str], last: str) -> list[str]:
    """A model as a formatter would have it: in one line, else in two, else one step a line."""
    joined = " + ".join(parts)
    first = f"({joined})" if len(parts) > 1 else joined
    whole = f"{first} | {last}" if parts else last
    if len(whole) + len(name) <= _WIDTH - 11:
        return [f'        "{name}": {whole},']
    if len(whole) <= _WIDTH - 12:
        return [f'        "{name}": (', f"            {whole}", "        ),"]
    if len(first) <= _WIDTH - 12:
        return [f'        "{name}": (', f"            {first}", f"            | {last}", "        ),"]
    steps = [f"                {'+ ' if i else ''}{part}" for i, part in enumerate(parts)]
    return [f'        "{name}": (', "            (", *steps, "            )", f"            | {last}", "        ),"]


# -- the data ----------------------------------------------------------------------------------------------------------


def _data(plan: Plan, name: str, data: str) -> str:
    used = _used(plan)
    columns = {column.name: field for field, column in used.items()}
    types = {column.name: _DTYPES.get(column.kind, "str") for column in used.values()}
    moments = {field: column for field, column in used.items() if column.kind == "time"}
    constants, nulls = _read_as(
        types, [name for name in columns if types[name] == "str" and columns[name] not in moments]
    )
    how = [] if plan.table.separator == "," else [f"sep={_quoted(plan.table.separator)}"]
    how += [] if plan.table.encoding == "utf-8" else [f'encoding="{plan.table.encoding}"']
    how += ['decimal=","'] if any(column.comma for column in used.values()) else []
    lines = [
        f'"""The rows of {_safe(plan.table.path.name)}, as events and labels of `{name}`."""',
        "",
        "from __future__ import annotations",
        "",
        "from pathlib import Path",
        "",
        "import pandas as pd",
        "",
        '__all__ = ["DATA", "SAMPLE", "frame"]',
        "",
        "FOLDER = Path(__file__).resolve().parent",
        f"DATA = FOLDER / {_quoted(data)}",
        'SAMPLE = FOLDER / "sample.csv"',
        '"""The first rows of it, for the tests."""',
        "",
        *_mapping("COLUMNS", columns),
        '"""Column of the file → field of event.avsc or label.avsc; what is not here is left out."""',
        "",
        *_mapping("TYPES", types),
        '"""What a column is read as; moments and words are text."""',
        "",
        *constants,
        *([*_delay(plan), ""] if plan.label_time is None else []),
        "",
        "def frame(path: Path = DATA) -> pd.DataFrame:",
        '    """Every row of the file, in the order of time: a column for each field of an event and of its label."""',
        "    rows = pd.read_csv(",
        "        path,",
        "        usecols=list(COLUMNS),",
        "        dtype=TYPES,",
        "        keep_default_na=False,",
        f"        na_values={nulls},",
        *[f"        {option}," for option in how],
        "    ).rename(columns=COLUMNS)",
        *_made(plan),
        *[_read_moment(field, column) for field, column in moments.items()],
        *_known(plan),
        _sorted(plan),
        "",
    ]
    return "\n".join(line for line in lines)


def _delay(plan: Plan) -> list[str]:
    said = '"""How long after its event a label is taken to be known: the file does not say."""'
    return [f'DELAY = pd.Timedelta("{_timedelta(plan.delay)}")', said]


def _used(plan: Plan) -> dict[str, Column]:
    """Field → column, for all that are read, in the order of the file."""
    assert plan.label is not None
    used = {**plan.fields, plan.label_field: plan.label}
    if plan.label_time is not None:
        used["known_at"] = plan.label_time
    return dict(sorted(used.items(), key=lambda item: plan.table.header.index(item[1].name)))


def _read_as(types: Mapping[str, str], text: list[str]) -> tuple[list[str], str]:
    """What stands for no value, where, as constants and the option of `read_csv`: only the empty cell in a text."""
    missing = [f"MISSING = {_listed(list(MISSING))}", '"""What stands for no value, where it is no text."""', ""]
    if not text:
        return missing, "MISSING"
    if len(text) == len(types):
        return [], '[""]'
    words = [*_listing("TEXT", text)[:-1], '"""Columns in which NA is a word."""', ""]
    return missing + words, '{name: [""] if name in TEXT else MISSING for name in COLUMNS}'


def _made(plan: Plan) -> list[str]:
    lines = []
    if plan.shuffle:
        lines.append("    rows = rows.sample(frac=1, random_state=1)  # the file is sorted by label")
    if plan.id_made:
        lines.append('    rows["event_id"] = [f"row-{number}" for number in range(1, len(rows) + 1)]')
    if plan.time_made:
        lines.append('    rows["event_time"] = pd.date_range("2024-01-01", periods=len(rows), freq="1min", tz="UTC")')
    return lines


def _read_moment(field: str, column: Column) -> str:
    moment = column.moment
    assert moment is not None
    cells = f'rows["{field}"]'
    number = f"pd.to_numeric({cells})"
    if moment.unit == "ordinal":
        read = f'{number} - {_ORDINAL_1970}, unit="D"'
    elif moment.unit is not None:
        read = f'{number}, unit="{moment.unit}"'
    else:
        read = f"{cells}, format={_quoted(str(moment.format))}"
    return f"    {cells} = pd.to_datetime({read}, utc=True)"


def _known(plan: Plan) -> list[str]:
    return [] if plan.label_time is not None else [f'    rows["known_at"] = rows["{plan.time}"] + DELAY']


def _sorted(plan: Plan) -> str:
    if plan.time_made:
        return "    return rows"
    return f'    return rows.sort_values("{plan.time}", kind="stable", ignore_index=True)'


def _sample(plan: Plan) -> bytes:
    """The first rows, written as the file is."""
    out = io.StringIO(newline="")
    writer = csv.writer(out, delimiter=plan.table.separator, lineterminator="\n")
    writer.writerow(["" if name.startswith("Unnamed: ") else name for name in plan.table.header])
    writer.writerows(plan.table.rows[:SAMPLE_ROWS])
    return out.getvalue().encode(plan.table.encoding)


# -- schemas -----------------------------------------------------------------------------------------------------------


def _event_schema(plan: Plan, name: str) -> str:
    fields: list[dict[str, Any]] = []
    if plan.id_made:
        fields.append({"name": "event_id", "type": "string", "doc": "The number of the row."})
    if plan.time_made:
        fields.append({"name": "event_time", "type": _TIMESTAMP, "doc": "When it happened: rows are a minute apart."})
    for field, column in plan.fields.items():
        required = field in (plan.id, plan.time)
        fields.append(_field(field, column, required=required))
    about = f"What is known when a prediction is asked for: a row of {plan.table.path.name} without its label."
    return _avsc(f"{_camel(name)}Event", name, about, fields)


def _label_schema(plan: Plan, name: str) -> str:
    assert plan.label is not None
    known = "When this became known." if plan.label_time else f"When this became known: {plan.delay} after the event."
    fields: list[dict[str, Any]] = [
        {"name": plan.id, "type": _id_type(plan), "doc": "The id of the event that this is about."},
        {"name": "known_at", "type": _TIMESTAMP, "doc": known},
        _field(plan.label_field, plan.label, required=True),
    ]
    return _avsc(f"{_camel(name)}Label", name, f"What turned out: {plan.label.name}.", fields)


def _id_type(plan: Plan) -> str:
    return "string" if plan.id_made else _AVRO.get(plan.fields[plan.id].kind, "string")


def _field(name: str, column: Column, *, required: bool) -> dict[str, Any]:
    kind: Any = _TIMESTAMP if column.kind == "time" else _AVRO.get(column.kind, "string")
    seen = _range(column)
    doc = f"Column {column.name!r}{seen}."
    if column.missing and not required:
        return {"name": name, "type": ["null", kind], "default": None, "doc": doc}
    return {"name": name, "type": kind, "doc": doc}


def _range(column: Column) -> str:
    if column.kind in ("category", "boolean") and len(column.values) <= 10:
        return ": " + ", ".join(value[:40] for value in column.values)
    return f": {column.distinct:,} different values"


def _avsc(record: str, namespace: str, doc: str, fields: list[dict[str, Any]]) -> str:
    head = json.dumps({"type": "record", "name": record, "doc": doc}, ensure_ascii=False, indent=2)[:-2]
    lines = ",\n".join("    " + json.dumps(field, ensure_ascii=False) for field in fields)
    return f'{head},\n  "fields": [\n{lines}\n  ]\n}}\n'


def _camel(name: str) -> str:
    parts = [part for part in "".join(c if c.isalnum() and c.isascii() else " " for c in name).split() if part]
    camel = "".join(part[0].upper() + part[1:] for part in parts)
    return camel if camel[:1].isalpha() else f"P{camel}"


# -- tests -------------------------------------------------------------------------------------------------------------


def _tests(plan: Plan, name: str, module: str) -> str:
    return f'''"""What must hold of `{name}` before it runs: run by `python -m pytest {module}`."""

import pandas as pd
import pytest

from {module} import {module} as pipeline
from {module}_data import SAMPLE, frame


@pytest.fixture(scope="module")
def rows():
    """The first rows of the data."""
    return frame(SAMPLE)


@pytest.fixture(scope="module")
def result(rows):
    """The whole pipeline in memory over them."""
    return pipeline.backtest(rows)


def test_every_row_fits_the_schemas(result):
    """No event and no label of the sample is refused."""
    assert result.dead_letters.empty, result.dead_letters[["stage", "reason", "detail"]].head()


def test_every_event_is_predicted(rows, result):
    """Each is answered once, duplicates aside."""
    assert result.summary.predictions + result.summary.duplicates == len(rows)


def test_nothing_vanishes(result):
    """The conservation laws hold."""
    assert all(result.summary.laws.values()), result.summary.laws


def test_it_learns(result):
    """Labels find their events."""
    assert result.summary.labelled > 0


def test_the_same_again_is_the_same(rows, result):
    """A second run makes the same predictions, to the last bit."""
    pd.testing.assert_frame_equal(pipeline.backtest(rows).predictions, result.predictions, check_exact=True)


def test_the_label_is_no_feature():
    """What is to be predicted is not in the event."""
    assert "{plan.label_field}" not in pipeline.event_schema.names


def test_a_damaged_event_is_set_aside(rows):
    """An event without a time is a dead letter; all others are predicted."""
    damaged = rows.head(20).copy()
    damaged.loc[damaged.index[0], "{plan.time}"] = pd.NaT
    result = pipeline.backtest(damaged)
    assert (result.dead_letters["stage"] == "validate").sum() >= 1
    assert result.summary.events == result.summary.features + 1 + result.summary.duplicates
'''


# -- Python text -------------------------------------------------------------------------------------------------------


def _import(module: str, words: list[str]) -> str:
    line = f"from {module} import {', '.join(words)}"
    if len(line) <= _WIDTH:
        return line
    return f"from {module} import (\n" + "".join(f"    {word},\n" for word in words) + ")"


def _listing(name: str, words: list[str]) -> list[str]:
    """A list in one line, or a word a line where it is too long; and the empty line after it."""
    line = f"{name} = {_listed(words)}"
    if len(line) <= _WIDTH:
        return [line, ""]
    return [f"{name} = [", *[f"    {_quoted(word)}," for word in words], "]", ""]


def _mapping(name: str, values: Mapping[str, str]) -> list[str]:
    return [f"{name} = {{", *[f"    {_quoted(key)}: {_quoted(value)}," for key, value in values.items()], "}"]


def _listed(words: list[str]) -> str:
    return "[" + ", ".join(_quoted(word) for word in words) + "]"


def _quoted(text: str) -> str:
    """A literal in double quotes, as formatters have it; escapes what cannot be seen."""
    if '"' in text and "'" not in text and text.isprintable() and "\\" not in text:
        return f"'{text}'"
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in escaped) + '"'


def _safe(text: str) -> str:
    """Somebody's words within a docstring."""
    return "".join(c for c in text if c.isprintable() and c not in '\\"`')[:60] or "it"


def _timedelta(span: str) -> str:
    return span[:-1] + {"m": "min", "d": "D"}.get(span[-1], span[-1])
