"""Feedback: validated as a whole, appended, its comment encrypted."""

from __future__ import annotations

from typing import Any

import pytest

from audit.vocabulary import EventType
from tests.cds_hooks.invariants import feedback_broken
from tests.cds_hooks.service import SERVICE_URL, Service

CARD = "4e0a3a1e-3283-4575-ab82-028d55fe2719"
TIME = "2026-01-11T08:00:00Z"
REASON = {"code": "cds-not-applicable", "system": "http://codes.example"}
ACCEPTED = {
    "card": CARD,
    "outcome": "accepted",
    "outcomeTimestamp": TIME,
    "acceptedSuggestions": [{"id": "s-1"}],
}
OVERRIDDEN = {
    "card": CARD,
    "outcome": "overridden",
    "outcomeTimestamp": TIME,
    "overrideReason": {"reason": REASON, "userComment": "Mrs Canary disagrees"},
}


def send(
    service: Service, body: Any, *, audience: str = SERVICE_URL, name: str = ""
) -> Any:
    token = service.ehr.token(audience)
    return service.client.post(
        f"/cds-services/{name or 'trivium-chest'}/feedback",
        json=body,
        headers={"Authorization": f"Bearer {token}"},
    )


@pytest.mark.parametrize("audience", [SERVICE_URL, f"{SERVICE_URL}/feedback"])
def test_good_feedback_is_recorded_and_answered_with_an_empty_object(
    service: Service, audience: str
) -> None:
    body = {"feedback": [ACCEPTED, OVERRIDDEN]}
    assert feedback_broken(body) == []
    response = send(service, body, audience=audience)
    assert response.status_code == 200 and response.get_json() == {}
    events = [e for e in service.events() if e.event_type == EventType.CDS_FEEDBACK]
    assert [e.evidence["outcome"] for e in events] == ["accepted", "overridden"]
    assert events[0].evidence["accepted"] == ["s-1"]
    assert events[0].clinical is None
    assert events[1].evidence["reason"] == REASON
    assert events[1].clinical == {"comment": "Mrs Canary disagrees"}
    assert "Canary" not in repr(events[1].evidence)


def test_the_same_report_twice_is_two_records(service: Service) -> None:
    for _ in range(2):
        assert send(service, {"feedback": [ACCEPTED]}).status_code == 200
    kinds = [e.event_type for e in service.events()]
    assert kinds.count(EventType.CDS_FEEDBACK) == 2


def test_an_override_needs_no_reason(service: Service) -> None:
    bare = {name: v for name, v in OVERRIDDEN.items() if name != "overrideReason"}
    coded = {**bare, "overrideReason": {"reason": REASON}}
    spoken = {**bare, "overrideReason": {"userComment": "no"}}
    assert send(service, {"feedback": [bare, coded, spoken]}).status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"feedback": []},
        {"feedback": {}},
        {"feedback": ["text"]},
        {"feedback": [ACCEPTED] * 101},
        {"feedback": [{**ACCEPTED, "outcome": "ignored"}]},
        {"feedback": [{**ACCEPTED, "acceptedSuggestions": []}]},
        {"feedback": [{**ACCEPTED, "acceptedSuggestions": "s-1"}]},
        {"feedback": [{**ACCEPTED, "acceptedSuggestions": ["s-1"]}]},
        {"feedback": [{**ACCEPTED, "acceptedSuggestions": [{"id": "a b"}]}]},
        {"feedback": [{**ACCEPTED, "card": None}]},
        {"feedback": [{**ACCEPTED, "card": "x" * 129}]},
        {"feedback": [{**ACCEPTED, "outcomeTimestamp": None}]},
        {"feedback": [{**ACCEPTED, "outcomeTimestamp": "yesterday"}]},
        {"feedback": [{**ACCEPTED, "outcomeTimestamp": "2026-01-11T08:00:00"}]},
        {"feedback": [{**OVERRIDDEN, "overrideReason": "no"}]},
        {"feedback": [{**OVERRIDDEN, "overrideReason": {}}]},
        {"feedback": [{**OVERRIDDEN, "overrideReason": {"reason": "x"}}]},
        {"feedback": [{**OVERRIDDEN, "overrideReason": {"reason": {"code": "x"}}}]},
        {"feedback": [{**OVERRIDDEN, "overrideReason": {"userComment": 7}}]},
        {"feedback": [{**OVERRIDDEN, "overrideReason": {"userComment": "x" * 4001}}]},
        {"feedback": [ACCEPTED, {**ACCEPTED, "outcome": None}]},
    ],
)
def test_bad_feedback_is_refused_as_a_whole(shared: Service, body: Any) -> None:
    response = send(shared, body)
    assert response.status_code == 400
    assert response.get_json()["resourceType"] == "OperationOutcome"
    kinds = [e.event_type for e in shared.events()]
    assert EventType.CDS_FEEDBACK not in kinds


def test_feedback_needs_a_token_and_a_known_service(shared: Service) -> None:
    url = "/cds-services/trivium-chest/feedback"
    assert shared.client.post(url, json={"feedback": [ACCEPTED]}).status_code == 401
    unknown = SERVICE_URL.replace("trivium-chest", "nobody")
    response = send(shared, {"feedback": [ACCEPTED]}, audience=unknown, name="nobody")
    assert response.status_code == 404


def test_feedback_that_cannot_be_recorded_is_not_acknowledged(
    service: Service,
) -> None:
    service.parts.audit_log.close()
    assert send(service, {"feedback": [ACCEPTED]}).status_code == 503
