"""Word pieces and value statistics: deterministic, complete, robust."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from model.errors import CheckpointError
from model.inference.vocabulary import (
    AGE,
    SEX,
    SPECIAL,
    CodeStatistic,
    InputVocabulary,
    fit_codes,
    fit_pieces,
)
from tests.model.network_samples import records, vocabulary


def test_pieces_are_the_same_whatever_the_order_of_the_notes() -> None:
    notes = [note.text for record in records() for note in record.notes]
    assert fit_pieces(notes, 500) == fit_pieces(reversed(notes), 500)


def test_any_text_over_known_letters_can_be_written() -> None:
    pieces = fit_pieces(["Cough and fever", "fever and cough"], 100)
    assert pieces[: len(SPECIAL)] == SPECIAL
    words = InputVocabulary(pieces, ())
    encoded = words.tokenizer.encode("fern, Fever", add_special_tokens=False)
    assert encoded.tokens == ["f", "##e", "##r", "##n", "[UNK]", "fever"]


def test_rare_words_and_words_beyond_the_limit_are_spelt() -> None:
    pieces = fit_pieces(["ab ab cd"], 100)
    assert "ab" in pieces and "cd" not in pieces
    assert len(fit_pieces(["ab ab cd cd ef ef"], 18)) == 18


def test_statistics_are_robust_to_one_absurd_value() -> None:
    base = records()
    item = base[0].values[0]
    odd = [replace(base[0], values=(replace(item, value=item.value * 10**6),))]
    plain = {c.loinc: c for c in fit_codes(base, 8)}[item.loinc]
    dirty = {c.loinc: c for c in fit_codes([*base, *odd], 8)}[item.loinc]
    assert dirty.median == pytest.approx(plain.median, rel=0.3)
    assert np.diff(dirty.edges).min() > 0


def test_rarely_measured_codes_get_no_statistic() -> None:
    one = [replace(r, values=r.values[:1]) for r in records()[:2]]
    assert [c.loinc for c in fit_codes(one, 8)] == sorted([AGE, SEX])


def test_the_encoding_fills_bins_from_below_and_is_bounded() -> None:
    code = CodeStatistic("x", "lab", 10.0, 2.0, (-1.0, 0.0, 1.0, 2.0))
    assert code.encode(10.0).tolist() == [1.0, 0.0, 0.0]
    assert code.encode(11.0).tolist() == [1.0, 0.5, 0.0]
    assert code.encode(-1e9).tolist() == [-1.0, 0.0, 0.0]
    assert code.encode(1e9).tolist() == [1.0, 1.0, 2.0]


def test_constant_values_still_have_open_bins() -> None:
    same = [
        replace(r, values=tuple(replace(v, value=v.value * 0 + 7) for v in r.values))
        for r in records()
    ]
    for code in fit_codes(same, 8):
        assert np.diff(code.edges).min() > 0
        assert np.isfinite(code.encode(7.0)).all()


def test_a_vocabulary_survives_its_files(tmp_path: Path) -> None:
    vocabulary().save(tmp_path)
    loaded = InputVocabulary.load(tmp_path)
    assert loaded == vocabulary()
    assert loaded.code_rows == vocabulary().code_rows


@pytest.mark.parametrize(
    ("name", "text"),
    [("values.json", "{"), ("values.json", "{}"), ("values.json", None)],
)
def test_malformed_files_are_refused(
    tmp_path: Path, name: str, text: str | None
) -> None:
    vocabulary().save(tmp_path)
    if text is None:
        (tmp_path / name).unlink()
    else:
        (tmp_path / name).write_text(text)
    with pytest.raises(CheckpointError):
        InputVocabulary.load(tmp_path)
