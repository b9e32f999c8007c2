"""When no number may be shown, and which evidence may not be used; pure and typed.

Two different things. A film that shows nothing, or a lateral one, is left out and the
modality's state says so: the estimate then rests on the rest, and the card names what
was missing. An abstention refuses the whole estimate: it is a result of its own with a
typed code, never a low probability. This module decides both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from fhir_adapters.patient_record import (
    ChestImage,
    Modality,
    ModalityState,
    ModalityStatus,
    PatientRecord,
)
from model.jobs.prediction import Abstention

BLANK_FLAG = "qc-blank"
LATERAL_VIEWS = frozenset({"LATERAL", "LL", "RL"})

#: Abstention codes and what they say; the codes are fixed, cards and audit use them.
DETAILS: Mapping[str, str] = {
    "no_modality": "no image, text or measured value that the model can use",
    "unreadable_only": "what was received could not be read",
    "blank_image": "the only evidence is a film that shows nothing",
    "lateral_only": "the only evidence is a lateral film; the model reads frontal ones",
    "stale_data": "the newest evidence is older than the model may use",
    "ood_image": "the film is unlike those that the model has learnt from",
    "ood_text": "the notes are unlike those that the model has learnt from",
    "ood_labs": "the values are unlike those that the model has learnt from",
}
OUTSIDE_CODES = {
    Modality.IMAGE.value: "ood_image",
    Modality.TEXT.value: "ood_text",
    Modality.VALUES.value: "ood_labs",
}
#: Reason codes of an unusable film, and the abstention when nothing else is left.
_FILM_REASONS = {"blank_image": "blank_image", "no_frontal": "lateral_only"}


@dataclass(frozen=True, slots=True)
class AbstentionPolicy:
    """Limits of a site.

    ``max_age_days``: the newest evidence may be so old at the cutoff; 0 means any age.
    ``min_contrast``: standard deviation of the pixels below which a film is blank.
    ``max_distance``: feature distance over the checkpoint's limit that is accepted.
    """

    max_age_days: float = 30.0
    min_contrast: float = 0.01
    max_distance: float = 1.0


def abstain(code: str) -> Abstention:
    """The abstention with this code."""
    return Abstention(code, DETAILS[code])


def usable_record(record: PatientRecord, policy: AbstentionPolicy) -> PatientRecord:
    """The record without films that must not be read; the image state says why.

    A blank film is UNREADABLE (there was a film, it says nothing), a lateral one leaves
    the frontal view ABSENT.
    """
    if not record.images:
        return record
    reasons = {id(image): _film_reason(image, policy) for image in record.images}
    kept = tuple(image for image in record.images if not reasons[id(image)])
    if len(kept) == len(record.images):
        return record
    states = dict(record.states)
    if not kept:
        blank = "blank_image" in reasons.values()
        states[Modality.IMAGE] = (
            ModalityState(ModalityStatus.UNREADABLE, "blank_image")
            if blank
            else ModalityState(ModalityStatus.ABSENT, "no_frontal")
        )
    return replace(record, images=kept, states=states)


def _film_reason(image: ChestImage, policy: AbstentionPolicy) -> str:
    if BLANK_FLAG in image.flags or float(image.pixels.std()) < policy.min_contrast:
        return "blank_image"
    return "no_frontal" if (image.view or "").upper() in LATERAL_VIEWS else ""


def abstentions_before(
    record: PatientRecord,
    states: Mapping[Modality, ModalityState],
    policy: AbstentionPolicy,
) -> tuple[Abstention, ...]:
    """Reasons that are known before the model runs.

    Args:
        record: What is used.
        states: What the model can really read of it, with reasons.
        policy: Limits of the site.
    """
    present = [m for m in Modality if states[m].status is ModalityStatus.PRESENT]
    if not present:
        reason = states[Modality.IMAGE].reason
        if reason in _FILM_REASONS:
            return (abstain(_FILM_REASONS[reason]),)
        unreadable = any(s.status is ModalityStatus.UNREADABLE for s in states.values())
        return (abstain("unreadable_only" if unreadable else "no_modality"),)
    newest = newest_evidence(record)
    limit = timedelta(days=policy.max_age_days)
    if policy.max_age_days and newest and record.cutoff - newest > limit:
        return (abstain("stale_data"),)
    return ()


def newest_evidence(record: PatientRecord) -> datetime | None:
    """Time of the newest film, note or value; None when nothing has a time."""
    times = [
        *(image.acquired_at for image in record.images),
        *(note.written_at for note in record.notes),
        *(value.measured_at for value in record.values),
    ]
    known = [time for time in times if time is not None]
    # A time without an offset cannot be compared with the cutoff.
    aware = [time for time in known if time.tzinfo is not None]
    return max(aware, default=None)


def abstentions_outside(
    ratios: Mapping[str, float], policy: AbstentionPolicy
) -> tuple[Abstention, ...]:
    """Modalities whose features lie outside what the model has learnt from.

    Args:
        ratios: Feature distance over the checkpoint's limit, by modality.
        policy: Limits of the site.
    """
    return tuple(
        abstain(OUTSIDE_CODES[modality])
        for modality, ratio in ratios.items()
        if ratio > policy.max_distance
    )
