"""A BERT folder on this disk: cased vocabularies, offsets, training, no download."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest
import torch

from model.errors import CheckpointError, RemoteModelError
from model.language.bert_folder import load_bert, new_masked_model, save_bert
from model.language.choice.scorer import ChoiceModel
from model.language.corpora.annotated import Corpus
from model.language.corpora.pretraining import PretrainingText
from model.language.corpora.questions import ChoiceQuestion
from model.language.entities.runs import planted_notes
from model.language.entities.tagger import EntityTagger
from model.language.entities.train import TaggerSettings, train_tagger
from model.language.masked_language import MaskedSettings, pretrain
from model.language.word_pieces import count_words, learn_pieces
from model.network.config import TextConfig
from model.synthetic.latents import Split

TEXT = "No Fever. ZORBITIS (F\u00e9lix) at 38.5 C"
SMALL = MaskedSettings(
    layers=1,
    width=48,
    heads=2,
    feed_forward=96,
    pieces=500,
    max_tokens=64,
    length=32,
    batch=8,
    steps=100,
    rate=1e-2,
    measure_every=20,
)


def published(folder: Path) -> Path:
    """A cased folder in the order of BioBERT's: [CLS] and [SEP] are not 2 and 3."""
    learnt = learn_pieces(count_words([TEXT] * 3, lower_case=False), 90, letter_count=1)
    pieces = ("[PAD]", "[unused1]", "[unused2]", "[unused3]")
    pieces += ("[UNK]", "[CLS]", "[SEP]", "[MASK]", *learnt[5:])
    torch.manual_seed(1)
    model = new_masked_model(TextConfig(len(pieces), 16, 1, 2, 32, 48))
    save_bert(folder, model.config, model.bert.state_dict(), pieces, lower_case=False)
    return folder


@pytest.mark.component("A2")
def test_a_cased_folder_keeps_capitals_and_its_own_special_pieces(
    tmp_path: Path,
) -> None:
    bert = load_bert(published(tmp_path))
    assert not bert.lower_case and bert.width == 16 and bert.max_tokens == 48
    tokens = bert.tokenizer().encode("Fever fever").tokens
    assert tokens[0] == "Fever" and tokens[1] != "fever"
    tagger = EntityTagger(bert)
    (window,) = tagger.windows(TEXT)
    assert (window.ids[0], window.ids[-1]) == (5, 6)
    reading = ChoiceModel(bert).readings(ChoiceQuestion("", "No?", ("C", "at"), 0))[0]
    assert reading.ids[0] == 5 and reading.ids.count(6) == 2


@pytest.mark.component("A2")
@torch.no_grad()
def test_each_token_state_has_its_characters_in_the_original_text(
    tmp_path: Path,
) -> None:
    tagger = EntityTagger(load_bert(published(tmp_path))).eval()
    (window,) = tagger.windows(TEXT)
    words = [TEXT[start:end] for start, end in window.words]
    assert words[:4] == ["No", "Fever", ".", "ZORBITIS"] and "F\u00e9lix" in words
    logits, there = tagger([window], [Corpus.BC5CDR])
    assert logits.shape[1] == len(words) and bool(there.all())
    for first, last, (start, end) in zip(window.first, window.last, window.words):
        spelt = "".join(tagger.folder.pieces[n] for n in window.ids[first : last + 1])
        assert spelt.replace("##", "") == TEXT[start:end]


@pytest.mark.component("A2")
def test_masked_words_and_findings_are_learnt_on_synthetic_notes(
    tmp_path: Path,
) -> None:
    notes = planted_notes(90, Split.TRAIN)
    texts = [note.text for note in notes]
    prose = PretrainingText(texts[:80], texts[80:], [])
    report = pretrain(prose, SMALL, tmp_path, progress=False)
    held_out = [item["held_out_loss"] for item in report["history"]]
    assert held_out[-1] < held_out[0] - 0.05
    assert held_out == sorted(held_out, reverse=True)
    tagger = EntityTagger(load_bert(tmp_path))
    settings = TaggerSettings(epochs=2, rate=4e-3, batch=8)
    losses = train_tagger(tagger, notes[:40], settings, progress=False)
    assert losses[-1] < losses[0]


@pytest.mark.component("A2")
@pytest.mark.parametrize("name", ["dmis-lab/biobert-v1.1", "https://x.org/bert"])
def test_a_name_that_would_have_to_be_downloaded_is_refused(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def call(*given: object) -> None:
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", call)
    with pytest.raises(RemoteModelError):
        load_bert(Path(name))


def test_a_folder_that_asks_for_code_of_its_own_is_refused(tmp_path: Path) -> None:
    published(tmp_path)
    path = tmp_path / "config.json"
    data = json.loads(path.read_text())
    path.write_text(json.dumps({**data, "auto_map": {"AutoModel": "code.Model"}}))
    with pytest.raises(CheckpointError, match="no BERT"):
        load_bert(tmp_path)
