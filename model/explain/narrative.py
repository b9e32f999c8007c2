"""The explanation in sentences: templates whose every slot is bound to evidence.

Rules that this module enforces:

1. A sentence names the evidence it rests on; one without is refused.
2. A verifier reads the finished text again: each number must be a number of the
   sentence's own evidence, with its unit; each quoted word must stand at its place in
   the note; H and L must agree with the value's reference range or flag.
3. A negated word supports nothing, and neither does a blank map.
4. The text says what is missing and ends with the limits. It estimates; it never
   directs.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from fhir_adapters.patient_record import (
    ClinicalNote,
    CodedValue,
    Modality,
    ModalityStatus,
    PatientRecord,
)
from model.errors import NarrativeError
from model.explain.word_lists import NEGATION_ENDS, NEGATION_REACH, NEGATIONS
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
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_QUOTED = re.compile("\u201c([^\u201d]*)\u201d")
_WORD = re.compile(r"\w+|[.;:!?\n]")


@dataclass(frozen=True, slots=True)
class Fact:
    """What one piece of evidence can vouch for.

    ``numbers`` as they may be written, ``phrases`` that must stand in the text when
    the fact is cited with a number, ``quotes`` that may be quoted, ``flag`` "H", "L"
    or empty.
    """

    numbers: frozenset[str] = frozenset()
    phrases: tuple[str, ...] = ()
    quotes: frozenset[str] = frozenset()
    flag: str = ""


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
    facts: dict[str, Fact] = {}
    sentences = [
        _estimate(prediction, estimate, facts),
        *_film(record, parts.heat_maps, facts),
        *_words(record, parts.words, facts),
        *_values(record, parts.values, facts),
        *_missing(prediction, facts),
        _limits(prediction, facts),
    ]
    for sentence in sentences:
        verify(sentence, facts)
    return tuple(sentences)


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


def verify(sentence: Sentence, facts: Mapping[str, Fact]) -> None:
    """Read one sentence again and compare it with the evidence it names.

    Raises:
        NarrativeError: unknown evidence, a number, quotation or flag it does not back.
    """
    if not sentence.evidence or any(e not in facts for e in sentence.evidence):
        raise NarrativeError(f"template {sentence.template}: evidence unknown")
    cited = [facts[e] for e in sentence.evidence]
    quoted = set(_QUOTED.findall(sentence.text))
    if not quoted <= frozenset().union(*(fact.quotes for fact in cited)):
        raise NarrativeError(f"template {sentence.template}: not in the note")
    plain = _QUOTED.sub("", sentence.text)
    for fact in cited:
        for phrase in fact.phrases:
            if phrase not in plain:
                raise NarrativeError(f"template {sentence.template}: value or unit")
            plain = plain.replace(phrase, "")
    numbers = set(_NUMBER.findall(plain))
    if not numbers <= frozenset().union(*(fact.numbers for fact in cited)):
        raise NarrativeError(f"template {sentence.template}: number not backed")
    flags = {flag[0] for flag in re.findall(r"\((HH|H|LL|L)\)", plain)}
    if not flags <= {fact.flag[:1] for fact in cited}:
        raise NarrativeError(f"template {sentence.template}: high or low not backed")


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
    numbers = _NUMBER.findall(
        " ".join((slots["display"], slots["probability"], slots["threshold"]))
    )
    facts[key] = Fact(numbers=frozenset(numbers))
    return render("estimate", slots, [key])


def _film(
    record: PatientRecord, heat_maps: Sequence[HeatMap], facts: dict[str, Fact]
) -> list[Sentence]:
    views = {image.provenance.reference: image.view for image in record.images}
    sentences = []
    for heat_map in heat_maps:
        facts[heat_map.reference] = Fact()
        zone = zone_words(heat_map, views.get(heat_map.reference))
        if heat_map.blank or zone is None:
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
        facts[key] = Fact(quotes=frozenset({word}))
    listed = ", ".join(f"\u201c{word}\u201d" for word in quotes.values())
    return [render("words", {"words": listed}, list(quotes))]


def is_negated(note: ClinicalNote, start: int) -> bool:
    """True where a negation earlier in its sentence covers the word at ``start``."""
    before = _WORD.findall(note.text[max(0, start - 200) : start].lower())
    for distance, word in enumerate(reversed(before)):
        ended = word in ".;:!?\n" or word in NEGATION_ENDS
        if ended or distance >= NEGATION_REACH:
            return False
        if word in NEGATIONS:
            return True
    return False


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
    told.sort(key=lambda pair: (-abs(pair[0].logit), pair[1].loinc))
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
    facts[key] = Fact(
        numbers=frozenset(_NUMBER.findall(value.name)),
        phrases=(f"{shown} {value.unit}",),
        flag=flag,
    )
    slots = {
        "name": value.name,
        "value": shown,
        "unit": value.unit,
        "effect": "raised" if score.logit > 0 else "lowered",
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
        facts[key] = Fact(numbers=frozenset(_NUMBER.findall(words)))
        slots = {"modality": MODALITY_WORDS[modality], "status": words}
        sentences.append(render("missing", slots, [key]))
    return sentences


def _limits(prediction: Prediction, facts: dict[str, Fact]) -> Sentence:
    model = prediction.model
    key = f"Model/{model.sha256}"
    used = [m.value for m in Modality if prediction.presence.get(m.value)]
    slots = {"trained_on": model.trained_on.rstrip("."), "pattern": " + ".join(used)}
    facts[key] = Fact(numbers=frozenset(_NUMBER.findall(slots["trained_on"])))
    return render("limits", slots, [key])


def _decimal(value: Decimal) -> str:
    """As a plain number, never in scientific notation."""
    return f"{value:f}"
