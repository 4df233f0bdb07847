"""From a file or a DataFrame to the records that a producer would publish: one way in for backtests and publishers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from headrace.schemas.rows import json_encoder
from headrace.schemas.wire import BadRecord
from headrace.streams.errors import UsageError
from headrace.streams.pipeline import Pipeline

__all__ = ["Outgoing", "load", "records", "without_labels"]


class Outgoing(NamedTuple):
    """A record on its way to an input topic; `time_ms` orders publishing where events and labels are interleaved."""

    time_ms: int
    key: bytes | None
    value: bytes


def load(source: Any, pipeline: Pipeline | None = None, limit: int | None = None) -> pd.DataFrame:
    """A DataFrame from a DataFrame, a function returning one, or a .parquet, .csv, .jsonl file (also .gz)."""
    if source is None and pipeline is not None:
        source = pipeline.data
        if source is None:
            raise UsageError(f"{pipeline.name} declares no data=: name a file to read.")
    if callable(source):
        source = source()
    if not isinstance(source, pd.DataFrame):
        source = _file(Path(source))
    frame: pd.DataFrame = source if limit is None else source.head(limit)
    return frame


def _file(path: Path) -> pd.DataFrame:
    readers: dict[str, Any] = {
        ".parquet": pd.read_parquet,
        ".csv": pd.read_csv,
        ".jsonl": lambda p: pd.read_json(p, lines=True, convert_dates=False),
        ".json": lambda p: pd.read_json(p, lines=True, convert_dates=False),
    }
    suffixes = [suffix for suffix in path.suffixes if suffix != ".gz"]
    reader = readers.get(suffixes[-1] if suffixes else "")
    if reader is None:
        raise UsageError(f"{path} is not a kind of file that can be read; legal: {', '.join(readers)}, also .gz.")
    try:
        frame: pd.DataFrame = reader(path)
        return frame
    except FileNotFoundError as error:
        raise UsageError(f"There is no file {path}.") from error
    except (ValueError, OSError) as error:
        raise UsageError(f"{path.name} cannot be read: {str(error).splitlines()[0]}") from error


def records(
    pipeline: Pipeline, frame: pd.DataFrame, labels: pd.DataFrame | None = None
) -> tuple[list[Outgoing], list[Outgoing]]:
    """Events and labels of a frame: events in its order, labels ordered by when they became known.

    Without a frame of their own, labels are the rows in which every required label field has a value; none, where the
    frame has no such columns (`without_labels` names them). A row that does not fit the schema is passed on as it is,
    to become a dead letter rather than to vanish.
    """
    if pipeline.events.format != "json" or pipeline.labels.format != "json":
        raise UsageError(
            "Files are published as JSON; this pipeline declares Avro inputs, so publish with your own producer."
        )
    missing = [
        f["name"] for f in pipeline.event_schema.columns() if f["name"] not in frame.columns and not f["nullable"]
    ]
    if missing:
        raise UsageError(f"The data have no column {', '.join(missing)}; the event schema requires it.")
    events = list(_rows(frame, pipeline.event_schema, pipeline.events.time, pipeline.events.key))
    own = frame if labels is None else labels
    absent = without_labels(pipeline, own)
    if absent and labels is not None:
        raise UsageError(f"The labels have no column {', '.join(absent)}; the label schema requires it.")
    if absent:
        return events, []
    required = [f["name"] for f in pipeline.label_schema.columns() if not f["nullable"]]
    known = own[own[required].notna().all(axis=1)]
    out = list(_rows(known, pipeline.label_schema, pipeline.labels.time, pipeline.events.key))
    return events, sorted(out, key=lambda record: record.time_ms)


def without_labels(pipeline: Pipeline, frame: pd.DataFrame) -> list[str]:
    """The columns that labels need and the frame has not: with one missing, no row of it is a label."""
    required = [f["name"] for f in pipeline.label_schema.columns() if not f["nullable"]]
    return [name for name in required if name not in frame.columns]


def _rows(frame: pd.DataFrame, schema: Any, time: str, key: str) -> Iterator[Outgoing]:
    names = [name for name in schema.names if name in frame.columns]
    encode = json_encoder(schema)
    keys = frame[key].tolist() if key in frame.columns else [None] * len(frame)
    columns = [frame[name].tolist() for name in names]
    at = names.index(time) if time in names else None
    for row_key, values in zip(keys, zip(*columns, strict=True), strict=True):
        row = dict(zip(names, values, strict=True))
        try:
            value = encode(row)
        except BadRecord:
            # A cell without a value is null; pandas says NaN, also where text is missing.
            value = json.dumps({n: None if pd.isna(v) else v for n, v in row.items()}, default=str).encode()
        moment = row[time] if at is not None else 0
        known = not isinstance(moment, str) and not pd.isna(moment)
        time_ms = _time_ms(moment) if known else 0
        yield Outgoing(time_ms, None if pd.isna(row_key) else str(row_key).encode(), value)


def _time_ms(moment: Any) -> int:
    return moment.value // 1_000_000 if isinstance(moment, pd.Timestamp) else int(moment)
