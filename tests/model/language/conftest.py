"""Shared by the tests of the text tasks: corpora, a tiny BERT, a synthetic tagger."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from model.language.bert_folder import BertFolder, load_bert, new_masked_model
from model.language.corpora.pretraining import PretrainingText, pretraining_text
from model.language.entities.runs import planted_notes
from model.language.entities.tagger import EntityTagger
from model.language.entities.train import TaggerSettings, train_tagger
from model.language.first_weights import initialise
from model.language.masked_language import MaskedSettings, pretrain
from model.language.masking import pack
from model.language.word_pieces import count_words, learn_pieces
from model.network.config import TextConfig
from model.synthetic.latents import Split
from tests.model.language.corpus_samples import write_corpora

TINY = MaskedSettings(
    layers=1,
    width=32,
    heads=2,
    feed_forward=64,
    pieces=600,
    max_tokens=96,
    length=32,
    batch=8,
    steps=60,
    rate=3e-3,
    measure_every=20,
)


@pytest.fixture(scope="session")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with all fictional corpora."""
    folder = tmp_path_factory.mktemp("corpora")
    write_corpora(folder)
    return folder


@pytest.fixture(scope="session")
def prose(corpora: Path) -> PretrainingText:
    """The pretraining text of the fictional corpora."""
    return pretraining_text(corpora)


@pytest.fixture(scope="session")
def bert_run(prose: PretrainingText, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT folder after a short masked-word training."""
    folder = tmp_path_factory.mktemp("models") / "bert"
    pretrain(prose, TINY, folder, progress=False)
    return folder


@pytest.fixture
def tiny_bert(bert_run: Path) -> BertFolder:
    """The tiny BERT, fresh from its folder: a test may train it."""
    return load_bert(bert_run)


@pytest.fixture(scope="session")
def synthetic_tagger() -> EntityTagger:
    """A tagger of one layer, fine-tuned on synthetic notes."""
    documents = planted_notes(250, Split.TRAIN)
    texts = [document.text for document in documents]
    pieces = learn_pieces(count_words(texts), 1500, letter_count=1)
    torch.manual_seed(1)
    model = new_masked_model(TextConfig(len(pieces), 48, 1, 2, 96, 128))
    bert = BertFolder(model.bert, pieces, True)
    initialise(model, pack(texts, bert.tokenizer(), 32), 1)
    tagger = EntityTagger(bert)
    settings = TaggerSettings(epochs=5, rate=6e-3, encoder_share=0.5, batch=8)
    train_tagger(tagger, documents, settings, progress=False)
    return tagger.eval()
