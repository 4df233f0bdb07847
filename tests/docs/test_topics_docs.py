"""docs/topics.md is the contract: it is what the schemas say, and what real records are."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from headrace.examples.flights import flights
from headrace.schemas.records import REASONS, Command
from headrace.streams import contract_docs, data, memory
from headrace.streams.contract_docs import HEADERS, STAGE_REASONS, renewed
from headrace.streams.memory import Backtest
from headrace.streams.topics import ROLES, topic_name
from tests.small import EVENT, LABEL, small

PAGE = Path(__file__).resolve().parents[2] / "docs" / "topics.md"
TEXT = PAGE.read_text(encoding="utf-8")
BAD_EVENTS = [(b"k1", b"{"), (b"k2", b"\xff"), (None, None), (b"k4", b'{"event_id": 4}')]
BAD_LABELS = [(b"l1", b"[]"), (b"l2", b'{"event_id": "x", "arrived_at": 0, "arr_delay": 1e400}')]
JSON_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
    "object": (dict,),
    "array": (list,),
}


def section(title: str) -> str:
    """The part of the page under this heading."""
    found = re.search(rf"^###? {re.escape(title)}$(.*?)(?=^##|\Z)", TEXT, re.MULTILINE | re.DOTALL)
    assert found, title
    return found[1]


def rows(text: str) -> dict[str, list[str]]:
    """The rows of all tables in a text whose first cell is code: that → the other cells."""
    lines = re.findall(r"^\| `([^`]+)` \| (.*) \|$", text, re.MULTILINE)
    return {name: [cell.strip() for cell in re.split(r"(?<!\\)\|", rest)] for name, rest in lines}


def code(text: str, language: str) -> list[str]:
    """The code blocks in this language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def outputs() -> Backtest:
    """What the memory runtime makes of some flights, with a few records that nobody can read."""
    events, labels = data.records(flights, data.load(None, flights, 4000))
    inputs = [
        [*[(r.key, r.value) for r in labels], *BAD_LABELS],
        [*[(r.key, r.value) for r in events], *BAD_EVENTS],
    ]
    command = b'{"record": "command", "id": "c1", "kind": "rollback", "shard": 0, "by": "me", "saw": 9}'
    return memory.run(flights, inputs, commands=[(b"logreg", command)], now_ms=1_800_000_000_000)


def fits(value: Any, declared: str) -> bool:
    """Whether a JSON value is of one of the types that a table names."""
    return any(_is(value, choice) for choice in re.split(r" or (?![^(]*\))", declared))


def _is(value: Any, choice: str) -> bool:
    name, _, inner = choice.partition(" of ")
    if isinstance(value, bool) and name != "boolean":
        return False
    if not isinstance(value, JSON_TYPES[name]):
        return False
    items = value.values() if isinstance(value, dict) else value
    return not inner or all(fits(item, inner.strip("()")) for item in items)


@pytest.mark.parametrize(
    ("value", "declared", "does"),
    [
        (1, "string or integer", True),
        (True, "integer or null", False),
        ({"a": None}, "object of number", False),
        ({"a": None}, "object of (number or null) or string", True),
        (None, "object of (number or null)", False),
        (0.5, "integer", False),
    ],
)
def test_fits_can_say_no(value: Any, declared: str, does: bool):
    """The check of the tables below tells types apart."""
    assert fits(value, declared) is does


def test_the_page_is_what_the_generator_makes():
    """Renew it with: python -m headrace.streams.contract_docs headrace.examples.flights:flights docs/topics.md"""
    assert renewed(TEXT, flights) == TEXT


def test_every_topic_is_listed():
    """Each role's topic has its row."""
    listed = rows(TEXT[: TEXT.index("## For producers")])
    assert set(listed) == {topic_name(flights, role) for role in ROLES}


@pytest.mark.parametrize("role", ["predictions", "evaluations", "alerts"])
def test_json_records_are_as_documented(outputs: Backtest, role: str):
    """Real records have exactly the fields of the table, in its order, and values of its types."""
    table = rows(section(role.capitalize()))
    records = [json.loads(value or b"") for _, _, value, _ in outputs.outputs[role]]
    assert records
    for record in records:
        assert list(record) == list(table)
        wrong = [name for name, value in record.items() if not fits(value, table[name][0])]
        assert wrong == []


def test_facts_are_as_documented(outputs: Backtest):
    """Real facts have the fields of the table, after the one that tells them from commands."""
    table = rows(section("Registry").partition("<!-- generated: facts -->")[2])
    records = [json.loads(value or b"") for _, _, value, _ in outputs.outputs["registry"]]
    assert {record["kind"] for record in records} == {"registered", "refused"}
    for record in records:
        assert list(record) == ["record", *table]
        assert [name for name, value in record.items() if name in table and not fits(value, table[name][0])] == []


def test_the_example_of_a_command_is_one():
    """It decodes as a command."""
    (example,) = code(section("Registry"), "json")
    assert msgspec.json.decode(example, type=Command).kind == "promote"


@pytest.mark.parametrize("role", ["features", "examples"])
def test_avro_records_are_as_documented(outputs: Backtest, role: str):
    """The page's Python reads real records with the page's schema, and they have the fields of the table."""
    part = section(role.capitalize())
    (schema,) = (json.loads(block) for block in code(part, "json"))
    read = reader()
    values = [value for _, _, value, _ in outputs.outputs[role]]
    assert values
    for value in values:
        record = read(value or b"", schema)
        assert flat(record) == list(rows(part))


def flat(record: dict[str, Any], prefix: str = "") -> list[str]:
    """Field names, those of nested records dotted."""
    out: list[str] = []
    for name, value in record.items():
        out += flat(value, f"{prefix}{name}.") if isinstance(value, dict) else [prefix + name]
    return out


def reader() -> Callable[[bytes, dict[str, Any]], dict[str, Any]]:
    """`read_single_object` as the page defines it."""
    space: dict[str, Any] = {}
    (block,) = (block for block in code(TEXT, "python") if "read_single_object" in block)
    exec(block, space)
    return space["read_single_object"]  # type: ignore[no-any-return]


def test_the_pages_reader_refuses_other_bytes():
    """What does not begin with the mark of single-object encoding is an error, not nonsense."""
    with pytest.raises(ValueError, match="single-object"):
        reader()(b"\x00\x00\x00\x00\x07abc", {"type": "record", "name": "r", "fields": []})


def test_keys_are_as_documented(outputs: Backtest):
    """Predictions, features and examples carry the event's key, evaluations the model's name, alerts their id."""
    for role in ("predictions", "features", "examples"):
        assert {key for _, key, _, _ in outputs.outputs[role]} == {b"EWR", b"JFK", b"LGA"}
    for role, field in (("evaluations", "model"), ("alerts", "alert_id")):
        for _, key, value, _ in outputs.outputs[role]:
            assert key == json.loads(value or b"")[field].encode()


def test_dead_letters_are_as_documented(outputs: Backtest):
    """Original key and bytes, the headers of the table in its order, and a reason that the table gives to the stage."""
    part = section("Dead letters")
    table = rows(part)
    letters = outputs.outputs["dead-letter"]
    refused = [(key, value) for _, key, value, _ in letters]
    assert [letter for letter in BAD_LABELS + BAD_EVENTS if letter not in refused] == []
    for _, _, _, headers in letters:
        assert [*(name for name, _ in headers or []), "cut"] == list(HEADERS)  # nothing here is too long
        found = {name: value.decode() for name, value in headers or []}
        assert found["stage"] in table[found["reason"]][1].split(", ")
        assert found["topic"] in ("flights.events", "flights.labels")
        assert found["partition"] == "0"
        assert found["offset"].isdigit()


def test_every_reason_is_documented():
    """The table has all reasons, each with at least one stage."""
    assert {reason for reasons in STAGE_REASONS.values() for reason in reasons} == set(REASONS)
    table = rows(section("Dead letters"))
    assert {name: table[name][0] for name in REASONS} == REASONS


def test_the_examples_of_inputs_are_legal():
    """The event and the label that the page publishes decode, and belong together."""
    (event,) = re.findall(r"^echo '(.*)' \|$", TEXT, re.MULTILINE)
    (label,) = code(section("Labels"), "json")
    read_event, _ = flights.event_decoder()
    read_label, _ = flights.label_decoder()
    assert read_event(event.encode()).event_id == read_label(label.strip().encode()).event_id


def test_the_example_of_a_prediction_is_one():
    """It has the fields and types of the table above it."""
    part = section("Predictions")
    (example,) = (json.loads(block) for block in code(part, "json"))
    table = rows(part)
    assert list(example) == list(table)
    assert all(fits(value, table[name][0]) for name, value in example.items())
    assert example["behind_ms"] == example["time_ms"] - example["learned_until_ms"]


def test_every_consumer_reads_committed_records():
    """Whatever the language, the isolation level is set in the code, and the Python is Python."""
    blocks = [block for language in ("python", "java", "go", "sh") for block in code(TEXT, language)]
    shells = re.findall(r"^    kcat -C .*$", TEXT, re.MULTILINE)
    consumers = [text for text in [*blocks, *shells] if "poll" in text or "Poll" in text or "kcat -C" in text]
    assert len(consumers) == 6
    for text in consumers:
        assert re.search(r"isolation\.level[\"=:, ]+read_committed|ReadCommitted", text)
    for block in code(TEXT, "python"):
        compile(block, "docs/topics.md", "exec")


def test_the_command_prints_schemas(capsys: pytest.CaptureFixture[str]):
    """--json gives a schema for each topic, by the topic's name."""
    assert contract_docs.main(["headrace.examples.flights:flights", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["flights.features"]["name"] == "flights_features"
    assert found["flights.predictions"]["properties"]["model"]["type"] == "string"


def test_the_command_prints_tables(capsys: pytest.CaptureFixture[str]):
    """Without a page, the tables go to standard output."""
    assert contract_docs.main(["headrace.examples.flights:flights"]) == 0
    assert "| `origin` |" in capsys.readouterr().out


def test_the_contract_of_avro_inputs_has_their_schema_and_ids():
    """Who writes Avro needs the order of the fields, which the table does not have, and the ids that are known."""
    avro: dict[str, Any] = {"format": "avro"}
    made = contract_docs.blocks(small(events={**avro, "schemas": {7: EVENT, 5: EVENT}}, labels=avro))
    assert "framed with the registry's id 5 or 7, or single objects of the schema below" in made["events"]
    assert "registry" not in made["labels"]
    for block, schema in ((made["events"], EVENT), (made["labels"], LABEL)):
        assert [json.loads(text) for text in code(block, "json")] == [schema]


def test_the_contract_says_how_json_carries_bytes_and_what_nobody_writes():
    """Bytes are base64 there; and a topic that `publish` leaves out stays empty."""
    schema = {**EVENT, "fields": [*EVENT["fields"], {"name": "raw", "type": ["null", "bytes"], "default": None}]}
    made = contract_docs.blocks(small(events={"schema": schema}, publish=("features",)))
    assert rows(made["events"])["raw"][0] == "bytes in base64 or null"
    writers = {name.rpartition(".")[2]: row[2] for name, row in rows(made["topics"]).items()}
    assert writers["examples"] == "nobody, as `publish` leaves it out"
    assert writers["features"] == "validate, featurize"


@pytest.mark.parametrize("arguments", [[], ["a", "b", "c"], ["headrace.examples.flights:nothing"]])
def test_wrong_use_is_told(arguments: list[str], capsys: pytest.CaptureFixture[str]):
    """One sentence on stderr, exit code 2."""
    assert contract_docs.main(arguments) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_an_unknown_part_is_refused():
    """A page that asks for what is not generated is an error."""
    with pytest.raises(ValueError, match="nothing called 'weather'"):
        renewed("<!-- generated: weather -->\n<!-- end -->", flights)
