"""Phrases and sections: where they begin, end, and what they add up."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from fhir_adapters.patient_record import Section
from model.explain.asked import Asked
from model.explain.attribution import text_path_gradient
from model.explain.phrases import (
    NoteWord,
    _left_out,
    _phrase_numbers,
    _places,
    note_words,
    phrase_scores,
    section_scores,
)
from model.jobs.explanation import Explanation
from model.synthetic.case import SynthCase


def word(
    start: int, end: int, phrase: int, *, says: bool = True, share: float = 0.5
) -> NoteWord:
    return NoteWord(0, start, end, says, phrase, share, share)


def test_a_phrase_ends_at_punctuation_and_with_its_note() -> None:
    text = ["dry cough, no pain. Well", "Next"]
    places = [(0, 0, 3), (0, 4, 9), (0, 11, 13), (0, 14, 18), (0, 20, 24), (1, 0, 4)]
    assert _phrase_numbers(places, text) == [0, 0, 1, 1, 2, 3]


def test_a_phrase_adds_shares_and_averages_weights_of_words_that_tell() -> None:
    words = [
        word(0, 3, 0, share=1.0),
        word(4, 6, 0, says=False, share=0.25),
        word(7, 9, 0, share=-0.5),
        word(10, 12, 1, says=False),
    ]
    (phrase,) = phrase_scores(words, ("DocumentReference/d",))
    assert (phrase.start, phrase.end) == (0, 9)
    assert phrase.score == pytest.approx(0.75)
    assert phrase.weight == pytest.approx(0.25)


def test_sections_share_out_the_words_of_their_note(
    ill: tuple[SynthCase, Asked],
) -> None:
    note = ill[1].record.notes[0]
    parts = (Section("ONE", 0, 5), Section("TWO", 5, 9), Section("EMPTY", 50, 60))
    cut = replace(note, sections=parts)
    words = [word(0, 3, 0, share=1.0), word(5, 8, 1, share=2.0), word(9, 12, 1)]
    found = section_scores(words, [cut])
    assert [(s.title, s.score) for s in found] == [("ONE", 1.0), ("TWO", 2.0)]
    (whole,) = section_scores(words, [replace(note, sections=())])
    assert (whole.title, whole.start, whole.end) == ("", 0, len(note.text))
    assert whole.score == pytest.approx(3.5)


@pytest.mark.component("A17")
def test_words_and_phrases_have_scores_and_places_in_the_note(
    ill: tuple[SynthCase, Asked],
) -> None:
    asked = ill[1]
    text = [note.text for note in asked.record.notes]
    words = note_words(asked.question, text_path_gradient(asked.question), text)
    phrases = phrase_scores(words, asked.question.inputs.note_ids[0])
    assert len(words) > len(phrases) > 3
    for one in words:
        piece = text[one.note][one.start : one.end]
        assert piece and piece == piece.strip() and 0 <= one.weight <= 1
    for phrase in phrases:
        inside = [w for w in words if phrase.start <= w.start and w.end <= phrase.end]
        assert phrase.score == pytest.approx(sum(w.share for w in inside), abs=1e-5)
        assert "\n" not in text[0][phrase.start : phrase.end]
    assert max(w.weight for w in words) > 0.5


def test_leaving_a_word_out_is_masking_its_pieces(
    ill: tuple[SynthCase, Asked], monkeypatch: pytest.MonkeyPatch
) -> None:
    question = ill[1].question
    _, pieces = _places(question)
    changes = _left_out(question, pieces)
    mask = question.tokens.text_mask.clone()
    mask[0, pieces[3]] = False
    less = replace(question.tokens, text_mask=mask)
    with torch.no_grad():
        ends = [
            float(question.model.fuse(tokens, question.present).logits[0, 0])
            for tokens in (question.tokens, less)
        ]
    assert changes[3] == pytest.approx(ends[0] - ends[1], abs=1e-4)
    monkeypatch.setattr("model.explain.phrases.ROWS", 7)
    assert _left_out(question, pieces) == pytest.approx(changes, abs=1e-4)


def test_an_absent_note_has_no_words(ill: tuple[SynthCase, Asked]) -> None:
    question = ill[1].question
    nothing = replace(
        question,
        tokens=replace(
            question.tokens, text_mask=torch.zeros_like(question.tokens.text_mask)
        ),
    )
    assert note_words(nothing, torch.zeros_like(question.tokens.text), []) == ()


def test_older_results_without_weights_are_still_read(
    ill: tuple[SynthCase, Asked],
) -> None:
    old = {
        "label": "x",
        "modalities": [],
        "heat_maps": [],
        "words": [],
        "values": [{"reference": "Observation/o", "loinc": "1988-5", "logit": 0.4}],
        "narrative": [],
    }
    found = Explanation.from_json(old)
    assert found.values[0].weight is None and found.values[0].importance == 0.4
    again = Explanation.from_json(found.to_json())
    assert again == found
