"""Reports and documents of one record -> distinct notes without the image's answer.

A model that predicts what an image shows must not be told. The radiology report of a
scored image is left out together with every copy of its text, and a radiology report
that was written after the image without naming it is flagged ("after-scored-image").
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime

from fhir_adapters.errors import ValueRejectedError
from fhir_adapters.patient_record import (
    ChestImage,
    ClinicalNote,
    Provenance,
    Skip,
)
from fhir_adapters.policy import AdapterPolicy
from fhir_adapters.received import Received
from fhir_adapters.resources.clinical_note import (
    is_document_of,
    read_document,
    replaced,
)
from fhir_adapters.resources.diagnostic_report import is_report_of, read_report
from fhir_adapters.resources.elements import codes, resource_type
from fhir_adapters.resources.imaging_study import ImagingStudySummary
from fhir_adapters.resources.pdf_text import PdfTexts

Items = Iterable[tuple[Received, Provenance]]


def notes_and_skips(
    reports: Items,
    documents: Items,
    studies: Sequence[ImagingStudySummary],
    images: Sequence[ChestImage],
    *,
    cutoff: datetime,
    policy: AdapterPolicy,
) -> tuple[tuple[ClinicalNote, ...], list[Skip]]:
    """Read reports and documents; leave out what describes the images in use."""
    scored = _scored_studies(images, studies) if policy.exclude_report_of_image else ()
    documents = list(documents)
    old = replaced(item.resource for item, _ in documents)
    notes: list[ClinicalNote] = []
    skips: list[Skip] = []
    telling: set[str] = set()
    pdfs = PdfTexts(policy)
    for item, provenance in (*reports, *documents):
        try:
            note = _read_note(item, provenance, old, cutoff, policy, pdfs)
        except ValueRejectedError as error:
            skips.append(Skip(provenance.reference, error.reason, error.detail))
            continue
        if any(_tells(item, study) for study in scored):
            telling.add(_words_digest(note))
            skips.append(Skip(provenance.reference, "report_of_scored_image"))
        else:
            notes.append(_flag_late_report(note, images))
    return _distinct(notes, telling, skips), skips


def _read_note(
    item: Received,
    provenance: Provenance,
    old: frozenset[str],
    cutoff: datetime,
    policy: AdapterPolicy,
    pdfs: PdfTexts,
) -> ClinicalNote:
    if provenance.reference in old:
        raise ValueRejectedError("superseded")
    report = resource_type(item.resource) == "DiagnosticReport"
    read = read_report if report else read_document
    return read(item.resource, provenance, cutoff=cutoff, policy=policy, pdfs=pdfs)


def _tells(item: Received, study: ImagingStudySummary) -> bool:
    """Whether this text states what the study shows."""
    if resource_type(item.resource) == "DocumentReference":
        return is_document_of(item.resource, study)
    # A clinician's note filed as a report may name the study it was written beside.
    note = "clinical-note" in codes(item.resource, "category")
    return not note and is_report_of(item.resource, study)


def _scored_studies(
    images: Sequence[ChestImage], studies: Sequence[ImagingStudySummary]
) -> tuple[ImagingStudySummary, ...]:
    """The studies that the images in use come from."""
    found: list[ImagingStudySummary] = []
    for image in images:
        reference = image.provenance.reference.split("#", 1)[0]
        known = [
            study
            for study in studies
            if study.reference == reference or study.study_uid == image.study_uid
        ]
        bare = ImagingStudySummary(
            reference, image.study_uid, None, (), frozenset(), frozenset()
        )
        found.extend(known or [bare])
    return tuple(found)


def _flag_late_report(note: ClinicalNote, images: Sequence[ChestImage]) -> ClinicalNote:
    """Flag a radiology report that may speak of the image without saying so."""
    written = note.written_at
    late = note.kind == "radiology_report" and any(
        written is not None and image.acquired_at and written >= image.acquired_at
        for image in images
    )
    return replace(note, flags=(*note.flags, "after-scored-image")) if late else note


def _words_digest(note: ClinicalNote) -> str:
    return hashlib.sha256(" ".join(note.text.lower().split()).encode()).hexdigest()


def _distinct(
    notes: list[ClinicalNote], telling: set[str], skips: list[Skip]
) -> tuple[ClinicalNote, ...]:
    """Newest first, each text once; copies of a telling report go with it.

    Sites store one report both as DiagnosticReport and as DocumentReference.
    """
    notes.sort(key=_note_order, reverse=True)
    seen: set[str] = set()
    kept: list[ClinicalNote] = []
    for note in notes:
        digest = _words_digest(note)
        if digest in telling:
            skips.append(Skip(note.provenance.reference, "report_of_scored_image"))
        elif digest in seen:
            skips.append(Skip(note.provenance.reference, "duplicate", "same text"))
        else:
            kept.append(note)
        seen.add(digest)
    return tuple(kept)


def _note_order(note: ClinicalNote) -> tuple[float, str]:
    written = note.written_at.timestamp() if note.written_at else 0.0
    return written, note.provenance.reference
