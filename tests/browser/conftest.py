"""A real Chromium, and pages in it whose console must stay silent."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, expect, sync_playwright

from tests.browser.scene import TOKEN, Scene

expect.set_options(timeout=120_000)  # a machine may be slow; what is expected ends the wait

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """The system's browser, with fresh data. Closed with the module: its loop would be in the way of others' loops."""
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("There is no Chromium: the Debian package chromium brings it.")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def fed() -> Iterator[Scene]:
    """A page over what a real run published, for tests that change nothing."""
    scene = Scene().start().feed()
    scene.alert("open-1", severity="warning", message="the error rose from 0.18 to 0.31", signal="error")
    yield scene
    scene.stop()


@pytest.fixture
def scene() -> Iterator[Scene]:
    """A page of its own, over what a real run published."""
    scene = Scene().start().feed()
    yield scene
    scene.stop()


@pytest.fixture
def bare() -> Iterator[Scene]:
    """A page of its own, before anything was published."""
    scene = Scene().start()
    yield scene
    scene.stop()


@pytest.fixture
def visit(chromium: Browser) -> Iterator[Callable[..., Page]]:
    """Opens an address in a window of its own; afterwards its console holds nothing but what `expected` allows."""
    contexts: list[Any] = []
    said: list[str] = []
    allowed: list[str] = []

    def listen(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            said.append(f"{message.type}: {message.text}")

    def open_(
        url: str,
        *,
        token: str | None = TOKEN,
        phone: bool = False,
        chart: bool = False,
        expected: str = "",
        **more: Any,
    ) -> Page:
        """`chart`: with the chart library, which takes a second to read, and which most tests do not need."""
        size = {"width": 390, "height": 844} if phone else {"width": 1360, "height": 900}
        context = chromium.new_context(viewport=size, reduced_motion="reduce", **more)
        context.set_default_timeout(120_000)
        contexts.append(context)
        page = context.new_page()
        if not chart:
            page.route("**/plotly.min.js", lambda route: route.fulfill(content_type="text/javascript", body=""))
        if expected:
            allowed.append(expected)
        page.on("console", listen)
        page.on("pageerror", lambda error: said.append(f"raised: {error}"))
        page.goto(url + (f"#token={token}" if token else ""))
        page.locator("#live:not(:text-is('Connecting'))").wait_for()
        return page

    yield open_
    for context in contexts:
        context.close()
    assert [line for line in said if not any(part in line for part in allowed)] == []
