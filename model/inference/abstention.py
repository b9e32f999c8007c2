"""When no number may be shown, and which evidence may not be used; pure and typed.

Three different things, each with a code of :data:`DETAILS`:

- *Left out.* A film that shows nothing, a negative, noise, another body part or a
  lateral view, and a number that no patient can have, are not read; the modality's
  state or the list of skipped items says so, and the estimate rests on the rest.
- *Warning.* The estimate is shown, and beside it what speaks against leaning on it.
- *Abstention.* The whole estimate is refused: a result of its own with a typed code,
  never a low probability.

Which code leads where (a site may promote a warning, ``AbstentionPolicy.refuse``):

===================== =============================================================
code                  outcome
===================== =============================================================
no_modality           abstention: nothing that the model can use
unreadable_only       abstention: all that came could not be read
blank_image           film left out; abstention when nothing else is left
inverted_image        film left out; abstention when nothing else is left
noise_image           film left out; abstention when nothing else is left
wrong_body_part       film left out; abstention when nothing else is left
lateral_only          film left out; abstention when nothing else is left
impossible_value      value left out, warning; abstention when nothing else is left
ood_image, _text,     abstention: features beyond the limit of the checkpoint
ood_labs
doubtful_unit         value left out, warning; abstention when nothing else is left
foreign_text          sentences not read, warning; ood_text when nothing else is left
stale_data            abstention when all evidence is too old; warning when one
                      modality is while others are fresh
conformal_ambiguous   warning: both outcomes lie in the conformal set
modality_conflict     warning: two modalities, each alone, differ by more than 0.6
===================== =============================================================
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from fhir_adapters.patient_record import (
    ChestImage,
    Modality,
    ModalityState,
    ModalityStatus,
    PatientRecord,
    Skip,
)
from model.inference.photometry import FilmReference, wrong_body_part
from model.inference.possible_values import is_possible
from model.jobs.prediction import Abstention

BLANK_FLAG = "qc-blank"
LATERAL_VIEWS = frozenset({"LATERAL", "LL", "RL"})

#: Abstention codes and what they say; the codes are fixed, cards and audit use them.
DETAILS: Mapping[str, str] = {
    "no_modality": "no image, text or measured value that the model can use",
    "unreadable_only": "what was received could not be read",
    "blank_image": "the only evidence is a film that shows nothing",
    "inverted_image": "the only evidence is a film whose grey scale is inverted",
    "noise_image": "the only evidence is a film that shows noise",
    "wrong_body_part": "the only evidence is a film of another part of the body",
    "lateral_only": "the only evidence is a lateral film; the model reads frontal ones",
    "impossible_value": "a measured value that no patient can have was left out",
    "doubtful_unit": "a measured value that looks like another unit's was left out",
    "foreign_text": "sentences unlike any note that the model has learnt from were "
    "not read",
    "stale_data": "the newest evidence is older than the model may use",
    "ood_image": "the film is unlike those that the model has learnt from",
    "ood_text": "the notes are unlike those that the model has learnt from",
    "ood_labs": "the values are unlike those that the model has learnt from",
    "conformal_ambiguous": "the evidence is compatible with both answers",
    "modality_conflict": "film, notes and values point in different directions",
}
OUTSIDE_CODES = {
    Modality.IMAGE.value: "ood_image",
    Modality.TEXT.value: "ood_text",
    Modality.VALUES.value: "ood_labs",
}
#: Reason codes of unusable evidence, and the abstention when nothing else is left.
_LEFT_OUT = {
    "blank_image": "blank_image",
    "inverted_image": "inverted_image",
    "noise_image": "noise_image",
    "wrong_body_part": "wrong_body_part",
    "no_frontal": "lateral_only",
    "impossible_value": "impossible_value",
    "doubtful_unit": "doubtful_unit",
    "foreign_text": "ood_text",
}
#: Skipped items that the estimate is shown with a warning about.
_WARNED_SKIPS = ("impossible_value", "doubtful_unit", "foreign_text")
#: A film with this reason was no frontal film in the first place: nothing is damaged.
_NO_FRONTAL = "no_frontal"
_WORDS = {
    Modality.IMAGE: "film",
    Modality.TEXT: "note",
    Modality.VALUES: "measured value",
}


@dataclass(frozen=True, slots=True)
class AbstentionPolicy:
    """Limits of a site.

    ``max_age_days``: the newest evidence may be so old at the cutoff; 0 means any age.
    ``max_age_by_modality``: the same for one modality ("image", "text", "values");
    ``max_age_days`` where it is missing.
    ``min_contrast``: standard deviation of the pixels below which a film is blank.
    ``max_distance``: feature distance over the checkpoint's limit that is accepted.
    ``max_conflict``: two modalities, each alone, may differ by so much probability.
    ``refuse``: warning codes at which this site wants no estimate at all.
    """

    max_age_days: float = 30.0
    min_contrast: float = 0.01
    max_distance: float = 1.0
    max_conflict: float = 0.6
    max_age_by_modality: Mapping[str, float] = field(default_factory=dict)
    refuse: frozenset[str] = frozenset()


def abstain(code: str) -> Abstention:
    """The abstention, or warning, with this code."""
    return Abstention(code, DETAILS[code])


def usable_record(
    record: PatientRecord,
    policy: AbstentionPolicy,
    films: FilmReference | None = None,
) -> PatientRecord:
    """The record without what must not be read; states and skips say why.

    A film that cannot be believed makes the modality UNREADABLE (there was a film, it
    says nothing), a lateral one leaves the frontal view ABSENT. An impossible number
    becomes a skipped item.

    Args:
        record: As received.
        policy: Limits of the site.
        films: How usual films look, from the checkpoint; without it polarity and noise
            are not checked.
    """
    return _possible_values(_readable_films(record, policy, films))


def _readable_films(
    record: PatientRecord, policy: AbstentionPolicy, films: FilmReference | None
) -> PatientRecord:
    reasons = {id(image): _film_reason(image, policy, films) for image in record.images}
    kept = tuple(image for image in record.images if not reasons[id(image)])
    if len(kept) == len(record.images):
        return record
    states = dict(record.states)
    if not kept:
        # What was wrong with a frontal film says more than that another was lateral.
        damaged = [r for r in reasons.values() if r != _NO_FRONTAL]
        states[Modality.IMAGE] = (
            ModalityState(ModalityStatus.UNREADABLE, damaged[0])
            if damaged
            else ModalityState(ModalityStatus.ABSENT, _NO_FRONTAL)
        )
    return replace(record, images=kept, states=states)


def _film_reason(
    image: ChestImage, policy: AbstentionPolicy, films: FilmReference | None
) -> str:
    if BLANK_FLAG in image.flags or float(image.pixels.std()) < policy.min_contrast:
        return "blank_image"
    if wrong_body_part(image):
        return "wrong_body_part"
    if (image.view or "").upper() in LATERAL_VIEWS:
        return _NO_FRONTAL
    return films.problem(image) if films else ""


def _possible_values(record: PatientRecord) -> PatientRecord:
    kept = tuple(value for value in record.values if is_possible(value))
    if len(kept) == len(record.values):
        return record
    skips = tuple(
        Skip(value.provenance.reference, "impossible_value", value.loinc)
        for value in record.values
        if not is_possible(value)
    )
    states = dict(record.states)
    if not kept:
        states[Modality.VALUES] = ModalityState(
            ModalityStatus.UNREADABLE, "impossible_value"
        )
    return replace(
        record, values=kept, states=states, skipped=(*record.skipped, *skips)
    )


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
        for modality in Modality:
            reason = states[modality].reason
            if reason in _LEFT_OUT:
                return (abstain(_LEFT_OUT[reason]),)
        unreadable = any(s.status is ModalityStatus.UNREADABLE for s in states.values())
        return (abstain("unreadable_only" if unreadable else "no_modality"),)
    newest = newest_evidence(record)
    limit = timedelta(days=policy.max_age_days)
    if policy.max_age_days and newest and record.cutoff - newest > limit:
        return (abstain("stale_data"),)
    return ()


def warnings_before(
    record: PatientRecord, policy: AbstentionPolicy
) -> tuple[Abstention, ...]:
    """What speaks against an estimate and is known before the model runs.

    Args:
        record: What is used, after :func:`usable_record`.
        policy: Limits of the site.
    """
    skipped = {skip.reason for skip in record.skipped}
    found = [abstain(code) for code in _WARNED_SKIPS if code in skipped]
    for modality in Modality:
        newest = newest_evidence(record, (modality,))
        days = policy.max_age_by_modality.get(modality.value) or policy.max_age_days
        if days and newest and record.cutoff - newest > timedelta(days=days):
            detail = f"the newest {_WORDS[modality]} is older than the model may use"
            found.append(Abstention("stale_data", detail))
    return tuple(found)


def newest_evidence(
    record: PatientRecord, modalities: Iterable[Modality] = tuple(Modality)
) -> datetime | None:
    """Time of the newest film, note or value; None when nothing has a time."""
    times: dict[Modality, list[datetime | None]] = {
        Modality.IMAGE: [image.acquired_at for image in record.images],
        Modality.TEXT: [note.written_at for note in record.notes],
        Modality.VALUES: [value.measured_at for value in record.values],
    }
    known = [time for m in modalities for time in times[m] if time is not None]
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


def warnings_after(
    alone: Mapping[str, Mapping[str, float]],
    ambiguous: Iterable[str],
    policy: AbstentionPolicy,
) -> tuple[Abstention, ...]:
    """What the numbers themselves say against leaning on them.

    Args:
        alone: Calibrated probability of each label by each modality on its own.
        ambiguous: Labels with both outcomes in their conformal set.
        policy: Limits of the site.
    """
    found = []
    if any(True for _ in ambiguous):
        found.append(abstain("conformal_ambiguous"))
    spread = (max(p.values()) - min(p.values()) for p in alone.values() if len(p) > 1)
    if any(gap > policy.max_conflict for gap in spread):
        found.append(abstain("modality_conflict"))
    return tuple(found)


def promoted(
    warnings: Iterable[Abstention], policy: AbstentionPolicy
) -> tuple[tuple[Abstention, ...], tuple[Abstention, ...]]:
    """(abstentions, warnings): those that this site refuses at, and the rest."""
    listed = list(warnings)
    return (
        tuple(w for w in listed if w.code in policy.refuse),
        tuple(w for w in listed if w.code not in policy.refuse),
    )
