"""From the classification head to the card: probability, summary, or a refusal."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from cds_hooks.card_wording import EXTENSION, Frame, ready_card
from fhir_adapters.patient_record import (
    Modality,
    ModalityState,
    ModalityStatus,
    PatientRecord,
)
from model.explain.asked import Asked
from model.explain.narrative import Parts, sentences_and_facts
from model.explain.verifier import verify
from model.inference.abstention import DETAILS
from model.inference.predictor import Predictor
from model.jobs.prediction import Abstention
from model.synthetic.case import SynthCase
from model.synthetic.emit import to_record
from tests.cds_hooks.invariants import response_broken


def frame(predictor: Predictor) -> Frame:
    return Frame("https://cds.example", predictor.identity, "a" * 32, "a" * 32)


@pytest.mark.component("A10")
def test_a_calibrated_probability_and_a_bound_summary_reach_the_card(
    predictor: Predictor, ill: tuple[SynthCase, Asked]
) -> None:
    record = to_record(ill[0])
    prediction, explanation = predictor.assess(record)
    assert explanation is not None
    (estimate,) = prediction.estimates
    platt = ill[1].question.calibration.of((True, True, True), estimate.label)
    raw = platt.slope * estimate.logit + platt.intercept
    assert estimate.probability == pytest.approx(1 / (1 + math.exp(-raw)))
    card = ready_card(frame(predictor), prediction, explanation, record).to_json()
    assert response_broken({"cards": [card]}) == []
    assert f"{estimate.probability * 100:.0f} %" in card["summary"]
    shown = card["extension"][EXTENSION]["estimates"][0]
    assert shown["probability"] == pytest.approx(estimate.probability, abs=1e-4)
    assert explanation.narrative
    for sentence in explanation.narrative:
        assert sentence.evidence
        head = sentence.text.split(":")[0].split("(")[0].strip()[:30]
        assert head in card["detail"], sentence.text


@pytest.mark.component("A10")
@pytest.mark.component("A18")
def test_each_sentence_on_the_card_passes_against_evidence_of_the_record(
    predictor: Predictor, ill: tuple[SynthCase, Asked]
) -> None:
    asked = predictor.ask(to_record(ill[0]))
    told = predictor.explain(to_record(ill[0]))
    parts = Parts(told.heat_maps, told.words, told.values)
    sentences, facts = sentences_and_facts(
        asked.record, asked.prediction, asked.estimate, parts
    )
    held = {*asked.record.references(), asked.prediction.prediction_id}
    for sentence in sentences:
        verify(sentence, facts)
        for evidence in sentence.evidence:
            reference = evidence.split("#")[0].removeprefix("Prediction/")
            known = reference in held or reference.startswith("Model/")
            assert known or evidence in {m.reference for m in told.heat_maps}


def without(record: PatientRecord, *missing: Modality) -> PatientRecord:
    field = {"image": "images", "text": "notes", "values": "values"}
    gone = {field[m.value]: () for m in missing}
    absent = ModalityState(ModalityStatus.ABSENT, "none_received")
    states = {m: absent if m in missing else record.states[m] for m in Modality}
    return replace(record, states=states, **gone)  # type: ignore[arg-type]


@pytest.mark.component("A10")
def test_an_abstention_is_a_type_of_its_own_and_shows_no_number(
    predictor: Predictor, ill: tuple[SynthCase, Asked]
) -> None:
    record = without(to_record(ill[0]), *Modality)
    record = replace(record, patient=replace(record.patient, sex=None, birth_date=None))
    prediction, explanation = predictor.assess(record)
    assert prediction.estimates == () and explanation is None
    (reason,) = prediction.abstentions
    assert isinstance(reason, Abstention) and reason.code == "no_modality"
    assert reason.detail == DETAILS["no_modality"]
    card = ready_card(frame(predictor), prediction, explanation, record).to_json()
    assert response_broken({"cards": [card]}) == []
    assert card["extension"][EXTENSION]["state"] == "could-not-assess"
    assert card["extension"][EXTENSION].get("estimates", []) == []
    assert "%" not in card["summary"]
