"""What the evidence page shows of a prediction, and that it invents nothing."""

from __future__ import annotations

import io
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import numpy as np
import pytest
from PIL import Image

from cds_hooks.smart_app.evidence_view import evidence_view, interval_words, signed_bar
from cds_hooks.smart_app.marked_text import pieces
from cds_hooks.smart_app.pictures import MAX_SIDE, film_png, overlay_png
from fhir_adapters.patient_record import (
    ChestImage,
    ClinicalNote,
    CodedValue,
    Modality,
    ModalityState,
    ModalityStatus,
    PatientIdentity,
    PatientRecord,
    Provenance,
    Skip,
)
from model.jobs.explanation import (
    Explanation,
    HeatMap,
    ModalityShare,
    Sentence,
    ValueScore,
    WordScore,
)
from model.jobs.prediction import (
    Abstention,
    LabelEstimate,
    ModelIdentity,
    Prediction,
    Validation,
)

NOW = datetime(2026, 3, 1, 8, tzinfo=UTC)
FILM = "ImagingStudy/1#2.25.1"
PRESENT = ModalityState(ModalityStatus.PRESENT)


def source(reference: str) -> Provenance:
    return Provenance(reference, "fhir", "0" * 64)


NOTE = ClinicalNote("Wet cough & <b>wheeze</b>.", NOW, "note", source("Doc/1"))
VALUE = CodedValue(
    "2823-3",
    "Potassium",
    Decimal("5.9"),
    "mmol/L",
    NOW,
    source("Observation/k"),
    interpretation="H",
    reference_low=Decimal("3.5"),
    reference_high=Decimal("5.1"),
)
IMAGE = ChestImage(
    np.linspace(0, 1, 12 * 8, dtype=np.float32).reshape(12, 8),
    "PA",
    False,
    "1",
    "2",
    "3",
    NOW,
    source(FILM),
)
RECORD = PatientRecord(
    PatientIdentity("p-1"),
    NOW,
    {m: PRESENT for m in Modality},
    (IMAGE,),
    (NOTE,),
    (VALUE,),
    (VALUE,),
    (Skip("Observation/x", "unknown_unit"), Skip("Observation/y", "unknown_unit")),
)
GRID = ((0.0, 0.0), (0.0, 2.0))
EXPLANATION = Explanation(
    "l",
    (
        ModalityShare("image", 1.0, 0.2),
        ModalityShare("text", -0.5, -0.1),
        ModalityShare("values", 0.0, 0.0),
    ),
    (HeatMap(FILM, GRID, (0.0, 0.0, 1.0, 1.0), 2.0, False),),
    (WordScore("Doc/1", 4, 9, 1.0), WordScore("Doc/1", 12, 15, 0.01)),
    (ValueScore("Observation/k", "2823-3", 0.4),),
    (Sentence("t", "A sentence.", ("Observation/k",)),),
)
PREDICTION = Prediction(
    "pr-1",
    "2026-03-01T08:00:00Z",
    ModelIdentity(
        "m", "1", "a" * 64, "Synthetic.", Validation("AUROC", 0.9, 0.8, 0.95, 100, "x")
    ),
    "cpu",
    {"image": True, "text": True, "values": True},
    {"image": "present", "text": "present", "values": "present"},
    "c",
    (LabelEstimate("l", "Condition", 1.0, 0.8, 0.4),),
    (),
    (FILM, "Doc/1", "Observation/k"),
    "e" * 64,
)


def view(prediction=PREDICTION, explanation=EXPLANATION, record=RECORD):
    return evidence_view(
        prediction, explanation, record, film_url="/f", overlay_url="/o"
    )


def test_the_answer_comes_first_with_words_and_threshold() -> None:
    page = view()
    assert page["heading"] == "Condition"
    assert page["estimate"] == {
        "percent": "80 %",
        "words": "Likely",
        "threshold": "40 %",
    }
    assert page["model"]["validation"].startswith("AUROC 0.90 (95 % interval 0.80")


def test_an_abstention_shows_no_number() -> None:
    page = view(
        replace(
            PREDICTION, estimates=(), abstentions=(Abstention("stale", "It is old"),)
        ),
        None,
    )
    assert page["estimate"] is None and page["heading"] == "No estimate"
    assert page["abstentions"] == ["Could not assess: It is old"]
    assert page["shares"] == [] and page["sentences"] == []


def test_what_was_missing_is_named_with_its_reason() -> None:
    states = {
        Modality.IMAGE: ModalityState(ModalityStatus.UNREADABLE, "short_pixel_data"),
        Modality.TEXT: ModalityState(ModalityStatus.ABSENT, "no_note"),
        Modality.VALUES: PRESENT,
    }
    page = view(record=replace(RECORD, states=states, images=(), notes=()))
    assert page["missing"] == [
        "Film: unreadable (short pixel data).",
        "Note: absent (no note).",
    ]
    assert page["film"] is None and page["notes"] == []
    assert page["skipped"] == [("unknown_unit", 2)]


def test_values_carry_unit_range_flag_and_signed_effect() -> None:
    (row,) = view()["measurements"]
    assert (row["value"], row["unit"], row["flag"]) == ("5.9", "mmol/L", "H")
    assert row["range"] == "3.5 to 5.1" and row["effect"] == "+0.40"
    (unused,) = view(explanation=replace(EXPLANATION, values=()))["measurements"]
    assert unused["effect"] == "not an input"


def test_the_overlay_is_offered_only_above_the_floor() -> None:
    assert view()["film"]["overlay"] == "/o"
    blank = replace(EXPLANATION.heat_maps[0], blank=True)
    assert (
        view(explanation=replace(EXPLANATION, heat_maps=(blank,)))["film"]["overlay"]
        == ""
    )
    assert overlay_png(blank, (12, 8)) is None


def test_the_overlay_lies_where_the_grid_is_hot() -> None:
    body = overlay_png(EXPLANATION.heat_maps[0], (120, 80))
    assert body is not None
    alpha = np.asarray(Image.open(io.BytesIO(body)))[..., 3].astype(int)
    assert alpha.shape == (120, 80)
    assert alpha[90:, 60:].min() > 100 and alpha[:30, :20].max() == 0


def test_the_film_keeps_its_proportions_and_is_bounded() -> None:
    pixels = np.zeros((3000, 1500), dtype=np.float32)
    picture = Image.open(io.BytesIO(film_png(pixels)))
    assert picture.size == (MAX_SIDE // 2, MAX_SIDE) and picture.mode == "L"


def test_marks_keep_the_note_as_it_was_written() -> None:
    cut = pieces(NOTE, EXPLANATION.words, 1.0)
    assert "".join(p.text for p in cut) == NOTE.text
    assert [(p.text, p.level) for p in cut if p.level] == [("cough", 4)]


def test_marks_outside_the_note_or_overlapping_are_ignored() -> None:
    words = [
        WordScore("Doc/1", 4, 9, 1.0),
        WordScore("Doc/1", 6, 12, 1.0),
        WordScore("Doc/1", 20, 400, 1.0),
    ]
    cut = pieces(NOTE, words, 1.0)
    assert "".join(p.text for p in cut) == NOTE.text
    assert sum(p.level > 0 for p in cut) == 1
    assert pieces(NOTE, words, 0.0)[0].text == NOTE.text


@pytest.mark.parametrize(
    ("probability", "words"),
    [(0.01, "very unlikely"), (0.3, "less likely than not"), (1.0, "very likely")],
)
def test_words_for_a_probability(probability: float, words: str) -> None:
    assert interval_words(probability) == words


def test_a_negative_bar_grows_to_the_left() -> None:
    assert signed_bar(-1.0, 2.0).x == "-48.0" and signed_bar(-1.0, 2.0).kind == "lowers"
    assert signed_bar(1.0, 0.0).width == "0.0"
