"""Notes of synthetic cases: every planted passage is where its span says."""

from __future__ import annotations

import re
from itertools import product

import numpy as np
import pytest
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression

from fhir_adapters.resources.sections import find_sections
from model.synthetic.case import Lobe, SpanKind, WrittenNote
from model.synthetic.latents import Severity, Syndrome
from model.synthetic.note import MIN_WORDS, grammar, write_note

STATES = [*product(Severity, Syndrome, Lobe)]
TOKEN = re.compile(r"\w+|[^\w\s]")


def note(
    severity: Severity,
    syndrome: Syndrome,
    lobe: Lobe,
    seed: int = 0,
    wrong_side: float = 0.0,
) -> WrittenNote:
    rng = np.random.default_rng(seed)
    return write_note(severity, syndrome, lobe, 61, "female", rng, wrong_side)


@pytest.fixture(scope="module")
def notes() -> list[tuple[Severity, Syndrome, Lobe, WrittenNote]]:
    return [
        (s, b, lobe, note(s, b, lobe, seed))
        for seed in range(60)
        for s, b, lobe in STATES
    ]


def phrase_pattern(symbol: str, state: str) -> re.Pattern[str]:
    """What a symbol may expand to in one state, slots left open."""
    options = grammar()["symbols"][symbol][state]
    escaped = [re.sub(r"\\\{\w+\\\}", "[^;:]+?", re.escape(o)) for o in options]
    return re.compile("|".join(escaped), re.IGNORECASE)


def test_note_is_reproducible() -> None:
    arguments = (Severity.HIGH, Syndrome.SUBACUTE_DRY, Lobe.LEFT_LOWER, 7)
    assert note(*arguments) == note(*arguments)
    assert note(*arguments) != note(*arguments[:3], 8)


def test_length_stays_within_what_a_short_encoder_holds(notes: list) -> None:
    words = [len(n.text.split()) for *_, n in notes]
    tokens = [len(TOKEN.findall(n.text)) for *_, n in notes]
    assert min(words) >= MIN_WORDS and max(words) <= 200
    assert np.median(tokens) <= 100
    assert np.quantile(tokens, 0.99) <= 128


def test_spans_point_at_phrases_of_their_kind_and_state(notes: list) -> None:
    rules = grammar()["symbols"]
    patterns = {
        (SpanKind(rule["kind"]), state): []
        for rule in rules.values()
        if isinstance(rule, dict) and "kind" in rule
        for state in rule
        if state != "kind"
    }
    for symbol, rule in rules.items():
        if isinstance(rule, dict) and "kind" in rule:
            for state in rule:
                if state != "kind":
                    patterns[SpanKind(rule["kind"]), state].append(
                        phrase_pattern(symbol, state)
                    )
    for *_, written in notes:
        for span in written.spans:
            passage = written.text[span.start : span.end]
            state = span.state or "any"
            if span.kind is SpanKind.LATERALITY:
                assert span.state in passage.lower()
                continue
            assert any(p.fullmatch(passage) for p in patterns[span.kind, state]), (
                span,
                passage,
            )


def test_every_note_tells_severity_and_syndrome_and_side_and_no_other(
    notes: list,
) -> None:
    for severity, syndrome, lobe, written in notes:
        by_kind: dict[SpanKind, list[str]] = {}
        for span in written.spans:
            by_kind.setdefault(span.kind, []).append(span.state)
        assert set(by_kind[SpanKind.SEVERITY]) == {severity.name.lower()}
        assert len(by_kind[SpanKind.SEVERITY]) >= 3
        assert set(by_kind[SpanKind.SYNDROME]) == {syndrome.name.lower()}
        assert len(by_kind[SpanKind.SYNDROME]) >= 2
        assert set(by_kind[SpanKind.LATERALITY]) == {lobe.side.value}
        other = {"right": "left", "left": "right"}[lobe.side.value]
        assert not re.search(rf"\b{other}\b", written.text, re.IGNORECASE)


def test_the_wrong_side_can_be_planted() -> None:
    written = note(*STATES[0], wrong_side=1.0)
    sides = {s.state for s in written.spans if s.kind is SpanKind.LATERALITY}
    assert sides == {"left"}
    assert STATES[0][2].side.value == "right"


def test_sections_are_those_that_the_adapters_find(notes: list) -> None:
    for *_, written in notes:
        assert written.sections == find_sections(written.text)
        assert len(written.sections) >= 3


def test_decoys_and_irrelevant_sentences_are_common(notes: list) -> None:
    kinds = [{s.kind for s in n.spans} for *_, n in notes]
    assert np.mean([SpanKind.NEGATED in k for k in kinds]) > 0.9
    assert np.mean([SpanKind.FAMILY in k for k in kinds]) > 0.2
    assert np.mean([SpanKind.IRRELEVANT in k for k in kinds]) > 0.9


def test_no_slot_is_left_open_and_no_space_is_doubled(notes: list) -> None:
    for *_, written in notes:
        assert "{" not in written.text and "}" not in written.text
        assert "  " not in written.text and " ." not in written.text
        assert ".." not in written.text
        assert written.text == written.text.strip()


def test_every_slot_of_the_grammar_is_defined() -> None:
    phrases = grammar()
    given = {"side", "zone", "age", "man_woman", "m_f", *phrases["symbols"]}
    texts = re.findall(r"\{(\w+)\}", str(phrases["symbols"]))
    parts = [part for plan in phrases["sections"].values() for part in plan["parts"]]
    assert {*texts, *parts, *phrases["once"], *phrases["padding"]} <= given


def test_single_words_carry_the_states(notes: list) -> None:
    """A reader of bare words, blind to order, recovers both states of unseen notes."""
    texts = [n.text for *_, n in notes]
    words = CountVectorizer(binary=True, min_df=3)
    features = words.fit_transform(texts)
    train, test = slice(0, 2000), slice(2000, None)
    for states in ([int(s) for s, *_ in notes], [int(b) for _, b, *_ in notes]):
        reader = LogisticRegression(max_iter=300).fit(features[train], states[train])
        assert reader.score(features[test], states[test]) >= 0.985


def test_words_of_illness_are_evidence_of_high_severity(notes: list) -> None:
    ill = [" ".join(TOKEN.findall(n.text.lower())) for s, *_, n in notes if s == 2]
    well = [" ".join(TOKEN.findall(n.text.lower())) for s, *_, n in notes if s == 0]
    for word in ("fever", "difficulty", "crackles", "breathlessness", "afebrile"):
        share_ill = np.mean([word in text.split() for text in ill])
        share_well = np.mean([word in text.split() for text in well])
        if word in ("fever", "difficulty", "crackles"):
            assert share_ill > 1.5 * share_well
        else:
            assert share_well > share_ill
