"""The chart in a real browser: cards, dismissal, refresh, no policy violation."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from tests.sandbox.cds_service import card
from tests.sandbox.conftest import Running

CHROMIUM = Path("/usr/bin/chromium")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Headless Chromium of the system."""
    if not CHROMIUM.exists():
        if os.environ.get("CI") == "true":
            pytest.fail("CI=true and there is no Chromium")
        pytest.skip("no Chromium: the chart page in a browser")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(
            executable_path=str(CHROMIUM), args=["--no-sandbox", "--headless"]
        )
        yield started
        started.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page that fails the test when anything is logged as an error."""
    context = browser.new_context()
    opened = context.new_page()
    trouble: list[str] = []
    opened.on("pageerror", lambda error: trouble.append(str(error)))
    opened.on(
        "console", lambda m: trouble.append(m.text) if m.type == "error" else None
    )
    yield opened
    context.close()
    assert trouble == []


def test_cards_appear_when_the_chart_opens(running: Running, page: Page) -> None:
    page.goto(f"{running.url}/")
    page.get_by_role("link", name="Elmsward, Iris").click()
    page.wait_for_selector(".card")
    heading = page.locator(".card h3")
    assert heading.text_content() == running.service.cards[0]["summary"]
    assert page.locator(".card img").count() == 0
    film = page.locator("figure img")
    assert film.evaluate("image => image.naturalWidth") == 40
    launch = page.get_by_role("link", name="See the evidence")
    assert "/chart/a/launch?" in str(launch.get_attribute("href"))
    assert page.locator(".note b").count() == 0


def test_a_card_is_dismissed_with_a_reason(running: Running, page: Page) -> None:
    page.goto(f"{running.url}/chart/a")
    page.wait_for_selector(".card")
    page.get_by_text("Dismiss", exact=True).click()
    page.get_by_label("Reason").select_option(label="Not eligible")
    page.get_by_label("Comment").fill("palliative care")
    page.get_by_role("button", name="Dismiss card").click()
    page.get_by_text("Dismissed.").wait_for()
    (entry,) = running.service.feedback
    assert entry["overrideReason"]["reason"]["code"] == "patient-ineligible"
    assert entry["overrideReason"]["userComment"] == "palliative care"


def test_a_suggestion_is_accepted(running: Running, page: Page) -> None:
    item = {"label": "Note the review", "uuid": "s-1"}
    running.service.cards = [card(suggestions=[item], selectionBehavior="any")]
    page.goto(f"{running.url}/chart/a")
    page.get_by_role("button", name="Note the review").click()
    page.get_by_text("Accepted.").wait_for()
    assert running.service.feedback[0]["acceptedSuggestions"] == [{"id": "s-1"}]


def test_refresh_asks_again_and_nothing_polls(running: Running, page: Page) -> None:
    running.service.cards = [card(summary="Assessment not ready", indicator="info")]
    page.goto(f"{running.url}/chart/a")
    page.get_by_text("Assessment not ready").wait_for()
    page.wait_for_timeout(700)
    assert len(running.service.requests) == 1
    running.service.cards = [card(summary="Assessment ready")]
    page.get_by_role("button", name="Refresh").click()
    page.get_by_text("Assessment ready").wait_for()
    assert len(running.service.requests) == 2


def test_the_prefetch_mode_is_chosen_on_the_page(running: Running, page: Page) -> None:
    page.goto(f"{running.url}/chart/a")
    page.wait_for_selector(".card")
    page.get_by_text("How this EHR asks").click()
    page.get_by_label("Prefetch").select_option("omit")
    page.get_by_text("prefetched: nothing").wait_for()
    assert "prefetch" not in running.service.requests[-1]


def test_the_chart_works_without_javascript(running: Running, browser: Browser) -> None:
    context = browser.new_context(java_script_enabled=False)
    plain = context.new_page()
    plain.goto(f"{running.url}/chart/a")
    assert plain.get_by_text("Cough for <b>three</b> days.").is_visible()
    assert plain.get_by_text("Decision support needs JavaScript").is_visible()
    assert not plain.get_by_role("button", name="Refresh").is_visible()
    context.close()
    assert running.service.requests == []


def test_a_narrow_screen_does_not_scroll_sideways(running: Running, page: Page) -> None:
    page.set_viewport_size({"width": 400, "height": 800})
    page.goto(f"{running.url}/chart/a")
    page.wait_for_selector(".card")
    width = page.evaluate("document.documentElement.scrollWidth")
    assert width <= 400
