"""The fourteen CheXpert findings and what to make of "uncertain" and of silence.

A labeller reads a report and says of each finding 1.0 (stated), 0.0 (denied), -1.0
(uncertain) or nothing. What an uncertain mark is worth is a choice per finding:

=============  ======================================================================
ones, zeros    it counts as present, as absent
ignore         it is masked: no loss, no gradient
multiclass     a class of its own (value 2.0), for a head with three classes
self-trained   the probability that a teacher gives it; masked where there is none
smoothed       a number drawn once from .55 to .85, the same on every run
=============  ======================================================================

Source of the policies: J. Irvin and others, CheXpert, arXiv 1901.07031 (the first
five); H. Pham and others, arXiv 1911.06475 (smoothing). Default: ones for Atelectasis
and Edema, ignore elsewhere.

Silence is not denial: a blank is masked by default. ``NotMentioned.NEGATIVE`` counts it
as absent, which most published baselines do.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from model.datasets.csv_table import Row

LABELS: tuple[str, ...] = (
    "No Finding",
    "Enlarged Cardiomediastinum",
    "Cardiomegaly",
    "Lung Opacity",
    "Lung Lesion",
    "Edema",
    "Consolidation",
    "Pneumonia",
    "Atelectasis",
    "Pneumothorax",
    "Pleural Effusion",
    "Pleural Other",
    "Fracture",
    "Support Devices",
)
# The hand-labelled test set of MIMIC-CXR-JPG gives one finding another name.
OTHER_NAMES: Mapping[str, str] = MappingProxyType({"Lung Opacity": "Airspace Opacity"})
POSITIVE, NEGATIVE, UNCERTAIN = 1, 0, -1
UNCERTAIN_CLASS = 2.0
_MARKS = (POSITIVE, NEGATIVE, UNCERTAIN)

Marks = tuple[int | None, ...]
Teacher = Callable[[str, str], float | None]


class Uncertain(StrEnum):
    """What an uncertain mark is worth."""

    ONES = "ones"
    ZEROS = "zeros"
    IGNORE = "ignore"
    MULTICLASS = "multiclass"
    SELF_TRAINED = "self-trained"
    SMOOTHED = "smoothed"


class NotMentioned(StrEnum):
    """What a blank is worth."""

    MASKED = "masked"
    NEGATIVE = "negative"


_DEFAULTS: Mapping[str, Uncertain] = MappingProxyType(
    {"Atelectasis": Uncertain.ONES, "Edema": Uncertain.ONES}
)


@dataclass(frozen=True, slots=True)
class LabelPolicy:
    """How marks become targets.

    ``by_label`` overrides ``uncertain`` for single findings; ``teacher`` gives the
    probability of (film, finding) for SELF_TRAINED; ``low`` and ``high`` bound the
    draw of SMOOTHED, which ``seed`` and the film's key fix.
    """

    uncertain: Uncertain = Uncertain.IGNORE
    by_label: Mapping[str, Uncertain] = field(default_factory=lambda: _DEFAULTS)
    not_mentioned: NotMentioned = NotMentioned.MASKED
    teacher: Teacher | None = None
    low: float = 0.55
    high: float = 0.85
    seed: int = 0


DEFAULT_LABEL_POLICY = LabelPolicy()


def one_policy(uncertain: Uncertain, teacher: Teacher | None = None) -> LabelPolicy:
    """The same policy for all fourteen findings."""
    return LabelPolicy(uncertain=uncertain, by_label={}, teacher=teacher)


@dataclass(frozen=True, slots=True, eq=False)
class Targets:
    """Targets of one film: ``value`` (14,) float32, ``known`` (14,) bool.

    A finding that is not known takes part in no loss and no figure; its value is 0.
    """

    value: NDArray[np.float32]
    known: NDArray[np.bool_]


def read_marks(row: Row, names: Sequence[str] = LABELS) -> Marks:
    """The marks of one row in the order of ``names``; None where nothing is said.

    Raises:
        DatasetFileError: a cell that is none of 1, 0, -1 and blank.
    """
    marks: list[int | None] = []
    for name in names:
        mark = row.whole(name)
        if mark is not None and mark not in _MARKS:
            raise row.fault(name, "is none of 1.0, 0.0, -1.0 and blank")
        marks.append(mark)
    return tuple(marks)


def targets(key: str, marks: Marks, policy: LabelPolicy) -> Targets:
    """Targets of one film.

    Args:
        key: names the film; fixes the draw and is what the teacher is asked by.
        marks: (14,) in the order of LABELS.
        policy: what uncertain and blank are worth.
    """
    value = np.zeros(len(LABELS), dtype=np.float32)  # (14,)
    known = np.zeros(len(LABELS), dtype=np.bool_)  # (14,)
    for place, (label, mark) in enumerate(zip(LABELS, marks, strict=True)):
        worth = _worth(key, label, mark, policy)
        if worth is not None:
            value[place], known[place] = worth, True
    return Targets(value, known)


def _worth(key: str, label: str, mark: int | None, policy: LabelPolicy) -> float | None:
    if mark is None:
        return 0.0 if policy.not_mentioned is NotMentioned.NEGATIVE else None
    if mark != UNCERTAIN:
        return float(mark)
    uncertain = policy.by_label.get(label, policy.uncertain)
    if uncertain is Uncertain.SELF_TRAINED:
        return policy.teacher(key, label) if policy.teacher else None
    if uncertain is Uncertain.SMOOTHED:
        share = _share(f"{policy.seed}\0{key}\0{label}")
        return policy.low + (policy.high - policy.low) * share
    fixed = {
        Uncertain.ONES: 1.0,
        Uncertain.ZEROS: 0.0,
        Uncertain.MULTICLASS: UNCERTAIN_CLASS,
    }
    return fixed.get(uncertain)


def _share(text: str) -> float:
    """A number in [0, 1) that is fixed by ``text``."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") / 2**64
