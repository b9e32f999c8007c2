"""Names of the pieces of a synthetic case: the same as record and as FHIR."""

from __future__ import annotations

import uuid

PATIENT_SYSTEM = "https://synthetic.example/patient-number"

_UID_SPACE = uuid.UUID("5c1f7a3e-6b0d-4e5a-9f0e-2f3d7a1b9c44")


def dicom_uid(case_id: str, level: str) -> str:
    """The UID of one level ("study", "series", "instance") of a case's film."""
    return f"2.25.{uuid.uuid5(_UID_SPACE, f'{case_id}/{level}').int}"


def observation_id(case_id: str, loinc: str) -> str:
    """Id of the Observation of one code."""
    return f"{case_id}-{loinc}"


def note_id(case_id: str) -> str:
    """Id of the DocumentReference that holds the note."""
    return f"{case_id}-note"


def study_id(case_id: str) -> str:
    """Id of the ImagingStudy of the film."""
    return f"{case_id}-film"


def encounter_id(case_id: str) -> str:
    """Id of the visit."""
    return f"{case_id}-visit"


def endpoint_id(case_id: str) -> str:
    """Id of the DICOMweb Endpoint that serves the film."""
    return f"{case_id}-wado"
