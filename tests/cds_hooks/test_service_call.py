"""The hook from request to card, with everything real but the model's opinion."""

from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from audit.vocabulary import EventType, Outcome
from cds_hooks.app import close
from cds_hooks.audit_trail import digest
from cds_hooks.card_wording import EXTENSION
from cds_hooks.tenants import parse_tenants
from model.errors import JobStoreUnavailableError
from model.jobs.prediction import Abstention
from tests.cds_hooks.ehr import (
    PATIENT_ID,
    TOKEN,
    Ehr,
    bundle,
    observation,
    patient,
    running_ehr,
)
from tests.cds_hooks.service import SERVICE_URL, Service, state_of

OUTCOME_ISSUE = {"resourceType": "OperationOutcome", "issue": [{}]}


def full_prefetch(**more: Any) -> dict[str, Any]:
    return {
        "patient": patient(),
        "observations": bundle([observation("obs-9", "8310-5", "39.0", "Cel")]),
        "reports": None,
        "documents": bundle([]),
        "imaging": None,
        **more,
    }


def wait_until(condition: Callable[[], Any], seconds: float = 10.0) -> Any:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError("it did not happen in time")


def by_type(service: Service, kind: EventType) -> list[Any]:
    return [e for e in service.events() if e.event_type == kind]


def test_a_hook_without_prefetch_ends_in_a_full_card(service: Service) -> None:
    card = service.card()
    assert state_of(card) == "ready"
    assert card["summary"] == (
        "Pneumonia: estimated probability 78 % (decision threshold 50 %)"
    )
    assert card["indicator"] == "warning"
    extension = card["extension"][EXTENSION]
    assert extension["contributions"] == {"image": 0.0, "text": 0.75, "values": 0.25}
    assert extension["presence"] == {"image": False, "text": True, "values": True}
    assert card["links"][0]["appContext"] == extension["jobId"]
    assert "Missing: Image (absent): there is none in the chart" in card["detail"]
    assert "AUROC 0.87 (95 % interval 0.83 to 0.91, n = 300" in card["detail"]


def test_a_hook_with_full_prefetch_asks_the_ehr_for_nothing(service: Service) -> None:
    card = service.card(
        fhirServer=None, fhirAuthorization=None, prefetch=full_prefetch()
    )
    assert state_of(card) == "ready"
    assert service.ehr.count("/fhir") == 0
    assert card["extension"][EXTENSION]["presence"]["values"] is True
    assert card["extension"][EXTENSION]["presence"]["text"] is False


def test_the_same_evidence_is_assessed_once(service: Service) -> None:
    first, second = service.card(), service.card()
    assert first["uuid"] != second["uuid"]
    ids = {c["extension"][EXTENSION]["predictionId"] for c in (first, second)}
    assert len(ids) == 1 and len(service.worker.done) == 1
    service.ehr.resources["Observation"].append(
        observation("obs-2", "8867-4", "90", "/min")
    )
    third = service.card()["extension"][EXTENSION]["predictionId"]
    assert third not in ids


def test_null_and_failed_keys_are_not_asked_for_again(service: Service) -> None:
    card = service.card(
        prefetch={"observations": None, "documents": OUTCOME_ISSUE, "imaging": None}
    )
    assert service.ehr.count("/fhir/Observation") == 0
    assert service.ehr.count("/fhir/DocumentReference") == 0
    assert service.ehr.count("/fhir/Patient") == 1
    assert service.ehr.count("/fhir/DiagnosticReport") >= 1
    assert "the EHR reported that its query failed" in card["detail"]


def test_every_request_to_the_ehr_carries_the_token(service: Service) -> None:
    service.card()
    paths = zip(service.ehr.requests, service.ehr.tokens, strict=True)
    tokens = {token for path, token in paths if path.startswith("/fhir")}
    assert tokens == {f"Bearer {TOKEN}"}


def test_a_paged_prefetch_is_continued_on_the_ehrs_own_server(
    service: Service,
) -> None:
    more = [observation(f"obs-{n}", "8867-4", f"{80 + n}", "/min") for n in range(4)]
    service.ehr.resources["Observation"] = more
    service.ehr.page_size = 2
    link = f"{service.ehr.fhir}/Observation?start=2"
    service.card(prefetch=full_prefetch(observations=bundle(more[:2], link)))
    assert service.ehr.count("/fhir/Observation?start=2") == 1
    assert len(service.worker.records[-1].history) == 4


@pytest.mark.smart("S33")
@pytest.mark.ssrf("X10")
def test_a_next_link_elsewhere_is_not_followed(service: Service) -> None:
    evil = bundle([observation("obs-1", "8310-5", "38.4", "Cel")])
    evil["link"] = [{"relation": "next", "url": f"{service.ehr.base}/other?x=1"}]
    service.card(prefetch=full_prefetch(observations=evil))
    assert service.ehr.count("/other") == 0


@pytest.mark.parametrize(
    "prefetch",
    [{}, {"patient": None}, {"patient": OUTCOME_ISSUE}],
    ids=["absent", "null", "failed"],
)
def test_without_a_patient_and_a_server_the_answer_is_412(
    service: Service, prefetch: dict[str, Any]
) -> None:
    response = service.post(
        service.body(fhirServer=None, fhirAuthorization=None, prefetch=prefetch)
    )
    assert response.status_code == 412
    assert response.get_json()["issue"][0]["expression"] == ["prefetch.patient"]
    (outcome,) = by_type(service, EventType.CDS_OUTCOME)
    assert outcome.outcome == Outcome.REFUSED


@pytest.mark.parametrize("status", [401, 404, 500])
def test_a_patient_that_the_server_does_not_give_ends_in_412(
    service: Service, status: int
) -> None:
    service.ehr.status["Patient"] = status
    assert service.post(service.body()).status_code == 412


@pytest.mark.ssrf("X32")
def test_somebody_elses_patient_from_the_server_ends_in_412(service: Service) -> None:
    service.ehr.resources["Patient"] = [{**patient(), "id": "other"}]
    assert service.post(service.body()).status_code == 412


def test_a_second_patient_among_the_evidence_ends_in_412(service: Service) -> None:
    mixed = bundle([patient(id="other")])
    response = service.post(service.body(prefetch=full_prefetch(observations=mixed)))
    assert response.status_code == 412
    assert service.worker.done == []


def test_an_open_server_needs_no_token(service: Service) -> None:
    assert state_of(service.card(fhirAuthorization=None)) == "ready"
    assert set(service.ehr.tokens) == {""}


def test_a_failing_optional_source_is_said_on_the_card(service: Service) -> None:
    service.ehr.status["Observation"] = 500
    card = service.card()
    assert state_of(card) == "ready"
    assert "Missing: Measurements (unreadable): the server" in card["detail"]


MALFORMED: list[tuple[str, dict[str, Any]]] = [
    ("hook", {"hook": None}),
    ("hook", {"hook": 7}),
    ("hookInstance", {"hookInstance": None}),
    ("hookInstance", {"hookInstance": "not-a-uuid"}),
    ("context", {"context": None}),
    ("context", {"context": []}),
    ("context.patientId", {"context": {"userId": "Practitioner/1"}}),
    (
        "context.patientId",
        {"context": {"userId": "Practitioner/1", "patientId": "a/b"}},
    ),
    ("context.userId", {"context": {"patientId": PATIENT_ID}}),
    ("context.userId", {"context": {"userId": "dr-1", "patientId": PATIENT_ID}}),
    ("context.userId", {"context": {"userId": "Group/1", "patientId": PATIENT_ID}}),
    (
        "context.encounterId",
        {
            "context": {
                "userId": "Practitioner/1",
                "patientId": PATIENT_ID,
                "encounterId": "",
            }
        },
    ),
    ("fhirAuthorization", {"fhirServer": None}),
    ("fhirAuthorization", {"fhirAuthorization": "token"}),
    ("prefetch", {"prefetch": []}),
    ("prefetch.patient", {"prefetch": {"patient": patient(id="other")}}),
    ("prefetch.patient", {"prefetch": {"patient": bundle([])}}),
    ("prefetch.observations", {"prefetch": {"observations": patient()}}),
]


@pytest.mark.parametrize(
    ("expression", "change"),
    MALFORMED,
    ids=[f"{n}-{name}" for n, (name, _) in enumerate(MALFORMED)],
)
def test_malformed_requests_are_refused_by_name(
    shared: Service, expression: str, change: dict[str, Any]
) -> None:
    before = shared.ehr.count("/fhir")
    response = shared.post(shared.body(**change))
    assert response.status_code == 400
    assert response.get_json()["issue"][0]["expression"] == [expression]
    assert shared.ehr.count("/fhir") == before


@pytest.mark.parametrize(
    "change",
    [
        {"access_token": "with space"},
        {"access_token": "two\r\nlines"},
        {"access_token": None},
        {"token_type": "MAC"},
        {"expires_in": "300"},
        {"expires_in": True},
        {"expires_in": 0},
        {"scope": None},
        {"subject": None},
        {"patient": "somebody-else"},
    ],
)
def test_tokens_that_break_the_rules_are_refused(
    shared: Service, change: dict[str, Any]
) -> None:
    given = {**shared.body()["fhirAuthorization"], **change}
    given = {name: value for name, value in given.items() if value is not None}
    response = shared.post(shared.body(fhirAuthorization=given))
    assert response.status_code == 400
    assert TOKEN not in response.get_data(as_text=True)


def test_unknown_fields_and_extensions_are_accepted(shared: Service) -> None:
    body = shared.body(extension={"com.example": {"a": None}}, newField=[1])
    body["context"]["later"] = {"deep": []}
    assert shared.post(body).status_code == 200


@pytest.mark.ssrf("X2")
def test_a_server_of_somebody_else_is_refused_and_not_called(service: Service) -> None:
    for url in (f"{service.ehr.base}/other", "http://169.254.169.254/fhir"):
        response = service.post(service.body(fhirServer=url))
        assert response.status_code == 403
    assert service.ehr.requests == ["/jwks.json"]


def test_wrong_hook_is_400_and_unknown_service_is_404(shared: Service) -> None:
    assert shared.post(shared.body(hook="order-sign")).status_code == 400
    assert shared.post(shared.body(), service="nobody").status_code == 404


def test_bodies_that_are_no_json_are_refused(shared: Service) -> None:
    assert shared.post(b"{").status_code == 400
    token = shared.ehr.token(SERVICE_URL)
    response = shared.client.post(
        "/cds-services/trivium-chest",
        data="{}",
        content_type="text/plain",
        headers={"Authorization": f"Bearer {token}"},
    )
    assert response.status_code == 415


def test_too_large_bodies_are_refused(start: Callable[..., Service]) -> None:
    service = start(max_body_bytes=2000)
    response = service.post(service.body(extension={"x": "y" * 3000}))
    assert response.status_code == 413


def test_a_call_without_a_token_gets_an_empty_401(service: Service) -> None:
    response = service.post(service.body(), token=None)
    assert response.status_code == 401
    assert response.get_data() == b""
    (event,) = by_type(service, EventType.AUTH_FAIL)
    assert event.evidence["reason"] == "no_token"


@pytest.mark.ssrf("X26")
def test_a_replayed_call_gets_401(service: Service) -> None:
    token = service.ehr.token(SERVICE_URL)
    assert service.post(service.body(), token=token).status_code == 200
    assert service.post(service.body(), token=token).status_code == 401


def test_the_audit_log_tells_the_whole_story_in_order(service: Service) -> None:
    card = service.card()
    events = [e for e in service.events() if e.subject is not None]
    kinds = [e.event_type for e in events]
    assert kinds[0] == EventType.CDS_INTENT
    assert kinds[-1] == EventType.CDS_OUTCOME
    assert kinds.count(EventType.FHIR_READ) == 1
    assert kinds.count(EventType.FHIR_SEARCH) >= 4
    assert len({e.correlation_id for e in events}) == 1
    intent, outcome = events[0], events[-1]
    assert intent.subject["value"] == PATIENT_ID
    assert intent.subject["system"] == service.ehr.fhir
    assert intent.agent["value"] == "Practitioner/dr-1"
    assert "Patient/{{context.patientId}}" in intent.evidence["manifest"]
    assert outcome.model["sha256"] == service.parts.model.sha256
    assert outcome.model["device"] == "cpu"
    shown = {
        **card,
        "extension": {
            EXTENSION: {
                name: value
                for name, value in card["extension"][EXTENSION].items()
                if name != "receipt"
            }
        },
    }
    assert outcome.evidence["card_sha256"] == digest(shown)
    assert outcome.clinical["card"]["summary"] == card["summary"]
    assert outcome.clinical["estimates"][0]["probability"] == 0.78
    assert len(outcome.evidence["explanation_sha256"]) == 64
    assert outcome.evidence["state"] == "ready"
    receipt = card["extension"][EXTENSION]["receipt"]
    assert receipt["record_id"] == outcome.record_id


def test_markup_of_ehr_and_model_is_shown_as_text(service: Service) -> None:
    card = service.card()
    assert "&lt;img src=x onerror=alert\\(1\\)&gt;" in card["detail"]
    assert "<" not in json.dumps(card)
    assert "&lt;b&gt;only&lt;/b&gt;" in card["detail"]


def test_a_slow_server_gives_not_ready_in_time_and_ready_at_the_next_call(
    start: Callable[..., Service],
) -> None:
    service = start(deadline_s=0.45, reserve_s=0.15)
    service.ehr.delay_s["Observation"] = 1.2
    begun = time.monotonic()
    card = service.card()
    assert time.monotonic() - begun < 1.0
    assert state_of(card) == "not-ready"
    assert card["indicator"] == "info"
    assert "measurements" in card["detail"]
    assert "%" not in card["summary"] + card["detail"].partition("Model ")[0]
    waiting = card["links"][0]["appContext"]
    job_id = wait_until(lambda: service.parts.assessments.job_of(waiting))
    wait_until(lambda: job_id in service.worker.done)
    again = service.card()
    assert state_of(again) == "ready"
    assert again["extension"][EXTENSION]["jobId"] == job_id
    assert service.ehr.count("/fhir/Observation") == 1
    assert service.parts.assessments.job_of("unknown") is None


def test_the_end_of_a_late_assessment_is_recorded(
    start: Callable[..., Service],
) -> None:
    service = start(deadline_s=1.2, reserve_s=0.2)
    service.worker.may_work.clear()
    card = service.card()
    assert state_of(card) == "not-ready"
    assert card["extension"][EXTENSION]["presence"]["values"] is True
    assert by_type(service, EventType.JOB_DONE) == []
    service.worker.device = "cuda:0"
    service.worker.may_work.set()
    (done,) = wait_until(lambda: by_type(service, EventType.JOB_DONE))
    assert done.model["device"] == "cuda:0"
    assert done.outcome == Outcome.OK
    (intent,) = by_type(service, EventType.CDS_INTENT)
    assert done.correlation_id == intent.correlation_id
    wait_until(lambda: service.parts.late_jobs.watched() == 0)


def test_a_late_gathering_that_fails_is_recorded_and_told_at_the_next_call(
    start: Callable[..., Service],
) -> None:
    service = start(deadline_s=0.4, reserve_s=0.2)
    service.ehr.delay_s["Patient"] = 0.6
    service.ehr.status["Patient"] = 404
    assert state_of(service.card()) == "not-ready"
    (done,) = wait_until(lambda: by_type(service, EventType.JOB_DONE))
    assert done.outcome == Outcome.FAILED
    assert done.evidence["reason"] == "missing_data"
    assert service.post(service.body()).status_code == 412


def test_two_hooks_for_one_patient_share_one_gathering(
    start: Callable[..., Service],
) -> None:
    service = start()
    service.ehr.delay_s["Observation"] = 0.5
    cards: list[dict[str, Any]] = []
    threads = [
        threading.Thread(target=lambda: cards.append(service.card())) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [state_of(card) for card in cards] == ["ready"] * 3
    assert len(service.worker.done) == 1
    assert service.ehr.count("/fhir/Patient") == 1


def test_what_one_user_gathers_is_not_handed_to_another(
    start: Callable[..., Service],
) -> None:
    service = start(deadline_s=0.4, reserve_s=0.2)
    service.ehr.delay_s["Observation"] = 0.8
    service.card()
    service.card(context={"userId": "Practitioner/dr-2", "patientId": PATIENT_ID})
    assert service.ehr.count("/fhir/Patient") == 2


def test_a_failed_job_is_said_and_not_started_again_at_once(service: Service) -> None:
    service.worker.fails_with = "device_unavailable"
    for _ in range(2):
        card = service.card()
        assert state_of(card) == "could-not-assess"
        assert card["indicator"] == "info"
        assert "device unavailable" in card["summary"]
        assert "%" not in card["summary"] + card["detail"].partition("Model ")[0]
    assert service.worker.done == []


def test_an_abstention_is_a_card_without_a_number(service: Service) -> None:
    service.worker.estimate = {
        "abstentions": (Abstention("modality_conflict", "x"),),
    }
    card = service.card()
    assert state_of(card) == "could-not-assess"
    assert card["indicator"] == "info"
    assert "point in different directions" in card["summary"]
    assert "78 %" not in json.dumps(card)
    assert "contributions" not in card["extension"][EXTENSION]
    (outcome,) = by_type(service, EventType.CDS_OUTCOME)
    assert outcome.clinical["abstentions"][0]["code"] == "modality_conflict"


def test_a_broker_that_is_down_is_said_and_the_job_is_kept(
    start: Callable[..., Service],
) -> None:
    service = start(
        deadline_s=0.6,
        reserve_s=0.2,
        jobs={"broker_url": "redis://127.0.0.1:1/0", "publish_timeout_s": 0.1},
    )
    service.worker.may_work.clear()
    card = service.card()
    assert state_of(card) == "not-ready"
    assert "queue, which does not answer" in card["detail"]
    service.worker.may_work.set()
    wait_until(lambda: service.worker.done)
    assert state_of(service.card()) == "ready"


def test_a_job_store_that_is_gone_is_said(service: Service, tmp_path: Path) -> None:
    with contextlib.closing(sqlite3.connect(tmp_path / "jobs.db")) as blocker:
        blocker.execute("BEGIN EXCLUSIVE")
        card = service.card()
        blocker.rollback()
    assert state_of(card) == "could-not-assess"
    assert "assessment store does not answer" in card["summary"]


def test_without_an_audit_log_there_is_no_card(
    service: Service, tmp_path: Path
) -> None:
    for name in ("audit.db", "audit.db-wal"):
        (tmp_path / "audit" / name).write_bytes(b"this is no database" * 500)
    shutil.rmtree(tmp_path / "audit" / "journal")
    response = service.post(service.body())
    assert response.status_code == 503
    assert response.headers["Retry-After"]
    assert "cards" not in response.get_json()
    assert service.ehr.count("/fhir") == 0


def test_an_audit_log_that_fails_between_intent_and_outcome_means_no_card(
    service: Service,
) -> None:
    service.worker.may_work.clear()

    def fail() -> None:
        wait_until(lambda: service.ehr.count("/fhir/ImagingStudy"))
        time.sleep(0.3)
        service.parts.audit_log.close()
        service.worker.may_work.set()

    breaker = threading.Thread(target=fail)
    breaker.start()
    response = service.post(service.body())
    breaker.join()
    assert response.status_code == 503


def test_a_bug_is_500_without_internals_and_recorded(service: Service) -> None:
    # The model card of a result that the types cannot hold: our fault, not the EHR's.
    service.worker.estimate = {"states": {"image": 7}}
    response = service.post(service.body())
    assert response.status_code == 500
    text = response.get_data(as_text=True)
    assert "Traceback" not in text and "AttributeError" not in text
    (outcome,) = by_type(service, EventType.CDS_OUTCOME)
    assert outcome.outcome == Outcome.FAILED
    assert outcome.evidence["reason"] == "AttributeError"


def test_discovery_does_not_wait_for_slow_hooks(start: Callable[..., Service]) -> None:
    service = start(deadline_s=2.0)
    service.ehr.delay_s["Patient"] = 1.0
    threads = [
        threading.Thread(
            target=lambda n=n: service.post(
                service.body(
                    context={"userId": f"Practitioner/{n}", "patientId": PATIENT_ID}
                )
            )
        )
        for n in range(8)
    ]
    for thread in threads:
        thread.start()
    time.sleep(0.3)
    begun = time.monotonic()
    for _ in range(10):
        assert service.client.get("/cds-services").status_code == 200
    assert time.monotonic() - begun < 0.5
    for thread in threads:
        thread.join()


def test_when_too_many_are_gathered_the_card_says_so(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cds_hooks.assessment.MAX_FLIGHTS", 0)
    card = service.card()
    assert state_of(card) == "could-not-assess"
    assert "too busy; nothing was read" in card["summary"]
    assert "links" not in card


@pytest.mark.smart("S26")
@pytest.mark.ssrf("X30")
def test_no_token_and_no_name_is_written_anywhere(
    service: Service, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    service.card()
    service.post(service.body(fhirAuthorization={"access_token": TOKEN}))
    service.ehr.status["Patient"] = 500
    service.post(service.body())
    stored = b"".join(
        path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()
    )
    assert TOKEN.encode() not in stored
    assert b"onerror" not in stored
    assert TOKEN not in caplog.text and PATIENT_ID not in caplog.text
    assert TOKEN not in repr(service.events())


def test_the_web_process_never_loads_torch() -> None:
    code = (
        "import sys, cds_hooks.app;"
        "print(sorted({'torch', 'timm', 'transformers'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60
    )
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.ssrf("X32")
def test_results_that_changed_places_are_shown_on_nobodys_card(
    service: Service, tmp_path: Path
) -> None:
    def card_of(patient_id: str) -> dict[str, Any]:
        seen = {
            **observation(f"o-{patient_id}", "8310-5", "39.0", "Cel"),
            "subject": {"reference": f"Patient/{patient_id}"},
        }
        return service.card(
            fhirServer=None,
            fhirAuthorization=None,
            prefetch=full_prefetch(
                patient=patient(id=patient_id), observations=bundle([seen])
            ),
            context={"userId": "Practitioner/dr-1", "patientId": patient_id},
        )

    assert [state_of(card_of(p)) for p in ("A", "B")] == ["ready"] * 2
    change = "UPDATE trivium_jobs SET result_key = ? WHERE job_id = ?"
    with contextlib.closing(sqlite3.connect(tmp_path / "jobs.db")) as db, db:
        rows = db.execute("SELECT job_id, result_key FROM trivium_jobs").fetchall()
        (one, key_one), (two, key_two) = rows
        for key, job_id in (("x" * 64, one), (key_one, two), (key_two, one)):
            db.execute(change, (key, job_id))
    for patient_id in ("A", "B"):
        card = card_of(patient_id)
        assert state_of(card) == "could-not-assess"
        assert "could not be verified" in card["summary"]


def test_a_device_written_into_the_row_is_not_recorded(
    service: Service, tmp_path: Path
) -> None:
    service.card()
    with contextlib.closing(sqlite3.connect(tmp_path / "jobs.db")) as db, db:
        db.execute("UPDATE trivium_jobs SET device = 'forged'")
    service.card()
    devices = {e.model["device"] for e in by_type(service, EventType.CDS_OUTCOME)}
    assert devices == {"cpu"}


def test_an_assessment_whose_lookup_failed_is_watched_to_its_end(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    def locked(*_: Any) -> Any:
        raise JobStoreUnavailableError("locked")

    service.worker.may_work.clear()
    with monkeypatch.context() as patch:
        patch.setattr(service.parts.queue, "wait", locked)
        assert state_of(service.card()) == "could-not-assess"
    service.worker.may_work.set()
    (done,) = wait_until(lambda: by_type(service, EventType.JOB_DONE))
    assert done.outcome == Outcome.OK and done.evidence["prediction"]


def test_a_prediction_whose_card_failed_is_recorded_with_its_model(
    service: Service,
) -> None:
    service.worker.estimate = {"states": {"image": 7}}
    assert service.post(service.body()).status_code == 500
    (outcome,) = by_type(service, EventType.CDS_OUTCOME)
    assert outcome.model["sha256"] == service.parts.model.sha256
    (done,) = wait_until(lambda: by_type(service, EventType.JOB_DONE))
    assert done.evidence["prediction"] and done.model["device"] == "cpu"
    wait_until(lambda: service.parts.late_jobs.watched() == 0)


def test_a_process_that_ends_records_what_it_will_not_see(
    start: Callable[..., Service],
) -> None:
    service = start(deadline_s=0.6, reserve_s=0.2)
    service.worker.may_work.clear()
    service.ehr.delay_s["Observation"] = 0.8
    assert state_of(service.card()) == "not-ready"
    close(service.app)
    (done,) = by_type(service, EventType.JOB_DONE)
    assert done.outcome == Outcome.UNKNOWN
    assert done.evidence["reason"] == "shutting_down" and done.evidence["job"]


def test_less_authority_does_not_join_a_flight_of_more(
    start: Callable[..., Service],
) -> None:
    service = start(deadline_s=0.4, reserve_s=0.2)
    service.ehr.delay_s["Observation"] = 0.8
    service.card()
    narrow = {**service.body()["fhirAuthorization"], "scope": "patient/Patient.r"}
    service.card(fhirAuthorization=narrow)
    service.card(fhirAuthorization=None)
    assert service.ehr.count("/fhir/Patient") == 3


def test_a_hanging_server_of_one_tenant_leaves_room_for_the_others(
    start: Callable[..., Service], ehr: Ehr
) -> None:
    with running_ehr() as slow:
        tenants = parse_tenants({"tenants": [ehr.tenant(), slow.tenant(id="slow")]})
        service = start(tenants=tenants, deadline_s=1.2, reserve_s=0.4)
        for kind in ("Patient", "Observation", "DiagnosticReport", "ImagingStudy"):
            slow.delay_s[kind] = 2.5
        theirs = Service(service.app, slow, service.worker, service.folder)
        states: list[str] = []

        def ask(number: int) -> None:
            context = {"userId": f"Practitioner/{number}", "patientId": PATIENT_ID}
            other = Service(service.app, slow, service.worker, service.folder)
            states.append(state_of(other.card(context=context)))

        threads = [threading.Thread(target=ask, args=(n,)) for n in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(states) == ["could-not-assess"] * 3 + ["not-ready"] * 2
        assert state_of(service.card()) == "ready"
        assert "too busy" in theirs.card()["summary"]
