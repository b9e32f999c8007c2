"""Shifts of films, notes and values do what they say, and no more."""

from __future__ import annotations

import numpy as np
import pytest

from fhir_adapters.patient_record import Modality, ModalityStatus
from model.evaluation import film_shifts, note_shifts, value_shifts
from model.evaluation.robustness import SHIFTS
from model.synthetic.emit import to_record
from model.synthetic.generate import generate

CASE = next(iter(generate(1, 5)))
RECORD = to_record(CASE)
TEXT = "History:\nPatient with shortness of breath on the right. No fever.\n"
FILMS = [
    film_shifts.gaussian_noise,
    film_shifts.strong_noise,
    film_shifts.jpeg,
    film_shifts.rotation,
    film_shifts.contrast,
    film_shifts.inversion,
    film_shifts.blank,
    film_shifts.white_noise,
    film_shifts.hand,
    film_shifts.limb,
    film_shifts.stamped,
    film_shifts.other_scanner,
]


def _random() -> np.random.Generator:
    return np.random.default_rng(3)


@pytest.mark.parametrize("shift", FILMS, ids=lambda f: f.__name__)
def test_a_film_stays_a_film(shift: film_shifts.FilmShift) -> None:
    before = RECORD.images[0].pixels.copy()
    after = film_shifts.with_film(RECORD, shift, _random()).images[0].pixels
    assert after.shape == before.shape and after.dtype == np.float32
    assert after.min() >= 0 and after.max() <= 1
    assert not np.array_equal(after, before)
    assert np.array_equal(RECORD.images[0].pixels, before), "the original is kept"


def test_mild_film_shifts_are_mild_and_an_inversion_is_none() -> None:
    before = RECORD.images[0].pixels

    def likeness(shift: film_shifts.FilmShift) -> float:
        after = film_shifts.with_film(RECORD, shift, _random()).images[0].pixels
        return float(np.corrcoef(before.ravel(), after.ravel())[0, 1])

    for mild in (film_shifts.gaussian_noise, film_shifts.jpeg, film_shifts.contrast):
        assert likeness(mild) > 0.95
    assert likeness(film_shifts.inversion) == pytest.approx(-1, abs=1e-4)
    assert abs(likeness(film_shifts.hand)) < 0.8


def test_typing_errors_are_few_or_many() -> None:
    text = RECORD.notes[0].text
    words = text.split()

    def changed(shift: note_shifts.TextShift) -> float:
        after = shift(text, _random()).split()
        return sum(a != b for a, b in zip(words, after)) / len(words)

    assert 0 <= changed(note_shifts.typos) < 0.15
    assert changed(note_shifts.garbled) > 0.25
    assert note_shifts.garbled("a an the", _random()) == "a an the"


def test_abbreviations_and_sides() -> None:
    short = note_shifts.abbreviated(TEXT, _random())
    assert "SOB" in short and "pt" in short and "breath" not in short
    other = note_shifts.other_side(f"{TEXT} Left lung clear.", _random())
    assert "on the left" in other and "Right lung" in other


def test_sentences_change_places_within_their_section() -> None:
    text = "History:\nOne two. Three four. Five six.\n\nExamination:\nSeven. Eight.\n"
    seen = {
        note_shifts.shuffled_sentences(text, np.random.default_rng(i)) for i in range(9)
    }
    assert len(seen) > 1
    for other in seen:
        assert sorted(other.split()) == sorted(text.split())
        assert other.index("Examination") > max(map(other.index, ("two.", "six.")))


def test_planted_sentences_and_another_site() -> None:
    front = note_shifts.with_text(RECORD, note_shifts.in_front("Hear."), _random())
    assert front.notes[0].text.startswith("Hear. ")
    end = note_shifts.with_text(RECORD, note_shifts.at_the_end("Hear."), _random())
    assert end.notes[0].text.endswith(" Hear.")
    for section in end.notes[0].sections:
        assert 0 <= section.start < section.end <= len(end.notes[0].text)
    assert "HISTORY:" in note_shifts.other_site(TEXT, _random())


def test_values_can_go_missing_and_change_places() -> None:
    less = value_shifts.dropout(RECORD, _random())
    assert 0 < len(less.values) < len(RECORD.values)
    order = value_shifts.shuffled(RECORD, _random())
    assert order.values != RECORD.values
    assert set(v.loinc for v in order.values) == set(v.loinc for v in RECORD.values)
    none = value_shifts.with_values(RECORD, ())
    assert none.states[Modality.VALUES].status is ModalityStatus.ABSENT
    away = value_shifts.other_laboratory(RECORD, _random())
    assert all(v.reference_low is None and not v.interpretation for v in away.values)


def test_one_modality_alone() -> None:
    for modality in Modality:
        presence = value_shifts.only(RECORD, modality).presence()
        assert [m for m, there in presence.items() if there] == [modality]


def test_every_shift_keeps_the_patient() -> None:
    for shift in SHIFTS:
        after = shift.change(RECORD, _random())
        assert after.patient == RECORD.patient and after.cutoff == RECORD.cutoff
