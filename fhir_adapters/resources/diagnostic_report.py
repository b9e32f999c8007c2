"""DiagnosticReport -> note: the text of a report, and which image it is about.

The text is taken from ``presentedForm`` (plain, HTML, RTF, PDF), else from
``conclusion``.
Which report speaks about which image matters more than its words: the report of the
image being scored states the answer (label leakage), see :func:`is_report_of`.
"""

from __future__ import annotations

from datetime import datetime

from fhir_adapters.errors import ValueRejectedError
from fhir_adapters.patient_record import ClinicalNote, Provenance
from fhir_adapters.policy import AdapterPolicy
from fhir_adapters.resources.attachment import (
    attachment_text,
    check_language,
    clean_text,
    readable_first,
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
from fhir_adapters.resources.moment import (
    Moment,
    check_cutoff,
    effective_moment,
    parse_moment,
)
from fhir_adapters.resources.pdf_text import PdfTexts
from fhir_adapters.resources.sections import find_sections

RADIOLOGY_CATEGORIES = frozenset({"LP29684-5", "RAD"})
RADIOLOGY_CODES = frozenset(
    {"36643-5", "36554-4", "42272-5", "18782-3", "19005-8", "18748-4", "24627-2"}
)
_KINDS = (
    (RADIOLOGY_CATEGORIES, "radiology_report"),
    (frozenset({"LAB", "LP29693-6"}), "laboratory_report"),
    (frozenset({"LP7839-6", "PAT", "SP", "CP"}), "pathology_report"),
    (frozenset({"LP29708-2", "CUS", "CTH"}), "cardiology_report"),
)
_REFUSED = {
    "entered-in-error": "entered_in_error",
    "cancelled": "cancelled",
    "registered": "registered",
}
_STATUS_FLAGS: dict[str, tuple[str, ...]] = {
    "final": (),
    "amended": ("amended",),
    "corrected": ("corrected",),
    "appended": ("appended",),
    "preliminary": ("preliminary",),
    "partial": ("partial",),
}


def report_kind(resource: Json) -> str:
    """What sort of report this is, by category, else by a radiology code."""
    said = codes(resource, "category")
    for known, kind in _KINDS:
        if said & known:
            return kind
    radiology = codes(resource, "code") & RADIOLOGY_CODES
    return "radiology_report" if radiology else "diagnostic_report"


def read_report(
    resource: Json,
    provenance: Provenance,
    *,
    cutoff: datetime,
    policy: AdapterPolicy,
    pdfs: PdfTexts | None = None,
) -> ClinicalNote:
    """Read the text of one report whose subject is already known to be the patient.

    ``written_at`` is ``issued`` (when others could read it) before ``effective``.

    Raises:
        ValueRejectedError: Status, time, or no text that can be read; the reason of
            the first attachment is kept when nothing else gave text.
    """
    status = text(resource, "status")
    if status in _REFUSED:
        raise ValueRejectedError(_REFUSED[status])
    if status not in _STATUS_FLAGS:
        raise ValueRejectedError("unknown_status" if status else "missing_status")
    if resource.get("modifierExtension"):
        raise ValueRejectedError("modifier_extension")
    body = _report_text(resource, policy, pdfs)
    written = _written(resource, policy)
    check_cutoff(written, cutoff, policy)
    return make_note(
        body,
        report_kind(resource),
        written,
        provenance,
        flags=(*_STATUS_FLAGS[status], *written.flags),
        policy=policy,
    )


def make_note(
    body: str,
    kind: str,
    written: Moment,
    provenance: Provenance,
    *,
    flags: tuple[str, ...],
    policy: AdapterPolicy,
) -> ClinicalNote:
    """Build a note with its sections; text beyond the cap is cut and flagged."""
    if len(body) > policy.max_note_chars:
        body, flags = body[: policy.max_note_chars], (*flags, "truncated")
    return ClinicalNote(
        text=body,
        written_at=written.at,
        kind=kind,
        provenance=provenance,
        sections=find_sections(body),
        flags=flags,
    )


def first_text(
    attachments: list[Json], policy: AdapterPolicy, pdfs: PdfTexts | None
) -> tuple[str, str]:
    """The text of the first readable attachment, else the first reason why none."""
    first_reason = ""
    for attachment in readable_first(attachments):
        try:
            return attachment_text(attachment, policy, pdfs), ""
        except ValueRejectedError as error:
            first_reason = first_reason or error.reason
    return "", first_reason or "no_text"


def _report_text(resource: Json, policy: AdapterPolicy, pdfs: PdfTexts | None) -> str:
    found, reason = first_text(children(resource, "presentedForm"), policy, pdfs)
    if found:
        return found
    raw = resource.get("conclusion")
    conclusion = clean_text(raw) if isinstance(raw, str) else ""
    if not conclusion:
        raise ValueRejectedError(reason)
    check_language(resource, policy)
    return conclusion


def _written(resource: Json, policy: AdapterPolicy) -> Moment:
    issued = text(resource, "issued")
    if issued:
        return parse_moment(issued, policy)
    return effective_moment(resource, policy)


def is_report_of(resource: Json, study: ImagingStudySummary) -> bool:
    """Whether a report is about this study: by reference, accession or order.

    Several ways, because sites link reports to studies in different ways and one
    missed link would leak the radiologist's answer into the model's input.
    """
    named = {local_reference(ref) for ref in references(resource, "imagingStudy")}
    if study.reference in named:
        return True
    for reference in children(resource, "imagingStudy"):
        value = text(child(reference, "identifier"), "value")
        if study.study_uid and value.removeprefix("urn:oid:") == study.study_uid:
            return True
    if accessions(resource) & study.accessions:
        return True
    orders = {local_reference(ref) for ref in references(resource, "basedOn")} - {""}
    return bool(orders & study.based_on)


def is_radiology(resource: Json) -> bool:
    """Whether a DiagnosticReport or DocumentReference is a radiology report."""
    said = codes(resource, "category") | codes(resource, "type")
    coded = said | codes(resource, "code")
    return bool(said & RADIOLOGY_CATEGORIES or coded & RADIOLOGY_CODES)
