"""One patient's evidence, as the model and the evidence page see it.

Everything here is immutable and says where it came from: each image, note and value
carries a :class:`Provenance`, each modality a :class:`ModalityState`, and everything
that was received but not used is in ``skipped`` with its reason. Nothing is imputed:
what was not measured is not in the record.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray


class Modality(StrEnum):
    """The three roads that meet: image, text, values (this order, everywhere)."""

    IMAGE = "image"
    TEXT = "text"
    VALUES = "values"


class ModalityStatus(StrEnum):
    """What is known of one modality; UNREADABLE is never shown as ABSENT."""

    PRESENT = "present"
    ABSENT = "absent"
    UNREADABLE = "unreadable"


@dataclass(frozen=True, slots=True)
class ModalityState:
    """Status of one modality with a reason code (empty when present)."""

    status: ModalityStatus
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where one piece of evidence came from.

    ``reference`` is a FHIR reference ("Observation/abc"); for an image it is
    "ImagingStudy/<id>#<SOPInstanceUID>". ``origin`` is "prefetch", "fhir", "dicomweb"
    or "folder". ``sha256`` is over the received bytes or the canonical JSON.
    """

    reference: str
    origin: str
    sha256: str


@dataclass(frozen=True, slots=True)
class PatientIdentity:
    """The patient in context; names are left out because nothing here needs them."""

    patient_id: str
    identifiers: tuple[tuple[str, str], ...] = ()
    sex: str | None = None
    birth_date: date | None = None

    def age_years(self, at: datetime) -> float | None:
        """Age at ``at`` in years, None when the birth date is unknown."""
        if self.birth_date is None:
            return None
        return (at.date() - self.birth_date).days / 365.25


@dataclass(frozen=True, slots=True, eq=False)
class ChestImage:
    """One decoded radiograph.

    ``pixels`` is (H, W) float32 in [0, 1], bright means dense, after modality LUT, VOI
    and (for MONOCHROME1) inversion. ``transforms`` lists those steps in order;
    ``flags`` holds quality and policy flags (for example "voi-percentile").
    """

    pixels: NDArray[np.float32]
    view: str | None
    view_inferred: bool
    study_uid: str
    series_uid: str
    sop_uid: str
    acquired_at: datetime | None
    provenance: Provenance
    transforms: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Section:
    """A headed part of a note: characters ``start`` to ``end`` of its text."""

    title: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class ClinicalNote:
    """The plain text of one note or report; offsets count characters of ``text``."""

    text: str
    written_at: datetime | None
    kind: str
    provenance: Provenance
    sections: tuple[Section, ...] = ()
    flags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CodedValue:
    """One measurement in its canonical UCUM unit.

    ``comparator`` ("<", ">", "<=", ">=") marks a censored value; ``interpretation`` is
    LL, L, N, H, HH or None; the reference range, where the source gave one, is in
    ``unit`` too. ``source_value`` and ``source_unit`` are as received.
    """

    loinc: str
    name: str
    value: Decimal
    unit: str
    measured_at: datetime
    provenance: Provenance
    comparator: str | None = None
    interpretation: str | None = None
    reference_low: Decimal | None = None
    reference_high: Decimal | None = None
    source_value: str = ""
    source_unit: str = ""
    flags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Skip:
    """Something received and not used: a resource or component and the reason code."""

    reference: str
    reason: str
    detail: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class PatientRecord:
    """All evidence on one patient up to ``cutoff``, in three modalities.

    ``values`` holds the latest usable value of each code at the cutoff, ``history``
    every usable value, newest first. ``states`` has one entry per :class:`Modality`.
    """

    patient: PatientIdentity
    cutoff: datetime
    states: Mapping[Modality, ModalityState]
    images: tuple[ChestImage, ...] = ()
    notes: tuple[ClinicalNote, ...] = ()
    values: tuple[CodedValue, ...] = ()
    history: tuple[CodedValue, ...] = ()
    skipped: tuple[Skip, ...] = field(default=())

    def _evidence(self) -> tuple[ChestImage | ClinicalNote | CodedValue, ...]:
        return (*self.images, *self.notes, *self.values)

    def presence(self) -> dict[Modality, bool]:
        """Which modalities hold usable evidence."""
        return {m: self.states[m].status is ModalityStatus.PRESENT for m in Modality}

    def references(self) -> tuple[str, ...]:
        """The FHIR references of everything the model may use."""
        return tuple(item.provenance.reference for item in self._evidence())

    def skip_counts(self) -> dict[str, int]:
        """Number of skipped items by reason code."""
        counts: dict[str, int] = {}
        for skip in self.skipped:
            counts[skip.reason] = counts.get(skip.reason, 0) + 1
        return dict(sorted(counts.items()))

    def evidence_sha256(self) -> str:
        """Digest of the evidence itself: same evidence, same digest, whoever asks.

        Age and sex are evidence too: a corrected birth date is another question.
        """
        digest = hashlib.sha256(self.patient.patient_id.encode())
        digest.update(f"\n{self.patient.sex} {self.patient.birth_date}".encode())
        for item in self._evidence():
            prov = item.provenance
            digest.update(f"\n{prov.reference} {prov.sha256}".encode())
        for modality in Modality:
            digest.update(f"\n{modality} {self.states[modality].status}".encode())
        return digest.hexdigest()
