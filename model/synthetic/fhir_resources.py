"""The FHIR R4 resources of a synthetic case, as plain JSON.

Quantities are numbers whose JSON text reads back as the very decimal that was drawn.
"""

from __future__ import annotations

import base64
import hashlib
from datetime import datetime
from decimal import Decimal
from typing import Any

from model.synthetic.case import MeasuredValue, SynthCase
from model.synthetic.dx_writer import DX_FOR_PRESENTATION
from model.synthetic.identifiers import (
    PATIENT_SYSTEM,
    dicom_uid,
    encounter_id,
    endpoint_id,
    note_id,
    observation_id,
    study_id,
)

Resource = dict[str, Any]


def _number(value: Decimal) -> int | float:
    """A JSON number equal to ``value``; a float's text is its shortest decimal."""
    return int(value) if value == value.to_integral_value() else float(value)


def _coding(system: str, code: str, display: str | None = None) -> Resource:
    coding = {"system": system, "code": code}
    return coding if display is None else {**coding, "display": display}


def _instant(at: datetime) -> str:
    return at.isoformat(timespec="seconds")


def patient_resource(case: SynthCase, patient: str) -> Resource:
    """The Patient, without a name: nothing here needs one."""
    return {
        "resourceType": "Patient",
        "id": patient,
        "identifier": [{"system": PATIENT_SYSTEM, "value": patient}],
        "active": True,
        "gender": case.sex,
        "birthDate": case.birth_date.isoformat(),
    }


def encounter_resource(case: SynthCase, subject: Resource) -> Resource:
    """The visit, from the first measurement on."""
    first = min((v.measured_at for v in case.values), default=case.film_at)
    return {
        "resourceType": "Encounter",
        "id": encounter_id(case.case_id),
        "status": "in-progress",
        "class": _coding(
            "http://terminology.hl7.org/CodeSystem/v3-ActCode", "EMER", "emergency"
        ),
        "subject": subject,
        "period": {"start": _instant(first)},
    }


def observation_resource(
    case: SynthCase, value: MeasuredValue, subject: Resource, encounter: Resource
) -> Resource:
    """One value with its unit, range and, where there is one, flag."""
    unit = {
        "unit": value.unit,
        "system": "http://unitsofmeasure.org",
        "code": value.unit,
    }
    resource: Resource = {
        "resourceType": "Observation",
        "id": observation_id(case.case_id, value.loinc),
        "status": "final",
        "category": [
            {
                "coding": [
                    _coding(
                        "http://terminology.hl7.org/CodeSystem/observation-category",
                        value.category,
                    )
                ]
            }
        ],
        "code": {
            "coding": [_coding("http://loinc.org", value.loinc, value.name)],
            "text": value.name,
        },
        "subject": subject,
        "encounter": encounter,
        "effectiveDateTime": _instant(value.measured_at),
        "issued": _instant(value.measured_at),
        "valueQuantity": {"value": _number(value.value), **unit},
    }
    bounds = {"low": value.reference_low, "high": value.reference_high}
    limits = {
        name: {"value": _number(bound), **unit}
        for name, bound in bounds.items()
        if bound is not None
    }
    if limits:
        resource["referenceRange"] = [limits]
    if value.interpretation is not None:
        system = "http://terminology.hl7.org/CodeSystem/v3-ObservationInterpretation"
        resource["interpretation"] = [
            {"coding": [_coding(system, value.interpretation)]}
        ]
    return resource


def document_resource(
    case: SynthCase, subject: Resource, encounter: Resource
) -> Resource:
    """The note as a clinical-note document."""
    content = case.note.text.encode()
    return {
        "resourceType": "DocumentReference",
        "id": note_id(case.case_id),
        "status": "current",
        "docStatus": "final",
        "type": {
            "coding": [
                _coding("http://loinc.org", "34117-2", "History and physical note")
            ]
        },
        "category": [
            {
                "coding": [
                    _coding(
                        "http://hl7.org/fhir/us/core/CodeSystem/"
                        "us-core-documentreference-category",
                        "clinical-note",
                        "Clinical Note",
                    )
                ]
            }
        ],
        "subject": subject,
        "date": _instant(case.note_at),
        "content": [
            {
                "attachment": {
                    "contentType": "text/plain; charset=utf-8",
                    "data": base64.b64encode(content).decode(),
                    "size": len(content),
                    "hash": base64.b64encode(
                        hashlib.sha1(content, usedforsecurity=False).digest()
                    ).decode(),
                    "creation": _instant(case.note_at),
                }
            }
        ],
        "context": {
            "encounter": [encounter],
            "period": {"start": _instant(case.note_at)},
        },
    }


def endpoint_resource(case: SynthCase, address: str) -> Resource:
    """The DICOMweb service that holds the film."""
    return {
        "resourceType": "Endpoint",
        "id": endpoint_id(case.case_id),
        "status": "active",
        "connectionType": _coding(
            "http://terminology.hl7.org/CodeSystem/endpoint-connection-type",
            "dicom-wado-rs",
        ),
        "payloadType": [{"text": "DICOM WADO-RS"}],
        "payloadMimeType": ["application/dicom"],
        "address": address,
    }


def imaging_study_resource(
    case: SynthCase, subject: Resource, encounter: Resource
) -> Resource:
    """The study with its one series and instance."""
    dicom = "http://dicom.nema.org/resources/ontology/DCM"
    return {
        "resourceType": "ImagingStudy",
        "id": study_id(case.case_id),
        "identifier": [
            {
                "system": "urn:dicom:uid",
                "value": f"urn:oid:{dicom_uid(case.case_id, 'study')}",
            }
        ],
        "status": "available",
        "modality": [_coding(dicom, "DX")],
        "subject": subject,
        "encounter": encounter,
        "started": _instant(case.film_at),
        "endpoint": [{"reference": f"Endpoint/{endpoint_id(case.case_id)}"}],
        "numberOfSeries": 1,
        "numberOfInstances": 1,
        "description": "Chest PA",
        "series": [
            {
                "uid": dicom_uid(case.case_id, "series"),
                "number": 1,
                "modality": _coding(dicom, "DX"),
                "numberOfInstances": 1,
                "bodySite": _coding("http://snomed.info/sct", "816094009", "Chest"),
                "started": _instant(case.film_at),
                "instance": [
                    {
                        "uid": dicom_uid(case.case_id, "instance"),
                        "sopClass": _coding(
                            "urn:ietf:rfc:3986", f"urn:oid:{DX_FOR_PRESENTATION}"
                        ),
                        "number": 1,
                    }
                ],
            }
        ],
    }
