"""The module of a new pipeline that reads its table, with all that the file does not say."""

from __future__ import annotations

from collections.abc import Mapping

from headrace.schemas.columns import MISSING, Column
from headrace.streams.scaffold.plan import Plan
from headrace.streams.scaffold.source import listed, listing, mapping, quoted, safe

__all__ = ["loader"]

_ORDINAL_1970 = 719_163

_DTYPES = {"boolean": "boolean", "long": "Int64", "double": "float64"}


def loader(plan: Plan, name: str, data: str) -> str:
    """The module that reads the table."""
    used = _used(plan)
    columns = {column.name: field for field, column in used.items()}
    marks, apart = _marks(used)
    types = {
        column.name: "str" if field in apart else _DTYPES.get(column.kind, "str") for field, column in used.items()
    }
    moments = {field: column for field, column in used.items() if column.kind == "time"}
    constants, nulls = _read_as(
        types, [name for name in columns if types[name] == "str" and columns[name] not in {**moments, **apart}]
    )
    how = [] if plan.table.separator == "," else [f"sep={quoted(plan.table.separator)}"]
    how += [] if plan.table.encoding == "utf-8" else [f'encoding="{plan.table.encoding}"']
    how += marks
    lines = [
        f'"""The rows of {safe(plan.table.path.name)}, as events and labels of `{name}`."""',
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
        f"DATA = FOLDER / {quoted(data)}",
        'SAMPLE = FOLDER / "sample.csv"',
        '"""The first rows of it, for the tests."""',
        "",
        *mapping("COLUMNS", columns),
        '"""Column of the file → field of event.avsc or label.avsc; what is not here is left out."""',
        "",
        *mapping("TYPES", types),
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
        *[_read_number(field, column) for field, column in apart.items()],
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


def _marks(used: Mapping[str, Column]) -> tuple[list[str], dict[str, Column]]:
    """How numbers are written, as options of `read_csv`; where columns differ, those to be read one by one."""
    numbers = {field: column for field, column in used.items() if column.kind == "double"}
    decimals = {column.decimal for column in numbers.values()}
    groups = {column.group for column in numbers.values()} - {""}
    if len(decimals) > 1 or len(groups) > 1:
        return [], {field: column for field, column in numbers.items() if column.decimal == "," or column.group}
    options = ['decimal=","'] if decimals == {","} else []
    return options + [f"thousands={quoted(group)}" for group in groups], {}


def _read_as(types: Mapping[str, str], text: list[str]) -> tuple[list[str], str]:
    """What stands for no value, where, as constants and the option of `read_csv`: only the empty cell in a text."""
    missing = [f"MISSING = {listed(list(MISSING))}", '"""What stands for no value, where it is no text."""', ""]
    if not text:
        return missing, "MISSING"
    if len(text) == len(types):
        return [], '[""]'
    words = [*listing("TEXT", text)[:-1], '"""Columns in which NA is a word."""', ""]
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


def _read_number(field: str, column: Column) -> str:
    plain = f'.str.replace({quoted(column.group)}, "")' if column.group else ""
    plain += '.str.replace(",", ".")' if column.decimal == "," else ""
    return f'    rows["{field}"] = pd.to_numeric(rows["{field}"]{plain})'


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
        read = f"{cells}, format={quoted(str(moment.format))}"
    return f"    {cells} = pd.to_datetime({read}, utc=True)"


def _known(plan: Plan) -> list[str]:
    return [] if plan.label_time is not None else [f'    rows["known_at"] = rows["{plan.time}"] + DELAY']


def _sorted(plan: Plan) -> str:
    if plan.time_made:
        return "    return rows"
    return f'    return rows.sort_values("{plan.time}", kind="stable", ignore_index=True)'


def _timedelta(span: str) -> str:
    return span[:-1] + {"m": "min", "d": "D"}.get(span[-1], span[-1])
