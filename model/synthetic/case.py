"""One synthetic patient: evidence in three modalities and the truth behind it.

Whatever was planted is listed with its place (mask, character spans, codes), so that
explanations can be scored against what really carried the label.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from fhir_adapters.patient_record import Section
from model.synthetic.latents import CaseLatents, Split


class Side(StrEnum):
    """Side of the patient; the patient's right is on the left of the image."""

    RIGHT = "right"
    LEFT = "left"


class Lobe(StrEnum):
    """Lung lobe that holds the lesion."""

    RIGHT_UPPER = "right upper"
    RIGHT_MIDDLE = "right middle"
    RIGHT_LOWER = "right lower"
    LEFT_UPPER = "left upper"
    LEFT_LOWER = "left lower"

    @property
    def side(self) -> Side:
        """The patient's side."""
        return Side(self.value.split()[0])

    @property
    def level(self) -> str:
        """Height in the lung: "upper", "middle" or "lower"."""
        return self.value.split()[1]


class Distractor(StrEnum):
    """Something on the film that means nothing for the label."""

    PACEMAKER = "pacemaker"
    NIPPLE = "nipple"
    MARKER = "marker"


class SpanKind(StrEnum):
    """What a passage of the note was planted for."""

    SEVERITY = "severity"
    SYNDROME = "syndrome"
    LATERALITY = "laterality"
    NEGATED = "negated"
    FAMILY = "family"
    IRRELEVANT = "irrelevant"


class Carries(StrEnum):
    """What a value tells: severity, the cell pattern, or nothing."""

    SEVERITY = "severity"
    CELLS = "cells"
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True)
class Film:
    """A rendered radiograph: ``image`` (S, S) float32 in [0, 1] and lesion ``mask``."""

    image: NDArray[np.float32]
    mask: NDArray[np.bool_]
    distractors: tuple[Distractor, ...]


@dataclass(frozen=True, slots=True)
class Span:
    """Characters ``start`` to ``end`` of the note; ``state`` is the planted value."""

    start: int
    end: int
    kind: SpanKind
    state: str = ""


@dataclass(frozen=True, slots=True)
class WrittenNote:
    """The note with its headed sections and everything planted in it."""

    text: str
    sections: tuple[Section, ...]
    spans: tuple[Span, ...]


@dataclass(frozen=True, slots=True)
class MeasuredValue:
    """One laboratory value or vital sign in its canonical unit.

    ``interpretation`` is the laboratory's own flag (L, N, H), which not every
    result has.
    """

    loinc: str
    name: str
    value: Decimal
    unit: str
    measured_at: datetime
    category: str
    carries: Carries
    reference_low: Decimal | None = None
    reference_high: Decimal | None = None
    interpretation: str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class SynthCase:
    """A whole synthetic case; ``label`` is y, ``absent`` the codes not measured."""

    case_id: str
    parameters: str
    split: Split
    label: int
    latents: CaseLatents
    image: NDArray[np.float32]
    mask: NDArray[np.bool_]
    lobe: Lobe
    distractors: tuple[Distractor, ...]
    note: WrittenNote
    values: tuple[MeasuredValue, ...]
    absent: tuple[str, ...]
    age_years: int
    sex: str
    birth_date: date
    film_at: datetime
    note_at: datetime
    cutoff: datetime

    @property
    def side(self) -> Side:
        """The patient's side of the lesion."""
        return self.lobe.side
