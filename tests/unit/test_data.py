"""Files as producers would publish them: what stands in a file is what is published, as the schemas say."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import parquet

from headrace.streams import data
from headrace.streams.errors import UsageError
from tests.small import EVENT, LABEL, play, small

CSV = "id,shop,at,spent,note,y\n007,12,1000,0.1,NA,True\n1e5,NA,2000,abc,,False\n9,x,,2,,\n"
JSON_LINES = """
{"id": "007", "shop": "12", "at": 1000, "spent": 0.1, "note": "NA", "y": true}

{"id": "1e5", "shop": "NA", "at": 2000, "spent": "abc", "y": false}
{"id": "9", "shop": "x", "at": null, "spent": 2, "note": null, "y": null}
"""
EVENTS = [
    {"id": "007", "shop": "12", "at": 1000, "spent": 0.1, "note": "NA"},
    {"id": "1e5", "shop": "NA", "at": 2000, "spent": "abc", "note": None},
    {"id": "9", "shop": "x", "at": None, "spent": 2.0, "note": None},
]


def published(path: Path, **changed: Any) -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[bytes | None]]:
    """Events and labels of a file as a consumer would read them, and the events' keys."""
    pipeline = small(**changed)
    events, labels = data.records(pipeline, data.load(str(path), pipeline))
    return [json.loads(r.value) for r in events], [json.loads(r.value) for r in labels], [r.key for r in events]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("visits.csv", CSV.encode()),
        ("visits.csv.gz", gzip.compress(CSV.encode())),
        ("visits.jsonl", JSON_LINES.encode()),
        ("visits.jsonl.gz", gzip.compress(JSON_LINES.encode())),
    ],
    ids=["csv", "csv.gz", "jsonl", "jsonl.gz"],
)
def test_text_stays_text_and_a_bad_cell_spoils_its_row_only(tmp_path: Path, name: str, content: bytes):
    """Ids and keys that look like numbers or like nulls are what they were; what fits no schema is passed on."""
    (tmp_path / name).write_bytes(content)
    events, labels, keys = published(tmp_path / name)
    assert [{"note": None} | event for event in events] == EVENTS
    assert [(label["id"], label["y"]) for label in labels] == [("007", True), ("1e5", False)]
    assert keys == [b"12", b"NA", b"x"]


SOURCE = {"name": "source", "type": "string", "default": "manual"}


@pytest.mark.parametrize(
    ("column", "sources"),
    [(None, ["manual", "manual"]), (["till", None], ["till", "manual"]), ([float("nan"), "till"], ["manual", "till"])],
    ids=["no column", "None", "NaN"],
)
def test_what_has_a_default_may_be_left_out(column: list[Any] | None, sources: list[str]):
    """A column, or a cell: of events and of labels alike, which would vanish without a word."""
    frame = pd.DataFrame({"id": ["1", "2"], "shop": "a", "at": [1000, 2000], "spent": 1.0, "y": True})
    if column is not None:
        frame["source"] = column
    events, labels = (schema | {"fields": [*schema["fields"], SOURCE]} for schema in (EVENT, LABEL))
    pipeline = small(events={"schema": events}, labels={"schema": labels})
    for made in data.records(pipeline, frame):
        assert [json.loads(record.value)["source"] for record in made] == sources


def test_what_may_be_null_and_has_no_default_needs_a_column():
    """As a producer would have to say that it is null; an empty cell says so."""
    note = {"name": "note", "type": ["null", "string"]}
    frame = pd.DataFrame({"id": ["1", "2"], "shop": "a", "at": [1000, 2000], "spent": 1.0, "y": True})
    labels = small(labels={"schema": LABEL | {"fields": [*LABEL["fields"], note]}})
    assert data.without_labels(labels, frame) == ["note"]
    assert [json.loads(r.value)["note"] for r in data.records(labels, frame.assign(note=None))[1]] == [None, None]
    events = small(events={"schema": EVENT | {"fields": [*EVENT["fields"][:-1], note]}})
    with pytest.raises(UsageError, match="no column note; the event schema requires it"):
        data.records(events, frame)


def test_a_row_without_an_outcome_is_no_label_whatever_the_default():
    """In a file of events most rows have no outcome yet."""
    labels = LABEL | {"fields": [*LABEL["fields"][:-1], LABEL["fields"][-1] | {"default": False}]}
    frame = pd.DataFrame({"id": ["1", "2"], "shop": "a", "at": [1000, 2000], "spent": 1.0, "y": [True, None]})
    pipeline = small(labels={"schema": labels})
    assert [json.loads(record.value)["id"] for record in data.records(pipeline, frame)[1]] == ["1"]
    assert data.without_labels(pipeline, frame.drop(columns="y")) == ["y"]


@pytest.mark.parametrize("column", ["id", "at", "y"])
def test_a_label_of_a_file_of_labels_is_not_dropped_for_an_empty_cell(column: str):
    """It would vanish without a word: it becomes a dead letter, as what a producer sends without it."""
    frame = pd.DataFrame({"id": ["1", "2"], "shop": "a", "at": [1000, 2000], "spent": 1.0})
    labels = pd.DataFrame({"id": ["1", "2"], "at": [1000, 2000], "y": [True, False]}, dtype="object")
    labels.loc[0, column] = None
    result = small().backtest(frame, labels=labels)
    assert (result.summary.labelled, result.summary.label_dead_letters) == (1, 1)
    (letter,) = result.dead_letters.to_dict("records")
    assert (letter["topic"], letter["offset"]) == ("small.labels", "0")
    assert column in letter["detail"]


def test_a_row_is_refused_for_the_cell_that_is_wrong(tmp_path: Path):
    """Not for its whole numbers, which pandas reads as floats where one of the column is missing."""
    whole = [{"name": f["name"], "type": "long"} if f["name"] == "id" else f for f in LABEL["fields"]]
    events = [{"name": f["name"], "type": "long"} if f["name"] == "id" else f for f in EVENT["fields"]]
    pipeline = small(events={"schema": EVENT | {"fields": events}}, labels={"schema": LABEL | {"fields": whole}})
    frame = pd.DataFrame({"id": [1, 2], "shop": "a", "at": [1000, 2000], "spent": 1.0})
    (tmp_path / "labels.csv").write_text("id,at,y\n1,1000,true\n,1500,true\n2,,false\n")
    letters = pipeline.backtest(frame, labels=data.load(tmp_path / "labels.csv", pipeline)).dead_letters
    assert sorted(letters["detail"]) == ["at: expected long, got null", "id: expected long, got null"]


@pytest.mark.parametrize("kind", ["csv", "parquet", "jsonl"])
def test_whole_numbers_are_exact_beside_empty_and_wrong_cells(tmp_path: Path, kind: str):
    """pandas has floats for a column with either, which are whole up to 2**53 only: ids were rounded without a word."""
    columns = [{"name": "other", "type": ["null", "long"]}, {"name": "new", "type": ["null", "boolean"]}]
    fields = [f | {"type": "long"} if f["name"] == "id" else f for f in EVENT["fields"]]
    pipeline = small(events={"schema": EVENT | {"fields": fields + columns}}, labels={"id": "at"})
    rows = [{"id": 2**62 + 1, "other": -(2**62) - 1, "new": True}, {"id": 2**53 + 1, "other": None, "new": None}]
    frame = pd.DataFrame([row | {"shop": "a", "at": 1000, "spent": 1.0} for row in rows], dtype="object")
    if kind == "parquet":
        parquet.write_table(pa.Table.from_pylist(frame.to_dict("records")), tmp_path / "visits.parquet")
    else:
        rows.append({"id": "abc", "other": 5, "new": "perhaps"})
        frame.loc[2] = ["abc", 5.0, "perhaps", "a", 1000, 1.0]
        lines = frame.to_dict("records")
        made = frame.to_csv(index=False) if kind == "csv" else "\n".join(map(json.dumps, lines))
        (tmp_path / f"visits.{kind}").write_text(made)
    events, _ = data.records(pipeline, data.load(tmp_path / f"visits.{kind}", pipeline))
    assert [{n: json.loads(event.value)[n] for n in rows[0]} for event in events] == rows


def test_a_row_is_refused_for_the_cell_that_is_wrong_not_for_its_times_and_bytes():
    """These are written as a producer would: a time was text, bytes were Python's, and either was blamed."""
    columns = [{"name": "photo", "type": "bytes"}]
    pipeline = small(events={"schema": EVENT | {"fields": [*EVENT["fields"], *columns]}})
    frame = pd.DataFrame({"id": ["1"], "shop": "a", "at": [pd.Timestamp(1, unit="s")], "spent": "x", "photo": b"\0"})
    letters = pipeline.backtest(frame, keep_going=True).dead_letters
    assert list(letters["detail"]) == ['spent: expected double, got "x"']


@pytest.mark.parametrize(
    ("kind", "entities", "keys"),
    [
        (["null", "long"], [5, None], [b"5", None]),
        (["null", "string"], ["5.0", None], [b"5.0", None]),
        (["null", "double"], [1.5, None], [b"1.5", None]),
        ("boolean", [True, False], [b"True", b"False"]),
        ("bytes", [b"a", "YQ=="], [b"YQ==", b"YQ=="]),
        ({"type": "long", "logicalType": "timestamp-millis"}, [pd.Timestamp("1970-01-02"), 5], [b"86400000", b"5"]),
    ],
    ids=str,
)
def test_keys_are_the_text_of_the_key_field(kind: Any, entities: list[Any], keys: list[bytes | None]):
    """Of events and labels alike, and as the pipeline has it where a record comes without: they meet in a partition."""
    schema = EVENT | {"fields": [*EVENT["fields"], {"name": "customer", "type": kind}]}
    frame = pd.DataFrame({"id": ["1", "2"], "shop": "a", "at": [1000, 2000], "spent": 1.0, "y": True})
    pipeline = small(events={"schema": schema, "key": "customer"})
    events, labels = data.records(pipeline, frame.assign(customer=entities))
    assert [event.key for event in events] == [label.key for label in labels] == keys
    made = play(pipeline, [(None, event.value) for event in events]).outputs["features"]
    assert [output[1] for output in made] == keys


def test_numbers_are_read_exactly(tmp_path: Path):
    """To the last bit, where a quicker reader would be content with nearly."""
    (tmp_path / "visits.csv").write_text(
        "id,shop,at,spent,y\na,x,1000,0.30000000000000004,\nb,x,1000,2.2250738585072011e-308,\n"
    )
    assert [event["spent"] for event in published(tmp_path / "visits.csv")[0]] == [0.1 + 0.2, 2.2250738585072011e-308]


@pytest.mark.parametrize(
    ("schema", "times", "expected"),
    [
        ({"type": "long", "logicalType": "timestamp-millis"}, [3_000, 1_000, 2_000], [1_000, 2_000, 3_000]),
        ({"type": "long", "logicalType": "timestamp-micros"}, [3_000_000, 1_000_000, 2_000_000], [1_000, 2_000, 3_000]),
        ("string", ["1970-01-01T00:00:03Z", "1970-01-01T01:00:01+01:00", "1970-01-01 00:00:02"], [1_000, 2_000, 3_000]),
        ("string", ["1970-01-01T00:00:03Z", "soon", "1970-01-01 00:00:02"], [0, 2_000, 3_000]),
    ],
)
def test_labels_are_ordered_by_their_time_however_it_is_written(
    tmp_path: Path, schema: Any, times: list[Any], expected: list[int]
):
    """Milliseconds, microseconds and text; labels of text had stayed in the file's order."""
    fields = [{"name": f["name"], "type": schema} if f["name"] == "at" else f for f in LABEL["fields"]]
    pipeline = small(labels={"schema": LABEL | {"fields": fields}})
    rows = [{"id": f"{i}", "at": time, "y": True} for i, time in enumerate(times)]
    (tmp_path / "labels.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "visits.jsonl").write_text('{"id": "0", "shop": "x", "at": 1000, "spent": 1}')
    events = data.load(str(tmp_path / "visits.jsonl"), pipeline)
    labels = data.records(pipeline, events, data.load(str(tmp_path / "labels.jsonl"), pipeline))[1]
    assert [label.time_ms for label in labels] == expected


def test_what_no_schema_knows_does_no_harm(tmp_path: Path):
    """Lists, objects and endless numbers where a time or a key is due become records that are refused."""
    (tmp_path / "visits.jsonl").write_text(
        '{"id": [1], "shop": ["x"], "at": {"a": 1}, "spent": 1}\n{"id": "b", "shop": "x", "at": 1e999, "spent": 1}\n'
    )
    events, labels, _ = published(tmp_path / "visits.jsonl")
    assert ([event["id"] for event in events], labels) == ([[1], "b"], [])


@pytest.mark.parametrize(("text", "said"), [("{}\n{not", "line 2 is no JSON"), ("[1]", "line 1 is no JSON object")])
def test_a_line_that_is_no_object_is_named(tmp_path: Path, text: str, said: str):
    """One sentence with the number of the line."""
    (tmp_path / "visits.jsonl").write_text(text)
    with pytest.raises(UsageError, match=rf"^visits\.jsonl cannot be read: {said}.*: write one object a line\.$"):
        data.load(str(tmp_path / "visits.jsonl"), small())


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty: its first line has to name the columns."),
        ("id,shop\na,Caf\u00e9\n".encode("latin-1"), "is no UTF-8 text: convert it to UTF-8."),
        (b"id;shop\na;x\nb;1,5\n", "Expected 1 fields in line 3, saw 2; separate values by commas, and"),
    ],
    ids=["empty", "latin-1", "semicolons"],
)
def test_a_csv_file_that_cannot_be_read_is_said_what_to_do_with(tmp_path: Path, content: bytes, said: str):
    """One sentence with the next step, not the parser's own words alone."""
    (tmp_path / "visits.csv").write_bytes(content)
    with pytest.raises(UsageError, match=f"^visits.csv .*{re.escape(said)}"):
        data.load(str(tmp_path / "visits.csv"), small())


def test_columns_that_are_missing_are_told_with_those_that_are_there():
    """Another separator, or a misspelt name, is seen at once."""
    with pytest.raises(UsageError, match=r"What they have: id;shop;at;spent\."):
        data.records(small(), pd.DataFrame({"id;shop;at;spent": ["a;x;1000;2.5"]}))


def test_the_small_pipeline_is_what_these_files_are_for():
    """The columns above are those of its schemas."""
    assert {f["name"] for f in EVENT["fields"]} == EVENTS[0].keys()


@pytest.mark.parametrize("error", [ValueError(), OSError(), ValueError("\n")], ids=repr)
def test_an_error_that_says_nothing_is_named(error: Exception) -> None:
    """The sentence about a pipeline's data= has a reason also where its function gives none."""

    def fails() -> Any:
        raise error

    with pytest.raises(UsageError, match=f"data= of the pipeline failed: {type(error).__name__}."):
        data.load(fails)


def test_data_whose_code_is_broken_is_one_sentence_with_its_place():
    """A loader is imported when it reads, so what is wrong with it is told then."""

    def broken():
        import nothing_of_that_name  # noqa: F401

    with pytest.raises(UsageError, match=r"data= of the pipeline .*No module named.*\(test_data\.py, line \d+\)"):
        data.load(broken)
