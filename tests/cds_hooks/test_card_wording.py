"""What a clinician reads: numbers only where the model stands by them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from cds_hooks.card_lines import contributions, percent
from cds_hooks.card_wording import (
    EXTENSION,
    Frame,
    could_not_assess_card,
    not_ready_card,
    ready_card,
)
from fhir_adapters.patient_record import (
    Modality,
    ModalityState,
    ModalityStatus,
    PatientIdentity,
    PatientRecord,
    Skip,
)
from model.jobs.explanation import ModalityShare
from model.jobs.prediction import Abstention, LabelEstimate
from tests.cds_hooks.invariants import response_broken
from tests.cds_hooks.service import EXPLANATION, MODEL, prediction

FRAME = Frame("https://cds.example", MODEL, "a" * 32, "a" * 32)
PRESENT = ModalityState(ModalityStatus.PRESENT)


def record(**more: Any) -> PatientRecord:
    made: dict[str, Any] = {
        "patient": PatientIdentity("p"),
        "cutoff": datetime(2026, 1, 11, 9, 30, tzinfo=UTC),
        "states": {
            Modality.IMAGE: ModalityState(ModalityStatus.UNREADABLE, "not_dicom"),
            Modality.TEXT: PRESENT,
            Modality.VALUES: ModalityState(ModalityStatus.ABSENT, "none_received"),
        },
        "skipped": (
            Skip("Observation/1", "unknown_unit"),
            Skip("Observation/2", "unknown_unit"),
            Skip("Observation/3", "brand_new_reason"),
        ),
        **more,
    }
    return PatientRecord(**made)


def card(estimates: Any = None, explanation: Any = EXPLANATION, **more: Any) -> Any:
    given = {"estimates": tuple(estimates)} if estimates is not None else {}
    made = ready_card(
        FRAME, prediction(record(), MODEL, **given, **more), explanation, record()
    ).to_json()
    assert response_broken({"cards": [made]}) == []
    return made


def estimate(probability: float, threshold: float, name: str = "Pneumonia") -> Any:
    return LabelEstimate(name.lower(), name, 0.0, probability, threshold)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0.0, "under 1 %"),
        (0.009, "under 1 %"),
        (0.01, "1 %"),
        (0.784, "78 %"),
        (0.99, "99 %"),
        (0.991, "over 99 %"),
        (1.0, "over 99 %"),
    ],
)
def test_no_probability_promises_certainty(value: float, words: str) -> None:
    assert percent(value) == words


@pytest.mark.parametrize(
    ("probability", "threshold", "indicator", "summary"),
    [
        (0.78, 0.5, "warning", "probability 78 % (decision threshold 50 %)"),
        (0.5, 0.5, "warning", "probability 50 % (decision threshold 50 %)"),
        (0.4996, 0.5, "info", "probability 50.0 % (decision threshold 50.0 %)"),
        (0.497, 0.5, "info", "probability 49.7 % (decision threshold 50.0 %)"),
        (0.999, 0.5, "warning", "probability over 99 % (decision threshold 50 %)"),
        (0.2, 0.5, "info", "probability 20 % (decision threshold 50 %)"),
    ],
)
def test_the_mark_follows_the_threshold(
    probability: float, threshold: float, indicator: str, summary: str
) -> None:
    made = card([estimate(probability, threshold)])
    assert made["indicator"] == indicator
    assert made["summary"].endswith(summary)


def test_the_leading_estimate_is_in_the_summary_and_all_are_in_the_detail() -> None:
    made = card([estimate(0.3, 0.2, "Edema"), estimate(0.6, 0.2, "Effusion")])
    assert made["summary"].startswith("Effusion: ")
    assert "**Edema**: estimated probability 30 %, at or above" in made["detail"]
    assert "**Effusion**: estimated probability 60 %" in made["detail"]


def test_a_long_label_is_cut_and_the_figures_stay() -> None:
    made = card([estimate(0.784, 0.5, "Very " * 60)])
    assert len(made["summary"]) <= 139
    assert made["summary"].endswith("78 % (decision threshold 50 %)")


def test_missing_and_skipped_evidence_is_said_in_plain_words() -> None:
    detail = card()["detail"]
    assert "Missing: Image (unreadable): the image is no DICOM file" in detail
    assert "Missing: Measurements (absent): there is none in the chart" in detail
    assert "Missing: Notes" not in detail
    assert "1 x brand new reason, 2 x unit not known for this measurement" in detail
    assert "Evidence up to 2026-01-11 09:30 UTC" in detail


def test_nothing_missing_is_said_too() -> None:
    whole = record(states=dict.fromkeys(Modality, PRESENT), skipped=())
    made = ready_card(FRAME, prediction(whole, MODEL), EXPLANATION, whole)
    assert "- Missing: nothing" in made.detail


def test_the_last_line_names_the_model_and_its_status() -> None:
    last = card()["detail"].rsplit("\n\n", 1)[-1]
    assert last == (
        "Model m 1, trained on t; AUROC 0.87 (95 % interval 0.83 to 0.91, n = 300, "
        "synthetic patients, held out). "
        "Investigational; not cleared; informs, does not direct."
    )
    bare = replace(MODEL, validation=None)
    made = could_not_assess_card(replace(FRAME, model=bare), ["busy"])
    assert "trained on t; not validated. Investigational" in made.detail


def test_contributions_are_shares_with_their_direction() -> None:
    detail = card(presence={"image": True, "text": True, "values": True})["detail"]
    assert (
        "Contributions to the estimate of Pneumonia: image 0 %, "
        "text 75 % (raises it), values 25 % (lowers it)" in detail
    )
    assert "image not available" in card()["detail"]
    nothing = replace(
        EXPLANATION, modalities=tuple(ModalityShare(m, 0.0, 0.0) for m in Modality)
    )
    assert contributions(nothing) == {"image": 0.0, "text": 0.0, "values": 0.0}
    assert sum(contributions(EXPLANATION).values()) == pytest.approx(1.0)


def test_a_missing_explanation_is_said() -> None:
    made = card(explanation=None)
    assert "no explanation could be computed" in made["detail"]
    assert "contributions" not in made["extension"][EXTENSION]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"abstentions": (Abstention("no_modality", ""),)}, "no usable evidence"),
        ({"abstentions": (Abstention("ood_image", ""),)}, "unlike those"),
        ({"abstentions": (Abstention("new_code", ""),)}, "new code"),
        ({"estimates": ()}, "no usable evidence"),
    ],
)
def test_an_abstention_shows_no_number(changes: Any, words: str) -> None:
    made = card(**changes)
    assert made["indicator"] == "info"
    assert words in made["summary"]
    assert "%" not in made["detail"].rpartition("Model m")[0]
    assert made["extension"][EXTENSION]["state"] == "could-not-assess"
    assert "says nothing about the patient's risk" in made["detail"]


def test_not_ready_says_what_it_waits_for_and_what_came() -> None:
    made = not_ready_card(FRAME, ("observations", "image"), record()).to_json()
    assert response_broken({"cards": [made]}) == []
    assert "waiting for: measurements, the radiograph" in made["detail"]
    assert "Received: notes and reports" in made["detail"]
    assert made["extension"][EXTENSION]["presence"]["text"] is True
    early = not_ready_card(replace(FRAME, job_id=""), (), None).to_json()
    assert "waiting for: the model" in early["detail"]
    assert "presence" not in early["extension"][EXTENSION]
    assert "jobId" not in early["extension"][EXTENSION]


def test_no_card_directs_and_none_is_critical() -> None:
    cards = [
        card(),
        not_ready_card(FRAME, (), None).to_json(),
        could_not_assess_card(FRAME, ["busy"]).to_json(),
    ]
    for made in cards:
        text = (made["summary"] + made["detail"]).lower()
        assert not {"give", "start", "stop", "order", "prescribe", "must"} & set(
            text.replace(",", " ").replace(".", " ").split()
        )
        assert made["indicator"] != "critical"
        assert {"display", "code", "system"} == set(made["overrideReasons"][0])


def test_texts_of_the_model_cannot_break_out_of_their_line() -> None:
    evil = "x\n\n# Heading\n[go](https://evil.example) <script>"
    made = card(
        [estimate(0.7, 0.5, evil)],
        states={"image": f"absent: {evil}", "text": evil, "values": "present"},
    )
    assert "<" not in made["detail"] and "<" not in made["summary"]
    assert "\n# " not in made["detail"] and "](" not in made["detail"]
