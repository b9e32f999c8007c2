"""A clinician's and an auditor's way through the pages, in real Chromium."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pyotp
import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from deploy.demo_stage import BIN
from tests.end_to_end.golden_case import add_golden_case, golden
from tests.end_to_end.plugin import Plugin
from tests.services import binary

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="module")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plugin]:
    running = Plugin.at(tmp_path_factory.mktemp("browser"))
    running.patients(4)
    add_golden_case(running.ehr.store, running.stage.folder / "golden")
    running.start("ehr", "web", "worker", "auditor")
    running.ready(golden()["row"]["case_id"])
    yield running
    running.stop()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    program = binary("chromium", "/usr/bin/chromium", "chromium")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=program, args=FLAGS)
        yield started
        started.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1280, "height": 1000})
    opened = context.new_page()
    faults: list[str] = []
    opened.on("pageerror", lambda error: faults.append(str(error)))
    opened.on(
        "console",
        lambda said: faults.append(said.text) if said.type == "error" else None,
    )
    yield opened
    context.close()
    assert faults == [], "the page or its content security policy complained"


def test_from_the_chart_to_the_evidence(
    plugin: Plugin, page: Page, tmp_path: Path
) -> None:
    patient = golden()["row"]["case_id"]
    page.goto(f"{plugin.stage.ehr_url}/chart/{patient}")
    link = page.get_by_role("link", name="Open the evidence").first
    expect(link).to_be_visible(timeout=15000)
    page.screenshot(path=tmp_path / "chart.png", full_page=True)
    with page.context.expect_page() as opened:
        link.click()
    evidence = opened.value
    evidence.wait_for_load_state()
    expect(evidence.locator("h1")).to_have_text(golden()["expected"]["display"])
    expect(evidence.locator("#overlay")).to_be_visible()
    assert evidence.evaluate("document.getElementById('overlay').naturalWidth") > 0
    marked = evidence.locator("mark").all_inner_texts()
    for term in golden()["expected"]["terms"]:
        assert any(word.lower() in term for word in marked), (term, marked)
    evidence.locator("#strength").fill("0")
    assert evidence.locator("#overlay").evaluate("e => e.style.opacity") == "0"
    evidence.locator("#strength").fill("100")
    evidence.screenshot(path=tmp_path / "evidence.png", full_page=True)


def test_a_hole_in_the_chart_is_shown(plugin: Plugin, page: Page) -> None:
    patient = "synthetic-20-2"
    plugin.ready(patient)
    page.goto(f"{plugin.stage.ehr_url}/chart/{patient}")
    expect(page.get_by_text("Nothing was filled in").first).to_be_visible(timeout=15000)


def test_an_auditor_logs_in_searches_and_verifies(
    plugin: Plugin, page: Page, tmp_path: Path
) -> None:
    made = json.loads(
        subprocess.run(
            [BIN / "trivium-audit", "user", "add", "ada", "--role", "auditor"]
            + ["--generate", "--json"],
            env=plugin.stage.environment(),
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    )
    page.goto(f"{plugin.stage.auditor_url}/login")
    page.get_by_label("Name").fill("ada")
    page.get_by_label("Password").fill(made["password"])
    page.get_by_label("One-time code").fill(pyotp.TOTP(made["totp_secret"]).now())
    page.get_by_role("button", name="Log in").click()
    page.get_by_label("Event").select_option("cds.outcome")
    page.get_by_role("button", name="Search").click()
    expect(page.locator("tbody tr").first).to_contain_text("cds.outcome")
    page.locator("summary").first.click()
    page.screenshot(path=tmp_path / "console.png", full_page=True)
    page.get_by_role("button", name="Verify the log").click()
    expect(page.locator("h1")).to_have_text("Intact")
    page.screenshot(path=tmp_path / "verify.png", full_page=True)
