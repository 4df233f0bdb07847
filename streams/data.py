"""From a file or a DataFrame to the records that a producer would publish: one way in for backtests and publishers."""

from __future__ import annotations

import contextlib
import gzip
import json
import re
from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from headrace.schemas.contract import Field, Schema
from headrace.schemas.rows import json_encoder, key_of, plain
from headrace.schemas.wire import BadRecord
from headrace.streams.errors import UsageError
from headrace.streams.loading import explained
from headrace.streams.pipeline import Pipeline

__all__ = ["Outgoing", "load", "records", "without_labels"]

_Decoder = tuple[Callable[[bytes | None], Any], Callable[[Any], int]]

_TEXT = ("string", "enum", "bytes")
_REALS = ("float", "double")
_NULLS = ["", "NA", "N/A", "NaN", "nan", "null", "NULL", "None"]
_WHOLE = re.compile(r"\s*[+-]?[0-9]{1,19}\s*")
_TRUTHS = {"True": True, "TRUE": True, "true": True, "False": False, "FALSE": False, "false": False}


class Outgoing(NamedTuple):
    """A record on its way to an input topic; `time_ms` orders publishing where events and labels are interleaved."""

    time_ms: int
    key: bytes | None
    value: bytes | None


def load(source: Any, pipeline: Pipeline | None = None, limit: int | None = None) -> pd.DataFrame:
    """A DataFrame from a DataFrame, a function returning one, or a .parquet, .csv, .jsonl file (also .gz).

    A CSV file does not say what is text and what is a number: the pipeline's schemas do.
    """
    if source is None and pipeline is not None:
        source = pipeline.data
        if source is None:
            raise UsageError(f"{pipeline.name} declares no data=: name a file to read.")
    if callable(source):
        source = _called(source)
    if not isinstance(source, pd.DataFrame):
        source = _file(Path(source), pipeline)
    frame: pd.DataFrame = source if limit is None else source.head(limit)
    return frame


def _called(source: Callable[[], Any]) -> Any:
    """What a pipeline's data= returns; its own troubles with a file are told in one sentence."""
    try:
        return source()
    except FileNotFoundError as error:
        raise UsageError(f"There is no file {error.filename}: data= of the pipeline reads it.") from error
    except (ValueError, OSError) as error:
        raise UsageError(f"data= of the pipeline failed: {_said(error)}.") from error
    except Exception as error:
        raise explained("data= of the pipeline", error) from error


def _file(path: Path, pipeline: Pipeline | None) -> pd.DataFrame:
    readers: dict[str, Callable[[Path, Pipeline | None], pd.DataFrame]] = {
        ".parquet": lambda file, _: pd.read_parquet(file, dtype_backend="numpy_nullable"),  # else a gap rounds a column
        ".csv": _csv,
        ".jsonl": _json_lines,
        ".json": _json_lines,
    }
    suffixes = [suffix for suffix in path.suffixes if suffix != ".gz"]
    reader = readers.get(suffixes[-1] if suffixes else "")
    if reader is None:
        raise UsageError(f"{path} is not a kind of file that can be read; legal: {', '.join(readers)}, also .gz.")
    try:
        return reader(path, pipeline)
    except FileNotFoundError as error:
        raise UsageError(f"There is no file {path}.") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path.name} is no UTF-8 text: convert it to UTF-8.") from error
    except pd.errors.EmptyDataError as error:
        raise UsageError(f"{path.name} is empty: its first line has to name the columns.") from error
    except pd.errors.ParserError as error:
        why = _said(error).removeprefix("Error tokenizing data. C error: ")
        raise UsageError(
            f"{path.name} cannot be read: {why}; separate values by commas, and put those that hold one in quotes."
        ) from error
    except (ValueError, OSError) as error:
        raise UsageError(f"{path.name} cannot be read: {_said(error)}") from error


def _said(error: Exception) -> str:
    """The first line of what an error says; its type, where it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _csv(path: Path, pipeline: Pipeline | None) -> pd.DataFrame:
    """The file with its columns as the schemas say: what is text stays text, 007 and NA too.

    A cell that is not what is due stays as it is, so that its row alone is refused. Whole numbers are read one by one:
    pandas would have floats, and round them, where one of the column is missing or none.
    """
    if pipeline is None:
        return pd.read_csv(path)
    kinds = {f.name: f.kind for schema in (pipeline.label_schema, pipeline.event_schema) for f in schema.fields}
    frame = pd.read_csv(
        path,
        dtype={name: "str" for name, kind in kinds.items() if kind not in _REALS},
        keep_default_na=False,
        na_values={name: [""] if kind in _TEXT else _NULLS for name, kind in kinds.items()},
        low_memory=False,
    )
    for name, kind in kinds.items():
        if name not in frame.columns:
            continue
        if kind in ("int", "long", "boolean"):
            read = _truth if kind == "boolean" else _whole
            cells = [read(cell) if isinstance(cell, str) else None for cell in frame[name]]
            frame[name] = pd.Series(cells, frame.index, dtype="object")
        elif kind in _REALS and not pd.api.types.is_numeric_dtype(frame[name].dtype):
            numbers = pd.to_numeric(frame[name], errors="coerce")
            frame[name] = numbers.astype("object").where(numbers.notna(), frame[name].astype("object"))
    return frame


def _whole(cell: str) -> Any:
    """A whole number, also one that is written as a float; any other cell as it is."""
    if _WHOLE.fullmatch(cell):
        return int(cell)
    number = pd.to_numeric(cell, errors="coerce")
    return cell if number != number else number


def _truth(cell: str) -> Any:
    return _TRUTHS.get(cell.strip(), cell)


def _json_lines(path: Path, _: Pipeline | None) -> pd.DataFrame:
    """One object a line, each value as it is written there."""
    rows = []
    with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as error:
                raise ValueError(f"line {number} is no JSON ({error}): write one object a line.") from error
            if not isinstance(row, dict):
                raise ValueError(f"line {number} is no JSON object: write one object a line.")
            rows.append(row)
    return pd.DataFrame(rows, dtype="object")


def records(
    pipeline: Pipeline, frame: pd.DataFrame, labels: pd.DataFrame | None = None
) -> tuple[list[Outgoing], list[Outgoing]]:
    """Events and labels of a frame: events in its order, labels ordered by when they became known.

    Without a frame of their own, labels are the rows in which every required label field has a value, or may be null;
    none, where the frame has no such columns (`without_labels` names them). A row that does not fit the schema, as one
    without a value in a frame of labels, is passed on as it is, to become a dead letter rather than to vanish.
    """
    if pipeline.events.format != "json" or pipeline.labels.format != "json":
        raise UsageError(
            "Files are published as JSON; this pipeline declares Avro inputs, so publish with your own producer."
        )
    missing = [f.name for f in pipeline.event_schema.fields if f.required and f.name not in frame.columns]
    if missing:
        raise UsageError(_lacking("data", missing, "event", frame))
    key = pipeline.event_schema.field(pipeline.events.key)
    events = list(_rows(frame, pipeline.event_schema, pipeline.event_decoder(), pipeline.events.time, key))
    own = frame if labels is None else labels
    absent = without_labels(pipeline, own)
    if absent and labels is not None:
        raise UsageError(_lacking("labels", absent, "label", labels))
    if absent:
        return events, []
    needed = [field.name for field in _needed(pipeline) if not field.nullable]
    known = own[own[needed].notna().all(axis=1)] if labels is None else own
    out = list(_rows(known, pipeline.label_schema, pipeline.label_decoder(), pipeline.labels.time, key))
    return events, sorted(out, key=lambda record: record.time_ms)


def _lacking(what: str, missing: list[str], schema: str, frame: pd.DataFrame) -> str:
    there = ", ".join(map(str, frame.columns[:8])) + (", ..." if len(frame.columns) > 8 else "")
    return f"The {what} have no column {', '.join(missing)}; the {schema} schema requires it. What they have: {there}."


def without_labels(pipeline: Pipeline, frame: pd.DataFrame) -> list[str]:
    """The columns that labels need and the frame has not: with one missing, no row of it is a label."""
    return [field.name for field in _needed(pipeline) if field.name not in frame.columns]


def _needed(pipeline: Pipeline) -> list[Field]:
    """The fields without which there is no label: those without a default, and what the label itself is read from."""
    return [field for field in pipeline.label_schema.fields if field.required or field.name == pipeline.labels.y]


def _rows(frame: pd.DataFrame, schema: Schema, decoder: _Decoder, time: str, key: Field) -> Iterator[Outgoing]:
    names = [name for name in schema.names if name in frame.columns]
    filled = {field.name for field in schema.fields if not field.required and not field.nullable}
    encode = json_encoder(schema)
    keys = frame[key.name].tolist() if key.name in frame.columns else [None] * len(frame)
    columns = [frame[name].tolist() for name in names]
    for entity, values in zip(keys, zip(*columns, strict=True), strict=True):
        row = {n: v for n, v in zip(names, values, strict=True) if n not in filled or not _absent(v)}
        try:
            value = encode(row)
        except BadRecord:
            value = json.dumps({n: _cell(schema.field(n), v) for n, v in row.items()}, default=_text).encode()
        time_ms = _time_ms(value, decoder, row.get(time))
        yield Outgoing(time_ms, key_of(key, entity), value)


def _time_ms(value: bytes, decoder: _Decoder, moment: Any) -> int:
    """The time that the pipeline will read; of a record that it will refuse, what can be told of it, else 0."""
    read, time_of = decoder
    with contextlib.suppress(BadRecord):
        return time_of(read(value))
    with contextlib.suppress(TypeError, ValueError, OverflowError):
        return int(moment.value // 1_000_000 if isinstance(moment, pd.Timestamp) else moment)
    return 0


def _cell(field: Field, value: Any) -> Any:
    """What the file has, as a producer would write it, so that a row is refused for the cell that is wrong."""
    return None if _absent(value) else plain(field, value)


def _text(value: Any) -> str:
    return b64encode(value).decode() if isinstance(value, bytes) else str(value)


def _absent(value: Any) -> bool:
    return bool(pd.api.types.is_scalar(value) and pd.isna(value))
