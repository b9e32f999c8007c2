"""Links between what a note says and what was measured, with their refusals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from fhir_adapters.patient_record import CodedValue, Provenance
from model.language.corpora.annotated import Corpus
from model.language.entities.tagger import Entity, EntityTagger
from model.language.link_concepts import Direction, concepts
from model.language.link_score import link_report, planted_mentions, score_links
from model.language.linking import FilmFinding, Refusal, link
from model.synthetic.case import SynthCase
from model.synthetic.emit import to_record
from model.synthetic.generate import generate
from model.synthetic.latents import Split

RIGHT_LOWER = FilmFinding.at("ImagingStudy/1", "opacity", "right lower zone")


@dataclass(frozen=True)
class Words:
    """Some words of a note."""

    start: int
    end: int


def mention(text: str, words: str) -> Words:
    start = text.index(words)
    return Words(start, start + len(words))


def value(loinc: str, number: str, low: str | None, high: str | None) -> CodedValue:
    return CodedValue(
        loinc=loinc,
        name=loinc,
        value=Decimal(number),
        unit="1",
        measured_at=datetime(2026, 1, 1, tzinfo=UTC),
        provenance=Provenance(f"Observation/{loinc}", "test", "0" * 64),
        interpretation=None,
        reference_low=None if low is None else Decimal(low),
        reference_high=None if high is None else Decimal(high),
        source_value=number,
        source_unit="1",
    )


SATURATION = value("59408-5", "88", "95", None)
LEUKOCYTES = value("6690-2", "14.0", "4.0", "10.0")


@pytest.mark.component("A4")
def test_each_link_names_a_span_of_the_note_and_a_measured_value() -> None:
    text = "Febrile since Monday. Sats 88 % on air, pale. Potassium was checked."
    spans = [mention(text, words) for words in ("Febrile", "Sats 88 %", "pale")]
    found = link(text, spans, [SATURATION, LEUKOCYTES])
    told = {
        (text[each.start : each.end], each.reference, each.loinc)
        for each in found.links
    }
    assert told == {
        ("Febrile", "Observation/6690-2", "6690-2"),
        ("Sats 88 %", "Observation/59408-5", "59408-5"),
    }
    scores = {text[each.start : each.end]: each.score for each in found.links}
    assert scores["Sats 88 %"] > scores["Febrile"], "the same number is told"
    assert all(0 < score <= 1 for score in scores.values())
    assert found.links[0].score == max(scores.values())


@pytest.mark.component("A4")
@pytest.mark.parametrize(
    ("text", "words", "reason"),
    [
        ("Denies any chills.", "chills", Refusal.NEGATED),
        ("Temperature normal today.", "Temperature normal", Refusal.NORMAL),
        ("Her brother had a chill.", "chill", Refusal.RELATIVE),
    ],
)
def test_decoys_support_nothing(text: str, words: str, reason: Refusal) -> None:
    found = link(text, [mention(text, words)], [LEUKOCYTES])
    assert found.links == ()
    assert [each.reason for each in found.refused] == [reason]


def test_a_number_within_its_range_is_no_finding() -> None:
    text = "Sats 97 % earlier."
    found = link(text, [mention(text, "Sats 97 %")], [SATURATION])
    assert [each.reason for each in found.refused] == [Refusal.NORMAL]


def test_above_normal_is_not_normal() -> None:
    text = "Temp just above normal."
    assert link(text, [mention(text, text[:-1])], [LEUKOCYTES]).links


@pytest.mark.parametrize(
    ("measured", "reason"),
    [
        (value("59408-5", "97", "95", None), Refusal.NOT_ABNORMAL),
        (value("59408-5", "88", None, None), Refusal.NOT_ABNORMAL),
        (value("59408-5", "99", "90", "96"), Refusal.OTHER_DIRECTION),
    ],
)
def test_a_value_on_the_wrong_side_of_its_range_is_no_evidence(
    measured: CodedValue, reason: Refusal
) -> None:
    text = "Winded on stairs."
    found = link(text, [mention(text, "Winded")], [measured])
    assert [each.reason for each in found.refused] == [reason]


@pytest.mark.component("A4")
@pytest.mark.parametrize(
    ("text", "linked"),
    [
        ("Right basal consolidation.", True),
        ("Bilateral consolidation.", True),
        ("Consolidation at the right base.", True),
        ("At the right base there is consolidation.", True),
        ("Consolidation.", True),
        ("Left basal consolidation.", False),
        ("Pain on the left. Consolidation.", False),
        ("No right consolidation.", False),
    ],
)
def test_a_film_finding_is_linked_to_its_own_side_alone(
    text: str, linked: bool
) -> None:
    start = text.lower().index("consolidation")
    found = link(text, [Words(start, start + 13)], [], [RIGHT_LOWER])
    assert bool(found.links) is linked
    if not linked:
        expected = Refusal.NEGATED if text.startswith("No") else Refusal.WRONG_SIDE
        assert [each.reason for each in found.refused] == [expected]


def test_side_and_zone_raise_the_score_of_a_film_link() -> None:
    def score(text: str) -> float:
        spans = [mention(text, "Consolidation")]
        return link(text, spans, [], [RIGHT_LOWER]).links[0].score

    plain = score("Consolidation.")
    side = score("Consolidation on the right.")
    both = score("Consolidation at the right base.")
    assert plain < side < both <= 1.0
    nowhere = FilmFinding.at("ImagingStudy/2", "opacity", "somewhere")
    assert (nowhere.side, nowhere.zone) == ("", "")
    assert FilmFinding.at("ImagingStudy/3", "opacity", "both lungs").side == ""


def test_the_table_is_sound() -> None:
    table = concepts()
    assert len({concept.name for concept in table}) == len(table)
    assert all(concept.values or concept.film for concept in table)
    assert {side for c in table for side in c.values.values()} == set(Direction)


@pytest.mark.component("A4")
def test_planted_links_are_recovered_and_decoys_rejected() -> None:
    report = link_report(60, 2031)
    plain = report["mentions"]["planted passages"]["plain"]
    other = report["mentions"]["planted passages"]["wrong_side"]
    assert plain["cases"] == other["cases"] == 60 and plain["planted"] > 100
    assert plain["recall"] >= 0.95 and plain["precision"] >= 0.95
    for counts in (plain, other):
        assert set(counts["decoys_linked"].values()) == {0}
        assert counts["refused"]["negated"] > 40
        assert counts["refused"]["relative"] > 5
    assert plain["refused"]["wrong_side"] == 0
    assert other["refused"]["wrong_side"] > 30
    assert other["planted"] < plain["planted"], "no film link is planted there"


def test_truth_and_linker_disagree_where_the_linker_is_blind() -> None:
    cases = list(generate(20, 5, "P0", 32, Split.TEST))
    counts = score_links(cases, lambda case: ())
    assert counts.planted > 0 and counts.recovered == counts.links == 0
    assert counts.report()["recall"] == counts.report()["precision"] == 0.0
    empty = score_links([], planted_mentions).report()
    assert empty["recall"] == 0.0 and empty["cases"] == 0


def test_a_linker_that_falls_for_decoys_is_caught(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from model.language import linking

    monkeypatch.setattr(linking, "_denied", lambda text, mention: None)
    monkeypatch.setattr(linking, "_sides", lambda words: frozenset())
    report = link_report(40, 2031)["mentions"]["planted passages"]
    assert report["plain"]["decoys_linked"]["negated"] > 0
    assert report["plain"]["decoys_linked"]["family"] > 0
    assert report["wrong_side"]["decoys_linked"]["wrong_side"] > 0
    assert report["plain"]["precision"] < 0.95


def test_the_truth_names_symbols_of_the_grammar_and_codes_of_the_cases() -> None:
    from model.language.link_score import _about

    (case,) = generate(1, 3, "P0", 32, Split.TEST)
    codes = {each.loinc for each in to_record(case).values}
    codes |= set(case.absent)
    told, film = _about("Sats 91 % on air")
    assert told == {"59408-5"} and told <= codes and not film
    told, film = _about("RR 28, sats 90%")
    assert told == {"59408-5", "9279-1"}
    assert _about("left-sided coarse crackles") == (frozenset(), True)
    assert _about("a walk in the park") == (frozenset(), False)


@pytest.mark.component("A4")
def test_entities_of_the_tagger_are_linked_as_planted_passages_are(
    synthetic_tagger: EntityTagger,
) -> None:
    def tagged(case: SynthCase) -> Sequence[Entity]:
        return synthetic_tagger.find([case.note.text], Corpus.SYNTHETIC)[0]

    found = link_report(40, 2031, {"tagger": tagged})["mentions"]["tagger"]
    assert found["plain"]["recall"] >= 0.85 and found["plain"]["precision"] >= 0.9
    assert found["plain"]["decoys_linked"] == {
        "negated": 0,
        "family": 0,
        "wrong_side": 0,
    }
    assert found["wrong_side"]["decoys_linked"]["wrong_side"] == 0
