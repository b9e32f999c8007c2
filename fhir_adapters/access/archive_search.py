"""Studies that the archive knows and the EHR does not: QIDO-RS by accession number.

Many sites expose no DICOM through FHIR. The film then lies behind the hospital's own
DICOMweb gateway, found by the accession number of the order. Rules:

1. Numbers come from this patient's own resources: identifiers of type ACSN of a report,
   a study or the order that it is based on.
2. The archive is asked for the number *and* the PatientID, and only a row that repeats
   both is believed: accession numbers are not unique across hospitals (harm: somebody
   else's film).
3. What is found goes on as an ImagingStudy whose id is its StudyInstanceUID, so that a
   report of the very film is still recognised by its accession number and left out.
4. Nothing found is a missing modality, not an error.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice, product
from typing import Any

from fhir_adapters.access.dicomweb import DicomWebClient
from fhir_adapters.access.film_choice import first, values_of
from fhir_adapters.access.gather_steps import failure_of
from fhir_adapters.access.gather_types import GatherContext, StepResult
from fhir_adapters.bundle import entry_refusal, subject_refusal
from fhir_adapters.dicom.instance import is_uid
from fhir_adapters.errors import AdapterError
from fhir_adapters.patient_record import PatientIdentity
from fhir_adapters.received import Received
from fhir_adapters.resources.elements import (
    child,
    children,
    local_reference,
    references,
    resource_type,
)
from fhir_adapters.resources.imaging_study import RADIOGRAPH_MODALITIES, accessions

_SOURCES = frozenset({"DiagnosticReport", "ImagingStudy"})
_MAX_QUERIES = 6
_MAX_ORDERS = 2
_ACCESSION, _PATIENT_ID, _STUDY_UID = "00080050", "00100020", "0020000D"
_DATE, _TIME, _OFFSET, _MODALITIES = "00080020", "00080030", "00080201", "00080061"

Json = dict[str, Any]


def studies_by_accession(
    context: GatherContext,
    identity: PatientIdentity,
    patient_ids: frozenset[str],
    received: Sequence[Received],
    deadline: float,
    result: StepResult,
) -> list[Json]:
    """Radiograph studies found in the site's archive, as ImagingStudy resources.

    Args:
        context: What to gather; its first DICOMweb base is asked, without a token.
        identity: The patient.
        patient_ids: PatientID values that are this patient's.
        received: Reports and studies.
        deadline: ``time.monotonic()`` seconds.
        result: Failures are added to it.
    """
    if not context.dicomweb_bases:
        return []
    own = [
        item.resource
        for item in received
        if resource_type(item.resource) in _SOURCES
        and not entry_refusal(item)
        and not subject_refusal(item.resource, identity, context.adapters)
    ]
    numbers = _numbers(own) or _ordered(own, identity, context, deadline, result)
    client = DicomWebClient(context.dicomweb_bases[0], context.door)
    found: dict[str, Json] = {}
    for number, patient in islice(product(numbers, sorted(patient_ids)), _MAX_QUERIES):
        try:
            rows = client.find_studies(number, patient, deadline)
        except AdapterError as error:
            result.failures.append(failure_of("image", error, partial=True))
            continue
        for row in rows:
            study = _study(row, number, patient, identity.patient_id)
            if study is not None:
                found[study["id"]] = study
    return list(found.values())


def _numbers(resources: Sequence[Json]) -> list[str]:
    """Accession numbers, each once, in the order received (newest first)."""
    found: dict[str, None] = {}
    for resource in resources:
        found.update(dict.fromkeys(sorted(accessions(resource))))
        for order in children(resource, "basedOn"):
            logical = {"identifier": [child(order, "identifier")]}
            found.update(dict.fromkeys(sorted(accessions(logical))))
    return list(found)


def _ordered(
    resources: Sequence[Json],
    identity: PatientIdentity,
    context: GatherContext,
    deadline: float,
    result: StepResult,
) -> list[str]:
    """Accession numbers of the orders that the resources are based on."""
    if context.fhir is None:
        return []
    orders: list[Json] = []
    for name in islice(_order_ids(resources), _MAX_ORDERS):
        try:
            order = context.fhir.read("ServiceRequest", name, deadline)
        except AdapterError as error:
            result.failures.append(failure_of("image", error, partial=True))
            continue
        if not subject_refusal(order, identity, context.adapters):
            orders.append(order)
    return _numbers(orders)


def _order_ids(resources: Sequence[Json]) -> Iterator[str]:
    for resource in resources:
        for reference in references(resource, "basedOn"):
            kind, _, name = local_reference(reference).partition("/")
            if kind == "ServiceRequest":
                yield name


def _study(row: Json, number: str, patient: str, subject: str) -> Json | None:
    """A row as an ImagingStudy, None unless it is what was asked for (rule 2)."""
    uid = first(row, _STUDY_UID)
    asked = first(row, _ACCESSION) == number and first(row, _PATIENT_ID) == patient
    modalities = {str(value).strip().upper() for value in values_of(row, _MODALITIES)}
    if not asked or not is_uid(uid):
        return None
    if modalities and not modalities & RADIOGRAPH_MODALITIES:
        return None
    study: Json = {
        "resourceType": "ImagingStudy",
        "id": uid,
        "status": "available",
        "subject": {"reference": f"Patient/{subject}"},
        "identifier": [
            {"system": "urn:dicom:uid", "value": f"urn:oid:{uid}"},
            {"type": {"coding": [{"code": "ACSN"}]}, "value": number},
        ],
        "modality": [
            {"code": code} for code in sorted(modalities or RADIOGRAPH_MODALITIES)
        ],
    }
    started = _started(row)
    return study if started is None else {**study, "started": started}


def _started(row: Json) -> str | None:
    """StudyDate and StudyTime as FHIR writes them; the policy judges a missing zone."""
    day, time = first(row, _DATE), first(row, _TIME).partition(".")[0]
    offset = first(row, _OFFSET)
    if not (len(day) == 8 and day.isdigit() and len(time) == 6 and time.isdigit()):
        return None
    zone = f"{offset[:3]}:{offset[3:]}" if len(offset) == 5 else ""
    date = f"{day[:4]}-{day[4:6]}-{day[6:]}"
    return f"{date}T{time[:2]}:{time[2:4]}:{time[4:]}{zone}"
