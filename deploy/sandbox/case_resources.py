"""The FHIR resources of one published case; the rules are those of the import.

A pure function of the case and the time of its film. What the source did not record
stays out, and no label, note text before masking, date, place or credit goes in.
"""

from __future__ import annotations

import base64
import uuid
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from deploy.sandbox.ehr import ENDPOINT_ID
from deploy.sandbox.store import Resource
from model.datasets.case_rows import (
    Measured,
    entries,
    measured,
    number_of,
    observation_id,
)
from model.synthetic.dx_writer import DX_FOR_PRESENTATION

CASE_SYSTEM = "urn:trivium:sandbox:case"
VALUE_SYSTEM = "urn:trivium:sandbox:value"
TAG_SYSTEM = "urn:trivium:sandbox:source"
TAG = {
    "system": TAG_SYSTEM,
    "code": "published-case",
    "display": "Published case, dates made up on import",
}

_LOINC = "http://loinc.org"
_UCUM = "http://unitsofmeasure.org"
_DCM = "http://dicom.nema.org/resources/ontology/DCM"
_TERMS = "http://terminology.hl7.org/CodeSystem"
_UID_SPACE = uuid.UUID("7f0a2c1e-51d4-4f0b-8f6e-3a4c9d2b6e10")
_NAMES = {
    "spo2": "Oxygen saturation",
    "temperature": "Body temperature",
    "lymphocytes": "Lymphocytes",
    "leukocytes": "Leukocytes",
    "neutrophils": "Neutrophils",
    "crp": "C-reactive protein",
    "d_dimer": "D-dimer",
    "po2": "Oxygen partial pressure",
    "pco2": "Carbon dioxide partial pressure",
    "factor_xiii": "Coagulation factor XIII",
    "ldh": "Lactate dehydrogenase",
}
_VITAL_SIGNS = {"spo2", "temperature"}
_OFF_SCALE = {
    "below detection limit": ("<", "Off scale low"),
    "above detection limit": (">", "Off scale high"),
}


def case_resources(row: dict[str, Any], film_at: datetime) -> list[Resource]:
    """FHIR resources of one case; no label and nothing that gives it away."""
    name = row["case_id"]
    resources = [_patient(row), _imaging_study(row, film_at)]
    age = number_of(row.get("age"))
    if age is not None:
        resources.append(_age(name, age, film_at))
    for key, entry in sorted(entries(row).items()):
        found = measured(entry)
        if found is not None:
            resources.append(_observation(name, key, found, film_at))
    note = row.get("note_masked")
    if isinstance(note, str) and note.strip():
        resources.append(_document(name, note, film_at))
    for resource in resources:
        resource["meta"] = {"tag": [TAG]}
    return resources


def case_uid(case_id: str, level: str) -> str:
    """UID of the study, series or instance of a case: the same on every import."""
    return f"2.25.{uuid.uuid5(_UID_SPACE, f'{case_id}/{level}').int}"


def _reference(row_id: str) -> Resource:
    return {"reference": f"Patient/{row_id}"}


def _patient(row: dict[str, Any]) -> Resource:
    patient: Resource = {
        "resourceType": "Patient",
        "id": row["case_id"],
        "identifier": [{"system": CASE_SYSTEM, "value": row["case_id"]}],
    }
    if row.get("sex") in ("female", "male", "other"):
        patient["gender"] = row["sex"]
    return patient


def _age(name: str, age: Decimal, film_at: datetime) -> Resource:
    coding = {"system": _LOINC, "code": "30525-0", "display": "Age"}
    return {
        "resourceType": "Observation",
        "id": observation_id(name, "age"),
        "status": "final",
        "code": {"coding": [coding], "text": "Age"},
        "subject": _reference(name),
        "effectiveDateTime": film_at.isoformat(),
        "valueQuantity": _quantity(age, "a"),
    }


def _quantity(value: Decimal, unit: str) -> Resource:
    number = int(value) if value == int(value) else float(value)
    return {"value": number, "unit": unit, "system": _UCUM, "code": unit}


def _observation(name: str, key: str, found: Measured, film_at: datetime) -> Resource:
    at = film_at + timedelta(days=found.day_offset)
    category = "vital-signs" if key in _VITAL_SIGNS else "laboratory"
    coding = {"system": VALUE_SYSTEM, "code": key}
    if found.loinc:
        coding = {"system": _LOINC, "code": found.loinc}
    resource: Resource = {
        "resourceType": "Observation",
        "id": observation_id(name, key),
        "status": "final",
        "category": [
            {"coding": [{"system": f"{_TERMS}/observation-category", "code": category}]}
        ],
        "code": {"coding": [coding], "text": _NAMES.get(key, key)},
        "subject": _reference(name),
        "effectiveDateTime": at.isoformat(),
    }
    if found.value is not None and found.unit is not None:
        resource["valueQuantity"] = _quantity(found.value, found.unit)
        return resource
    return {**resource, **_off_scale(found)}


def _off_scale(found: Measured) -> Resource:
    """A measurement without a number: why, and on which side of the scale."""
    said = found.interpretation or "not stated"
    absent = {
        "coding": [{"system": f"{_TERMS}/data-absent-reason", "code": "unknown"}],
        "text": f"{said}; the source does not give the limit",
    }
    if said not in _OFF_SCALE:
        return {"dataAbsentReason": {"coding": absent["coding"]}}
    code, display = _OFF_SCALE[said]
    system = f"{_TERMS}/v3-ObservationInterpretation"
    coding = {"system": system, "code": code, "display": display}
    return {"dataAbsentReason": absent, "interpretation": [{"coding": [coding]}]}


def _document(name: str, note: str, film_at: datetime) -> Resource:
    content = note.encode()
    attachment = {
        "contentType": "text/plain; charset=utf-8",
        "data": base64.b64encode(content).decode(),
        "size": len(content),
        "title": "Case description (masked)",
    }
    coding = {"system": _LOINC, "code": "34109-9", "display": "Note"}
    return {
        "resourceType": "DocumentReference",
        "id": observation_id(name, "note"),
        "status": "current",
        "type": {"coding": [coding], "text": "Case description (masked)"},
        "subject": _reference(name),
        "date": film_at.isoformat(),
        "content": [{"attachment": attachment}],
    }


def _imaging_study(row: dict[str, Any], film_at: datetime) -> Resource:
    name = row["case_id"]
    modality = {"system": _DCM, "code": "DX"}
    instance = {
        "uid": case_uid(name, "instance"),
        "number": 1,
        "sopClass": {
            "system": "urn:ietf:rfc:3986",
            "code": f"urn:oid:{DX_FOR_PRESENTATION}",
        },
    }
    series = {
        "uid": case_uid(name, "series"),
        "number": 1,
        "modality": modality,
        "numberOfInstances": 1,
        "bodySite": {
            "system": "http://snomed.info/sct",
            "code": "51185008",
            "display": "Chest",
        },
        "instance": [instance],
    }
    study_uid = f"urn:oid:{case_uid(name, 'study')}"
    return {
        "resourceType": "ImagingStudy",
        "id": observation_id(name, "film"),
        "identifier": [{"system": "urn:dicom:uid", "value": study_uid}],
        "status": "available",
        "modality": [modality],
        "subject": _reference(name),
        "started": film_at.isoformat(),
        "endpoint": [{"reference": f"Endpoint/{ENDPOINT_ID}"}],
        "numberOfSeries": 1,
        "numberOfInstances": 1,
        "description": "Chest radiograph",
        "series": [series],
    }
