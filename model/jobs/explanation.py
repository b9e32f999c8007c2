"""Why the model said it: attributions bound to evidence, as JSON.

Attribution is not attention: every score here is a property of the model's output (a
Shapley value, a gradient or a leave-one-out difference), on the logit scale unless a
field says otherwise.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class ModalityShare:
    """Exact Shapley value of one modality over the 8 coalitions (0 when absent)."""

    modality: str
    logit: float
    probability: float


@dataclass(frozen=True, slots=True)
class HeatMap:
    """Where one image raised the estimate, on its patch grid.

    ``grid`` is rows of non-negative floats, row 0 at the top of the DICOM image;
    ``box`` is (left, top, width, height) of the grid on the native image, each as a
    fraction of its width or height (undoes the letterbox). ``peak`` is the raw maximum;
    ``blank`` is True where the image as a whole raised the estimate by no more than the
    evidence floor: then draw nothing.
    """

    reference: str
    grid: tuple[tuple[float, ...], ...]
    box: tuple[float, float, float, float]
    peak: float
    blank: bool


@dataclass(frozen=True, slots=True)
class WordScore:
    """Relevance of characters ``start`` to ``end`` of the note at ``reference``."""

    reference: str
    start: int
    end: int
    score: float


@dataclass(frozen=True, slots=True)
class ValueScore:
    """Leave-one-out change of the logit: positive raises the estimate."""

    reference: str
    loinc: str
    logit: float


@dataclass(frozen=True, slots=True)
class Sentence:
    """One rendered sentence and the evidence ids it rests on (never empty)."""

    template: str
    text: str
    evidence: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Explanation:
    """All explanations of one label's estimate."""

    label: str
    modalities: tuple[ModalityShare, ...]
    heat_maps: tuple[HeatMap, ...]
    words: tuple[WordScore, ...]
    values: tuple[ValueScore, ...]
    narrative: tuple[Sentence, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Explanation:
        """Rebuild from :meth:`to_json`.

        Raises:
            KeyError, TypeError: a field is missing or of the wrong shape.
        """
        return cls(
            label=data["label"],
            modalities=tuple(ModalityShare(**m) for m in data["modalities"]),
            heat_maps=tuple(
                HeatMap(
                    **{
                        **h,
                        "grid": tuple(tuple(row) for row in h["grid"]),
                        "box": tuple(h["box"]),
                    }
                )
                for h in data["heat_maps"]
            ),
            words=tuple(WordScore(**w) for w in data["words"]),
            values=tuple(ValueScore(**v) for v in data["values"]),
            narrative=tuple(
                Sentence(**{**s, "evidence": tuple(s["evidence"])})
                for s in data["narrative"]
            ),
        )
