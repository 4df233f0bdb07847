"""Makes the pictures in docs/ from a real run: `python -m tests.browser.pictures` (with Chromium; two minutes)."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from pathlib import Path

from playwright.sync_api import Browser, Page, expect, sync_playwright

from headrace.streams import data
from tests.browser.conftest import ARGUMENTS
from tests.browser.running import ROOT, Running, running
from tests.browser.scene import scene

_REFERENCE = "tests.browser.scene:scene"
_BEFORE, _LIVE = 6_000, 60_000
_DAMAGED = (b'{"event_id": "2013-01-09 <b>', b'{"event_id": 5}', b"\xff\xfe\x00", b"null")


def main() -> None:
    """Run the contest of models with drift watched, and take the pictures while events come in."""
    with (
        tempfile.TemporaryDirectory() as name,
        running(_REFERENCE, f"pictures-{os.getpid()}", Path(name)) as plant,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=ARGUMENTS)
        _prepare(plant)
        _take(browser, plant)
        browser.close()


def _prepare(plant: Running) -> None:
    plant.call("topics", _REFERENCE, "--apply")
    plant.control()
    plant.call("publish", _REFERENCE, "--limit", str(_BEFORE))
    for value in (*_DAMAGED, *_DAMAGED[:2]):
        plant.produce("contest.events", value, b"JFK")
    plant.start("worker", "run", _REFERENCE, "--checkpoint", "1s")


def _go_on(plant: Running) -> None:
    """Publish more, at a pace that can be looked at."""
    rest = plant.folder / "rest.parquet"
    data.load(None, scene, _LIVE)[_BEFORE:].to_parquet(rest)
    plant.start("live", "publish", _REFERENCE, str(rest), "--rate", "300")


def _take(browser: Browser, plant: Running) -> None:
    page = _open(browser, plant, "light", 1360, 900)
    expect(page.locator("#tile-champion")).to_have_text("logreg", timeout=120_000)
    expect(page.locator("#tile-letters")).not_to_have_text("0", timeout=60_000)
    expect(page.locator("#notices")).to_be_empty(timeout=60_000)
    _go_on(plant)
    expect(page.locator("#tile-rate")).to_have_text(re.compile("[1-9]"), timeout=60_000)
    page.wait_for_timeout(15_000)
    _shot(page, "page-light", whole=True)
    page.get_by_role("button", name="Promote hat", exact=True).click()
    page.get_by_label("Your name").fill("ada")
    page.get_by_label("Why").fill("better on the last window")
    _shot(page, "page-promote")
    _shot(_open(browser, plant, "dark", 1360, 900), "page-dark")
    _shot(_open(browser, plant, "light", 390, 844), "page-phone")


def _open(browser: Browser, plant: Running, theme: str, width: int, height: int) -> Page:
    context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=theme)
    page = context.new_page()
    page.goto(f"{plant.url}#token={plant.token}")
    page.locator("#chart .main-svg").first.wait_for(timeout=60_000)
    page.wait_for_timeout(3_000)
    return page


def _shot(page: Page, name: str, *, whole: bool = False) -> None:
    page.screenshot(path=ROOT / "docs" / f"{name}.png", full_page=whole)


if __name__ == "__main__":
    main()
