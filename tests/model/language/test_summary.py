"""Extractive summaries: sentences of the note, in its order, never new words."""

from __future__ import annotations

import pytest

from fhir_adapters.patient_record import Section
from model.language.corpora.annotated import EntityType
from model.language.entities.tagger import Entity
from model.language.sentences import sentence_bounds
from model.language.summary import summarise
from model.language.summary_score import summary_report, telling
from model.synthetic.case import SpanKind
from model.synthetic.generate import generate
from model.synthetic.latents import Split

NOTE = (
    "A tailor hums at night and sleeps badly. The humming at night began in May. "
    "He walks to work every day of the week. The humming at night wakes the tailor.\n"
    "Rest was advised to the tailor at last."
)


def texts(note: str, **options: object) -> list[str]:
    return [note[s.start : s.end] for s in summarise(note, **options)]  # type: ignore


def test_sentences_keep_their_places() -> None:
    bounds = sentence_bounds("One. Two?  Three\n\n  4.5 mg was given. ")
    text = "One. Two?  Three\n\n  4.5 mg was given. "
    assert [text[a:b] for a, b in bounds] == [
        "One.",
        "Two?",
        "Three",
        "4.5 mg was given.",
    ]


def test_a_summary_is_made_of_the_notes_own_sentences_in_order() -> None:
    chosen = summarise(NOTE, limit=3)
    bounds = sentence_bounds(NOTE)
    assert len(chosen) == 3
    assert all((each.start, each.end) in bounds for each in chosen)
    assert [each.start for each in chosen] == sorted(each.start for each in chosen)
    assert summarise(NOTE, limit=3) == chosen


def test_what_the_note_repeats_comes_first_and_is_said_once() -> None:
    told = "Rain fell in town today. The humming at night wakes the tailor. "
    told += "The humming at night tires the tailor. Night humming began in May."
    (best,) = texts(told, limit=1)
    assert "humming" in best and "tailor" in best
    repeated = "The humming began at night. " * 4 + "A drug was given for pain."
    assert texts(repeated, limit=2) == [
        "The humming began at night.",
        "A drug was given for pain.",
    ]


def test_a_section_that_concludes_is_preferred() -> None:
    start = NOTE.index("Rest was")
    sections = [Section("history", 0, start), Section("plan", start, len(NOTE))]
    assert texts(NOTE, limit=1, sections=sections) == [NOTE[start:]]
    other = [Section("history", 0, start), Section("social", start, len(NOTE))]
    assert texts(NOTE, limit=1, sections=other) != [NOTE[start:]]


@pytest.mark.parametrize(("negated", "first"), [(False, True), (True, False)])
def test_asserted_entities_count_and_denied_ones_do_not(
    negated: bool, first: bool
) -> None:
    note = "Walks to work daily with others. Sleeps in the room upstairs today."
    words = ("work", "daily", "others")
    entities = [
        Entity(note.index(w), note.index(w) + len(w), EntityType.SYMPTOM, 0.9, negated)
        for w in words
    ]
    sections = [Section("hpi", 33, len(note))]
    bounds = [Section("none", 0, 32), *sections]
    chosen = texts(note, limit=1, entities=entities, sections=bounds)
    assert (chosen == [note[:32]]) is first


def test_without_a_tagger_asserted_words_of_the_link_table_count() -> None:
    note = "He walks to work with others daily. He has chills since last Monday."
    assert texts(note, limit=1) == [note[36:]]
    denied = note.replace("has chills", "has no chills")
    assert texts(denied, limit=1) == [note[:35]]


def test_the_first_sentence_of_a_section_is_preferred() -> None:
    note = "He walks to work. He walks to town."
    assert texts(note, limit=1) == ["He walks to work."]
    sections = [Section("none", 0, 17), Section("other", 18, 35)]
    first, second = summarise(note, sections=sections, limit=2)
    assert first.score > second.score, "it repeats the first"


def test_summaries_keep_more_of_what_was_planted_than_other_sentences_do() -> None:
    report = summary_report(40, 5)
    kept, length = report["kept"], report["length"]
    assert report["passages"] > 150 and report["notes"] == 40
    assert kept["summary"] > kept["first sentences"] - 0.03
    assert kept["summary"] > 1.5 * kept["random sentences"]
    assert 0 < length["summary"] < 0.5
    assert summary_report(0, 5)["kept"]["summary"] == 0.0


def test_only_asserted_passages_on_the_illness_tell() -> None:
    for case in generate(5, 9, "P0", 32, Split.TEST):
        places = telling(case)
        for span in case.note.spans:
            if span.kind in {SpanKind.NEGATED, SpanKind.FAMILY} or span.state == "low":
                assert (span.start, span.end) not in places


def test_a_note_without_words_has_no_summary() -> None:
    assert summarise(" \n ") == []
    assert summarise("The and of. Was it?") == []
    assert summarise(NOTE, limit=0) == []
    assert len(summarise("Humming.", limit=3)) == 1


def test_synthetic_notes_are_shortened() -> None:
    for case in generate(5, 3, "P0", 32, Split.TEST):
        chosen = summarise(case.note.text, sections=case.note.sections, limit=3)
        told = sum(each.end - each.start for each in chosen)
        assert len(chosen) == 3 and told < len(case.note.text) / 2
        for each in chosen:  # no sentence crosses the end of a section
            assert any(
                part.start <= each.start and each.end <= part.end
                for part in case.note.sections
            )
