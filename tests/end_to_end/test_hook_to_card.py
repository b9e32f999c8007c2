"""The main job with every process real: hook, evidence, worker, card, page, audit."""

from __future__ import annotations

import json
import re
from html import unescape
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.cds_hooks.invariants import response_broken
from tests.end_to_end.plugin import ASSESSMENT, Plugin, card, state

HEAVY = ("torch", "timm", "transformers")
ALL, NO_FILM, NO_NOTE, NO_VALUES = (f"synthetic-20-{n}" for n in (1, 2, 3, 4))


@pytest.fixture(scope="module")
def shown(plugin: Plugin) -> dict[str, Any]:
    """The ready card of a patient with everything."""
    return card(plugin.ready(ALL))


def browse(plugin: Plugin) -> httpx.Client:
    """A browser with the chart open; ``launch`` follows the card's link."""
    return httpx.Client(
        base_url=plugin.stage.ehr_url, follow_redirects=True, trust_env=False
    )


def launch(plugin: Plugin, browser: httpx.Client, patient: str) -> httpx.Response:
    """Open the chart's cards and follow the first card's SMART link."""
    html = browser.post(f"/chart/{patient}/cards", json={}).json()["html"]
    link = re.search(rf'href="(/chart/{patient}/launch\?[^"]+)"', html)
    assert link, html
    return browser.get(unescape(link.group(1)))


def test_the_ready_card_says_everything_that_a_card_must(shown: dict[str, Any]) -> None:
    assert response_broken({"cards": [shown]}) == []
    detail = shown["detail"]
    assert re.search(r"\d+ %", shown["summary"])
    assert "investigational" in detail.lower()
    assert "AUROC" in detail and "synthetic" in detail.lower()
    extension = shown["extension"][ASSESSMENT]
    assert set(extension["contributions"]) == {"image", "text", "values"}
    assert extension["presence"] == {"image": True, "text": True, "values": True}
    assert extension["receipt"]


@pytest.mark.parametrize(
    ("patient", "missing"),
    [(NO_FILM, "image"), (NO_NOTE, "text"), (NO_VALUES, "values")],
)
def test_a_missing_modality_is_shown_and_never_filled(
    plugin: Plugin, patient: str, missing: str
) -> None:
    answer = plugin.ready(patient)
    extension = card(answer)["extension"][ASSESSMENT]
    assert extension["presence"][missing] is False
    assert extension["contributions"].get(missing, 0.0) == 0.0
    assert "missing" in card(answer)["detail"].lower()


def test_the_same_evidence_is_not_assessed_twice(
    plugin: Plugin, shown: dict[str, Any]
) -> None:
    again = card(plugin.hook(ALL))
    first, second = shown["extension"][ASSESSMENT], again["extension"][ASSESSMENT]
    assert second["state"] == "ready"
    assert second["predictionId"] == first["predictionId"]
    assert again["uuid"] != shown["uuid"]


@pytest.mark.parametrize("mode", ["fill", "omit", "null"])
def test_prefetch_or_fetching_leads_to_the_same_assessment(
    plugin: Plugin, shown: dict[str, Any], mode: str
) -> None:
    answer = plugin.hook(ALL, prefetch=mode)
    assert state(answer) in {"ready", "not-ready"}
    later = card(plugin.hook(ALL, prefetch=mode))
    if mode == "omit":
        found = later["extension"][ASSESSMENT]["contributions"]
        assert found == shown["extension"][ASSESSMENT]["contributions"]


def test_the_web_process_maps_no_torch(plugin: Plugin, shown: dict[str, Any]) -> None:
    leader = psutil.Process(plugin.processes["web"].pid)
    family = [leader, *leader.children(recursive=True)]
    served = [p for p in family if "gunicorn" in " ".join(p.cmdline())]
    assert len(served) >= 2, "gunicorn has a master and a worker"
    for process in served:
        mapped = Path(f"/proc/{process.pid}/maps").read_text()
        assert not [name for name in HEAVY if f"/{name}/" in mapped]


def test_the_link_leads_to_the_evidence_of_that_very_assessment(
    plugin: Plugin, shown: dict[str, Any]
) -> None:
    with browse(plugin) as browser:
        page = launch(plugin, browser, ALL)
        assert page.status_code == 200, page.text
        prediction = shown["extension"][ASSESSMENT]["predictionId"]
        assert prediction in page.text and "Measured values" in page.text
        film = browser.get(f"{page.url}/film.png")
        assert film.headers["content-type"] == "image/png"
        assert "no-store" in page.headers["cache-control"]
        assert "default-src 'none'" in page.headers["content-security-policy"]


def test_another_assessment_or_no_session_is_refused_and_recorded(
    plugin: Plugin, shown: dict[str, Any]
) -> None:
    other = card(plugin.ready(NO_FILM))["links"][0]["appContext"]
    with browse(plugin) as browser:
        page = launch(plugin, browser, ALL)
        stolen = str(page.url).rsplit("/", 1)[0] + f"/{other}"
        assert browser.get(stolen).status_code == 403
    assert httpx.get(str(page.url), trust_env=False).status_code == 403
    denied = search(plugin, "--type", "authz.deny")
    assert {e["evidence"]["reason"] for e in denied} >= {"no_session"}


def test_every_view_is_recorded_with_user_patient_and_prediction(
    plugin: Plugin, shown: dict[str, Any]
) -> None:
    with browse(plugin) as browser:
        launch(plugin, browser, ALL)
    views = search(plugin, "--type", "smart.view", "--limit", "500")
    mine = [v for v in views if v["evidence"].get("part") == "page"]
    assert mine
    assert mine[0]["subject"]["value"] == ALL
    assert mine[0]["agent"]["value"].startswith("Practitioner/")
    assert mine[0]["model"]["sha256"]


def test_intent_comes_before_any_read_and_outcome_before_the_card(
    plugin: Plugin, shown: dict[str, Any]
) -> None:
    system = f"{plugin.stage.ehr_url}/fhir"
    found = search(plugin, "--patient", system, ALL, "--limit", "500")
    kinds = [e["event_type"] for e in reversed(found)]
    first = kinds.index("cds.intent")
    reads = [i for i, k in enumerate(kinds) if k in {"dicom.fetch", "fhir.search"}]
    assert reads and first < min(reads)
    outcomes = [e for e in found if e["event_type"] == "cds.outcome"]
    ready = [e for e in outcomes if e["evidence"]["state"] == "ready"]
    assert ready and ready[0]["model"]["device"].startswith("cpu")
    assert ready[0]["clinical"]


def test_feedback_on_a_card_is_recorded(plugin: Plugin, shown: dict[str, Any]) -> None:
    with browse(plugin) as browser:
        html = browser.post(f"/chart/{ALL}/cards", json={}).json()["html"]
        call = re.search(r'data-call="([^"]+)"', html)
        assert call
        said = {"call": call.group(1), "card": 0, "action": "dismiss"}
        said |= {"reason": 0, "comment": "CANARY-COMMENT"}
        answer = browser.post(f"/chart/{ALL}/feedback", json=said)
    assert answer.json()["status"] == 200, answer.text
    latest, *_ = search(plugin, "--type", "cds.feedback")
    assert "CANARY-COMMENT" in json.dumps(latest["clinical"])


def test_no_patient_data_in_what_the_processes_print(plugin: Plugin) -> None:
    printed = plugin.stage.log.read_text(errors="replace")
    assert "Bearer" not in printed and "eyJ" not in printed
    assert "CANARY-COMMENT" not in printed
    for path in (plugin.stage.folder / "jobs" / "broker").rglob("*"):
        assert not path.is_file() or b"synthetic-20" not in path.read_bytes()


def test_the_audit_log_verifies_at_the_end(plugin: Plugin) -> None:
    report = plugin.verify()
    assert report["verified"] is True and report["records"] > 20


def search(plugin: Plugin, *options: str) -> list[dict[str, Any]]:
    """``trivium-audit search`` as an operator calls it."""
    from deploy.demo_stage import call

    answer = json.loads(
        call(plugin.stage, "trivium-audit", "search", "--json", *options)
    )
    events: list[dict[str, Any]] = answer["events"]
    return events
