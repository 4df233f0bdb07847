"""The page over a pipeline that really runs: broker, worker and control plane as processes, a browser before them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator

import msgspec
import pytest
from playwright.sync_api import Page, expect

from headrace.schemas.records import Alert
from tests.browser.running import Running, running
from tests.browser.test_page import decide, drawn

CONTEST = "headrace.examples.contest:contest"
ALERT = Alert(
    alert_id="a" * 16,
    kind="error_drift",
    signal="error",
    severity="warning",
    status="opened",
    message="the error rose from 0.18 to 0.31",
    detector="ADWIN()",
    statistic={"score": 2.0},
    strength=2.0,
    n=100,
    topic="contest.examples",
    partition=0,
    first_offset=1,
    last_offset=100,
    opened_ms=1_357_000_000_000,
    time_ms=1_357_000_000_000,
    findings=1,
    examples=["2013-01-01 UA 1545"],
)


@pytest.fixture(scope="module")
def plant(chromium: object, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A broker with the contest's topics, and its control plane; nothing has been published, and no worker runs."""
    with running(CONTEST, f"browser-{os.getpid()}", tmp_path_factory.mktemp("plant")) as found:
        found.call("topics", CONTEST, "--apply")
        found.control()
        yield found


def test_from_an_empty_log_to_a_promotion(visit: Callable[..., Page], plant: Running):
    """First events and figures, a decision that the worker answers, a dead letter, an alert, one event: all live."""
    page = visit(plant.url, token=plant.token, chart=True)
    expect(page.locator("#live")).to_have_text("Live")
    expect(page.locator("#notices")).to_contain_text("Nothing has run yet.")
    expect(page.locator("#notices")).to_contain_text(f"headrace run {CONTEST},")
    plant.call("publish", CONTEST, "--limit", "1200")
    plant.start("worker", "run", CONTEST, "--checkpoint", "1s")
    expect(page.get_by_role("article", name="hat")).to_contain_text("challenger")
    expect(page.locator("#picture svg")).to_contain_text("lane · 1 worker")
    expect(page.locator("#notices")).to_be_empty(timeout=20_000)
    expect(page.locator("#tile-champion")).to_have_text("poor")
    expect(page.locator("#tile-quality")).to_contain_text("0.")
    drawn(page)

    decide(page, "Promote hat")
    expect(page.get_by_role("dialog")).to_contain_text("hat promoted at example")
    page.get_by_role("button", name="Close").click()
    expect(page.locator("#tile-champion")).to_have_text("hat")
    expect(page.locator("#history tbody tr").first).to_contain_text("ada")

    plant.produce("flights.events", b'{"event_id": "<b>broken</b>"', b"JFK")
    plant.produce("contest.alerts", msgspec.json.encode(ALERT), ALERT.alert_id.encode())
    expect(page.locator("#tile-letters")).to_have_text("1")
    page.locator(".letter summary").click()
    expect(page.locator(".letter pre")).to_contain_text("<b>broken</b>")

    page.get_by_role("button", name="Acknowledge error").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Your name").fill("ada")
    dialog.get_by_role("button", name="Acknowledge").click()
    expect(page.locator(".alert")).to_contain_text("Seen by ada")

    page.get_by_label("Event id").fill(_first_event(plant))
    page.get_by_role("button", name="Explain", exact=True).click()
    expect(page.locator("#explain")).to_contain_text("every byte is the same")


def test_kafka_goes_away_and_comes_back(visit: Callable[..., Page], plant: Running):
    """The page stays up and says so; what was shown stays; when Kafka is back it goes on."""
    page = visit(plant.url, token=plant.token)
    expect(page.locator("#live")).to_have_text("Live")
    plant.kafka_away()
    expect(page.locator("#live")).to_have_text("Kafka away")
    expect(page.locator("#notices")).to_contain_text("headrace broker status")
    plant.kafka_back()
    expect(page.locator("#live")).to_have_text("Live")
    later = msgspec.structs.replace(ALERT, alert_id="b" * 16, signal="feature:after")
    plant.produce("contest.alerts", msgspec.json.encode(later), later.alert_id.encode())
    expect(page.locator(".alert").first).to_contain_text("feature:after")


def _first_event(plant: Running) -> str:
    reader = plant.cluster.reader()
    try:
        record = next(iter(reader.read("contest.predictions", 0)))
        return str(json.loads(record.value)["event_id"])
    finally:
        reader.close()
