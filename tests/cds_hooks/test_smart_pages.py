"""What the page behind the card says when there is nothing to show, and to whom."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from werkzeug.test import TestResponse

from audit.vocabulary import EventType
from cds_hooks.smart_app.evidence_page import COOKIE, smart_parts
from tests.cds_hooks.ehr import PATIENT_ID
from tests.cds_hooks.service import Service, state_of
from tests.cds_hooks.test_service_call import by_type, wait_until

UNKNOWN = "deadbeef" * 4


def page(service: Service, assessment: str) -> TestResponse:
    """The evidence page, as the clinician sees it who launched this assessment."""
    viewer = {
        "tenant": "sandbox",
        "issuer": service.ehr.fhir,
        "patient": PATIENT_ID,
        "user": "Practitioner/dr-1",
        "assessment": assessment,
    }
    path = f"/smart/evidence/{assessment}"
    with service.app.app_context():
        handle = smart_parts().sessions.put(viewer, 900)
    service.client.set_cookie(COOKIE, handle, path=path)
    return service.client.get(path)


def refreshes(answer: TestResponse) -> bool:
    return 'http-equiv="refresh"' in answer.text


def test_an_unknown_assessment_is_gone_and_not_running(service: Service) -> None:
    answer = page(service, UNKNOWN)
    assert answer.status_code == 410
    assert "No longer available" in answer.text and not refreshes(answer)


def test_a_gathering_is_followed_to_its_evidence(
    start: Callable[..., Service],
) -> None:
    service = start(deadline_s=0.4, reserve_s=0.2, reuse_s=0.05)
    service.ehr.delay_s["Observation"] = 0.8
    service.worker.may_work.clear()
    waiting = service.card()["links"][0]["appContext"]
    assert "the evidence" in page(service, waiting).text
    job_id = wait_until(lambda: service.parts.assessments.job_of(waiting))
    during = page(service, waiting)
    assert "the model (queued)" in during.text and refreshes(during)
    service.worker.may_work.set()
    wait_until(lambda: job_id in service.worker.done)
    service.card(context={"userId": "Practitioner/dr-2", "patientId": PATIENT_ID})
    # The flight is forgotten by now; the link of its card still leads to its job.
    shown = page(service, waiting)
    assert shown.status_code == 200 and "Measured values" in shown.text


def test_a_gathering_that_failed_says_so(start: Callable[..., Service]) -> None:
    service = start(deadline_s=0.4, reserve_s=0.2)
    service.ehr.delay_s["Patient"] = 0.6
    service.ehr.status["Patient"] = 404
    waiting = service.card()["links"][0]["appContext"]
    wait_until(lambda: service.parts.assessments.ending_of(waiting))
    answer = page(service, waiting)
    assert "Could not assess" in answer.text and "missing data" in answer.text
    assert not refreshes(answer)


def test_a_model_that_failed_says_why_in_words(service: Service) -> None:
    service.worker.fails_with = "out_of_memory"
    card = service.card()
    assert state_of(card) == "could-not-assess"
    answer = page(service, card["extension"]["dev.trivium.assessment"]["jobId"])
    assert "out of memory" in answer.text and not refreshes(answer)


@pytest.mark.smart("S5")
def test_a_flood_of_smart_refusals_becomes_counted_records(service: Service) -> None:
    for number in range(40):
        statuses = [
            service.client.get(f"/smart/evidence/x{number}").status_code,
            service.client.get("/smart/launch?iss=https://e.example").status_code,
            service.client.get("/smart/callback").status_code,
        ]
    assert statuses == [403, 400, 400]
    noted = [e for e in service.events(limit=500) if "count" in (e.evidence or {})]
    assert len(noted) == 3
    service.parts.refusals.write_due(everything=True)
    first, rest = by_type(service, EventType.AUTHZ_DENY)
    assert first.evidence["reason"] == rest.evidence["reason"] == "no_session"
    assert (first.evidence["count"], rest.evidence["count"]) == (1, 39)
    reasons = {e.evidence["reason"] for e in by_type(service, EventType.AUTH_FAIL)}
    assert reasons == {"issuer_not_allowed", "no_launch"}


@pytest.mark.parametrize("path", ["/smart/evidence/x", "/smart/callback"])
def test_a_refusal_that_cannot_be_recorded_is_503(service: Service, path: str) -> None:
    service.parts.audit_log.close()
    assert service.client.get(path).status_code == 503
