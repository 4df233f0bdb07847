"""`headrace new`: whatever a CSV file looks like, a pipeline that works, or one clear sentence."""

from __future__ import annotations

import csv
import gzip
import io
import json
import random
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from river import datasets

from headrace.schemas.columns import column_of, field_name
from headrace.streams.cli import main
from headrace.streams.loading import load_pipeline

ROWS = 120


@pytest.fixture(autouse=True)
def _own_imports(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a new pipeline puts on the path and among the modules is gone afterwards."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if "made" in name:
            del sys.modules[name]


@pytest.fixture
def new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Run `headrace new` over these bytes in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def run(data: bytes | str | None, *args: str, name: str = "made", file: str = "table.csv") -> Result:
        if data is not None:
            Path(file).write_bytes(data.encode() if isinstance(data, str) else data)
            args = ("--from", file, *args)
        return CliRunner().invoke(main, ["new", name, *args], prog_name="headrace")

    return run


@pytest.fixture
def made(new: Callable[..., Result]) -> Callable[..., Any]:
    """Make a pipeline, run it over its sample, and answer what was said, the pipeline and the result."""

    def run(data: bytes | str | None, *args: str, **more: str) -> tuple[dict[str, Any], Any, Any]:
        result = new(data, *args, "--json", **more)
        assert result.exit_code == 0, result.output
        said = json.loads(result.stdout)
        pipeline = load_pipeline(said["pipeline"])
        rows = pipeline.data()
        return said, pipeline, pipeline.backtest(rows)

    return run


def table(rows: list[dict[str, Any]], **how: Any) -> str:
    """Rows as CSV."""
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, list(rows[0]), **how)
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def numbers(count: int = ROWS, **more: Any) -> list[dict[str, Any]]:
    """Rows of two numbers and a label that they tell; what is given is called with the row's number."""
    draw = random.Random(1)
    rows = []
    for i in range(count):
        a, b = draw.uniform(-1, 1), draw.randint(0, 9)
        rows.append({"a": a, "b": b, **{name: value(i) for name, value in more.items()}, "label": int(a > 0)})
    return rows


def test_real_data_of_unknown_columns(made: Callable[..., Any]):
    """A regression over daily polls: days are found in ordinal numbers, and no row is refused."""
    rows = [{**x, "approval": y} for x, y in datasets.TrumpApproval()]
    said, _, result = made(table(rows))
    assert (said["task"], said["label"], said["time"]) == ("regression", "approval", "ordinal_date")
    assert result.dead_letters.empty
    first = datetime.fromtimestamp(result.predictions["time_ms"].iloc[0] / 1000, UTC)
    assert (first.year, first.month) == (2017, 3)
    assert result.summary.predictions == 1_001


def test_real_data_of_several_classes(made: Callable[..., Any]):
    """Seven kinds of surface from eighteen measurements: the model is far better than the baselines."""
    rows = [{**x, "category": y} for x, y in datasets.ImageSegments()][:1_000]
    said, _, result = made(table(rows))
    assert (said["task"], said["label"], len(said["features"])) == ("multiclass", "category", 18)
    scores = result.summary.models["linear"]["accuracy"], result.summary.baselines["prior"]["accuracy"]
    assert scores[0] > scores[1] + 0.3


def test_the_template_is_about_real_flights(made: Callable[..., Any], tmp_path: Path):
    """Without a file: a time, an entity and late labels; it is formatted, and no worse than the baselines."""
    said, pipeline, result = made(None, name="template-made")
    assert (said["label"], said["key"], pipeline.name) == ("late", "origin", "template-made")
    assert result.dead_letters.empty
    assert result.summary.predictions == 5_000
    assert result.summary.models["linear"]["roc_auc"] > result.summary.baselines["prior"]["roc_auc"]
    _formatted(tmp_path / "template-made")


def test_its_tests_pass_within_another_project(new: Callable[..., Result], tmp_path: Path):
    """The settings and fixtures of a project around the new folder have no say."""
    (tmp_path / "pyproject.toml").write_text('[tool.pytest.ini_options]\naddopts = "--import-mode=importlib"\n')
    (tmp_path / "conftest.py").write_text('raise SystemExit("of somebody else")\n')
    assert new(table(numbers()), name="made-here").exit_code == 0
    for where, folder in ((tmp_path, "made-here"), (tmp_path / "made-here", ".")):
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", folder]
        run = subprocess.run(command, cwd=where, capture_output=True, text=True)
        assert run.returncode == 0, run.stdout + run.stderr
        assert " passed" in run.stdout


@pytest.mark.parametrize("name", ["made", "made-Of-words"])
def test_the_readme_names_what_is_there(new: Callable[..., Result], tmp_path: Path, name: str):
    """Its files are in the folder, its commands lead to the pipeline, and their comments stand in one column."""
    assert new(table(numbers()), name=name).exit_code == 0
    text = (tmp_path / name / "README.md").read_text()
    files = set(re.findall(r"`([^`\s]+\.(?:py|avsc|csv))`", text))
    assert len(files) == 5  # the table, its loader, the declaration and two schemas
    assert [file for file in files if not (tmp_path / name / file).is_file()] == []
    commands = [line for line in text.splitlines() if line.startswith("    ")]
    assert len({line.index("#") for line in commands}) == 1
    assert f"    python -m pytest {name} " in text
    (reference,) = set(re.findall(r"\S+\.py:\w+", text))
    assert load_pipeline(reference).name == name


def _formatted(folder: Path) -> None:
    """The files are as ruff would have them."""
    for how in (["check", "--select", "E,F,I,UP,B,SIM,RUF"], ["format", "--check"]):
        command = [sys.executable, "-m", "ruff", *how, "--isolated", "--line-length", "120", "."]
        run = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        assert run.returncode == 0, run.stdout


def test_words_numbers_flags_and_prose(made: Callable[..., Any], tmp_path: Path):
    """Each kind of column is used as its kind asks; the code stays formatted."""
    words = ["the", "quick", "brown", "fox", "jumps", "over", "one", "lazy", "dog"]
    rows = numbers(
        colour=lambda i: ("red", "green", "blue")[i % 3],
        member=lambda i: ("true", "false")[i % 2],
        comment=lambda i: " ".join(random.Random(i).choices(words, k=6)) + f" {i}",
        code=lambda i: f"{i:05}",
        constant=lambda i: 1,
    )
    said, pipeline, result = made(table(rows))
    assert said["features"] == ["a", "b", "colour", "member", "comment"]
    assert pipeline.event_schema.field("code").kind == "string"
    assert (result.dead_letters.empty, result.summary.labelled > 0) == (True, True)
    _formatted(tmp_path / "made")


@pytest.mark.parametrize("columns", [("a", "city"), ("city",), ("note",), ("a", "city", "note"), ("city", "note")])
def test_a_regression_over_words_and_prose(made: Callable[..., Any], tmp_path: Path, columns: tuple[str, ...]):
    """The tree's leaves are linear models: it learns every row, as it gets numbers only; the code stays formatted."""
    draw, words = random.Random(1), ["the", "quick", "brown", "fox", "jumps", "over", "one", "lazy", "dog"]
    rows = [
        {"a": draw.random(), "city": draw.choice("ABC"), "note": " ".join(draw.choices(words, k=6)) + f" {i}"}
        for i in range(ROWS)
    ]
    rows = [{name: row[name] for name in columns} | {"price": draw.random()} for row in rows]
    said, _, result = made(table(rows), "--label", "price")
    assert (said["task"], set(columns) <= set(said["features"])) == ("regression", True)
    assert (result.dead_letters.empty, result.summary.labelled) == (True, ROWS)
    _formatted(tmp_path / "made")


def test_missing_values(made: Callable[..., Any]):
    """Cells without a value are null, in whatever word; in a column of words NA is a word."""
    rows = numbers(
        size=lambda i: ("", "NA", "null", f"{i}")[i % 4],
        country=lambda i: ("NA", "DE", "")[i % 3],
    )
    _, pipeline, result = made(table(rows))
    assert result.dead_letters.empty
    assert pipeline.event_schema.field("size").nullable
    assert set(result.features["country"]) == {"NA", "DE", ""}
    assert result.features["size"].dropna().tolist() == list(range(3, ROWS, 4))


def test_rows_without_a_label(made: Callable[..., Any]):
    """They are predicted, and nothing is learned from them."""
    rows = numbers()
    for row in rows[::4]:
        row["label"] = ""
    said, _, result = made(table(rows))
    assert any("rows without a label: 30;" in note for note in said["notes"])
    assert (result.summary.predictions, result.dead_letters.empty) == (ROWS, True)


def test_weird_names_of_columns(made: Callable[..., Any]):
    """Names that Python or Avro would not have become others; the file's own stay known."""
    odd = ["", "class", "Größe (cm)", "2nd", "a b", "a-b", "a.b", '"quoted"', "__x", "known_at", "日本", "x\ny", "E\\n"]
    odd += ["n", "model", "prediction", "label", "offset", "time_ms", "field", "frame", "rows", "pipeline"]
    rows = [{name: random.Random(f"{i}{name}").randint(0, 9) for name in odd} | {"y": i % 2} for i in range(ROWS)]
    said, pipeline, result = made(table(rows), "--label", "y")
    assert result.dead_letters.empty
    assert len(said["features"]) == len(odd) - 1  # the one without a name is taken for an index
    assert {"grosse_cm", "class_", "c_2nd", "a_b", "a_b_2", "a_b_3"} <= set(pipeline.event_schema.names)


@pytest.mark.parametrize(
    ("data", "args"),
    [
        (table(numbers(note=lambda i: f'line one\nline "{i}", two')).encode(), ()),
        (b"\xef\xbb\xbf" + table(numbers()).encode(), ()),
        (table(numbers(), delimiter=";").encode(), ()),
        (table(numbers(), delimiter="\t").encode(), ()),
        (table(numbers(), lineterminator="\r\n").encode(), ()),
        (table(numbers(name=lambda i: f"Jos\u00e9{i % 3}")).encode("cp1252"), ()),
        (table(numbers(name=lambda i: f"Jos\u00e9{i % 3}")).encode("utf-16"), ()),
        (table(numbers(name=lambda i: f"\u0416{i % 3}")).encode("cp1251"), ("--encoding", "cp1251")),
        ((table(numbers()) + "\n\n").encode(), ()),
        (table([{k: f" {v}" for k, v in row.items()} for row in numbers()]).encode(), ()),
        (table(numbers(price=lambda i: f"{i},5"), delimiter=";").replace(".", ",").encode(), ()),
    ],
    ids=["newlines", "bom", "semicolons", "tabs", "crlf", "cp1252", "utf-16", "cp1251", "blank", "spaces", "decimals"],
)
def test_ways_to_write_a_table(made: Callable[..., Any], data: bytes, args: tuple[str, ...]):
    """Every row is read as it was meant, and learned from."""
    said, _, result = made(data, *args)
    assert (said["task"], said["label"]) == ("binary", "label")
    assert {"a", "b"} <= set(said["features"])
    assert result.features["a"].between(-1, 1).all()
    assert (result.summary.predictions, result.dead_letters.empty) == (ROWS, True)


@pytest.mark.parametrize(
    ("separator", "cells", "means"),
    [
        (";", ["1.234,5", "12,25", "7"], [1234.5, 12.25, 7.0]),
        (",", ["1,234.5", "12.25", "7"], [1234.5, 12.25, 7.0]),
        (",", ["1'234.5", "12.25", "7"], [1234.5, 12.25, 7.0]),
        (";", ["1 234,5", "12,25", "n/a"], [1234.5, 12.25, None]),
        (";", ["1,5", "12,25", "7"], [1.5, 12.25, 7.0]),
    ],
)
@pytest.mark.parametrize("beside", ["0.5", "0,5"])
def test_ways_to_write_a_number(
    made: Callable[..., Any], separator: str, cells: list[str], means: list[float | None], beside: str
):
    """Decimal points and what parts thousands are found out, also where columns differ."""
    rows = numbers(n=lambda i: cells[i % len(cells)], m=lambda i: beside)
    _, _, result = made(table(rows, delimiter=separator), "--label", "label")
    read = result.features["n"][: len(means)].astype(object)
    assert [None if value != value else value for value in read] == means
    assert result.features["n"].notna().sum() == sum(means[i % len(means)] is not None for i in range(ROWS))


def test_words_among_numbers_are_named(new: Callable[..., Result]):
    """What keeps a column from being numbers is said; a column of words is none of these."""
    rows = numbers(n=lambda i: "k. A." if i == 7 else f"{i}.5", w=lambda i: "17" if i == 3 else f"word {i}")
    said = json.loads(new(table(rows), "--json").stdout)
    assert [note for note in said["notes"] if "k. A." in note] == [
        "'n' is no number, as of these cells: 'k. A.' (empty them in the file?)"
    ]
    assert not any("'w' is no number" in note for note in said["notes"])


@pytest.mark.parametrize(
    ("separator", "beside", "means"),
    [(",", "1", 1000.0), (";", "1", 1.0), (",", "0,5", 1.0), (";", "0.5", 1000.0)],
)
def test_a_comma_that_could_part_thousands(made: Callable[..., Any], separator: str, beside: str, means: float):
    """It is taken for what the other columns have, else for no decimal point where it separates cells; and told."""
    rows = [{"n": f"{i + 1},000", "m": beside, "y": i % 2} for i in range(ROWS)]
    said, _, result = made(table(rows, delimiter=separator))
    assert f"'1,000' in 'n' is taken to be {'1000' if means > 1 else '1.000'}" in said["notes"]
    assert result.features["n"].iloc[0] == means


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("2024-02-01 10:00:00", True),
        ("2024-02-01T10:00:00+01:00", False),
        ("2024-02-01T10:00:00Z", False),
        ("2024-02-01", False),
        ("13.02.2024 10:00", True),
        ("1706778000", False),
    ],
)
def test_a_time_without_a_zone_is_told_to_be_utc(new: Callable[..., Result], written: str, told: bool):
    """A time of day needs one; a day, and what counts from 1970, does not."""
    said = json.loads(new(table(numbers(time=lambda i: "" if i == 0 else written)), "--json").stdout)
    assert ("'time' names no time zone: it is taken to be UTC" in said["notes"]) == told


def test_a_compressed_table(made: Callable[..., Any]):
    """A .csv.gz is read like any other."""
    said, _, result = made(gzip.compress(table(numbers()).encode()), file="table.csv.gz")
    assert (said["task"], result.summary.predictions) == ("binary", ROWS)


@pytest.mark.parametrize(
    ("write", "args"),
    [
        (lambda t: t.isoformat(), ()),
        (lambda t: t.strftime("%Y-%m-%d %H:%M:%S"), ()),
        (lambda t: t.strftime("%d.%m.%Y %H:%M"), ()),
        (lambda t: t.strftime("%m/%d/%Y %I:%M:%S %p"), ()),
        (lambda t: int(t.timestamp()), ()),
        (lambda t: int(t.timestamp() * 1000), ()),
        (lambda t: t.strftime("%H:%M %d-%b-%y"), ("--time", "created_at", "--time-format", "%H:%M %d-%b-%y")),
    ],
    ids=["iso", "space", "german", "american", "seconds", "milliseconds", "format"],
)
def test_ways_to_write_a_time(made: Callable[..., Any], write: Callable[[datetime], Any], args: tuple[str, ...]):
    """Times are found, or read as told; rows come in their order, and hours and weekdays are features."""
    begin = datetime(2024, 3, 1, tzinfo=UTC)
    rows = numbers(created_at=lambda i: write(begin + timedelta(hours=7 * (ROWS - i))))
    said, _, result = made(table(rows), *args)
    assert said["time"] == "created_at"
    times = result.predictions["time_ms"]
    assert times.is_monotonic_increasing
    assert datetime.fromtimestamp(times.iloc[0] / 1000, UTC) == begin + timedelta(hours=7)
    assert {"hour", "weekday"} <= set(result.features.columns)
    assert result.dead_letters.empty


def test_an_entity_gets_windows(made: Callable[..., Any]):
    """What belongs to a customer is counted and averaged by customer."""
    begin = datetime(2024, 3, 1, tzinfo=UTC)
    rows = numbers(
        when=lambda i: (begin + timedelta(minutes=i)).isoformat(),
        customer_id=lambda i: i % 7,
        closed=lambda i: (begin + timedelta(minutes=i, hours=2)).isoformat(),
    )
    said, pipeline, result = made(table(rows), "--label-time", "closed")
    assert (said["key"], pipeline.columns) == ("customer_id", ("customer_id",))
    assert result.features["customer_id_events_6h"].max() > 10
    assert "closed" not in pipeline.event_schema.names
    assert result.summary.labelled == ROWS


def test_what_a_person_says_wins(made: Callable[..., Any]):
    """Label, id, key and task as named, whatever the table looks like."""
    rows = numbers(number=lambda i: f"n{i}", shop=lambda i: f"s{i % 4}")
    args = ("--label", "b", "--id", "number", "--key", "shop", "--task", "regression")
    said, pipeline, result = made(table(rows), *args)
    assert (said["label"], said["id"], said["key"], said["task"]) == ("b", "number", "shop", "regression")
    assert (pipeline.events.id, result.predictions["event_id"].iloc[0]) == ("number", "n0")


def test_sorted_rows_are_shuffled(made: Callable[..., Any]):
    """A file that is sorted by its label would teach one class after the other."""
    rows = sorted(numbers(), key=lambda row: row["label"])
    said, _, result = made(table(rows))
    assert any("shuffled" in note for note in said["notes"])
    assert 0.3 < result.examples["label"].head(30).mean() < 0.7


def test_a_column_that_gives_the_label_away_is_named(made: Callable[..., Any]):
    """It may be known only afterwards: nobody but a person can tell."""
    rows = numbers(refunded=lambda i: "")
    for row in rows:
        row["refunded"] = "yes" if row["label"] else "no"
    said, *_ = made(table(rows))
    assert any("'refunded' tells the label all but exactly" in note for note in said["notes"])


@pytest.mark.parametrize(
    ("data", "args", "said"),
    [
        ("", (), "table.csv is empty"),
        ("\n\n", (), "table.csv is empty"),
        ("a,b\n", (), "has a header and no rows"),
        ("a,b\n1,2\n", (), "has one row only"),
        ("a\n1\n2\n", (), "has one column only, 'a'"),
        ("1,2\n3,4\n5,6\n", (), "begins with numbers"),
        ("a,a\n1,2\n3,4\n", (), "has more than one column of the name 'a': rename one of them."),
        ("a,b\n1,2\n3,4,5\n", (), "line 3: 3 cells where the header has 2"),
        ('a,b\n1,2\n3,"4\n5,6\n', (), "line 4"),
        (b"PAR1\x15\x04\x15", (), "looks like a Parquet file, not like CSV"),
        (b"PK\x03\x04\x00\x00", (), "not like CSV"),
        (
            '{"a": 1}\n{"a": 2}\n',
            (),
            "looks like JSON, not like CSV: save it as CSV with a header (pandas.json_normalize",
        ),
        ("sep=;\n" + table(numbers(), delimiter=";"), (), "do the names of the columns stand in the first line?"),
        ("A report\n" + table(numbers(), delimiter=";"), (), "their names stand in the first line"),
        ('{"a": 1}\n' * 9_000, (), "looks like JSON, not like CSV"),
        (table(numbers()), ("--time-format", "%Y"), "add --time COLUMN, or --label-time COLUMN"),
        (table(numbers()), ("--label", "nope"), "--label is 'nope', but table.csv has the columns 'a', 'b', 'label'"),
        (table(numbers()), ("--time", "a"), "tell no time that is known here"),
        (table(numbers()), ("--task", "multiclass", "--label", "a"), "a class is a word or a whole number"),
        (table(numbers()), ("--task", "binary", "--label", "b"), "has 10 values, and a binary label has two"),
        (table(numbers(one=lambda i: "x")), ("--label", "one"), "has one value only, 'x'"),
        (table(numbers(w=lambda i: "ab"[i % 2])), ("--label", "w", "--task", "regression"), "are no numbers"),
        (table(numbers()), ("--id", "a"), "--id is 'a', which cannot be one"),
        (table(numbers()), ("--label-time", "b"), "--label-time is 'b', which is not the time of a label"),
        (table(numbers()), ("--encoding", "klingon"), "which Python does not know"),
        (table(numbers()), ("--encoding", "utf-16"), "is no text in utf-16"),
        ("id,y\n" + "".join(f"{i},{i % 2}\n" for i in range(50)), (), "nothing that a model could learn from"),
        (None, ("--from", "absent.csv"), "There is no file absent.csv"),
        (None, ("--from", "."), "cannot be read: Is a directory"),
        (None, ("--label", "y"), "give it with --from FILE"),
    ],
)
def test_what_cannot_be_used_is_said_in_one_sentence(
    new: Callable[..., Result], tmp_path: Path, data: bytes | str | None, args: tuple[str, ...], said: str
):
    """Exit 2, one line, and nothing is written."""
    result = new(data, *args)
    assert result.exit_code == 2, result.output
    assert said in result.stderr
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("json", "Python has a module or word 'json' already"),
        ("class", "Python has a module or word 'class' already"),
        ("river", "Python has a module or word 'river' already"),
        ("2nd", "legal: a letter"),
        ("a b", "legal: a letter"),
        ("..", "legal: a letter"),
        ("there", "is there already, and nothing is overwritten"),
    ],
)
def test_a_name_that_cannot_be(new: Callable[..., Result], tmp_path: Path, name: str, said: str):
    """A pipeline is a module, and a folder of its own; nothing is overwritten."""
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "mine.txt").write_text("mine")
    result = new(None, name=name)
    assert (result.exit_code, said in result.stderr) == (2, True), result.stderr
    assert [path.name for path in (tmp_path / "there").iterdir()] == ["mine.txt"]


def test_nothing_of_a_table_becomes_code(made: Callable[..., Any]):
    """Names and words with quotes and escapes stay what they are."""
    evil = 'x"""; raise SystemExit("boo") #\\'
    rows = [{evil: i % 3, "b": i, "y": (evil, "no")[i % 2]} for i in range(ROWS)]
    said, _, result = made(table(rows), file="ta'ble\\\".csv")
    assert (said["label"], result.dead_letters.empty) == ("y", True)


@pytest.mark.parametrize(
    ("name", "cells", "kind"),
    [
        ("a", ["1", "-2", "+3"], "long"),
        ("a", ["1.5", "2e3", ".5"], "double"),
        ("a", ["007", "012"], "category"),
        ("a", [str(2**63)], "double"),
        ("a", ["TRUE", "false"], "boolean"),
        ("a", ["", "NA"], "empty"),
        ("a", ["2024-01-01", "2024-02-30"], "category"),
        ("when", ["1700000000", "1700000001"], "time"),
        ("size", ["1700000000", "1700000001"], "long"),
        ("date", ["20240131", "20240201"], "time"),
        ("a", ["1,5", "2"], "double"),
        ("a", ["1,500,000", "2"], "double"),
        ("a", ["1,500,00", "2"], "category"),
    ],
)
def test_what_a_column_holds(name: str, cells: list[str], kind: str):
    """Told from all of its values; a name decides only whether numbers are moments."""
    assert column_of(name, cells).kind == kind


def test_a_day_that_could_be_a_month_is_said():
    """Where both readings fit, the first is taken, and told to be ambiguous."""
    found = column_of("d", ["01/02/2024", "03/04/2024"]).moment
    assert found is not None
    assert (found.format, found.ambiguous) == ("%m/%d/%Y", True)
    clear = column_of("d", ["13/02/2024", "03/04/2024"]).moment
    assert clear is not None
    assert (clear.format, clear.ambiguous) == ("%d/%m/%Y", False)


def test_names_of_fields_differ():
    """No two columns become one field."""
    taken: set[str] = set()
    for name in ("A b", "a_b", "a-B", "A  B", "", "é", "1"):
        taken.add(field_name(name, taken))
    assert taken == {"a_b", "a_b_2", "a_b_3", "a_b_4", "column", "e", "c_1"}
