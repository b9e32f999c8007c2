"""Why the model said it: attributions bound to evidence, as JSON.

Attribution is not attention: every score here is a property of the model's output (a
Shapley value, a gradient or a leave-one-out difference), on the logit scale
unless a field says otherwise.
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
    """How much a value moves the logit, and which way: positive raises the estimate.

    ``logit`` is the ``weight`` with the sign of the ``direction``. The weight (never
    negative) is how much leaving the value out changes over all coalitions of the other
    modalities, the direction what it adds there as the last and as the first value, on
    average. ``left_out`` is what leaving it out of the record as it stands changes,
    ``integrated`` its share by integrated gradients from an absent token. None where
    they were not computed.
    """

    reference: str
    loinc: str
    logit: float
    integrated: float | None = None
    weight: float | None = None
    left_out: float | None = None
    direction: float | None = None

    @property
    def importance(self) -> float:
        """What values are ranked by: the weight, or the size where there is none."""
        return abs(self.logit) if self.weight is None else self.weight


@dataclass(frozen=True, slots=True)
class PhraseScore:
    """A run of words between two marks of punctuation.

    ``score`` adds up its words' signed shares of the logit; ``weight`` (0 to 1) is how
    much its words matter on average, in either direction.
    """

    reference: str
    start: int
    end: int
    score: float
    weight: float


@dataclass(frozen=True, slots=True)
class SectionScore:
    """A headed section of a note and its share of the logit; no title, whole note."""

    reference: str
    title: str
    start: int
    end: int
    score: float


@dataclass(frozen=True, slots=True)
class Dividend:
    """What modalities add together beyond what their parts say (Harsanyi dividend)."""

    modalities: tuple[str, ...]
    logit: float
    probability: float


@dataclass(frozen=True, slots=True)
class Counterfactual:
    """The smallest edit found that moves the estimate across its threshold.

    ``kind`` is "value" (``loinc`` from ``before`` to ``after``), "text" (characters
    ``start`` to ``end`` of the note taken out) or "none_found". ``size`` is in
    interquartile ranges for a value and in words for a text. A statement about the
    model, not about the patient: nothing says that the edit could be made, or helps.
    """

    kind: str
    reference: str = ""
    loinc: str = ""
    before: float | None = None
    after: float | None = None
    unit: str = ""
    start: int = 0
    end: int = 0
    size: float = 0.0
    probability: float | None = None
    tried: int = 0


@dataclass(frozen=True, slots=True)
class Sentence:
    """One rendered sentence and the evidence ids it rests on (never empty)."""

    template: str
    text: str
    evidence: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Explanation:
    """All explanations of one label's estimate.

    The fields from ``phrases`` on may be empty: in older results, and where only the
    brief explanation was asked for. ``values_gap`` is what the integrated gradients of
    the values leave unexplained of their total (completeness), in logits; ``dominance``
    the share of the largest modality in the absolute Shapley values.
    """

    label: str
    modalities: tuple[ModalityShare, ...]
    heat_maps: tuple[HeatMap, ...]
    words: tuple[WordScore, ...]
    values: tuple[ValueScore, ...]
    narrative: tuple[Sentence, ...]
    phrases: tuple[PhraseScore, ...] = ()
    sections: tuple[SectionScore, ...] = ()
    dividends: tuple[Dividend, ...] = ()
    counterfactual: Counterfactual | None = None
    values_gap: float | None = None
    dominance: float | None = None

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
            **_later_fields(data),
        )


def _later_fields(data: dict[str, Any]) -> dict[str, Any]:
    """Fields that older results lack."""
    edit = data.get("counterfactual")
    return {
        "phrases": tuple(PhraseScore(**p) for p in data.get("phrases", ())),
        "sections": tuple(SectionScore(**s) for s in data.get("sections", ())),
        "dividends": tuple(
            Dividend(**{**d, "modalities": tuple(d["modalities"])})
            for d in data.get("dividends", ())
        ),
        "counterfactual": Counterfactual(**edit) if edit else None,
        "values_gap": data.get("values_gap"),
        "dominance": data.get("dominance"),
    }
