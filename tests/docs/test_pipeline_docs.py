"""docs/pipeline.md has every parameter of a declaration with its default, and its example is one that runs."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import Mock, patch

import pandas as pd
import pytest
from river import drift, forest

import headrace
from headrace import DeclarationError, Pipeline
from headrace.processors.alerts import SEVERITIES
from headrace.processors.baselines import BASELINES
from headrace.processors.calibrated import SENSITIVITY
from headrace.processors.features import RETURNS
from headrace.processors.metrics import TASKS
from headrace.processors.registry import MOST_RETRAINED, SERVING
from headrace.processors.twosample import STATISTICS
from headrace.processors.windows import default_tile, duration
from headrace.schemas.records import REASONS
from headrace.streams import memory
from headrace.streams.pipeline import OPTIONAL
from headrace.streams.topics import ROLES

DOCS = Path(__file__).resolve().parents[2] / "docs"
TEXT = (DOCS / "pipeline.md").read_text(encoding="utf-8")
EXAMPLE = re.findall(r"^```python\n(.+?)^```$", TEXT, re.MULTILINE | re.DOTALL)[0]
CLASSES = ("Pipeline", "Events", "Labels", "Gate", "Proxies", "Retrain", "Versions")
FUNCTIONS = [name for name in headrace.__all__ if inspect.isfunction(getattr(headrace, name))]
THINGS: dict[str, Callable[..., Any]] = {name: getattr(headrace, name) for name in (*CLASSES, *FUNCTIONS)} | {
    "backtest": memory.backtest
}
ABSENT = "\N{EN DASH}"


class Table(NamedTuple):
    """A table of the page, and the heading that it stands under."""

    heading: str
    header: list[str]
    rows: list[list[str]]


def tables(text: str) -> list[Table]:
    """Every table, in order."""
    found: list[Table] = []
    heading, inside = "", False
    for line in text.splitlines():
        if line.startswith("#"):
            heading = line.lstrip("#").strip()
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] if line.startswith("|") else []
        if cells and not inside:
            found.append(Table(heading, cells, []))
        elif cells and set("".join(cells)) - set("-: "):
            found[-1].rows.append(cells)
        inside = bool(cells)
    return found


TABLES = tables(TEXT)


def documented(thing: str) -> dict[str, str]:
    """Parameter → the cell with its default: a class has a section, functions have rows or a column of their own."""
    out: dict[str, str] = {}
    for heading, header, rows in TABLES:
        if header[:2] == ["parameter", "default"] and heading == thing:
            out |= {row[0]: row[1] for row in rows}
        elif header[1:3] == ["parameter", "default"]:
            out |= {row[1]: row[2] for row in rows if row[0] == f"`{thing}`"}
        elif header[0] == "parameter" and f"`{thing}`" in header:
            out |= {row[0]: row[header.index(f"`{thing}`")] for row in rows}
    return {name.strip("`"): cell for name, cell in out.items() if ABSENT not in (name, cell)}


def declared(thing: str) -> dict[str, str | None]:
    """Parameter → the cell that it is to have, as Python would write the default; None where that is no plain value."""
    function = THINGS[thing]
    made: dict[str, Any] = {}
    if is_dataclass(function):
        made = {field.name: field.default_factory for field in fields(function)}
    out: dict[str, str | None] = {}
    for name, parameter in inspect.signature(function).parameters.items():
        default = parameter.default
        if default is inspect.Parameter.empty:
            out[name] = "required"
        elif callable(made.get(name)):
            out[name] = f"`{written(made[name]())}`"
        else:
            out[name] = None if written(default) is None else f"`{written(default)}`"
    if thing == "backtest":
        del out["pipeline"]
    return out


def written(value: Any) -> str | None:
    """A plain value as Python would write it, with underscores in large numbers; None for anything else."""
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, bool | float | None) or value == {}:
        return repr(value)
    if isinstance(value, int):
        return f"{value:_}"
    if isinstance(value, tuple):
        return f"({', '.join(str(written(item)) for item in value)})"
    return None


def example() -> dict[str, Any]:
    """What the page's example declares, by name."""
    names: dict[str, Any] = {"__name__": "orders"}
    exec(compile(EXAMPLE, "docs/pipeline.md", "exec"), names)
    return names


def given() -> dict[str, Any]:
    """The arguments that the page's example gives to `Pipeline`."""
    with patch.object(headrace, "Pipeline", Mock(wraps=Pipeline)) as seen:
        example()
    ((name,), arguments) = seen.call_args
    return {"name": name, **arguments}


def said(change: str) -> Any:
    """What a piece of the page makes: `name=value, events.name=value` of the example, or an expression of its own."""
    known = {name: getattr(headrace, name) for name in headrace.__all__}
    names = example() | known | {"drift": drift, "forest": forest}
    if not re.match(r"[a-z_.]+=", change):
        return eval(change, names)
    arguments = given()
    for name, value in eval(f"dict({re.sub(INPUT, r'__', change)})", names).items():
        part, _, field = name.partition("__")
        arguments[part] = replace(arguments[part], **{field: value}) if field else value
    return Pipeline(**arguments)


INPUT = r"(?<=\bevents)\.(?=\w+=)|(?<=\blabels)\.(?=\w+=)"


def cells(heading: str, first: str) -> list[list[str]]:
    """The rows of the table under this heading that has this first column."""
    (rows,) = [table.rows for table in TABLES if table.heading == heading and table.header[0] == first]
    return rows


def row(heading: str, name: str) -> str:
    """What a parameter's row says after its name."""
    (found,) = [row for row in cells(heading, "parameter") if row[0] == f"`{name}`"]
    return " | ".join(found[1:])


def codes(text: str) -> list[str]:
    """What stands there as code."""
    return re.findall(r"`([^`]+)`", text)


@pytest.mark.parametrize("thing", THINGS)
def test_every_parameter_is_documented_with_its_default(thing: str) -> None:
    """The page has the parameters that there are, no others, each with the default that it has."""
    found, expected = documented(thing), declared(thing)
    assert set(found) == set(expected)
    assert found == {name: found[name] if cell is None else cell for name, cell in expected.items()}
    assert all(found.values())


@pytest.mark.parametrize("name", headrace.__all__)
def test_every_name_is_documented(name: str) -> None:
    """Whatever `headrace` exports is on the page, as code."""
    assert re.search(rf"`{name}[`(]", TEXT)


def test_the_example_declares_and_learns() -> None:
    """Its text, as it stands there, over made-up orders of which some come back and some are never heard of again."""
    orders = example()["orders"]
    assert isinstance(orders, Pipeline)
    hour = 3_600_000
    rows = [
        {
            "order_id": f"o-{i}",
            "customer": f"c-{i % 7}",
            "placed_at": i * hour,
            "amount": 10.0 * (i % 9),
            "channel": ("app", "shop", "web", "fax")[i % 4 if i % 20 == 3 else i % 3],
            "voucher": None,
            "known_at": (i + 30) * hour,
            "returned": i % 9 > 5 if i % 10 else None,
        }
        for i in range(200)
    ]
    made = orders.backtest(pd.DataFrame(rows))
    refused = sum(row["channel"] == "fax" for row in rows)
    assert made.summary.dead_letters == {"not_allowed": refused}
    assert made.summary.predictions == len(made.predictions) == 200 - refused
    assert 0 < made.summary.labelled < 200 - refused
    assert list(made.features.columns)[2:] == list(orders.features)
    assert {"logreg", "tree", *BASELINES} <= set(made.metrics)


def test_what_is_to_be_read_of_a_backtest_is_there() -> None:
    """Each name in the table is of a `Backtest`, and each of its public ones is in the table, but the task."""
    named = {name for row in cells("In memory", "of a `Backtest`") for name in codes(row[0])}
    own = {name for name in vars(headrace.Backtest) if not name.startswith("_")}
    assert named == own | {"outputs"}


@pytest.mark.parametrize("change", [codes(row[0])[0] for row in cells("What is refused", "this is refused")])
def test_what_the_page_says_is_refused_is_refused(change: str) -> None:
    """When it is declared, not later."""
    with pytest.raises(ValueError, match=r"\w") as error:
        said(change)
    assert isinstance(error.value, DeclarationError) or "=" not in change.partition("(")[0]


def test_the_example_without_a_change_is_not_refused() -> None:
    """So what is refused above is refused for the change."""
    assert said("champion='tree'").champion == "tree"


CHANGES = {
    "name": 'name="others"',
    "task": 'task="multiclass", labels.on_expiry="drop", features={"amount": field("amount")}',
    "events": 'events.grace="1h"',
    "labels": "labels.max_bytes=2_000",
    "features": 'features={"amount": field("amount")}',
    "models": 'models={"logreg": LogisticRegression(l2=0.1), "tree": HoeffdingTreeClassifier()}',
    "champion": 'champion="tree"',
    "gate": "gate=Gate(minimum=501)",
    "drift": "drift=[]",
    "proxies": "proxies=Proxies()",
    "retrain": 'retrain=[Retrain("tree", every="7d")]',
    "operators": f'operators=["{"0a" * 32}"]',
    "columns": "columns=[]",
    "live_from": 'live_from="2013-02-01"',
    "evaluate_every": "evaluate_every=10",
    "shadow": "shadow=0",
    "versions": "versions=Versions(every=0)",
    "partitions": "partitions=3",
    "topics": 'topics={"events": "raw"}',
    "classes": 'classes=[("fractions", "Fraction")]',
    "data": 'data="orders.csv"',
    "compiled": "compiled=False",
    "publish": "publish=()",
}


@pytest.mark.parametrize("parameter", documented("Pipeline"))
def test_what_opens_an_epoch_is_in_the_specification(parameter: str) -> None:
    """A change of what says yes changes the specification, a change of what says no does not."""
    changed, before = said(CHANGES[parameter]).spec(), said("compiled=True").spec()
    assert row("Pipeline", parameter).endswith(f"| {'no' if changed == before else 'yes'}")


@pytest.mark.parametrize("thing", ["Events", "Labels"])
def test_all_of_an_input_is_in_the_specification(thing: str) -> None:
    """As the page says of them; what came later is there where it is not the default."""
    assert set(declared(thing)) - set(said("compiled=True").spec()[thing.lower()]) <= {"most_classes"}
    assert said("labels.most_classes=7").spec() != said("compiled=True").spec()


def test_what_a_watch_does_by_itself_is_documented() -> None:
    """What `None` stands for is what a watch without a detector has."""
    watched: dict[str, list[Any]] = {"watch_feature": ["amount"], "watch_features": [["amount", "hour"]]}
    ((_, header, rows),) = [table for table in TABLES if table.header[0] == "left out"]
    for name in ("watch_error", "watch_label", "watch_prediction", "watch_feature", "watch_features"):
        scan = getattr(headrace, name)(*watched.get(name, [])).detector
        column = header.index(f"`{name}`")
        assert {row[0]: row[column] for row in rows} == {
            row[0]: f"`{written(getattr(scan, codes(row[0])[0]))}`" for row in rows
        }
        assert str(scan.reference) == str(headrace.previous())


def test_legal_values_are_those_of_the_code() -> None:
    """Where the page lists them all."""
    topics = TEXT.partition("### Topics\n")[2].partition(".")[0]
    assert codes(topics) == list(ROLES)
    assert codes(row("Pipeline", "task"))[:3] == list(TASKS)
    assert codes(row("Pipeline", "models"))[:2] == list(BASELINES)
    assert codes(row("Pipeline", "publish"))[0] == written(OPTIONAL)
    assert MOST_RETRAINED - len(SERVING) == 6
    assert "six at most" in row("Pipeline", "retrain")
    assert [code.strip('"') for code in codes(row("Drift watches", "severity"))[-3:]] == list(SEVERITIES)
    assert {code.strip('"') for code in codes(row("Drift watches", "statistic"))[4:]} == set(STATISTICS)
    assert [name for name in SENSITIVITY if f"`{name}`" not in TEXT] == []
    annotations = TEXT.partition("**Legal annotations** are ")[2].partition(",\n")[0].partition(" each")[0]
    assert codes(annotations) == [kind.__name__ for kind in RETURNS]
    reasons = re.findall(r"`((?:feature|predict|train|bad|out_of|not)_\w+)`", TEXT)
    assert len(set(reasons)) == 8
    assert set(reasons) <= set(REASONS)


def test_tiles_are_as_the_page_says() -> None:
    """Three of them, by the rule."""
    pairs = re.findall(r'`"(\w+)"` of `"(\w+)"`', TEXT)
    assert len(pairs) == 3
    assert [duration(tile) for tile, _ in pairs] == [default_tile(duration(over)) for _, over in pairs]


def test_links_lead_somewhere() -> None:
    """To pages that are there, and headings that they have."""
    for file, _, anchor in re.findall(r"\]\(([\w-]*(\.md)?)(#[\w-]+)?\)", TEXT):
        text = (DOCS / file).read_text(encoding="utf-8") if file else TEXT
        titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
        slugs = {"#" + re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}
        assert anchor in {"", *slugs}, (file, anchor)


def test_the_check_of_defaults_can_say_no() -> None:
    """It tells numbers, text and what is required apart."""
    assert (written(1000), written("2d"), written(()), written(None), written(0.0)) == (
        "1_000",
        '"2d"',
        "()",
        "None",
        "0.0",
    )
    assert declared("Versions") == {"every": "`1_000`", "keep": "`10`"}
    assert declared("one_of") == {"values": "required"}
    assert declared("Events")["expect"] == "`{}`"
    assert declared("backtest")["progress"] is None
