"""Prediction, explanation and record -> what the evidence page shows; pure.

Order of the page is the order of a reviewer's questions: what does it say, what carried
it, what was missing, then each modality's evidence, then the model and its limits.
Nothing here computes a clinical number: every figure is the model's or the record's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from cds_hooks.card_lines import percent
from cds_hooks.plain_words import ABSTENTION, words
from cds_hooks.smart_app.marked_text import Piece, pieces
from fhir_adapters.patient_record import (
    CodedValue,
    Modality,
    ModalityStatus,
    PatientRecord,
)
from model.jobs.explanation import Explanation, ValueScore
from model.jobs.prediction import Prediction, Validation

NAMES = {
    Modality.IMAGE: "Film",
    Modality.TEXT: "Note",
    Modality.VALUES: "Measured values",
}
HALF_WIDTH = 96.0
WORDS = ((0.05, "very unlikely"), (0.25, "unlikely"), (0.5, "less likely than not"))
HIGH_WORDS = ((0.75, "more likely than not"), (0.95, "likely"), (1.01, "very likely"))


@dataclass(frozen=True, slots=True)
class Bar:
    """A signed bar around zero, in view-box units, with its words."""

    x: str
    width: str
    kind: str


def interval_words(probability: float) -> str:
    """Plain words for a probability; bounds as in the card."""
    for bound, phrase in (*WORDS, *HIGH_WORDS):
        if probability < bound:
            return phrase
    return HIGH_WORDS[-1][1]


def signed_bar(value: float, largest: float) -> Bar:
    """Bar of ``value`` on a scale where ``largest`` fills half the width."""
    length = HALF_WIDTH * abs(value) / largest if largest > 0 else 0.0
    left = -length if value < 0 else 0.0
    kind = "lowers" if value < 0 else "raises"
    return Bar(f"{left:.1f}", f"{length:.1f}", kind)


def evidence_view(
    prediction: Prediction,
    explanation: Explanation | None,
    record: PatientRecord,
    *,
    film_url: str,
    overlay_url: str,
) -> dict[str, Any]:
    """Everything that the template prints, escaped there."""
    estimate = prediction.estimates[0] if prediction.estimates else None
    heading = estimate.display if estimate else "No estimate"
    return {
        "heading": heading,
        "estimate": estimate
        and {
            "percent": percent(estimate.probability),
            "words": interval_words(estimate.probability).capitalize(),
            "threshold": percent(estimate.threshold),
        },
        "abstentions": [
            f"Could not assess: {a.detail}" for a in prediction.abstentions
        ],
        "warnings": [f"Caution: {w.detail}" for w in prediction.warnings],
        "not_checked": [
            words(code, ABSTENTION)
            for code, state in prediction.checks.items()
            if state == "not checked"
        ],
        "patient": record.patient.patient_id,
        "made_at": prediction.made_at,
        "shares": _shares(prediction, explanation),
        "missing": missing_words(record),
        "skipped": list(record.skip_counts().items()),
        "skipped_total": len(record.skipped),
        "film": _film(record, explanation, film_url, overlay_url),
        "film_reason": _state_words(record, Modality.IMAGE),
        "notes": _notes(record, explanation),
        "note_reason": _state_words(record, Modality.TEXT),
        "measurements": _values(record, explanation),
        "value_reason": _state_words(record, Modality.VALUES),
        "sentences": _sentences(explanation),
        "model": {
            "name": prediction.model.name,
            "version": prediction.model.version,
            "sha256": prediction.model.sha256,
            "trained_on": prediction.model.trained_on,
            "validation": validation_words(prediction.model.validation),
        },
        "device": prediction.device,
        "prediction_id": prediction.prediction_id,
    }


def missing_words(record: PatientRecord) -> list[str]:
    """One line for each modality that was absent or unreadable."""
    return [
        _state_words(record, modality)
        for modality in Modality
        if record.states[modality].status is not ModalityStatus.PRESENT
    ]


def validation_words(validation: Validation | None) -> str:
    """How good the model was measured to be, or that it was not measured."""
    if validation is None:
        return "Its performance has not been measured."
    v = validation
    return (
        f"{v.metric} {v.value:.2f} (95 % interval {v.low:.2f} to {v.high:.2f}, "
        f"n = {v.n}): {v.method}"
    )


def _state_words(record: PatientRecord, modality: Modality) -> str:
    state = record.states[modality]
    reason = f" ({state.reason.replace('_', ' ')})" if state.reason else ""
    return f"{NAMES[modality]}: {state.status}{reason}."


def _shares(
    prediction: Prediction, explanation: Explanation | None
) -> list[dict[str, str]]:
    if explanation is None:
        return []
    largest = max((abs(s.logit) for s in explanation.modalities), default=0.0)
    rows = []
    for share in explanation.modalities:
        bar = signed_bar(share.logit, largest)
        rows.append(
            {
                "name": NAMES[Modality(share.modality)],
                "signed": f"{share.logit:+.2f}",
                "state": prediction.states.get(share.modality, ""),
                "x": bar.x,
                "width": bar.width,
                "kind": bar.kind,
            }
        )
    return rows


def _film(
    record: PatientRecord,
    explanation: Explanation | None,
    film_url: str,
    overlay_url: str,
) -> dict[str, Any] | None:
    if not record.images:
        return None
    image = record.images[0]
    maps = explanation.heat_maps if explanation else ()
    drawn = any(not m.blank for m in maps if m.reference == image.provenance.reference)
    taken = image.acquired_at.isoformat() if image.acquired_at else "time not given"
    view = image.view or "unknown"
    inferred = ", inferred" if image.view_inferred else ""
    return {
        "url": film_url,
        "overlay": overlay_url if drawn else "",
        "view": view,
        "caption": f"View {view}{inferred}; {taken}; {image.provenance.reference}.",
        "flags": ", ".join(image.flags),
    }


def _notes(
    record: PatientRecord, explanation: Explanation | None
) -> list[dict[str, Any]]:
    words = explanation.words if explanation else ()
    strongest = max((w.score for w in words), default=0.0)
    result = []
    for note in record.notes:
        reference = note.provenance.reference
        mine = [w for w in words if w.reference == reference]
        written = note.written_at.isoformat() if note.written_at else "time not given"
        cut: list[Piece] = pieces(note, mine, strongest)
        result.append(
            {"caption": f"{note.kind}; {written}; {reference}", "pieces": cut}
        )
    return result


def _values(
    record: PatientRecord, explanation: Explanation | None
) -> list[dict[str, str]]:
    scores: Iterable[ValueScore] = explanation.values if explanation else ()
    by_reference = {(s.reference, s.loinc): s.logit for s in scores}
    largest = max((abs(v) for v in by_reference.values()), default=0.0)
    rows = [_value(value, by_reference, largest) for value in record.values]
    return sorted(rows, key=lambda row: -float(row["width"]))


def _value(
    value: CodedValue, scores: Mapping[tuple[str, str], float], largest: float
) -> dict[str, str]:
    reference = value.provenance.reference
    score = scores.get((reference, value.loinc))
    bar = signed_bar(score or 0.0, largest)
    known = value.reference_low is not None or value.reference_high is not None
    low, high = value.reference_low, value.reference_high
    span = f"{'' if low is None else low} to {'' if high is None else high}"
    return {
        "name": value.name,
        "value": f"{value.comparator or ''}{value.value}",
        "unit": value.unit,
        "flag": value.interpretation or "",
        "range": span if known else "not given",
        "measured_at": value.measured_at.isoformat(timespec="minutes"),
        "effect": "not an input" if score is None else f"{score:+.2f}",
        "reference": reference,
        "x": bar.x,
        "width": bar.width,
        "kind": bar.kind,
    }


def _sentences(explanation: Explanation | None) -> list[dict[str, str]]:
    if explanation is None:
        return []
    return [
        {"text": s.text, "evidence": ", ".join(s.evidence)}
        for s in explanation.narrative
    ]
