"""The page in a real browser: every panel, every decision, live, by keyboard, on a phone, and when things are wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from headrace.processors.registry import fold
from headrace.schemas.records import Fact
from tests.browser.scene import TOKEN, Scene

Visit = Callable[..., Page]
SERIOUS = ("serious", "critical")


def decide(page: Page, button: str, *, by: str = "ada") -> None:
    """Press a model's button, say who decides, and confirm."""
    page.get_by_role("button", name=button, exact=True).click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Your name").fill(by)
    dialog.locator("button[type=submit]").click()


def findings(page: Page) -> list[str]:
    """What axe finds serious, each with its place."""
    page.wait_for_timeout(50)  # colours are drawn one frame after they were chosen
    found = Axe().run(page).response["violations"]
    return [
        f"{one['id']}: {node['target']} {node['failureSummary']}"
        for one in found
        if one["impact"] in SERIOUS
        for node in one["nodes"]
    ]


def drawn(page: Page) -> None:
    """Wait for the chart."""
    page.locator("#chart .main-svg").first.wait_for()


# -- panels --------------------------------------------------------------------------------------------------------


def test_the_tiles_say_how_it_stands(visit: Visit, fed: Scene):
    """Champion, quality beside a baseline, pace, freshness, alerts and dead letters."""
    page = visit(fed.url)
    expect(page.locator("#tile-champion")).to_have_text("logreg")
    expect(page.locator("#tile-quality")).to_have_text("0." + page.locator("#tile-quality").inner_text()[2:])
    expect(page.locator("#tile-rate")).to_have_text("1,240/s")
    expect(page.locator("#tile-alerts")).to_have_text("1")
    expect(page.locator("#tile-letters")).not_to_have_text("0")
    expect(page.locator("#live")).to_have_text("Live")


def test_the_picture_shows_stages_with_rate_and_lag(visit: Visit, fed: Scene):
    """Seven stages in their group, and the same as a table for those who do not see it."""
    page = visit(fed.url)
    expect(page.locator("#picture .stage")).to_have_count(7)
    expect(page.locator("#picture svg")).to_contain_text("lane · 1 worker")
    expect(page.locator("#picture svg")).to_contain_text("lag 312")
    rows = page.get_by_role("table", name="Stages: records a second and records that wait").get_by_role("row")
    expect(rows).to_have_count(8)
    expect(rows.nth(1)).to_have_text("validate1,240/s312")


def test_freshness_is_told(visit: Visit, fed: Scene):
    """Stream time, what has been learned of it, the last checkpoint, and whether the laws hold."""
    strip = visit(fed.url).locator("#freshness")
    for told in ("2013-01-06 19:27 UTC", "2013-01-06 19:20 UTC", "7 min", "under 1 s ago", "1 law kept"):
        expect(strip).to_contain_text(told)


def test_shards_are_told_apart(visit: Visit):
    """With several partitions each has its models, its version and its decisions."""
    page_of = Scene(partitions=2).start().feed()
    try:
        for version, (model, status) in enumerate([("poor", "champion"), ("hat", "challenger")], 1):
            fact = Fact(version, "registered", model, status, "poor", 1, 0, None, {}, "declaration", "", {})
            page_of.say(page_of.board.take, "registry", 1, version, b"m", _encoded(fact))
        page = visit(page_of.url)
        expect(page.locator("#tile-champion")).to_have_text("logreg, poor")
        page_of.worker = False
        decide(page, "Promote hat in shard 1")
        expect(page.get_by_role("dialog")).to_contain_text("no worker has answered yet")
        assert page_of.asked == [("promote", "hat", {"why": "", "saw": 2, "shard": 1, "by": "ada"})]
        page.get_by_role("button", name="Close").click()
        expect(page.locator("#shard")).to_be_visible()
    finally:
        page_of.stop()


def test_the_chart_has_models_and_baselines(visit: Visit, fed: Scene):
    """A line for each, a mark where the gate promoted, and a sentence that says the newest figures."""
    page = visit(fed.url, chart=True)
    drawn(page)
    expect(page.locator("#chart .legendtext")).to_have_text(
        ["logreg", "hat", "poor", "sabotaged", "no-change", "prior"]
    )
    expect(page.locator("#chart .annotation-text")).to_have_text(" logreg serves ")
    said = page.locator("#chart").get_attribute("aria-label") or ""
    assert "higher is better" in said
    assert "logreg (champion) 0." in said
    page.get_by_label("Metric").select_option("LogLoss")
    page.get_by_label("Examples").select_option("overall")
    page.wait_for_function("document.querySelector('#chart').ariaLabel.startsWith('LogLoss since the start, lower')")
    page.get_by_text("The newest figures as a table").click()
    expect(page.get_by_role("table", name="Newest figures").get_by_role("row")).to_have_count(7)


def test_drift_lists_what_is_watched(visit: Visit, fed: Scene):
    """Each signal with its state, and how the features look."""
    page = visit(fed.url)
    rows = page.get_by_role("table", name="Watched signals").get_by_role("row")
    expect(rows).to_have_count(4)
    expect(rows.nth(1)).to_contain_text("drifting")
    features = page.get_by_role("table", name="Features in the newest window")
    expect(features.get_by_role("rowheader", name="origin_late_1h")).to_be_visible()


def test_dead_letters_open_to_samples(visit: Visit, fed: Scene):
    """By reason, with what it means, where it is, and the command that publishes it again."""
    page = visit(fed.url)
    letter = page.locator(".letter").first
    expect(letter).to_contain_text("malformed")
    letter.locator("summary").click()
    expect(letter).to_contain_text("not a whole document of the declared format")
    expect(letter.locator("pre").first).to_be_visible()
    expect(letter).to_contain_text("headrace dead-letter retry contest.py:contest")


def test_history_tells_every_fact(visit: Visit, fed: Scene):
    """The promotion by the gate, with its evidence."""
    page = visit(fed.url)
    rows = page.get_by_role("table", name="Facts of the registry").get_by_role("row")
    expect(rows).to_have_count(6)
    expect(rows.nth(1)).to_contain_text("promoted")
    rows.nth(1).get_by_text("Evidence").click()
    expect(rows.nth(1)).to_contain_text("log e")


def test_one_event_is_explained(visit: Visit, scene: Scene):
    """By its id: from raw bytes to the first model that learned from it; a refusal is told as a sentence."""
    page = visit(scene.url, expected="400 (Bad Request)")
    page.get_by_role("button", name="2013-01-06 B6 1").click()
    page.get_by_role("button", name="Explain").click()
    told = page.locator("#explain")
    expect(told).to_contain_text("2013-01-06 B6 1 is labelled. every byte is the same")
    expect(told).to_contain_text("poor/0@121 is the first that had learned from it")
    page.get_by_label("Event id").fill("hang")
    page.get_by_role("button", name="Explain").click()
    expect(told).to_contain_text("try again when that is done")


# -- decisions -----------------------------------------------------------------------------------------------------


def test_promotion_by_button_is_seen_live(visit: Visit, scene: Scene):
    """Two pages are open: one promotes, both show it, and the history says by whom."""
    page, other = visit(scene.url), visit(scene.url)
    version = scene.registry["version"]
    decide(page, "Promote hat")
    expect(page.get_by_role("dialog")).to_contain_text("hat serves (version 6)")
    assert scene.asked == [("promote", "hat", {"why": "", "saw": version, "shard": 0, "by": "ada"})]
    for one in (page, other):
        expect(one.locator("#tile-champion")).to_have_text("hat")
        expect(one.locator("#history tbody tr").first).to_contain_text("ada")
        expect(one.locator(".model").first).to_contain_text("hat")


@pytest.mark.parametrize(
    ("button", "asked", "champion"),
    [("Roll back logreg", ("rollback", None), "poor"), ("Retire sabotaged", ("retire", "sabotaged"), "logreg")],
)
def test_other_decisions(visit: Visit, scene: Scene, button: str, asked: tuple[Any, ...], champion: str):
    """Each goes out as what it is, and shows."""
    page = visit(scene.url)
    decide(page, button)
    expect(page.get_by_role("dialog")).to_contain_text("Done")
    assert scene.asked[0][:2] == asked
    expect(page.locator("#tile-champion")).to_have_text(champion)


def test_a_canary_has_a_share_and_an_end(visit: Visit, scene: Scene):
    """Ten in a hundred by default; ending it is a share of none."""
    page = visit(scene.url)
    decide(page, "Canary hat")
    page.get_by_role("button", name="Close").click()
    expect(page.get_by_role("article", name="hat")).to_contain_text("canary 10 %")
    decide(page, "End canary hat")
    expect(page.get_by_role("article", name="hat")).to_contain_text("challenger")
    assert [asked[2]["share"] for asked in scene.asked] == [0.1, 0]


def test_a_proposal_is_approved(visit: Visit, scene: Scene):
    """What the gate has proposed stands out, and is approved by a person."""
    proposed = Fact(6, "proposed", "hat", "challenger", "logreg", 0, 4_000, 1, {}, "gate", "it is better", {})
    scene.take("registry", _encoded(proposed))
    page = visit(scene.url)
    expect(page.get_by_role("article", name="hat")).to_contain_text("proposed by the gate")
    decide(page, "Approve hat")
    expect(page.locator("#tile-champion")).to_have_text("hat")


def test_a_stale_decision_shows_what_has_changed(visit: Visit, scene: Scene):
    """Somebody was quicker: the worker refuses, the page says what happened meanwhile, and one may decide anew."""
    page = visit(scene.url, expected="409 (Conflict)")
    page.get_by_role("button", name="Promote hat", exact=True).click()
    quicker = Fact(6, "promoted", "sabotaged", "champion", "sabotaged", 0, 4_000, 1, {}, "eve", "why not", {})
    fold(scene.registry, quicker)
    scene.say(scene.board.take, "registry", 0, 90, b"m", _encoded(quicker))
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Your name").fill("ada")
    dialog.locator("button[type=submit]").click()
    expect(dialog).to_contain_text("decided on version 5")
    expect(dialog.locator(".changes")).to_contain_text("Version 6: promoted of sabotaged, by eve: why not")
    dialog.get_by_role("button", name="Decide anew").click()
    dialog.locator("button[type=submit]").click()
    expect(dialog).to_contain_text("hat serves")


def test_no_worker_means_written_not_done(visit: Visit, scene: Scene):
    """The page does not claim what nobody has done."""
    scene.worker = False
    page = visit(scene.url)
    decide(page, "Promote hat")
    expect(page.get_by_role("dialog")).to_contain_text("no worker has answered yet")
    expect(page.get_by_role("dialog")).to_contain_text("headrace run contest.py:contest")


def test_an_alert_is_acknowledged(visit: Visit, scene: Scene):
    """It stays open, says who has seen it, and no longer waits."""
    page = visit(scene.url)
    scene.alert("a-1", signal="feature:x", message="x has moved")
    page.get_by_role("button", name="Acknowledge feature:x").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Your name").fill("ada")
    dialog.get_by_label("Note").fill("looking into it")
    dialog.get_by_role("button", name="Acknowledge").click()
    expect(page.locator(".alert").first).to_contain_text("Seen by ada")
    expect(page.locator(".alert").first).to_contain_text("looking into it")
    expect(page.locator("#tiles")).to_contain_text("all are acknowledged")


# -- who may -------------------------------------------------------------------------------------------------------


def test_without_the_token_it_only_shows(visit: Visit, scene: Scene):
    """A button asks for the token instead; a wrong one is said, the right one opens the way."""
    page = visit(scene.url, token=None, expected="401 (Unauthorized)")
    expect(page.locator("#access")).to_have_text("Read-only")
    page.get_by_role("button", name="Promote hat", exact=True).click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Token").fill("a-wrong-token-of-length")
    dialog.get_by_role("button", name="Use it").click()
    expect(dialog).to_contain_text("The token is not right")
    dialog.get_by_label("Token").fill(TOKEN)
    dialog.get_by_role("button", name="Use it").click()
    expect(page.locator("#access")).to_have_text("May change")
    assert scene.asked == []


def test_a_token_that_is_right_no_more_is_said(visit: Visit, bare: Scene):
    """A control plane that was started again has another one: the page does not promise what would be refused."""
    page = visit(bare.url, expected="Failed to load resource")
    expect(page.locator("#access")).to_have_text("May change")
    bare.renew("another-token-of-the-tests")
    expect(page.locator("#access")).to_have_text("Read-only")
    expect(page.locator("#notices")).to_contain_text("This page only shows. The token is not right")
    page.locator("#access").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Token").fill("another-token-of-the-tests")
    dialog.get_by_role("button", name="Use it").click()
    expect(page.locator("#access")).to_have_text("May change")
    expect(page.locator("#notices")).not_to_contain_text("This page only shows.")


def test_the_token_leaves_the_address_and_can_be_forgotten(visit: Visit, fed: Scene):
    """It is not in the address bar, not in what outlives the tab, and gone when one says so."""
    page = visit(fed.url)
    expect(page.locator("#access")).to_have_text("May change")
    assert page.url == fed.url
    assert TOKEN not in page.evaluate("JSON.stringify(localStorage) + document.cookie")
    page.locator("#access").click()
    page.get_by_role("button", name="Forget the token").click()
    expect(page.locator("#access")).to_have_text("Read-only")


def test_markup_in_data_is_text(visit: Visit, scene: Scene):
    """Tags in dead letters, alerts and reasons are shown letter by letter, and nothing of them runs."""
    nasty = "<img src=x onerror='window.hacked=1'><script>window.hacked=1</script>"
    scene.alert("n", message=nasty, signal=nasty, detector=nasty, examples=[nasty])
    scene.take(
        "registry", _encoded(Fact(6, "refused", nasty, None, "logreg", 0, 1, 1, {}, nasty, nasty, {nasty: nasty}))
    )
    scene.take("dead-letter", nasty.encode(), None, [("reason", nasty.encode()), ("detail", nasty.encode())])
    page = visit(scene.url)
    expect(page.locator(".alert").first).to_contain_text(nasty)
    expect(page.locator("#history")).to_contain_text(nasty)
    page.locator(".letter").last.locator("summary").click()
    expect(page.locator(".letter pre").last).to_be_visible()
    assert page.evaluate(
        "window.hacked === undefined && document.querySelectorAll('main img, main script').length === 0"
    )


# -- live, and when it is not --------------------------------------------------------------------------------------


def test_an_update_comes_without_a_reload_and_keeps_the_focus(visit: Visit, scene: Scene):
    """What is new appears; what a person has in hand stays in hand, and what is open stays open."""
    page = visit(scene.url)
    page.locator(".letter").first.locator("summary").click()
    page.get_by_role("button", name="Promote hat", exact=True).focus()
    scene.alert("new", signal="feature:fresh")
    scene.take(
        "dead-letter", b"{", None, [("reason", b"malformed"), ("stage", b"validate"), ("topic", b"contest.events")]
    )
    retired = Fact(6, "retired", "sabotaged", "retired", "logreg", 0, 4_000, 1, {}, "eve", "", {})
    scene.take("registry", _encoded(retired))
    expect(page.locator(".alert").first).to_contain_text("feature:fresh")
    expect(page.get_by_role("article", name="sabotaged")).to_contain_text("retired")
    expect(page.get_by_role("button", name="Promote hat", exact=True)).to_be_focused()
    expect(page.locator(".letter").first.locator("pre").first).to_be_visible()


def test_a_cut_stream_is_said_and_mended(visit: Visit, scene: Scene):
    """The control plane goes and comes back: the page says so, keeps what it had, and goes on by itself."""
    page = visit(scene.url, expected="net::ERR")
    scene.pause()
    expect(page.locator("#live")).to_have_text("Not connected")
    expect(page.locator("#notices")).to_contain_text("The control plane does not answer.")
    expect(page.locator("#tile-champion")).to_have_text("logreg")
    scene.resume()
    expect(page.locator("#live")).to_have_text("Live")
    scene.alert("after", signal="feature:after")
    expect(page.locator(".alert").first).to_contain_text("feature:after")


def test_kafka_away_says_what_to_do(visit: Visit, scene: Scene):
    """And the notice goes when Kafka is back."""
    page = visit(scene.url)
    scene.say(scene.board.link, "away", "Kafka does not answer (KafkaConnectionError); trying again.")
    expect(page.locator("#live")).to_have_text("Kafka away")
    expect(page.locator("#notices")).to_contain_text("headrace broker status")
    scene.say(scene.board.link, "following")
    expect(page.locator("#notices")).to_be_empty()


def test_before_anything_runs_each_panel_says_what_comes_next(visit: Visit, bare: Scene):
    """Topics are missing, then nothing has run, then no worker runs: each with its command."""
    bare.say(bare.board.link, "following", "", ["contest.events"])
    page = visit(bare.url)
    expect(page.locator("#notices")).to_contain_text("headrace topics contest.py:contest --apply")
    expect(page.locator("#models")).to_contain_text("headrace run contest.py:contest")
    expect(page.locator("#chart")).to_contain_text("No figures yet")
    expect(page.locator("#letters")).to_contain_text("Nothing was refused.")
    bare.say(bare.board.link, "following")
    bare.glance = {"groups": [], "missing": []}
    expect(page.locator("#notices")).to_contain_text("headrace publish contest.py:contest")
    bare.glance = {"groups": [{"group": "g", "name": "lane", "stages": ["validate"], "members": 0, "lag": 0}]}
    expect(page.locator("#notices")).to_contain_text("No worker runs.")
    assert findings(page) == []


def test_a_broken_law_is_an_alarm(visit: Visit, scene: Scene):
    """Events that are lost or counted twice are said at the top."""
    assert scene.glance is not None
    scene.glance = scene.glance | {"laws": [{"group": "lane", "law": "events = features + dead", "holds": False}]}
    expect(visit(scene.url).locator("#notices")).to_contain_text("headrace audit contest.py:contest")


def test_without_the_chart_library_the_figures_remain(visit: Visit, fed: Scene):
    """The page says so, and the table has them."""
    page = visit(fed.url, chart=False)
    expect(page.locator("#chart")).to_contain_text("its figures are in the table below")
    page.get_by_text("The newest figures as a table").click()
    expect(page.get_by_role("table", name="Newest figures")).to_be_visible()


# -- for everybody -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("phone", [False, True], ids=["wide", "phone"])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing_serious(visit: Visit, fed: Scene, theme: str, phone: bool):
    """In light and dark, on a desk and on a phone, with what can be opened open; nothing is wider than the screen."""
    page = visit(fed.url, chart=True, color_scheme=theme, phone=phone)
    drawn(page)
    page.locator(".letter summary").first.click()
    page.get_by_text("The newest figures as a table").click()
    page.locator(".alert summary").first.click()
    assert findings(page) == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    if phone:
        page.get_by_role("button", name="Retire hat", exact=True).click()
        assert findings(page) == []


def test_light_and_dark_by_a_switch_that_lasts(visit: Visit, fed: Scene):
    """The system's wish at first; then what was chosen, after a reload as well."""
    page = visit(fed.url, color_scheme="light")
    ground = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(ground)
    page.get_by_role("button", name="Change to dark colours").click()
    dark = page.evaluate(ground)
    assert dark != light
    page.reload()
    assert page.evaluate(ground) == dark


def test_by_keyboard_alone(visit: Visit, scene: Scene):
    """The skip link comes first, the focus is seen, Escape leaves a dialog, and the focus returns to where it was."""
    page = visit(scene.url)
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the pipeline")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#main")).to_be_focused()
    button = page.get_by_role("button", name="Promote hat", exact=True)
    button.focus()
    page.keyboard.press("Enter")
    expect(page.get_by_label("Your name")).to_be_focused()
    page.keyboard.press("Escape")
    expect(button).to_be_focused()
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Tab")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineWidth") == "3px"
    button.press("Enter")
    page.keyboard.type("ada")
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_contain_text("hat serves")


def test_landmarks_and_headings(visit: Visit, fed: Scene):
    """One h1, an h2 for each panel, and the landmarks that readers jump by."""
    page = visit(fed.url)
    expect(page.get_by_role("heading", level=1)).to_have_count(1)
    expect(page.get_by_role("heading", level=2)).to_have_count(9)
    for role in ("banner", "main", "contentinfo"):
        expect(page.get_by_role(role)).to_have_count(1)
    assert page.locator("table").count() == page.locator("table > caption").count()
    expect(page.locator("#live")).to_have_attribute("role", "status")


def _encoded(fact: Fact) -> bytes:
    return msgspec.json.encode(fact)
