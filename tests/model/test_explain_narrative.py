"""Sentences: each bound to evidence, read again, and never against it."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest

from fhir_adapters.patient_record import Modality, PatientRecord
from model.errors import NarrativeError
from model.explain.narrative import (
    TEMPLATES,
    Parts,
    narrate,
    percent,
    render,
)
from model.explain.verifier import Fact, is_negated, verify
from model.jobs.explanation import HeatMap, Sentence, ValueScore, WordScore
from model.jobs.prediction import LabelEstimate, Prediction
from tests.model.job_samples import prediction, record

NOTE = (
    "Fever and crackles since Monday. No pleural pain. Denies chills, fever at night."
)
ESTIMATE = LabelEstimate("pneumonia", "Pneumonia", 1.2, 0.774, 0.42)


def case() -> PatientRecord:
    """The sample with a note about a chest."""
    return record(notes=(replace(record().notes[0], text=NOTE),))


def heat_map(*, blank: bool = False) -> HeatMap:
    """A map whose peak lies in the patient's right lower zone."""
    grid = tuple(tuple(float((r, c) == (3, 0)) for c in range(4)) for r in range(4))
    return HeatMap("ImagingStudy/i#1.2", grid, (0, 0, 1, 1), 1.0, blank)


def word(text: str, score: float, occurrence: int = 0) -> WordScore:
    """The score of a word of the note."""
    start = -1
    for _ in range(occurrence + 1):
        start = NOTE.index(text, start + 1)
    return WordScore("DocumentReference/d", start, start + len(text), score)


def parts(**changes: object) -> Parts:
    """Attributions of everything."""
    plain = Parts(
        heat_maps=(heat_map(),),
        words=(word("Fever", 0.5), word("crackles", 1.0), word("pain", 0.9)),
        values=(ValueScore("Observation/o1", "1988-5", 0.8),),
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


def told(
    chosen: Parts | None = None,
    patient: PatientRecord | None = None,
    said: Prediction | None = None,
) -> dict[str, Sentence]:
    """The narrative, by template."""
    patient = patient or case()
    sentences = narrate(
        patient, said or prediction(patient), ESTIMATE, chosen or parts()
    )
    return {sentence.template: sentence for sentence in sentences}


def test_each_sentence_rests_on_evidence() -> None:
    sentences = told()
    assert set(sentences) == {"estimate", "film", "words", "value", "limits"}
    assert all(s.evidence and all(s.evidence) for s in sentences.values())


def test_the_estimate_names_probability_and_threshold() -> None:
    sentence = told()["estimate"]
    assert sentence.text == (
        "Investigational estimate for Pneumonia: 77 %, at or above the decision "
        "threshold of 42 %."
    )
    assert sentence.evidence == (f"Prediction/{'p' * 32}#pneumonia",)


def test_the_film_is_told_by_zone_and_reference() -> None:
    sentence = told()["film"]
    assert "right lower zone" in sentence.text
    assert sentence.evidence == ("ImagingStudy/i#1.2",)


def test_a_blank_map_supports_nothing() -> None:
    sentences = told(parts(heat_maps=(heat_map(blank=True),)))
    assert "film" not in sentences
    assert "no region" in sentences["film_blank"].text


def test_words_are_quoted_strongest_first_with_their_place() -> None:
    sentence = told()["words"]
    assert "\u201ccrackles\u201d, \u201cFever\u201d" in sentence.text
    assert sentence.evidence == (
        "DocumentReference/d#char=10,18",
        "DocumentReference/d#char=0,5",
    )


def test_a_negated_word_supports_no_finding() -> None:
    assert "pain" not in told()["words"].text
    only = told(parts(words=(word("pain", 1.0), word("chills", 1.0))))
    assert "words" not in only


@pytest.mark.parametrize(
    "text,occurrence,negated",
    [
        ("Fever", 0, False),
        ("crackles", 0, False),
        ("pain", 0, True),
        ("chills", 0, True),
        ("night", 0, True),
    ],
)
def test_a_negation_covers_the_rest_of_its_sentence(
    text: str, occurrence: int, negated: bool
) -> None:
    start = word(text, 1.0, occurrence).start
    assert is_negated(case().notes[0], start) is negated


@pytest.mark.parametrize(
    "text,negated",
    [
        ("no cough but fever", False),
        ("no one two three four five six fever", False),
        ("no one two three four fever", True),
        ("without fever", True),
        ("knows fever", False),
    ],
)
def test_a_negation_ends_at_but_and_after_its_reach(text: str, negated: bool) -> None:
    note = replace(case().notes[0], text=text)
    assert is_negated(note, text.index("fever")) is negated


def test_weak_and_repeated_words_are_not_listed() -> None:
    few = told(parts(words=(word("Fever", 1.0), word("Monday", 0.2))))["words"]
    assert "Monday" not in few.text
    text = "fever Fever cough"
    patient = record(notes=(replace(record().notes[0], text=text),))
    scores = (
        WordScore("DocumentReference/d", 0, 5, 1.0),
        WordScore("DocumentReference/d", 6, 11, 0.9),
    )
    sentence = told(parts(words=scores), patient)["words"]
    assert sentence.text.count("ever") == 1


def test_a_value_is_told_with_unit_flag_and_direction() -> None:
    sentence = told()["value"]
    assert sentence.text == "C-reactive protein >96.50 mg/L (H) raised the estimate."
    assert sentence.evidence == ("Observation/o1",)
    lowered = told(parts(values=(ValueScore("Observation/o1", "1988-5", -0.8),)))
    assert "lowered" in lowered["value"].text


def test_high_and_low_follow_the_reference_range() -> None:
    base = case().values[0]
    for value, flag in (("4", "."), ("0.5", " (L)")):
        changed = replace(
            base,
            value=Decimal(value),
            comparator=None,
            interpretation=None,
            reference_low=Decimal("1"),
        )
        text = told(patient=replace(case(), values=(changed,)))["value"].text
        assert f"{value} mg/L" in text
        assert ("(L)" in text) is (flag == " (L)")
        assert "(H)" not in text


def test_components_of_one_panel_are_told_apart() -> None:
    base = replace(
        case().values[0],
        comparator=None,
        interpretation=None,
        reference_low=None,
        reference_high=None,
    )
    panel = (
        ("8480-6", "Systolic blood pressure", "92", "mm[Hg]"),
        ("8867-4", "Heart rate", "118", "/min"),
        ("9279-1", "Respiratory rate", "28", "/min"),
    )
    values = tuple(
        replace(base, loinc=loinc, name=name, value=Decimal(value), unit=unit)
        for loinc, name, value, unit in panel
    )
    reference = base.provenance.reference
    scores = tuple(ValueScore(reference, v.loinc, 0.9) for v in values)
    patient = replace(case(), values=values)
    sentences = narrate(patient, prediction(patient), ESTIMATE, parts(values=scores))
    told_values = [s for s in sentences if s.template == "value"]
    assert [(s.evidence, s.text) for s in told_values] == [
        (
            (f"{reference}#loinc={loinc}",),
            f"{name} {value} {unit} raised the estimate.",
        )
        for loinc, name, value, unit in panel
    ]


def test_values_of_no_weight_or_not_measured_are_not_told() -> None:
    weak = (
        ValueScore("Observation/o1", "1988-5", 0.01),
        ValueScore("Patient/p", "30525-0", 3.0),
    )
    assert "value" not in told(parts(values=weak))


def test_what_is_missing_is_said_with_its_reason() -> None:
    said = replace(
        prediction(case()),
        presence={"image": False, "text": True, "values": True},
        states={
            "image": "unreadable: blank_image",
            "text": "present",
            "values": "present",
        },
    )
    sentence = told(parts(heat_maps=()), said=said)["missing"]
    assert sentence.text == (
        "Film not used: unreadable: blank image. Nothing was filled in."
    )
    assert "text + values" in told(parts(heat_maps=()), said=said)["limits"].text


def test_the_text_ends_with_the_limits() -> None:
    patient = case()
    sentences = narrate(patient, prediction(patient), ESTIMATE, parts())
    assert sentences[-1].template == "limits"
    assert "artificial cases" in sentences[-1].text
    assert "does not replace clinical judgement" in sentences[-1].text


def test_no_template_directs() -> None:
    directive = {"give", "start", "stop", "administer", "prescribe", "must", "should"}
    for text in TEMPLATES.values():
        assert not directive & set(text.lower().replace(".", "").split())


def test_a_slot_without_evidence_is_refused() -> None:
    with pytest.raises(NarrativeError, match="no evidence"):
        render("film", {"zone": "right lower zone"}, [])
    with pytest.raises(NarrativeError, match="no evidence"):
        render("film", {"zone": "right lower zone"}, [""])
    with pytest.raises(NarrativeError, match="empty slot"):
        render("film", {"zone": ""}, ["ImagingStudy/i"])


def test_a_value_without_a_unit_is_refused() -> None:
    bare = replace(case().values[0], unit="")
    with pytest.raises(NarrativeError, match="empty slot"):
        told(patient=replace(case(), values=(bare,)))


FACTS = {
    "ImagingStudy/i": Fact(places=frozenset({"right", "lower"})),
    "Observation/o2": Fact(phrases=("92 %",), flag="L", effect="raised"),
    "DocumentReference/d#char=9,15": Fact(quotes=frozenset({"chills"}), negated=True),
    "Observation/o1": Fact(phrases=("96.5 mg/L",), flag="H"),
    "Prediction/p": Fact(numbers=frozenset({"77"})),
    "DocumentReference/d": Fact(quotes=frozenset({"crackles"})),
}


@pytest.mark.parametrize(
    "text,evidence",
    [
        ("CRP 96.5 mg/L (H) raised it.", "Observation/o1"),
        ("CRP 96.5 mg/L raised it.", "Observation/o1"),
        ("Estimate 77 %.", "Prediction/p"),
        ("On the film, the right lower zone raised it.", "ImagingStudy/i"),
        ("Saturation 92 % (L) raised it.", "Observation/o2"),
        ("\u201ccrackles\u201d raised it.", "DocumentReference/d"),
    ],
)
def test_a_sentence_that_its_evidence_backs_passes(text: str, evidence: str) -> None:
    verify(Sentence("x", text, (evidence,)), FACTS)


@pytest.mark.parametrize(
    "text,evidence",
    [
        ("CRP 69.5 mg/L (H) raised it.", ("Observation/o1",)),  # another number
        ("CRP 96.5 g/L (H) raised it.", ("Observation/o1",)),  # another unit
        ("CRP 96.5 mg/L (L) raised it.", ("Observation/o1",)),  # another direction
        ("CRP 96.5 mg/L and 12 more.", ("Observation/o1",)),  # a number too many
        ("Estimate 78 %.", ("Prediction/p",)),
        ("The left lower zone raised it.", ("ImagingStudy/i",)),  # another side
        ("The right upper zone raised it.", ("ImagingStudy/i",)),  # another height
        ("Saturation 92 % (L) lowered it.", ("Observation/o2",)),  # another direction
        ("\u201cchills\u201d raised it.", ("DocumentReference/d#char=9,15",)),  # denied
        ("\u201ccavity\u201d raised it.", ("DocumentReference/d",)),  # not in the note
        ("Estimate 77 %.", ("Prediction/other",)),  # unknown evidence
        ("Estimate.", ()),
    ],
)
def test_a_sentence_against_its_evidence_is_refused(
    text: str, evidence: tuple[str, ...]
) -> None:
    with pytest.raises(NarrativeError):
        verify(Sentence("x", text, evidence), FACTS)


@pytest.mark.parametrize(
    "value,text",
    [(0.0, "under 1 %"), (0.004, "under 1 %"), (0.5, "50 %"), (0.999, "over 99 %")],
)
def test_a_probability_never_promises_certainty(value: float, text: str) -> None:
    assert percent(value) == text


@pytest.mark.parametrize("left", list(Modality))
def test_every_missing_modality_is_named(left: Modality) -> None:
    said = replace(
        prediction(case()),
        presence={m.value: m is left for m in Modality},
        states={m.value: "present" if m is left else "absent: x" for m in Modality},
    )
    none = parts(heat_maps=(), words=(), values=())
    sentences = narrate(case(), said, ESTIMATE, none)
    missing = [s.text for s in sentences if s.template == "missing"]
    assert len(missing) == len(set(missing)) == 2
    assert f"calibrated for {left}" in sentences[-1].text
