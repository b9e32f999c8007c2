"""A sandbox EHR with three small patients, in this process or on a free port."""

from __future__ import annotations

import base64
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from flask import Flask
from flask.testing import FlaskClient

from deploy.sandbox.access_tokens import HOOK_SCOPE
from deploy.sandbox.app import application
from deploy.sandbox.ehr import ENDPOINT_ID, Ehr, open_ehr
from deploy.sandbox.store import Resource, Store
from model.synthetic.dx_writer import FilmFacts, dx_instance
from tests.sandbox.cds_service import FakeService, serving

LOINC = "http://loinc.org"
STUDY, SERIES, SOP = "2.25.11", "2.25.12", "2.25.13"


def observation(
    name: str, patient: str, code: str, value: float, at: str, **changes
) -> Resource:
    """A laboratory Observation."""
    system = "http://terminology.hl7.org/CodeSystem/observation-category"
    return {
        "resourceType": "Observation",
        "id": name,
        "status": "final",
        "category": [{"coding": [{"system": system, "code": "laboratory"}]}],
        "code": {"coding": [{"system": LOINC, "code": code}], "text": f"Test {code}"},
        "subject": {"reference": f"Patient/{patient}"},
        "effectiveDateTime": at,
        "valueQuantity": {
            "value": value,
            "unit": "mg/L",
            "system": "http://unitsofmeasure.org",
            "code": "mg/L",
        },
        **changes,
    }


def imaging_study(name: str, patient: str, study: str, series: str, sop: str):
    """An ImagingStudy with one DX instance at the sandbox's own Endpoint."""
    modality = {"system": "http://dicom.nema.org/resources/ontology/DCM", "code": "DX"}
    instance = {
        "uid": sop,
        "sopClass": {
            "system": "urn:ietf:rfc:3986",
            "code": "urn:oid:1.2.840.10008.5.1.4.1.1.1.1",
        },
    }
    return {
        "resourceType": "ImagingStudy",
        "id": name,
        "identifier": [{"system": "urn:dicom:uid", "value": f"urn:oid:{study}"}],
        "status": "available",
        "subject": {"reference": f"Patient/{patient}"},
        "started": "2026-03-02T08:00:00Z",
        "endpoint": [{"reference": f"Endpoint/{ENDPOINT_ID}"}],
        "description": "Chest radiograph",
        "series": [{"uid": series, "modality": modality, "instance": [instance]}],
    }


def gradient_film(patient: str, study: str, series: str, sop: str) -> bytes:
    """A DX instance whose pixels are a known ramp."""
    ramp = np.tile(np.linspace(0, 1, 40, dtype=np.float32), (32, 1))
    return dx_instance(
        ramp,
        patient_id=patient,
        study_uid=study,
        series_uid=series,
        sop_uid=sop,
        view="PA",
        facts=FilmFacts(sex="female"),
    )


def note(name: str, patient: str, text: str) -> Resource:
    """A plain-text DocumentReference."""
    attachment = {
        "contentType": "text/plain",
        "data": base64.b64encode(text.encode()).decode(),
    }
    return {
        "resourceType": "DocumentReference",
        "id": name,
        "status": "current",
        "type": {"text": "Admission note"},
        "subject": {"reference": f"Patient/{patient}"},
        "date": "2026-03-02T09:00:00Z",
        "content": [{"attachment": attachment}],
    }


def fill(store: Store) -> None:
    """Patient a with everything, b with one value and a film, c with nothing."""
    store.put(
        {
            "resourceType": "Patient",
            "id": "a",
            "name": [{"family": "Elmsward", "given": ["Iris"]}],
            "gender": "female",
            "birthDate": "1961-07-09",
        }
    )
    store.put({"resourceType": "Patient", "id": "b", "gender": "male"})
    store.put({"resourceType": "Patient", "id": "c"})
    for day in range(1, 6):
        at = f"2026-03-0{day}T07:30:00Z"
        store.put(observation(f"crp-{day}", "a", "1988-5", 10.0 * day, at))
    store.put(observation("wbc", "a", "6690-2", 14.0, "2026-03-02T09:15:00+02:00"))
    store.put(observation("crp-b", "b", "1988-5", 3.0, "2026-03-01"))
    store.put(imaging_study("film-a", "a", STUDY, SERIES, SOP))
    store.put_instance(gradient_film("a", STUDY, SERIES, SOP))
    store.put(imaging_study("film-b", "b", "2.25.21", "2.25.22", "2.25.23"))
    store.put_instance(gradient_film("b", "2.25.21", "2.25.22", "2.25.23"))
    store.put(note("note-a", "a", "Cough for <b>three</b> days.\nCrackles right."))
    visit = {"resourceType": "Encounter", "id": "visit-a", "status": "in-progress"}
    visit["class"] = {
        "system": "http://terminology.hl7.org/CodeSystem/v3-ActCode",
        "code": "EMER",
    }
    visit["subject"] = {"reference": "Patient/a"}
    visit["period"] = {"start": "2026-03-02T06:00:00Z"}
    store.put(visit)


@pytest.fixture
def ehr(tmp_path: Path) -> Ehr:
    """The three patients behind the default addresses, nothing listening."""
    opened = open_ehr(
        tmp_path / "store", "http://127.0.0.1:8100", "http://127.0.0.1:8000"
    )
    fill(opened.store)
    return opened


@pytest.fixture
def app(ehr: Ehr) -> Flask:
    """The application over those patients."""
    return application(ehr)


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    """A client without a token."""
    return app.test_client()


@pytest.fixture
def bearer(ehr: Ehr) -> dict[str, str]:
    """Headers with a token for patient a and every scope of a hook call."""
    token = ehr.tokens.issue("trivium", "a", HOOK_SCOPE)
    return {"Authorization": f"Bearer {token}"}


@dataclass
class Running:
    """A sandbox and a CDS service that listen and know each other."""

    ehr: Ehr
    url: str
    service: FakeService


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    """Both servers on free loopback ports."""
    service = FakeService()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with serving(service.application()) as service_url:
        service.url = service_url
        opened = open_ehr(tmp_path / "live", f"http://127.0.0.1:{port}", service_url)
        fill(opened.store)
        with serving(application(opened), port) as url:
            yield Running(opened, url, service)
