"""The explanation in sentences: templates whose every slot is bound to evidence.

Rules that this module enforces:

1. A sentence names the evidence it rests on; one without is refused.
2. A verifier reads the finished text again, see :mod:`.verifier`.
3. A negated word supports nothing, and neither does a blank map.
4. The text says what is missing and ends with the limits. It estimates; it never
   directs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from fhir_adapters.patient_record import (
    CodedValue,
    Modality,
    ModalityStatus,
    PatientRecord,
)
from model.errors import NarrativeError
from model.explain.verifier import NUMBER, Fact, is_negated, places_in, verify
from model.explain.zones import zone_words
from model.inference.tensors import interpretation
from model.jobs.explanation import HeatMap, Sentence, ValueScore, WordScore
from model.jobs.prediction import LabelEstimate, Prediction

TEMPLATES: Mapping[str, str] = {
    "estimate": (
        "Investigational estimate for {display}: {probability}, {side} the decision "
        "threshold of {threshold}."
    ),
    "film": "On the film, the {zone} raised the estimate most.",
    "film_blank": "The film as a whole did not raise the estimate: no region marked.",
    "words": "In the note, these words raised the estimate most: {words}.",
    "value": "{name} {value} {unit}{flag} {effect} the estimate.",
    "missing": "{modality} not used: {status}. Nothing was filled in.",
    "limits": (
        "The model has learnt from {trained_on}; the estimate is calibrated for "
        "{pattern} and does not replace clinical judgement."
    ),
}
MODALITY_WORDS = {
    Modality.IMAGE: "Film",
    Modality.TEXT: "Notes",
    Modality.VALUES: "Measured values",
}
MAX_WORDS, MAX_VALUES = 4, 3
WORD_SHARE = 0.25  # of the strongest word's score
VALUE_FLOOR = 0.05  # of a logit: less is not worth a sentence


@dataclass(frozen=True, slots=True)
class Parts:
    """The explanation so far: what the sentences are made from."""

    heat_maps: Sequence[HeatMap]
    words: Sequence[WordScore]
    values: Sequence[ValueScore]


def narrate(
    record: PatientRecord, prediction: Prediction, estimate: LabelEstimate, parts: Parts
) -> tuple[Sentence, ...]:
    """All sentences on one estimate, verified.

    Raises:
        NarrativeError: a sentence without evidence, or against it; none is shown.
    """
    sentences, facts = sentences_and_facts(record, prediction, estimate, parts)
    for sentence in sentences:
        verify(sentence, facts)
    return sentences


def sentences_and_facts(
    record: PatientRecord, prediction: Prediction, estimate: LabelEstimate, parts: Parts
) -> tuple[tuple[Sentence, ...], dict[str, Fact]]:
    """The sentences, not yet verified, and what each piece of evidence vouches for.

    Raises:
        NarrativeError: a sentence without evidence.
    """
    facts: dict[str, Fact] = {}
    sentences = (
        _estimate(prediction, estimate, facts),
        *_film(record, parts.heat_maps, facts),
        *_words(record, parts.words, facts),
        *_values(record, parts.values, facts),
        *_missing(prediction, facts),
        _limits(prediction, facts),
    )
    return sentences, facts


def render(
    template: str, slots: Mapping[str, str], evidence: Sequence[str]
) -> Sentence:
    """Fill one template.

    Raises:
        NarrativeError: no evidence, or an empty slot.
    """
    if not evidence or not all(evidence):
        raise NarrativeError(f"template {template} has no evidence")
    if not all(slots.values()):
        raise NarrativeError(f"template {template} has an empty slot")
    return Sentence(template, TEMPLATES[template].format(**slots), tuple(evidence))


def percent(probability: float) -> str:
    """A probability in whole percent that never promises certainty."""
    if probability < 0.01:
        return "under 1 %"
    if probability > 0.99:
        return "over 99 %"
    return f"{probability * 100:.0f} %"


def _estimate(
    prediction: Prediction, estimate: LabelEstimate, facts: dict[str, Fact]
) -> Sentence:
    key = f"Prediction/{prediction.prediction_id}#{estimate.label}"
    slots = {
        "display": estimate.display,
        "probability": percent(estimate.probability),
        "threshold": percent(estimate.threshold),
        "side": "at or above" if estimate.positive else "below",
    }
    numbers = NUMBER.findall(
        " ".join((slots["display"], slots["probability"], slots["threshold"]))
    )
    facts[key] = Fact(numbers=frozenset(numbers), places=places_in(estimate.display))
    return render("estimate", slots, [key])


def _film(
    record: PatientRecord, heat_maps: Sequence[HeatMap], facts: dict[str, Fact]
) -> list[Sentence]:
    views = {image.provenance.reference: image.view for image in record.images}
    sentences = []
    for heat_map in heat_maps:
        zone = zone_words(heat_map, views.get(heat_map.reference))
        if heat_map.blank:  # supports no place
            zone = None
        facts[heat_map.reference] = Fact(places=places_in(zone or ""))
        if zone is None:
            sentences.append(render("film_blank", {}, [heat_map.reference]))
        else:
            sentences.append(render("film", {"zone": zone}, [heat_map.reference]))
    return sentences


def _words(
    record: PatientRecord, scores: Sequence[WordScore], facts: dict[str, Fact]
) -> list[Sentence]:
    notes = {note.provenance.reference: note for note in record.notes}
    usable = [s for s in scores if not is_negated(notes[s.reference], s.start)]
    usable.sort(key=lambda s: (-s.score, s.reference, s.start))
    strongest = usable[0].score if usable else 0.0
    quotes: dict[str, str] = {}
    for score in usable:
        word = notes[score.reference].text[score.start : score.end]
        seen = word.lower() in (known.lower() for known in quotes.values())
        if len(quotes) < MAX_WORDS and score.score >= WORD_SHARE * strongest:
            if not seen:
                key = f"{score.reference}#char={score.start},{score.end}"
                quotes[key] = word
    if not quotes:
        return []
    for key, word in quotes.items():
        reference, _, span = key.partition("#char=")
        denied = is_negated(notes[reference], int(span.partition(",")[0]))
        facts[key] = Fact(frozenset(), (), frozenset({word}), negated=denied)
    listed = ", ".join(f"\u201c{word}\u201d" for word in quotes.values())
    return [render("words", {"words": listed}, list(quotes))]


def _values(
    record: PatientRecord, scores: Sequence[ValueScore], facts: dict[str, Fact]
) -> list[Sentence]:
    measured = {(v.provenance.reference, v.loinc): v for v in record.values}
    told = [
        (score, measured[score.reference, score.loinc])
        for score in scores
        if (score.reference, score.loinc) in measured
        and abs(score.logit) >= VALUE_FLOOR
    ]
    told.sort(key=lambda pair: (-pair[0].importance, pair[1].loinc))
    carried = Counter(reference for reference, _ in measured)
    sentences = []
    for score, value in told[:MAX_VALUES]:
        key = score.reference
        if carried[key] > 1:  # a panel: its components share one Observation
            key = f"{key}#loinc={score.loinc}"
        sentences.append(_value(key, score, value, facts))
    return sentences


def _value(
    key: str, score: ValueScore, value: CodedValue, facts: dict[str, Fact]
) -> Sentence:
    flag = interpretation(value)
    shown = f"{value.comparator or ''}{_decimal(value.value)}"
    marked = f" ({flag})" if flag in {"H", "HH", "L", "LL"} else ""
    effect = "raised" if score.logit > 0 else "lowered"
    facts[key] = Fact(
        numbers=frozenset(NUMBER.findall(value.name)),
        phrases=(f"{shown} {value.unit}",),
        flag=flag,
        places=places_in(value.name),
        effect=effect,
    )
    slots = {
        "name": value.name,
        "value": shown,
        "unit": value.unit,
        "effect": effect,
    }
    # An empty flag is no empty slot: a value within its range has none.
    template = TEMPLATES["value"].replace("{flag}", marked)
    if not all(slots.values()):
        raise NarrativeError("template value has an empty slot")
    return Sentence("value", template.format(**slots), (key,))


def _missing(prediction: Prediction, facts: dict[str, Fact]) -> list[Sentence]:
    sentences = []
    for modality in Modality:
        status = prediction.states.get(modality.value, ModalityStatus.ABSENT.value)
        if status == ModalityStatus.PRESENT.value:
            continue
        key = f"Prediction/{prediction.prediction_id}#{modality.value}"
        words = status.replace("_", " ")
        facts[key] = Fact(
            numbers=frozenset(NUMBER.findall(words)), places=places_in(words)
        )
        slots = {"modality": MODALITY_WORDS[modality], "status": words}
        sentences.append(render("missing", slots, [key]))
    return sentences


def _limits(prediction: Prediction, facts: dict[str, Fact]) -> Sentence:
    model = prediction.model
    key = f"Model/{model.sha256}"
    used = [m.value for m in Modality if prediction.presence.get(m.value)]
    slots = {"trained_on": model.trained_on.rstrip("."), "pattern": " + ".join(used)}
    trained_on = slots["trained_on"]
    facts[key] = Fact(
        numbers=frozenset(NUMBER.findall(trained_on)), places=places_in(trained_on)
    )
    return render("limits", slots, [key])


def _decimal(value: Decimal) -> str:
    """As a plain number, never in scientific notation."""
    return f"{value:f}"
