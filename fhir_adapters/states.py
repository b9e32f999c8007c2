"""What is known of each modality: present, absent or unreadable, and why.

The three words mean different things at the bedside. ABSENT: nothing of this kind was
there. UNREADABLE: something was there, or its source failed, and nobody here has read
it. PRESENT: usable evidence. A reason code says more; it is empty for PRESENT.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fhir_adapters.patient_record import (
    Modality,
    ModalityState,
    ModalityStatus,
    Skip,
)
from fhir_adapters.resources.imaging_study import ImagingStudySummary

# Evidence exists behind these reasons and we could not read it: not "absent".
UNREADABLE_REASONS = frozenset(
    {
        *("unknown_unit", "missing_unit", "unit_conflict", "implausible_value"),
        *("malformed_value", "text_value", "value_type", "several_values"),
        *("conflicting_codes", "modifier_extension", "malformed_timestamp"),
        *("no_time_zone", "no_timestamp", "imprecise_timestamp", "missing_status"),
        *("unknown_status", "too_deep", "not_json", "no_id", "malformed_id"),
        *("content_type", "attachment_not_fetched", "attachment_corrupt"),
        *("attachment_too_large", "subject_unresolved", "no_subject"),
        *("pdf_limit", "pdf_encrypted", "pdf_unreadable", "language"),
    }
)
_FITS_NOT = frozenset({"not_frontal", "after_cutoff"})
_TYPES = {
    Modality.TEXT: ("DiagnosticReport/", "DocumentReference/"),
    Modality.VALUES: ("Observation/",),
}
_PRESENT = ModalityState(ModalityStatus.PRESENT)


def evidence_state(
    modality: Modality,
    present: bool,
    skips: Sequence[Skip],
    unavailable: Mapping[Modality, str],
) -> ModalityState:
    """State of the text or the values.

    Args:
        modality: TEXT or VALUES.
        present: Whether anything usable was found.
        skips: All skips of the record.
        unavailable: Reason per modality whose source failed to answer.
    """
    if present:
        return _PRESENT
    if modality in unavailable:
        return ModalityState(ModalityStatus.UNREADABLE, unavailable[modality])
    own = [s.reason for s in skips if s.reference.startswith(_TYPES[modality])]
    for reason in own:
        if reason in UNREADABLE_REASONS:
            return ModalityState(ModalityStatus.UNREADABLE, reason)
    reason = "none_usable" if own else "none_received"
    return ModalityState(ModalityStatus.ABSENT, reason)


def image_state(
    present: bool,
    image_skips: Sequence[Skip],
    studies: Sequence[ImagingStudySummary],
    unavailable: Mapping[Modality, str],
) -> ModalityState:
    """State of the image; an image that failed counts before one that does not fit.

    A study whose pixels nobody could ask for (no DICOMweb endpoint) is the ordinary
    missing image, with ``image_not_retrieved`` to tell it from no study at all; a CT or
    MR study is there, but ``modality_not_supported`` by a model of radiographs.
    """
    if present:
        return _PRESENT
    reasons = [skip.reason for skip in image_skips]
    failed = [reason for reason in reasons if reason not in _FITS_NOT]
    if failed or Modality.IMAGE in unavailable:
        reason = failed[0] if failed else unavailable[Modality.IMAGE]
        return ModalityState(ModalityStatus.UNREADABLE, reason)
    if reasons:
        return ModalityState(ModalityStatus.ABSENT, reasons[0])
    return ModalityState(ModalityStatus.ABSENT, _without_pixels(studies))


def _without_pixels(studies: Sequence[ImagingStudySummary]) -> str:
    """Why there is no image although none failed."""
    if any(study.may_be_chest_radiograph() for study in studies):
        return "image_not_retrieved"
    if any(study.unsupported_modalities() for study in studies):
        return "modality_not_supported"
    return "none_received"
