"""Patient -> :class:`PatientIdentity`: who this is, without name or address."""

from __future__ import annotations

from fhir_adapters.errors import MalformedResourceError, WrongPatientError
from fhir_adapters.patient_record import PatientIdentity
from fhir_adapters.resources.elements import (
    children,
    resource_id,
    resource_type,
    text,
)
from fhir_adapters.resources.moment import parse_date

_SEXES = frozenset({"male", "female", "other", "unknown"})


def read_patient(resource: object, expected_id: str | None = None) -> PatientIdentity:
    """Read the patient in context.

    A birth date that is partial or impossible is left unknown, not completed. Only
    ids are kept; identifiers are needed to match DICOM's PatientID.

    Args:
        resource: A FHIR R4 Patient as plain JSON.
        expected_id: The patient the EHR has open; None skips that check.

    Raises:
        MalformedResourceError: Not a Patient, or without a usable id.
        WrongPatientError: Another patient (attack or mix-up of two open charts).
    """
    if resource_type(resource) != "Patient":
        raise MalformedResourceError("not_a_patient")
    patient_id = resource_id(resource)
    if not patient_id:
        raise MalformedResourceError("no_id", "Patient without a usable id")
    if expected_id is not None and patient_id != expected_id:
        raise WrongPatientError()
    sex = text(resource, "gender")
    return PatientIdentity(
        patient_id=patient_id,
        identifiers=_identifiers(resource),
        sex=sex if sex in _SEXES else None,
        birth_date=parse_date(text(resource, "birthDate")),
    )


def _identifiers(resource: object) -> tuple[tuple[str, str], ...]:
    """(system, value) of each identifier in use; withdrawn ones no longer identify."""
    return tuple(
        (text(item, "system"), text(item, "value"))
        for item in children(resource, "identifier")
        if text(item, "value") and text(item, "use") != "old"
    )
