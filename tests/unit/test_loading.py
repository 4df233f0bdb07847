"""From a name to a pipeline, and what is said when there is none."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from headrace.streams.errors import DeclarationError, UsageError
from headrace.streams.loading import load_pipeline

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _same_modules_afterwards(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """What a test loads or puts on the path is gone after it."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)
    yield
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None)).startswith((str(tmp_path), f"{ROOT}/examples/")):
            del sys.modules[name]


def test_both_forms_of_a_name_give_the_same_specification():
    """A worker started by path continues the journal of one started by module."""
    by_path = load_pipeline(f"{ROOT}/examples/flights.py:flights")
    assert by_path.spec() == load_pipeline("headrace.examples.flights:flights").spec()


def test_what_lies_beside_the_file_can_be_imported(tmp_path: Path):
    """As for a script, the file's folder is on the path."""
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "beside_it.py").write_text("from headrace.examples.flights import flights")
    (folder / "mine.py").write_text("from beside_it import flights")
    assert load_pipeline("mine/mine.py:flights").name == "flights"


def test_a_module_of_the_working_directory_is_found(tmp_path: Path):
    """module:object needs no installation."""
    (tmp_path / "of_today.py").write_text("from headrace.examples.flights import flights as f")
    assert load_pipeline("of_today:f").name == "flights"


def test_a_file_named_like_a_known_module_shadows_nothing(tmp_path: Path):
    """A pipeline may live in a file called json.py."""
    import json

    (tmp_path / "json.py").write_text("from headrace.examples.flights import flights")
    assert load_pipeline("json.py:flights").name == "flights"
    assert sys.modules["json"] is json


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("flights", r"'flights' does not name a pipeline; give module:object or path\.py:object"),
        (":flights", "does not name a pipeline"),
        ("flights.py:", "does not name a pipeline"),
        ("nowhere.py:flights", r"There is no file nowhere\.py"),
        ("nowhere_at_all:flights", "There is no module nowhere_at_all"),
        ("headrace.nowhere:flights", r"There is no module headrace\.nowhere"),
        ("not/a.module:flights", "module"),
        ("headrace.examples.flights:other", "has no other; its pipelines: flights"),
        ("headrace.examples.flights:departures", "is no Pipeline but a function; its pipelines: flights"),
        ("headrace.streams.topics:x", "it declares no pipeline"),
    ],
)
def test_a_wrong_name_is_one_sentence(name: str, said: str):
    """What is wrong with a name, and what would be right."""
    with pytest.raises(UsageError, match=said) as caught:
        load_pipeline(name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = 1\ndef :", r"broken\.py, line 2: "),
        ("x = 1\ny = x / 0", r"ZeroDivisionError: division by zero \(broken\.py, line 2\)"),
        ("import sys\nsys.exit(0)", r"SystemExit: 0 \(broken\.py, line 2\)"),
        ("import of_nobody", r"No module named 'of_nobody' \(broken\.py, line 1\)"),
        ("from headrace import count\n\ncount(by='a', over='1hour')", r"not '1hour' \(broken\.py, line 3\)"),
    ],
)
def test_a_broken_file_is_named_with_the_line(tmp_path: Path, text: str, said: str):
    """A syntax error, an exception, the end of the process and a missing import each say where."""
    (tmp_path / "broken.py").write_text(text)
    with pytest.raises(UsageError, match=said):
        load_pipeline("broken.py:flights")
    with pytest.raises(UsageError, match=said):
        load_pipeline("broken:flights")


def test_a_wrong_declaration_keeps_its_own_words(tmp_path: Path):
    """The declaration's message, which names the field and the legal values, is not wrapped."""
    (tmp_path / "wrong.py").write_text(
        "from headrace import *\nfrom headrace.examples.flights import flights as f\n"
        "p = Pipeline('p', task='guess', events=f.events, labels=f.labels, features={}, models={}, champion='a')"
    )
    with pytest.raises(DeclarationError, match=r"^task is 'guess'; legal: binary, multiclass, regression"):
        load_pipeline("wrong.py:p")
