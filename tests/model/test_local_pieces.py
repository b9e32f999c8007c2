"""Word pieces of a BERT folder: order, special pieces, cased or not."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from model.errors import EncoderWeightsError, RemoteModelError
from model.inference.local_pieces import read_pieces
from model.inference.tensors import to_tensors
from model.inference.vocabulary import InputVocabulary
from tests.model.network_samples import records, vocabulary

CASED = ("[unused1]", "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "Fever", "fever")


def _folder(path: Path, pieces: tuple[str, ...], **files: object) -> Path:
    (path / "vocab.txt").write_text("\n".join(pieces) + "\n")
    for name, content in files.items():
        (path / f"{name}.json").write_text(json.dumps(content))
    return path


@pytest.mark.component("A2")
@pytest.mark.parametrize(
    ("files", "pieces", "lowercase"),
    [
        ({"tokenizer_config": {"do_lower_case": False}}, CASED, False),
        ({"tokenizer_config": {"do_lower_case": True}}, CASED, True),
        ({"config": {"do_lower_case": False}}, CASED[:6], False),
        ({"tokenizer_config": {}, "config": {}}, CASED, False),
        ({}, CASED[:6], True),
    ],
)
def test_capital_letters_are_kept_where_the_folder_keeps_them(
    files: dict[str, object],
    pieces: tuple[str, ...],
    lowercase: bool,
    tmp_path: Path,
) -> None:
    assert read_pieces(_folder(tmp_path, pieces, **files)) == (pieces, lowercase)


@pytest.mark.component("A2")
@pytest.mark.component("A22")
def test_a_cased_vocabulary_reads_case_and_uses_its_own_special_pieces() -> None:
    words = InputVocabulary(CASED, (), lowercase=False)
    encoded = words.tokenizer.encode("Fever fever FEVER", add_special_tokens=False)
    assert encoded.tokens == ["Fever", "fever", "[UNK]"]
    assert (words.padding, words.classifier, words.separator) == (1, 3, 4)
    record = records()[0]
    note = replace(record.notes[0], text="Fever fever")
    inputs = to_tensors(
        [replace(record, notes=(note,)), records()[1]],
        replace(vocabulary(), pieces=CASED, lowercase=False),
    )
    assert inputs.input_ids[0, :5].tolist() == [3, 6, 7, 4, 1]


@pytest.mark.parametrize("pieces", [CASED[1:4], (*CASED, "fever")])
def test_a_vocabulary_without_its_special_pieces_is_refused(
    pieces: tuple[str, ...], tmp_path: Path
) -> None:
    with pytest.raises(EncoderWeightsError):
        read_pieces(_folder(tmp_path, pieces))


def test_a_folder_that_is_not_there_or_empty_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EncoderWeightsError):
        read_pieces(tmp_path)
    with pytest.raises(RemoteModelError):
        read_pieces("dmis-lab/biobert-v1.1")


def test_all_settings_of_a_vocabulary_survive_its_files(tmp_path: Path) -> None:
    words = replace(
        vocabulary(),
        max_windows=2,
        max_views=3,
        lowercase=False,
        expected=("2345-7",),
        sensor_hours=6.0,
    )
    words.save(tmp_path)
    assert InputVocabulary.load(tmp_path) == words
