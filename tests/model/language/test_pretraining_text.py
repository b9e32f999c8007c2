"""Pretraining text: every sentence once, nothing of any test."""

from __future__ import annotations

from pathlib import Path

import pytest

from model.errors import CorpusError
from model.language.corpora.pretraining import (
    PretrainingText,
    assert_disjoint,
    pretraining_text,
    runs_of,
    sentences,
    shingles,
    texts_of_tests,
    words_of,
)
from tests.services import data_folder

LONG = "one two three four five six seven eight nine ten eleven twelve"


def test_no_passage_of_a_test_is_left_in(corpora: Path, prose: PretrainingText) -> None:
    forbidden = shingles(texts_of_tests(corpora))
    assert_disjoint([*prose.train, *prose.held_out], forbidden)
    assert not any("Report 300" in document for document in prose.train)
    assert any("Report 100" in document for document in prose.train)


def test_a_planted_test_passage_is_found() -> None:
    short = "This one is rather short."
    forbidden = shingles([f"Start. {LONG} thirteen. {short}"])
    with pytest.raises(CorpusError, match="2 documents"):
        assert_disjoint([f"And {LONG} again", short, LONG[:-9]], forbidden)


def test_sentences_that_repeat_are_kept_once(prose: PretrainingText) -> None:
    text = " ".join([*prose.train, *prose.held_out])
    assert text.count("It fades within weeks & needs no care.") == 1
    kept = prose.counts["medquad"]
    assert kept["words_kept"] < kept["words"]
    assert prose.held_out and prose.out_of_domain


def test_sentences_words_and_runs() -> None:
    assert sentences("A b. C d!\nE  f") == ["A b.", "C d!", "E f"]
    assert words_of("T2-DM, 3.5 mg") == ("t2", "dm", "3", "5", "mg")
    assert list(runs_of(())) == []
    assert len(list(runs_of(tuple(LONG.split()) + ("x",)))) == 2
    assert len(shingles(["Too short."])) == 1


@pytest.mark.data("texts")
def test_the_real_pretraining_text_shares_no_passage_with_a_test() -> None:
    folder = data_folder("texts").parent
    text = pretraining_text(folder)
    assert sum(len(document.split()) for document in text.train) > 3_000_000
