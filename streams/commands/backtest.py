"""``headrace backtest``: the whole pipeline in memory, over a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import pandas as pd

from headrace.streams import data
from headrace.streams.commands.change import Change, flat, judgements, show_judgements
from headrace.streams.commands.options import Headrace, json_option, pipeline_name_argument
from headrace.streams.commands.output import emit, escaped, progress, say, show, warn
from headrace.streams.errors import UsageError
from headrace.streams.identity.hashseed import fixed_hash_seed
from headrace.streams.loading import load_pipeline
from headrace.streams.memory import Backtest
from headrace.streams.pipeline import OPTIONAL, Pipeline
from headrace.streams.summary import Summary

__all__ = ["backtest", "show_summary", "warn_without_labels"]

_TABLES = ("predictions", "features", "examples")


@click.command(cls=Headrace)
@pipeline_name_argument
@click.argument("file", required=False, metavar="[FILE]")
@click.option("--labels", metavar="FILE", help="Labels from a file of their own.")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Only the first N rows.")
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help=f"Write {', '.join(_TABLES)} there as Parquet.",
)
@click.option("--keep-going", is_flag=True, help="Dead-letter even an input of which nearly every record fails.")
@click.option("--gate", is_flag=True, help="Ask whether it is worse than what --against names: exit 1 if so.")
@click.option(
    "--against",
    metavar="REF",
    help="With --gate: a git revision, another PIPELINE, or `champion` (the default): its other models against that.",
)
@json_option
@click.pass_context
def backtest(
    ctx: click.Context,
    pipeline: str,
    file: str | None,
    labels: str | None,
    limit: int | None,
    output: Path | None,
    keep_going: bool,
    gate: bool,
    against: str | None,
    json_to: str | None,
) -> None:
    """Run a pipeline in memory over FILE (.parquet, .csv, .jsonl), or over the data that it declares. Needs no Kafka.

    Exit 1 when a conservation law is broken, or --gate finds something worse.
    """
    if against is not None and not gate:
        raise UsageError("--against says what to compare with: it needs --gate.")
    fixed_hash_seed()
    loaded = load_pipeline(pipeline)
    frame = data.load(file, loaded, limit)
    if gate:
        loaded.publish = OPTIONAL
    if labels is None:
        warn_without_labels(loaded, frame)
    with progress("backtest", 2 * len(frame)) as advance:
        result = loaded.backtest(frame, labels=labels, keep_going=keep_going, progress=advance)
    if output is not None:
        _write(result, output)
    refused = _refused(result)
    value = result.summary.plain() | {
        "refused": refused,
        "seconds": round(result.seconds, 3),
        "events_per_s": round(result.summary.events / result.seconds, 1) if result.seconds else None,
    }
    judged: list[dict[str, Any]] = []
    if gate:
        judged = judgements(Change(pipeline, loaded, file, frame, labels, keep_going), against or "champion", result)
        value["gate"] = judged
    if emit(json_to, value):
        show_summary(result.summary)
        if refused:
            show("", ("refused", "of", "reason", "n", "why the first one"), [tuple(row.values()) for row in refused])
        say(f"{result.summary.events:,} events in {result.seconds:.2f} s: {value['events_per_s']:,.0f} a second")
        show_judgements(judged)
    if not all(result.summary.laws.values()) or any(each["verdict"] == "worse" for each in judged):
        ctx.exit(1)


def show_summary(summary: Summary) -> None:
    """Counts, conservation laws, and models beside the baselines, as tables."""
    plain = summary.plain()
    scores = [(name, "model", values) for name, values in plain.pop("models").items()]
    scores += [(name, "baseline", values) for name, values in plain.pop("baselines").items()]
    laws = plain.pop("laws")
    metrics = list(dict.fromkeys(metric for _, _, values in scores for metric in values))
    rows: list[tuple[str, Any]] = []
    for name, value in plain.items():
        if isinstance(value, dict):
            rows += [(f"{name.replace('_', ' ')}: {key}", count) for key, count in value.items()]
        else:
            rows.append((name.replace("_", " "), value))
    show("", ("count", "n"), rows)
    show("", ("law", "holds"), laws.items())
    show("", ("", "is", *metrics), [(name, kind, *(values.get(m) for m in metrics)) for name, kind, values in scores])


def warn_without_labels(pipeline: Pipeline, frame: pd.DataFrame) -> None:
    """Say so on stderr when the data have events only: a misspelt column looks just the same."""
    absent = data.without_labels(pipeline, frame)
    if absent:
        warn(f"The data have no column {', '.join(absent)}, so there are no labels: --labels names a file of them.")


def _refused(result: Backtest) -> list[dict[str, Any]]:
    """Dead letters by stage, topic, reason and model that failed to learn, with what was wrong with the first.

    Nobody can look for them later.
    """
    found: dict[tuple[str, ...], dict[str, Any]] = {}
    for letter in result.dead_letters.to_dict("records"):
        model = letter["detail"].partition(" at example ")[0] if letter["stage"] == "train" else ""
        place = letter["stage"], letter["topic"], letter["reason"], model
        row = found.setdefault(place, {"stage": place[0], "topic": place[1], "reason": place[2], "n": 0})
        row["n"] += 1
        row.setdefault("detail", escaped(letter["detail"].encode(), 200))
    return list(found.values())


def _write(result: Backtest, folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in _TABLES:
            flat(getattr(result, name)).to_parquet(folder / f"{name}.parquet", index=False)
    except OSError as error:
        raise UsageError(f"{folder} (--output) cannot be written: {error.strerror or error}.") from error
