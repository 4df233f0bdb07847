"""An overview as people read it: tables for a terminal, or one line for a log."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from headrace.streams.commands.options import given
from headrace.streams.commands.output import figure, printable
from headrace.streams.status.moments import stamp

__all__ = ["lines", "view"]

_ALERTS, _REASONS = 5, 8
_STYLES = {
    "champion": "bold green",
    "canary": "yellow",
    "retired": "dim",
    "critical": "bold red",
    "warning": "yellow",
}


def view(value: dict[str, Any]) -> Group:
    """The whole overview."""
    parts: list[RenderableType] = [_head(value)]
    if value["missing"]:
        missing = ", ".join(value["missing"])
        parts.append(Text(f"Missing topics: {missing}; create them with `headrace topics {given()} --apply`.", "red"))
    if not value["groups"]:
        parts.append(
            Text(
                "Nothing has been committed yet, and no worker has joined its group: start one with `headrace run`, "
                f"for pipeline {value['pipeline']}, or look again in a few seconds if one is starting."
            )
        )
    parts += [Text(f"{text}.") for text in _starting(value)]
    parts += [_groups(value), _stages(value)] if value["groups"] else []
    parts += [_models(value)] if value["models"] else []
    parts += [_fresh(value), _alerts(value), _dead_letters(value), _laws(value)]
    return Group(*parts)


def _starting(value: dict[str, Any]) -> list[str]:
    """What there is to say of groups with members that have not committed anything."""
    return [
        f"A worker of {group['group']} is starting: it has not committed anything yet"
        for group in value["groups"]
        if group["members"] and not group["journal"] and all(place["committed"] is None for place in group["inputs"])
    ]


def lines(value: dict[str, Any]) -> str:
    """The overview in one line, for those who read it from a pipe."""
    members = sum(group["members"] for group in value["groups"])
    lag = sum(group["lag"] for group in value["groups"])
    champions = sorted({f"{row['model']}" for row in value["champions"]})
    newest, severities = value["last_prediction"], value["alerts"]["severities"]
    broken = [law["law"] for law in value["laws"] if not law["holds"]]
    open_alerts = ", ".join(f"{n} {name}" for name, n in severities.items() if n) or "none"
    parts = [
        stamp(value["taken_ms"], "%H:%M:%S UTC"),
        f"members {members}",
        f"events/s {_pace(_rate(value, 'validate'))}",
        f"lag {lag:,}",
        f"champion {', '.join(champions) or '-'}",
        f"last prediction {'-' if newest is None else _ago(newest['age_s'])}",
        f"open alerts {open_alerts}",
        f"dead letters {value['dead_letters']['n']:,}",
        f"laws {'broken: ' + '; '.join(broken) if broken else 'hold' if value['laws'] else 'unknown'}",
    ]
    return "  ".join(parts)


def _head(value: dict[str, Any]) -> Text:
    text = Text.assemble((value["pipeline"], "bold"), f"  {value['task']}  {stamp(value['taken_ms'], '%H:%M:%S UTC')}")
    newest = value["last_prediction"]
    if newest is not None:
        who = printable(newest["model"])
        text.append(f"\nThe last prediction was published {_ago(newest['age_s'])} ago, by {who}.")
    return text


def _groups(value: dict[str, Any]) -> RenderableType:
    rows = []
    for group in value["groups"]:
        batches = sum(entry["batches"] for entry in group["journal"])
        slots = ", ".join(str(worker["slot"]).rpartition(".")[2] for worker in group["workers"])
        for place in group["inputs"]:
            first = place is group["inputs"][0]
            own = (group["group"], group["members"], slots, batches) if first else ("", "", "", "")
            rows.append((*own, place["role"], place["partition"], place["committed"], place["lag"]))
    columns = ("group", "members", "slots", "batches", "input", "part", "committed", "lag")
    return _table(columns, rows)


def _stages(value: dict[str, Any]) -> RenderableType:
    rows = [
        (stage["stage"], stage["group"], stage["reads"], _pace(stage["rate_per_s"]), stage["lag"])
        for stage in value["stages"]
    ]
    return _table(("stage", "run by", "reads", "records/s", "lag"), rows)


def _pace(rate: float | None) -> str:
    return "-" if rate is None else f"{rate:,.1f}"


def _models(value: dict[str, Any]) -> RenderableType:
    metrics = list(dict.fromkeys(name for row in value["models"] for name in row["overall"] or ()))
    baselines = [row | {"status": "baseline", "proposed": False, "share": None} for row in value["baselines"]]
    rows = []
    for row in [*value["models"], *baselines]:
        status = row["status"] + (f" {row['share']:.0%}" if row["share"] is not None else "")
        status += " (proposed)" if row["proposed"] else ""
        scores = [(row["overall"] or {}).get(name) for name in metrics]
        named = Text(status, _STYLES.get(row["status"], ""))
        rows.append((row["model"], row["shard"], named, row["n"], row["scored"], *scores))
    return _table(("model", "shard", "is", "n", "scored", *metrics), rows)


def _fresh(value: dict[str, Any]) -> RenderableType:
    found = value["freshness"]
    if found is None:
        return Text("Freshness is known after the first checkpoint.", "dim")
    until = "nothing yet" if found["learned_until_ms"] is None else f"labels until {stamp(found['learned_until_ms'])}"
    age = "" if found["model_age_s"] is None else f", {_ago(found['model_age_s'])} behind stream time"
    where = f" in shard {found['shard']}, the one furthest behind" if found["shards"] > 1 else ""
    return Text(
        f"Learned {found['learned']:,} examples{where}, {until}{age}; checkpoint {_ago(found['checkpoint_age_s'])} ago."
    )


def _alerts(value: dict[str, Any]) -> RenderableType:
    alerts = value["alerts"]
    if not alerts["open"]:
        return Text("Open alerts: none.")
    parts = ", ".join(f"{n} {name}" for name, n in alerts["severities"].items() if n)
    rows = [
        (
            alert["alert_id"][:8],
            Text(printable(alert["severity"]), _STYLES.get(alert["severity"], "")),
            alert["signal"],
            stamp(alert["opened_ms"]),
            alert["findings"],
            alert["message"],
        )
        for alert in alerts["newest"][:_ALERTS]
    ]
    table = _table(("alert", "severity", "signal", "opened", "findings", "message"), rows)
    return Group(Text(f"Open alerts: {parts}."), table)


def _dead_letters(value: dict[str, Any]) -> RenderableType:
    letters = value["dead_letters"]
    if not letters["n"]:
        return Text("Dead letters: none.")
    rows = [
        tuple(row[name] for name in ("n", "topic", "stage", "reason", "detail"))
        for row in letters["reasons"][:_REASONS]
    ]
    return Group(
        Text(f"Dead letters: {letters['n']:,}."), _table(("n", "topic", "stage", "reason", "the last one"), rows)
    )


def _laws(value: dict[str, Any]) -> RenderableType:
    if not value["laws"]:
        return Text("Conservation laws are known after the first checkpoint.", "dim")
    broken = [law for law in value["laws"] if not law["holds"]]
    if broken:
        said = "; ".join(f"{law['law']} ({law['group']})" for law in broken)
        return Text(f"Conservation laws BROKEN: {said}: `headrace audit` shows what differs.", "bold red")
    return Text(f"Conservation laws: {', '.join(dict.fromkeys(law['law'] for law in value['laws']))}: all hold.")


def _rate(value: dict[str, Any], stage: str) -> float | None:
    return next((row["rate_per_s"] for row in value["stages"] if row["stage"] == stage), None)


def _table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> Table:
    table = Table(box=box.SIMPLE, pad_edge=False)
    for i, name in enumerate(columns):
        numeric = bool(rows) and all(_numeric(row[i]) for row in rows)
        table.add_column(name, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(cell if isinstance(cell, Text) else Text(_cell(cell)) for cell in row))
    return table


def _numeric(cell: Any) -> bool:
    return cell is None or isinstance(cell, int | float) or str(cell).strip("0123456789.,-") == ""


def _cell(value: Any) -> str:
    return f"{value:,.1f}" if isinstance(value, float) and abs(value) >= 10 else figure(value)


def _ago(seconds: float) -> str:
    """A span as people say it: 3.2 s, 4 min, 2.5 h, 3 d."""
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:,.1f} s"
