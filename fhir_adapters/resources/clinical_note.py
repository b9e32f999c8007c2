"""DocumentReference -> note: the newest valid version of a clinical document."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from fhir_adapters.errors import ValueRejectedError
from fhir_adapters.patient_record import ClinicalNote, Provenance
from fhir_adapters.policy import AdapterPolicy
from fhir_adapters.resources.diagnostic_report import (
    first_text,
    is_radiology,
    make_note,
)
from fhir_adapters.resources.elements import (
    Json,
    child,
    children,
    codes,
    local_reference,
    references,
    text,
)
from fhir_adapters.resources.imaging_study import ImagingStudySummary, accessions
from fhir_adapters.resources.moment import Moment, check_cutoff, parse_moment
from fhir_adapters.resources.pdf_text import PdfTexts

# LOINC document types of US Core's clinical notes.
_KINDS = {
    "11488-4": "consultation_note",
    "11506-3": "progress_note",
    "18842-5": "discharge_summary",
    "28570-0": "procedure_note",
    "34117-2": "history_and_physical",
}
_DOC_STATUS_FLAGS: dict[str, tuple[str, ...]] = {
    "": (),
    "final": (),
    "amended": ("amended",),
    "preliminary": ("preliminary",),
}


def note_kind(resource: Json) -> str:
    """What sort of document this is, by its type."""
    if is_radiology(resource):
        return "radiology_report"
    for code in sorted(codes(resource, "type")):
        if code in _KINDS:
            return _KINDS[code]
    return "clinical_note"


def read_document(
    resource: Json,
    provenance: Provenance,
    *,
    cutoff: datetime,
    policy: AdapterPolicy,
    pdfs: PdfTexts | None = None,
) -> ClinicalNote:
    """Read one DocumentReference whose subject is already known to be the patient.

    Raises:
        ValueRejectedError: ``superseded``, ``entered_in_error``, ``missing_status``,
            ``unknown_status``, a time that is unusable, or an attachment's reason.
    """
    status, doc_status = text(resource, "status"), text(resource, "docStatus")
    if "entered-in-error" in (status, doc_status):
        raise ValueRejectedError("entered_in_error")
    if status == "superseded":
        raise ValueRejectedError("superseded")
    if status != "current" or doc_status not in _DOC_STATUS_FLAGS:
        raise ValueRejectedError("unknown_status" if status else "missing_status")
    if resource.get("modifierExtension"):
        raise ValueRejectedError("modifier_extension")
    attachments = [child(item, "attachment") for item in children(resource, "content")]
    body, reason = first_text(attachments, policy, pdfs)
    if not body:
        raise ValueRejectedError(reason)
    written = _written(resource, attachments, policy)
    check_cutoff(written, cutoff, policy)
    return make_note(
        body,
        note_kind(resource),
        written,
        provenance,
        flags=(*_DOC_STATUS_FLAGS[doc_status], *written.flags),
        policy=policy,
    )


def _written(resource: Json, attachments: list[Json], policy: AdapterPolicy) -> Moment:
    """When the document could be read: ``date``, else creation, else the period."""
    period = child(child(resource, "context"), "period")
    created = [text(attachment, "creation") for attachment in attachments]
    for value in (text(resource, "date"), *created, text(period, "end")):
        if value:
            return parse_moment(value, policy)
    raise ValueRejectedError("no_timestamp")


def replaced(documents: Iterable[Json]) -> frozenset[str]:
    """References of documents that another one replaces, whatever their status says."""
    return frozenset(
        local_reference(text(child(relation, "target"), "reference"))
        for document in documents
        if text(document, "status") == "current"
        for relation in children(document, "relatesTo")
        if text(relation, "code") == "replaces"
    )


def is_document_of(resource: Json, study: ImagingStudySummary) -> bool:
    """Whether a document is the radiology report of this study, by what it relates to.

    A clinician's note may mention the study without being its report; only documents
    typed as radiology are tested.
    """
    if not is_radiology(resource):
        return False
    context = child(resource, "context")
    related = {local_reference(ref) for ref in references(context, "related")}
    if study.reference in related or related & study.based_on:
        return True
    wrapped = {
        "identifier": [child(x, "identifier") for x in children(context, "related")]
    }
    return bool((accessions(resource) | accessions(wrapped)) & study.accessions)
