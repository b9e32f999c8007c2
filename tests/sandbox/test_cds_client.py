"""The EHR's CDS Hooks client against a service that checks its caller."""

from __future__ import annotations

import httpx
import pytest

from deploy.sandbox.access_tokens import HOOK_SCOPE
from deploy.sandbox.cds_client import call_hook, client_jwt, discover, send_feedback
from deploy.sandbox.errors import CdsCallError
from deploy.sandbox.prefetch import PrefetchMode, fill_prefetch
from tests.sandbox.cds_service import PREFETCH, header_of


def test_a_call_is_signed_filled_timed_and_parsed(running) -> None:
    call = call_hook(running.ehr, "a")
    assert running.service.problems == []
    assert (call.status, len(call.cards)) == (200, 1)
    assert 0 < call.elapsed_ms < 10_000
    (body,) = running.service.requests
    assert body["hook"] == "patient-view"
    assert body["hookInstance"] == call.hook_instance
    assert body["context"] == {
        "userId": "Practitioner/sandbox-clinician",
        "patientId": "a",
        "encounterId": "visit-a",
    }
    prefetch = body["prefetch"]
    assert prefetch["patient"]["id"] == "a"
    assert prefetch["observations"]["total"] == 6
    assert prefetch["visit"]["id"] == "visit-a"
    assert prefetch["author"]["resourceType"] == "Practitioner"
    assert "impossible" not in prefetch


def test_the_lent_token_reads_this_patient_and_no_other(running) -> None:
    call_hook(running.ehr, "a")
    (body,) = running.service.requests
    lent = body["fhirAuthorization"]
    assert body["fhirServer"] == f"{running.url}/fhir"
    assert (lent["token_type"], lent["patient"]) == ("Bearer", "a")
    assert lent["scope"] == HOOK_SCOPE and lent["expires_in"] == 300
    headers = {"Authorization": f"Bearer {lent['access_token']}"}

    def status(path: str) -> int:
        return httpx.get(f"{body['fhirServer']}/{path}", headers=headers).status_code

    assert status("Observation?patient=a") == 200
    assert status("Patient/b") == 403


def test_each_call_has_its_own_jwt_and_instance(running) -> None:
    calls = [call_hook(running.ehr, "a") for _ in range(2)]
    assert calls[0].hook_instance != calls[1].hook_instance
    assert len(set(running.service.tokens)) == 4
    header = header_of(running.service.tokens[0])
    assert header["alg"] == "ES384" and header["typ"] == "JWT"
    assert header["jku"] == f"{running.url}/jwks.json"


def test_the_token_can_be_kept_back(running) -> None:
    call_hook(running.ehr, "a", lend_token=False)
    (body,) = running.service.requests
    assert "fhirServer" not in body and "fhirAuthorization" not in body


def test_prefetch_modes(running) -> None:
    sent = {}
    for mode in PrefetchMode:
        call_hook(running.ehr, "c", prefetch=mode)
        sent[mode] = running.service.requests[-1].get("prefetch")
    assert sent[PrefetchMode.OMIT] is None
    assert sent[PrefetchMode.FILL]["observations"]["total"] == 0
    assert sent[PrefetchMode.NULL]["observations"] is None
    assert sent[PrefetchMode.NULL]["patient"]["id"] == "c"
    # c has no encounter: the token has no value and the key is left out in each mode
    assert "visit" not in sent[PrefetchMode.FILL]
    assert "visit" not in sent[PrefetchMode.NULL]


def test_templates_that_reach_further_are_left_out(ehr) -> None:
    templates = {
        "other": "Patient/b",
        "film": "ImagingStudy/film-b",
        "all": "Observation?patient=b",
        "gone": "Observation/none",
        "odd": "$everything",
        "unknown": "Medication?patient={{context.patientId}}",
        "deep": "Patient/{{context.draftOrders.entry}}",
        "own": PREFETCH["patient"],
    }
    context = {"patientId": "a", "userId": "Practitioner/sandbox-clinician"}
    filled = fill_prefetch(ehr, templates, context)
    assert filled is not None
    assert set(filled) == {"own", "all"}
    # the search is run inside the compartment of a: nothing of b can be in it
    assert filled["all"]["total"] == 0
    nulls = fill_prefetch(ehr, {"gone": "Observation/none"}, context, PrefetchMode.NULL)
    assert nulls == {"gone": None}


def test_other_hooks_carry_their_own_context(running) -> None:
    running.service.hook = "order-sign"
    orders = {"resourceType": "Bundle", "type": "collection"}
    call_hook(running.ehr, "b", hook="order-sign", context={"draftOrders": orders})
    (body,) = running.service.requests
    assert body["context"]["draftOrders"] == orders
    assert "encounterId" not in body["context"]


def test_a_refusal_is_a_result_and_no_card(running) -> None:
    running.service.status = 503
    call = call_hook(running.ehr, "a", service="chest")
    assert (call.status, call.cards) == (503, [])
    assert call.body["issue"][0]["diagnostics"] == "no store"


@pytest.mark.parametrize("body", [b'{"cards": null}', b'{"other": 1}', b'["x"]'])
def test_an_answer_without_cards_has_no_cards(running, body: bytes) -> None:
    running.service.raw = body
    assert call_hook(running.ehr, "a").cards == []


def test_no_usable_answer_is_an_error(running) -> None:
    running.service.raw = b"<html>"
    with pytest.raises(CdsCallError, match="JSON"):
        call_hook(running.ehr, "a")
    with pytest.raises(CdsCallError, match="no such service"):
        call_hook(running.ehr, "a", service="unknown")
    with pytest.raises(CdsCallError, match="no such service"):
        call_hook(running.ehr, "a", hook="order-sign")


def test_nobody_listening_is_an_error(ehr) -> None:
    from dataclasses import replace

    alone = replace(ehr, service_url="http://127.0.0.1:9")
    with pytest.raises(CdsCallError, match="ConnectError"):
        discover(alone, timeout_s=2)


def test_a_server_without_services_is_an_error(running) -> None:
    from dataclasses import replace

    wrong = replace(running.ehr, service_url=running.url)
    with pytest.raises(CdsCallError):
        discover(wrong)


def test_feedback_is_posted_with_its_own_audience(running) -> None:
    entry = {"card": "1", "outcome": "accepted", "outcomeTimestamp": "2026-01-01"}
    assert send_feedback(running.ehr, "chest", entry) == 200
    assert running.service.feedback == [entry]
    assert running.service.problems == []


def test_a_jwt_for_another_url_is_noticed_by_the_service(running) -> None:
    token = client_jwt(running.ehr, f"{running.service.url}/cds-services")
    answer = httpx.post(
        f"{running.service.url}/cds-services/chest",
        json={},
        headers={"Authorization": f"Bearer {token}"},
    )
    assert answer.status_code == 200
    assert running.service.problems == ["wrong audience"]
