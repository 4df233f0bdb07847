"""deploy/: rules, dashboards and configurations name what there is, are documented, and the real programs take them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser as promql
import pytest

from headrace.streams.series import METRICS

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
OPERATIONS = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")


def rules(kind: str, file: str) -> dict[str, dict[str, str]]:
    """The rules of a file by name: what stands after each of their keys. promtool says whether it is YAML."""
    text = (DEPLOY / "prometheus" / file).read_text()
    found = {}
    for name, body in re.findall(rf"^ +- {kind}: (\S+)\n(.*?)(?=^ +- |\Z)", text, re.DOTALL | re.MULTILINE):
        keys = re.findall(r"^ +(\w+):(?: >-)?(\s.*?)(?=^ +\w+:\s|\Z)", body, re.DOTALL | re.MULTILINE)
        found[name] = {key: " ".join(value.split()) for key, value in keys}
    return found


RECORDED = {name: rule["expr"] for name, rule in rules("record", "recording.rules.yml").items()}
ALERTS = rules("alert", "alerting.rules.yml")
DASHBOARD = json.loads((DEPLOY / "grafana" / "dashboards" / "headrace.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
QUERIES = [(panel["title"], target) for panel in PANELS for target in panel["targets"]]

SCRAPED = {"job", "instance"}
"""Labels that Prometheus gives to everything it scrapes."""
OTHERS = {
    "up": set(),
    "ALERTS": {"alertname", "alertstate", "severity", "pipeline"},
    "process_resident_memory_bytes": set(),
    "process_start_time_seconds": set(),
}
"""Metrics that Prometheus makes, or prometheus_client's process collector."""


def parsed(query: str) -> Any:
    """The syntax tree of a query; Grafana's variables are words by then."""
    return promql.parse(query.replace("$pipeline", ".*"))


def metric_of(name: str) -> str | None:
    """The metric that a series belongs to: a histogram has three."""
    if name in METRICS:
        return name if METRICS[name].kind != "histogram" else None
    found = re.sub(r"_(bucket|sum|count)$", "", name)
    return found if found in METRICS and METRICS[found].kind == "histogram" else None


def labels(node: Any) -> set[str]:
    """The labels that the result of a query has; AssertionError where it asks for one that is not there."""
    kind = type(node).__name__
    if kind == "VectorSelector":
        there = _series(node.name)
        asked = {matcher.name for matcher in node.matchers.matchers}
        assert asked <= there, f"{node.name} has no label {asked - there}"
        return there
    if kind == "AggregateExpr":
        there = labels(node.expr)
        by = set(node.modifier.labels) if node.modifier else set()
        assert by <= there, f"{node.expr} has no label {by - there}"
        return by
    if kind == "Call":
        if node.func.name == "absent":
            labels(node.args[0])
            return set()
        found = [labels(argument) for argument in node.args]
        there = set().union(*found)
        return there - {"le"} if node.func.name == "histogram_quantile" else there
    if kind == "BinaryExpr":
        left, right = labels(node.lhs), labels(node.rhs)
        matching = node.modifier.matching if node.modifier else None
        on = set(getattr(matching, "labels", None) or ())
        assert on <= left & right, f"{node} matches on {on}, which both sides have not"
        return left if left else right
    inner = getattr(node, "vector_selector", None) or getattr(node, "expr", None)
    return labels(inner) if inner is not None else set()


def _series(name: str) -> set[str]:
    if name in OTHERS:
        return OTHERS[name] | SCRAPED
    if name in RECORDED:
        return labels(parsed(RECORDED[name]))
    metric = metric_of(name)
    assert metric is not None, f"no metric is called {name}"
    bucket = {"le"} if name.endswith("_bucket") else set()
    return {"pipeline", *METRICS[metric].labels, *bucket} | SCRAPED


def selectors(node: Any) -> Iterator[str]:
    """The names of all series in a query."""
    if type(node).__name__ == "VectorSelector":
        yield node.name
    for part in ("lhs", "rhs", "expr", "vector_selector", "param"):
        if getattr(node, part, None) is not None:
            yield from selectors(getattr(node, part))
    for argument in getattr(node, "args", None) or ():
        yield from selectors(argument)


@pytest.mark.parametrize(("title", "target"), QUERIES, ids=[f"{title} {t['refId']}" for title, t in QUERIES])
def test_a_dashboard_names_only_what_exists(title: str, target: dict[str, Any]):
    """Each query is PromQL over metrics, recorded series and labels that there are; legends name labels it has."""
    there = labels(parsed(target["expr"]))
    assert set(re.findall(r"{{(\w+)}}", target["legendFormat"])) <= there


def test_annotations_and_variables_of_the_dashboard():
    """They query what exists, too."""
    for annotation in DASHBOARD["annotations"]["list"]:
        labels(parsed(annotation["expr"]))
    asked = [v["query"]["query"] for v in DASHBOARD["templating"]["list"] if v["type"] == "query"]
    for query in asked:
        metric, label = re.fullmatch(r"label_values\((\w+), (\w+)\)", query).groups()  # type: ignore[union-attr]
        assert label in _series(metric)


def test_panels_are_told_apart_and_explained():
    """Each has its own id and place within the grid, and says what it shows."""
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    assert all(panel["description"].endswith(".") and panel["title"] for panel in PANELS)
    taken = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken
        assert at["x"] + at["w"] <= 24
        taken |= cells


@pytest.mark.parametrize("name", RECORDED)
def test_a_recording_rule_names_only_what_exists(name: str):
    """Its query fits the metrics, its name tells the labels that are left, and somebody uses it."""
    there = labels(parsed(RECORDED[name]))
    assert "pipeline" in there
    assert name.split(":")[0].split("_")[0] == "pipeline"
    queries = [*RECORDED.values(), *(rule["expr"] for rule in ALERTS.values()), *(t["expr"] for _, t in QUERIES)]
    assert name in {found for query in queries for found in selectors(parsed(query))}


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_is_right_tested_and_documented(name: str):
    """Its query and its words name what exists; it fires in a unit test; the page for operators says what to do."""
    rule = ALERTS[name]
    there = labels(parsed(rule["expr"]))
    assert set(re.findall(r"\$labels\.(\w+)", rule["summary"] + rule["description"])) <= there
    severity = re.fullmatch(r"{severity: (info|warning|critical)}", rule["labels"])
    assert severity is not None
    assert f'alertname="{name}"' in (DEPLOY / "prometheus" / "headrace.test.yml").read_text()
    assert f"| `{name}` | {severity[1]} |" in OPERATIONS


def test_no_other_alert_is_documented():
    """Every row of the page is an alert that there is."""
    assert set(re.findall(r"^\| `(Headrace\w+)` \|", OPERATIONS, re.MULTILINE)) == set(ALERTS)


def test_alertmanager_knows_the_alerts_that_it_inhibits():
    """Inhibitions name alerts that there are."""
    text = (DEPLOY / "alertmanager" / "alertmanager.yml").read_text()
    assert set(re.findall(r"Headrace[A-Z]\w+", text)) <= set(ALERTS)


def test_the_parser_of_these_tests_is_strict():
    """A metric or a label that does not exist is noticed."""
    for query in (
        "headrace_nothing_total",
        "headrace_batch_records",
        'headrace_events_total{input="x"}',
        "sum by (model) (headrace_events_total)",
        "headrace_lag_records and on (model) headrace_ready",
    ):
        with pytest.raises(AssertionError):
            labels(parsed(query))


@pytest.mark.parametrize(
    ("program", "package", "arguments"),
    [
        ("promtool", "prometheus", ["check", "config", "prometheus/prometheus.yml"]),
        ("promtool", "prometheus", ["test", "rules", "prometheus/headrace.test.yml"]),
        ("amtool", "prometheus-alertmanager", ["check-config", "alertmanager/alertmanager.yml"]),
    ],
    ids=["prometheus.yml", "headrace.test.yml", "alertmanager.yml"],
)
def test_the_real_programs_take_them(program: str, package: str, arguments: list[str]):
    """promtool and amtool find nothing wrong, and each unit test of a rule holds."""
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not there: install Debian's package {package}.")
    run = subprocess.run([program, *arguments], cwd=DEPLOY, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
