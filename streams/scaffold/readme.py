"""The README of a new pipeline: how to run it, what was assumed, and what to do next."""

from __future__ import annotations

from headrace.streams.scaffold.plan import Plan

__all__ = ["readme"]

_TASKS = {"binary": "yes or no", "multiclass": "one of several classes", "regression": "a number"}


def readme(plan: Plan, name: str, module: str, data: str) -> str:
    """README.md."""
    label = plan.label
    assert label is not None
    pipeline = f"{name}/{module}.py:{module}"
    what = f"{plan.task}: {_TASKS[plan.task]}" + (f"; true is {plan.positive!r}" if plan.positive else "")
    known = f"column {plan.label_time.name!r}" if plan.label_time else f"{plan.delay} after the event (an assumption)"
    time = "rows are taken a minute apart" if plan.time_made else f"column {plan.fields[plan.time].name!r}"
    ids = "the number of the row" if plan.id_made else f"column {plan.fields[plan.id].name!r}"
    key = f"column {plan.fields[plan.key].name!r}" if plan.has_key else "none: the id takes its place"
    notes = "".join(f"- {note[0].upper()}{note[1:]}.\n" for note in plan.notes)
    return f"""# {name}

A pipeline for Headrace: it predicts `{plan.label_field}` for every event of a Kafka topic, and learns from the labels
that come later on another.

## Run it

From the folder above this one:

{_commands(name, pipeline)}
## What was taken for what

| | |
|---|---|
| data | `{data}` |
| label | column {label.name!r} ({what}) |
| label known | {known} |
| time | {time} |
| id | {ids} |
| entity (key) | {key} |

{notes}
All of this is in `{module}loader.py`, `{module}.py`, `event.avsc` and `label.avsc`: change what is not so, and run
the tests.

## Next

- Is every feature known when the prediction is asked for? Take out what is not: no test can tell.
- Does the champion beat the baselines `no-change` and `prior` in the backtest? A model that does not is of no use.
- Features over time come from windows: `mean("amount", by="customer", over="1h")`; expectations on data from
  `Events(..., expect={{"amount": between(0, 10_000)}})`: what does not fit becomes a dead letter with its reason.
- Publish with your own producers: JSON that fits `event.avsc` to `{name}.events`, and `label.avsc` to `{name}.labels`.
- After a change, where this folder is committed in git: `headrace backtest {pipeline} --gate --against HEAD` says
  whether it made the model worse.
"""


def _commands(folder: str, pipeline: str) -> str:
    """What to run, in order, with the comments below one another."""
    lines = (
        (f"python -m pytest {folder}", "what must hold before it runs; needs `pip install pytest`"),
        (f"headrace backtest {pipeline}", "in memory, over all the data: models beside baselines"),
        ("headrace broker start", "a Kafka on this machine; or name yours with --bootstrap"),
        (f"headrace topics {pipeline} --apply", "create what is missing"),
        (f"headrace publish {pipeline}", "the data, as events and labels"),
        (f"headrace run {pipeline}", "predict and learn until Ctrl-C"),
        (f"headrace status {pipeline} --watch", "everything at a glance"),
        (f"headrace tail {pipeline} predictions", "what was answered"),
    )
    width = max(len(command) for command, _ in lines)
    return "".join(f"    {command:{width}}  # {comment}\n" for command, comment in lines)
