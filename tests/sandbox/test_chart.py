"""The chart pages and the routes behind their buttons."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from PIL import Image

from deploy.sandbox import card_view
from deploy.sandbox.app import CONTENT_POLICY, application
from deploy.sandbox.chart import KEPT_CALLS, CallLog
from deploy.sandbox.errors import RequestError
from tests.sandbox.cds_service import card
from tests.sandbox.conftest import SOP, observation


def post(running, path: str, body: dict, **headers: str) -> httpx.Response:
    """POST JSON to the running sandbox."""
    return httpx.post(f"{running.url}{path}", json=body, headers=headers)


def shown_cards(running, patient: str = "a", **body) -> dict:
    """The cards answer for a patient."""
    answer = post(running, f"/chart/{patient}/cards", body)
    assert answer.status_code == 200
    return answer.json()


def call_key(html: str) -> str:
    """Key of the first call in the rendered cards."""
    return html.split('data-call="')[1].split('"')[0]


def test_the_list_says_what_exists_and_finds(client) -> None:
    page = client.get("/").text
    assert "Elmsward, Iris" in page and "synthetic / demonstration" in page
    assert page.index("Elmsward") < page.index(">b</a>")
    found = client.get("/?q=elms").text
    assert "Elmsward" in found and ">b</a>" not in found
    assert "No patient matches" in client.get("/?q=<script>").text
    assert "<script>" not in client.get("/?q=<script>").text


def test_an_empty_store_says_so(ehr, client) -> None:
    for patient in ehr.store.all("Patient"):
        ehr.store._resources["Patient"].pop(patient["id"])
    assert "no patients yet" in client.get("/").text


def test_the_chart_shows_banner_results_note_and_film(client) -> None:
    page = client.get("/chart/a").text
    for text in ("Elmsward, Iris", "1961-07-09", "in progress", "Test 1988-5"):
        assert text in page
    assert "Cough for &lt;b&gt;three&lt;/b&gt; days." in page
    assert f"/chart/a/film/{SOP}.png" in page
    assert "polyline" in page
    assert "style=" not in page and "<script>" not in page


def test_a_chart_with_nothing_says_what_is_missing(client) -> None:
    page = client.get("/chart/c").text
    for text in ("No film", "No note", "No measurement", "not recorded"):
        assert text in page


def test_pages_carry_a_strict_policy(client) -> None:
    for path in ("/", "/chart/a", "/nowhere", "/static/cards.js"):
        with client.get(path) as answer:
            assert answer.headers["Content-Security-Policy"] == CONTENT_POLICY
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "unsafe" not in CONTENT_POLICY and "*" not in CONTENT_POLICY


def test_the_film_is_a_png_of_the_patient_only(client) -> None:
    answer = client.get(f"/chart/a/film/{SOP}.png")
    image = Image.open(BytesIO(answer.data))
    assert (image.format, image.size, image.mode) == ("PNG", (40, 32), "L")
    assert image.getpixel((0, 0)) == 0 and image.getpixel((39, 31)) == 255
    assert client.get(f"/chart/a/film/{SOP}.png?full=1").status_code == 200
    assert client.get(f"/chart/b/film/{SOP}.png").status_code == 404


@pytest.mark.parametrize("path", ["/chart/none", "/chart/a/film/1.png", "/nowhere"])
def test_what_is_not_there_is_a_page_that_says_so(client, path) -> None:
    answer = client.get(path)
    assert answer.status_code == 404
    assert "Back to the patients" in answer.text


def test_cards_are_fetched_by_the_ehr_and_rendered_safely(running) -> None:
    answer = shown_cards(running)
    assert (answer["cards"], answer["problem"]) == (1, "")
    assert answer["calls"][0]["status"] == 200
    html = answer["html"]
    assert "Lung consolidation estimated" in html
    assert 'class="card warning"' in html
    assert "<strong>Estimate 71 %</strong>" in html
    assert "&lt;img src=x onerror=alert(1)&gt;" in html and "<img" not in html
    assert 'class="align-right"' in html and "style=" not in html
    assert "prediction-77" not in html
    assert running.service.problems == []


def test_the_prefetch_mode_is_passed_on(running) -> None:
    shown_cards(running, prefetch="omit")
    assert "prefetch" not in running.service.requests[-1]
    assert post(running, "/chart/a/cards", {"prefetch": "x"}).status_code == 400


def test_trouble_is_shown_as_trouble_never_as_silence(running) -> None:
    running.service.status = 503
    html = shown_cards(running)["html"]
    assert "answered 503" in html and "no store" in html
    assert "says nothing about the patient" in html
    running.service.status, running.service.raw = 200, b"<html>"
    answer = shown_cards(running)
    assert "could not be reached" in answer["html"] and answer["problem"]
    running.service.raw, running.service.hook = None, "order-sign"
    assert "offers no service" in shown_cards(running)["html"]


def test_no_advice_is_said_in_words(running) -> None:
    running.service.cards = []
    assert "has nothing to say" in shown_cards(running)["html"]


def test_other_sites_cannot_press_our_buttons(running) -> None:
    evil = {"Origin": "https://evil.example"}
    assert post(running, "/chart/a/cards", {}, **evil).status_code == 403
    assert post(running, "/chart/a/cards", {}, Origin=running.url).status_code == 200
    form = httpx.post(f"{running.url}/chart/a/cards", data={"prefetch": "fill"})
    assert form.status_code == 400
    assert len(running.service.requests) == 1


def test_a_smart_link_is_launched_with_its_context(running) -> None:
    key = call_key(shown_cards(running)["html"])
    base = f"{running.url}/chart/a/launch?call={key}"
    answer = httpx.get(f"{base}&card=0&link=0")
    assert answer.status_code == 302
    target = urlsplit(answer.headers["Location"])
    assert target.path == "/smart/launch"
    query = {name: values[0] for name, values in parse_qs(target.query).items()}
    assert query["iss"] == f"{running.url}/fhir"
    context = running.ehr.launches.take_launch(query["launch"])
    assert context is not None
    assert (context.patient, context.encounter) == ("a", "visit-a")
    assert context.app_context == "prediction-77"
    for tail in ("card=0&link=1", "card=0&link=9", "card=3&link=0", "card=x&link=0"):
        assert httpx.get(f"{base}&{tail}").status_code == 404
    other = f"{running.url}/chart/b/launch?call={key}&card=0&link=0"
    assert httpx.get(other).status_code == 404


def test_a_link_with_a_query_keeps_it(running) -> None:
    link = {"label": "x", "url": "http://127.0.0.1:8000/s?a=1", "type": "smart"}
    running.service.cards = [card(links=[link])]
    key = call_key(shown_cards(running)["html"])
    url = f"{running.url}/chart/a/launch?call={key}&card=0&link=0"
    assert "/s?a=1&iss=" in httpx.get(url).headers["Location"]


def test_an_override_is_reported_with_reason_and_comment(running) -> None:
    key = call_key(shown_cards(running)["html"])
    said = {"call": key, "card": "0", "action": "override", "reason": "1"}
    answer = post(running, "/chart/a/feedback", {**said, "comment": " seen "}).json()
    assert answer == {"outcome": "overridden", "status": 200, "done": []}
    (entry,) = running.service.feedback
    assert entry["card"] == running.service.cards[0]["uuid"]
    assert entry["overrideReason"] == {
        "reason": {
            "code": "need-more-info",
            "system": "urn:r",
            "display": "More needed",
        },
        "userComment": "seen",
    }
    assert entry["outcomeTimestamp"].endswith("Z")
    bare = {"call": key, "card": "0", "action": "override", "reason": ""}
    post(running, "/chart/a/feedback", bare)
    assert "overrideReason" not in running.service.feedback[1]


def test_an_accepted_suggestion_is_carried_out_and_reported(running) -> None:
    draft = observation("x", "a", "2524-7", 1.0, "2026-03-02", status="preliminary")
    foreign = observation("x", "b", "2524-7", 1.0, "2026-03-02")
    actions = [
        {"type": "create", "description": "Draft", "resource": draft},
        {"type": "create", "description": "Wrong chart", "resource": foreign},
        {"type": "update", "description": "Bad", "resource": {**draft, "id": "a_b"}},
        {"type": "delete", "description": "Gone", "resourceId": "Observation/wbc"},
    ]
    item = {"label": "Draft", "uuid": "s-1", "actions": actions}
    running.service.cards = [card(suggestions=[item], selectionBehavior="any")]
    key = call_key(shown_cards(running)["html"])
    said = {"call": key, "card": "0", "action": "accept", "suggestion": "0"}
    answer = post(running, "/chart/a/feedback", said).json()
    assert answer["done"] == [
        "Observation created in the chart.",
        "An action about somebody else was refused.",
        "An action with a malformed resource was refused.",
        "An action of this kind is not carried out by the sandbox.",
    ]
    (entry,) = running.service.feedback
    assert entry["outcome"] == "accepted"
    assert entry["acceptedSuggestions"] == [{"id": "s-1"}]
    assert len(running.ehr.store.all("Observation", "a")) == 7
    assert len(running.ehr.store.all("Observation", "b")) == 1


def test_feedback_that_cannot_be_given(running) -> None:
    running.service.cards = [{k: v for k, v in card().items() if k != "uuid"}]
    html = shown_cards(running)["html"]
    assert "Dismiss" not in html
    said = {"call": call_key(html), "card": "0", "action": "override"}
    assert post(running, "/chart/a/feedback", said).status_code == 409
    unknown = {"call": "none", "card": "0", "action": "override"}
    assert post(running, "/chart/a/feedback", unknown).status_code == 404


def test_old_calls_are_forgotten() -> None:
    log = CallLog()
    first = log.add("a", None)
    for _ in range(KEPT_CALLS):
        log.add("a", None)
    with pytest.raises(RequestError):
        log.card("a", first, "0")


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({}, ""),
        ({"summary": None}, "no summary"),
        ({"summary": "x" * 140}, "139"),
        ({"summary": "x" * 139}, ""),
        ({"indicator": "hard-stop"}, "indicator"),
        ({"source": {}}, "source"),
        ({"source": "Trivium"}, "source"),
        ({"suggestions": [{"label": "x"}]}, "selectionBehavior"),
        ({"links": "x", "overrideReasons": 3, "suggestions": None}, ""),
    ],
)
def test_cards_that_break_the_specification_are_marked(changes, problem) -> None:
    view = card_view.view_card(0, card(**changes))
    assert (problem in view.problem) if problem else view.problem == ""
    assert view.indicator in card_view.INDICATORS


@pytest.mark.parametrize(
    ("markdown", "html"),
    [
        ("[x](javascript:alert(1))", "<p>[x](javascript:alert(1))</p>"),
        (
            "[x](mailto:a@b)",
            '<p><a target="_blank" rel="noopener noreferrer">x</a></p>',
        ),
        ("![x](https://e.org/t.png)", "<p>!<a"),
        ("<script>1</script>", "<p>&lt;script&gt;"),
        ("# Top", "<h4>Top</h4>"),
        ("~~old~~", "<s>old</s>"),
    ],
)
def test_markdown_is_tamed(markdown: str, html: str) -> None:
    assert html in card_view.render_markdown(markdown)


@pytest.mark.parametrize(
    "url", ["javascript:1", "//x", "ftp://x/y", "http://[", None, 3, "https://"]
)
def test_addresses_that_are_not_web_addresses_are_dropped(url) -> None:
    assert card_view.safe_url(url) == ""
    links = [{"label": "x", "url": url, "type": "absolute"}]
    assert card_view.view_card(0, card(links=links)).links == ()


def test_another_process_knows_none_of_these_calls_and_says_when_nobody_answers(
    running,
) -> None:
    key = call_key(shown_cards(running)["html"])
    lost = replace(running.ehr, service_url="http://127.0.0.1:9")
    client = application(lost).test_client()
    said = {"call": key, "card": "0", "action": "override"}
    # another application knows nothing of this call
    url = "/chart/a/feedback"
    assert client.post(url, json=said).status_code == 404
    answer = client.post("/chart/a/cards", json={}).json
    assert "could not be reached" in answer["problem"]
