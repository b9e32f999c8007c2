"""FHIR REST of the sandbox: tokens, compartment, reads, searches, pages."""

from __future__ import annotations

import json
from urllib.parse import urlsplit

import pytest
from fhir.resources.R4B.bundle import Bundle
from fhir.resources.R4B.capabilitystatement import CapabilityStatement
from fhir.resources.R4B.endpoint import Endpoint
from fhir.resources.R4B.operationoutcome import OperationOutcome


def get(client, path, headers):
    """A GET below /fhir: status and parsed body."""
    answer = client.get(f"/fhir/{path}", headers=headers)
    return answer.status_code, json.loads(answer.data) if answer.data else None


def ids(bundle) -> list[str]:
    """Ids of the matches, in order."""
    entries = bundle.get("entry", [])
    return [e["resource"]["id"] for e in entries if e["search"]["mode"] == "match"]


@pytest.mark.parametrize(
    "path", ["fhir/Patient/a", "fhir/Observation?patient=a", "dicomweb/studies"]
)
@pytest.mark.parametrize(
    "header", [None, "Basic YTpi", "Bearer ", "Bearer abc.def", "Bearer eyJhIjoxfQ.x"]
)
def test_no_valid_token_is_401(client, path, header) -> None:
    headers = {"Authorization": header} if header else {}
    answer = client.get(f"/{path}", headers=headers)
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    assert OperationOutcome.model_validate(answer.json).issue[0].code == "login"


def test_metadata_is_open_and_valid(client) -> None:
    answer = client.get("/fhir/metadata")
    statement = CapabilityStatement.model_validate(answer.json)
    types = {entry.type for entry in statement.rest[0].resource}
    assert {"Patient", "Observation", "ImagingStudy", "Endpoint", "Binary"} <= types


def test_read_gives_version_and_etag(client, ehr, bearer) -> None:
    answer = client.get("/fhir/Patient/a", headers=bearer)
    assert answer.content_type == "application/fhir+json"
    assert answer.headers["ETag"] == 'W/"1"'
    ehr.store.put({**ehr.patient("a"), "gender": "other"})
    again = client.get("/fhir/Patient/a", headers=bearer)
    assert (again.headers["ETag"], again.json["meta"]["versionId"]) == ('W/"2"', "2")
    same = {**bearer, "If-None-Match": 'W/"2"'}
    assert client.get("/fhir/Patient/a", headers=same).status_code == 304


@pytest.mark.parametrize(
    "path",
    [
        "Patient/b",
        "Patient?_id=b",
        "Observation/crp-b",
        "Observation?patient=b",
        "Observation?patient=Patient/b",
        "Observation?subject=a,b",
        "Observation?subject:Patient=b",
        "ImagingStudy/film-b",
    ],
)
def test_another_patient_is_403(client, bearer, path) -> None:
    status, body = get(client, path, bearer)
    assert status == 403
    assert body["issue"][0]["code"] == "forbidden"


def test_a_search_without_patient_stays_in_the_compartment(client, bearer) -> None:
    status, body = get(client, "Observation?code=1988-5&_count=100", bearer)
    assert status == 200
    assert "crp-b" not in ids(body) and len(ids(body)) == 5


def test_types_outside_every_compartment_are_readable(client, bearer) -> None:
    status, body = get(client, "Endpoint/sandbox-dicomweb", bearer)
    assert status == 200
    assert body["address"] == "http://127.0.0.1:8100/dicomweb"
    assert Endpoint.model_validate(body).extension[0].valueBoolean is True
    _, found = get(client, "Practitioner?name=sand", bearer)
    assert ids(found) == ["sandbox-clinician"]


@pytest.mark.parametrize(
    ("scope", "path", "status"),
    [
        ("patient/Observation.rs", "Observation/wbc", 200),
        ("patient/Observation.r", "Observation?patient=a", 403),
        ("patient/Observation.s", "Observation/wbc", 403),
        ("patient/Observation.read", "Observation?patient=a", 200),
        ("patient/*.rs", "Patient/a", 200),
        ("patient/Condition.rs", "Patient/a", 403),
        ("openid launch", "Patient/a", 403),
        ("system/*.rs", "Patient/a", 403),
    ],
)
def test_scopes_are_enforced(client, ehr, scope, path, status) -> None:
    token = ehr.tokens.issue("trivium", "a", scope)
    answer = client.get(f"/fhir/{path}", headers={"Authorization": f"Bearer {token}"})
    assert answer.status_code == status


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("Observation/none", 404, "not-found"),
        ("Medication/x", 404, "not-supported"),
        ("Binary?patient=a", 404, "not-supported"),
        ("Observation?date=soon", 400, "value"),
        ("Observation?date=ab2026", 400, "value"),
        ("Observation?_count=many", 400, "value"),
        ("Observation?code:not=1988-5", 400, "not-supported"),
        ("Observation?_page=forged", 400, "invalid"),
    ],
)
def test_errors_are_operation_outcomes(client, bearer, path, status, code) -> None:
    got, body = get(client, path, bearer)
    assert (got, body["issue"][0]["code"]) == (status, code)
    OperationOutcome.model_validate(body)


def test_only_json_is_served_and_only_get(client, bearer) -> None:
    xml = {**bearer, "Accept": "application/fhir+xml"}
    assert client.get("/fhir/Patient/a", headers=xml).status_code == 406
    answer = client.put("/fhir/Patient/a", headers=bearer, json={})
    assert answer.status_code == 405
    assert "GET" in answer.headers["Allow"]
    assert answer.json["resourceType"] == "OperationOutcome"


def test_unknown_parameter_is_ignored_aloud_or_refused(client, bearer) -> None:
    _, body = get(client, "Observation?patient=a&flavour=sweet", bearer)
    outcomes = [e for e in body["entry"] if e["search"]["mode"] == "outcome"]
    assert "flavour" in outcomes[0]["resource"]["issue"][0]["diagnostics"]
    assert "flavour" not in body["link"][0]["url"]
    strict = {**bearer, "Prefer": "handling=strict"}
    assert get(client, "Observation?patient=a&flavour=sweet", strict)[0] == 400


def test_pages_cover_everything_once_by_opaque_links(client, bearer) -> None:
    url = "/fhir/Observation?patient=a&_sort=-date&_count=2"
    seen, pages = [], 0
    while url:
        body = client.get(url, headers=bearer).json
        Bundle.model_validate(body)
        assert body["total"] == 6
        seen += ids(body)
        pages += 1
        nexts = [link["url"] for link in body["link"] if link["relation"] == "next"]
        parts = urlsplit(nexts[0]) if nexts else None
        url = f"{parts.path}?{parts.query}" if parts else ""
        assert "offset" not in url and "patient=" not in url
    assert pages == 3
    assert seen == ["crp-5", "crp-4", "crp-3", "crp-2", "wbc", "crp-1"]


def test_a_page_is_good_for_its_own_patient_only(client, ehr, bearer) -> None:
    body = client.get("/fhir/Observation?_count=2", headers=bearer).json
    link = body["link"][1]["url"].removeprefix("http://127.0.0.1:8100")
    other = ehr.tokens.issue("trivium", "b", "patient/*.rs")
    headers = {"Authorization": f"Bearer {other}"}
    assert client.get(link, headers=headers).status_code == 403
    moved = link.replace("Observation", "Encounter")
    assert client.get(moved, headers=bearer).status_code == 403


def test_count_zero_counts_only(client, bearer) -> None:
    _, body = get(client, "Observation?patient=a&_count=0", bearer)
    assert body["total"] == 6
    assert "entry" not in body and len(body["link"]) == 1


def test_post_search_takes_the_form_and_the_query(client, bearer) -> None:
    answer = client.post(
        "/fhir/Observation/_search?_count=1",
        headers=bearer,
        data={"patient": "a", "code": f"{'http://loinc.org'}|6690-2"},
    )
    assert ids(answer.json) == ["wbc"]
    wrong = client.post("/fhir/Observation/_search", headers=bearer, json={})
    assert wrong.status_code == 415


def test_binary_belongs_to_the_patient_it_names(client, ehr, bearer) -> None:
    for patient in ("a", "b"):
        ehr.store.put(
            {
                "resourceType": "Binary",
                "id": f"scan-{patient}",
                "contentType": "text/plain",
                "securityContext": {"reference": f"Patient/{patient}"},
                "data": "aGk=",
            }
        )
    assert get(client, "Binary/scan-a", bearer)[0] == 200
    assert get(client, "Binary/scan-b", bearer)[0] == 403


def test_a_foreign_host_name_is_not_answered(client, bearer) -> None:
    for path in ("/", "/fhir/Patient/a", "/chart/a"):
        answer = client.get(path, headers={**bearer, "Host": "rebound.example"})
        assert answer.status_code == 400
        assert b"Elmsward" not in answer.data
