"""Small valid FHIR R4 resources for tests; each call gives a fresh one."""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import numpy as np

from fhir_adapters.patient_record import ChestImage, Provenance
from fhir_adapters.received import Received

LOINC = "http://loinc.org"
UCUM = "http://unitsofmeasure.org"
CUTOFF = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
BEFORE = "2026-03-01T08:00:00Z"
STUDY_UID = "1.2.826.0.1.3680043.8.498.1"
SERIES_UID = "1.2.826.0.1.3680043.8.498.2"
SOP_UID = "1.2.826.0.1.3680043.8.498.3"
SUBJECT = {"reference": "Patient/p1"}

Json = dict[str, Any]


def concept(*codings: tuple[str, str]) -> Json:
    return {"coding": [{"system": system, "code": code} for system, code in codings]}


def loinc(code: str) -> Json:
    return concept((LOINC, code))


def quantity(value: Any, unit: str, **more: Any) -> Json:
    return {"value": value, "unit": unit, "system": UCUM, "code": unit, **more}


def patient(**more: Any) -> Json:
    return {
        "resourceType": "Patient",
        "id": "p1",
        "gender": "female",
        "birthDate": "1961-04-10",
        "identifier": [{"system": "urn:mrn", "value": "MRN-1"}],
        **more,
    }


def observation(code: str = "2951-2", value: Any = None, **more: Any) -> Json:
    """Sodium 140 mmol/L unless told otherwise; ``None`` in ``more`` removes a key."""
    resource = {
        "resourceType": "Observation",
        "id": "o1",
        "status": "final",
        "subject": dict(SUBJECT),
        "code": loinc(code),
        "effectiveDateTime": BEFORE,
        "valueQuantity": quantity(Decimal("140"), "mmol/L") if value is None else value,
        **more,
    }
    return {key: item for key, item in resource.items() if item is not None}


def blood_pressure(**more: Any) -> Json:
    components = [
        {"code": loinc("8480-6"), "valueQuantity": quantity(Decimal(120), "mm[Hg]")},
        {"code": loinc("8462-4"), "valueQuantity": quantity(Decimal(80), "mm[Hg]")},
    ]
    made = observation("85354-9", **{"component": components, **more})
    del made["valueQuantity"]
    return made


def attachment(text: str, content_type: str = "text/plain", **more: Any) -> Json:
    data = base64.b64encode(text.encode()).decode()
    return {"contentType": content_type, "data": data, **more}


def report(text: str = "FINDINGS: clear lungs.", **more: Any) -> Json:
    resource = {
        "resourceType": "DiagnosticReport",
        "id": "r1",
        "status": "final",
        "subject": dict(SUBJECT),
        "category": [concept(("http://terminology.hl7.org/CodeSystem/v2-0074", "RAD"))],
        "code": loinc("36643-5"),
        "effectiveDateTime": BEFORE,
        "presentedForm": [attachment(text)],
        **more,
    }
    return {key: item for key, item in resource.items() if item is not None}


def document(text: str = "Cough for three days.", **more: Any) -> Json:
    resource = {
        "resourceType": "DocumentReference",
        "id": "d1",
        "status": "current",
        "subject": dict(SUBJECT),
        "type": loinc("11506-3"),
        "date": BEFORE,
        "content": [{"attachment": attachment(text)}],
        **more,
    }
    return {key: item for key, item in resource.items() if item is not None}


def endpoint(address: str = "https://pacs.example/dicomweb", **more: Any) -> Json:
    return {
        "resourceType": "Endpoint",
        "id": "e1",
        "status": "active",
        "connectionType": {"code": "dicom-wado-rs"},
        "address": address,
        **more,
    }


def series(**more: Any) -> Json:
    return {
        "uid": SERIES_UID,
        "modality": {"code": "DX"},
        "bodySite": {"system": "http://snomed.info/sct", "code": "51185008"},
        "instance": [{"uid": SOP_UID}],
        **more,
    }


def imaging_study(**more: Any) -> Json:
    resource = {
        "resourceType": "ImagingStudy",
        "id": "s1",
        "status": "available",
        "subject": dict(SUBJECT),
        "started": BEFORE,
        "identifier": [{"system": "urn:dicom:uid", "value": f"urn:oid:{STUDY_UID}"}],
        "endpoint": [{"reference": "Endpoint/e1"}],
        "series": [series()],
        **more,
    }
    return {key: item for key, item in resource.items() if item is not None}


def chest_image(view: str | None = "PA", **more: Any) -> ChestImage:
    fields: Json = {
        "pixels": np.zeros((2, 2), dtype=np.float32),
        "view": view,
        "view_inferred": False,
        "study_uid": STUDY_UID,
        "series_uid": SERIES_UID,
        "sop_uid": SOP_UID,
        "acquired_at": datetime(2026, 3, 1, 8, 0, tzinfo=UTC),
        "provenance": Provenance(f"ImagingStudy/s1#{SOP_UID}", "dicomweb", "0" * 64),
        **more,
    }
    return ChestImage(**fields)


def received(*resources: Any, origin: str = "fhir") -> list[Received]:
    return [Received(resource, origin) for resource in resources]


def bundle(*resources: Json, link: str = "", **more: Any) -> Json:
    made: Json = {
        "resourceType": "Bundle",
        "type": "searchset",
        "entry": [{"resource": resource} for resource in resources],
        **more,
    }
    if link:
        made["link"] = [{"relation": "next", "url": link}]
    return made
