"""Vocabulary, packing, hiding of whole words, and masked-word training."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from model.errors import CheckpointError, ConfigurationError
from model.inference.vocabulary import CLS, SEP, SPECIAL
from model.language.bert_folder import (
    BertFolder,
    encoder_state,
    export_half,
    load_bert,
    read_weights,
    text_config,
    transformers_classes,
)
from model.language.corpora.pretraining import PretrainingText
from model.language.first_weights import embeddings, log_frequency, sines
from model.language.masked_language import HISTORY_FILE, perplexity, pretrain
from model.language.masking import MASK, mask_words, pack
from model.language.word_pieces import count_words, learn_pieces, tokenizer_of
from model.network.text_encoder import TextEncoder
from tests.model.language.conftest import TINY

TEXTS = ["Fever and fevers, feverish!", "The fever fell; no more fevers."] * 5


def test_pieces_follow_from_counts_alone() -> None:
    words = count_words(TEXTS)
    pieces = learn_pieces(words, 60, letter_count=1)
    backwards = Counter(dict(reversed(list(words.items()))))
    assert learn_pieces(backwards, 60, letter_count=1) == pieces
    assert pieces[:5] == SPECIAL
    assert "fever" in pieces and len(pieces) == len(set(pieces)) <= 60
    assert learn_pieces(Counter({"abc": 1}), 60, letter_count=1)[-1] == "##c"


def test_rare_letters_get_no_piece() -> None:
    pieces = learn_pieces(Counter({"aa": 30, "qa": 2}), 50)
    assert "q" not in pieces and "aa" in pieces
    assert tokenizer_of(pieces).encode("qa").tokens == ["[UNK]"]


def test_offsets_point_into_the_original_text() -> None:
    tokenizer = tokenizer_of(learn_pieces(count_words(TEXTS), 90, letter_count=1))
    text = "No FEVER, F\u00e9ver"
    found = tokenizer.encode(text)
    assert [text[a:b] for a, b in found.offsets][1:2] == ["FEVER"]
    assert text[found.offsets[-1][0] : found.offsets[-1][1]] == "F\u00e9ver"


def test_packed_sequences_are_full_and_start_alike() -> None:
    tokenizer = tokenizer_of(learn_pieces(count_words(TEXTS), 90, letter_count=1))
    ids = pack(TEXTS, tokenizer, 16)
    assert ids.shape[1] == 16 and (ids[:, 0] == CLS).all()
    assert (ids == SEP).any() and (ids[:, 1:] != CLS).all()


def test_whole_words_are_hidden_or_none_of_them() -> None:
    continues = torch.zeros(40, dtype=torch.bool)
    continues[20:] = True
    ids = torch.tensor([[CLS, 7, 21, 22, 8, 23, 9, SEP, 10, 24]] * 400)
    random = torch.Generator().manual_seed(1)
    shown, hidden = mask_words(ids, continues, 0.3, random)
    assert (hidden[:, 1] == hidden[:, 2]).all() and (hidden[:, 2] == hidden[:, 3]).all()
    assert (hidden[:, 8] == hidden[:, 9]).all() and not hidden[:, 7].any()
    assert not hidden[:, 0].any()
    assert 0.25 < float(hidden[:, 1].float().mean()) < 0.35
    assert torch.equal(shown[~hidden], ids[~hidden])
    masked = float((shown[hidden] == MASK).float().mean())
    assert 0.77 < masked < 0.83
    again = mask_words(ids, continues, 0.3, torch.Generator().manual_seed(1))
    assert torch.equal(again[0], shown)


def test_at_least_one_word_is_hidden() -> None:
    ids = torch.tensor([[CLS, 7, SEP]])
    random = torch.Generator().manual_seed(3)
    _, hidden = mask_words(ids, torch.zeros(40, dtype=torch.bool), 0.0, random)
    assert hidden.tolist() == [[False, True, False]]


def test_training_starts_from_what_counts_tell() -> None:
    rng = np.random.default_rng(0)
    pairs = np.array([[10, 11], [12, 13]])
    ids = pairs[rng.integers(2, size=(200, 8))].reshape(200, 16).astype(np.int32)
    found = embeddings(ids, 20, 6, seed=1)
    assert np.array_equal(found, embeddings(ids, 20, 6, seed=1))
    assert not found[:10].any() and not found[14:].any()
    assert abs(float(found[10:14].std()) - 0.04) < 1e-3
    assert log_frequency(ids, 20).argmax() in {10, 11, 12, 13}
    assert sines(5, 6).shape == (5, 6)


def test_held_out_loss_falls_and_is_reported_beside_its_floor(bert_run: Path) -> None:
    report = json.loads((bert_run / HISTORY_FILE).read_text())
    held_out = [item["held_out_loss"] for item in report["history"]]
    assert [item["step"] for item in report["history"]] == [20, 40, 60]
    assert held_out[-1] < held_out[0]
    final = report["final"]
    assert final["single_pieces"]["loss"] > 0
    assert final["out_of_domain"]["places"] > 0


def test_an_interrupted_run_ends_with_the_same_weights(
    bert_run: Path,
    prose: PretrainingText,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from model.language import masked_language

    real, calls = masked_language._step, []

    def stopping(*given: object) -> float:
        calls.append(1)
        if len(calls) == 50:
            raise KeyboardInterrupt
        return real(*given)

    monkeypatch.setattr(masked_language, "_step", stopping)
    with pytest.raises(KeyboardInterrupt):
        pretrain(prose, TINY, tmp_path, progress=False)
    assert json.loads((tmp_path / HISTORY_FILE).read_text())["step"] == 40
    with pytest.raises(ConfigurationError, match="resume"):
        pretrain(prose, TINY, tmp_path, progress=False)
    with pytest.raises(ConfigurationError, match="another rate"):
        pretrain(prose, replace(TINY, rate=1.0), tmp_path, resume=True, progress=False)
    shutil.copytree(tmp_path, tmp_path / "copy")
    pretrain(prose, TINY, tmp_path, resume=True, progress=False)
    assert len(calls) == 70
    whole = read_weights(bert_run / "model.safetensors")
    resumed = read_weights(tmp_path / "model.safetensors")
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    copy = tmp_path / "copy"
    (copy / HISTORY_FILE).write_text("{}")
    with pytest.raises(CheckpointError, match="damaged"):
        pretrain(prose, TINY, copy, resume=True, progress=False)
    shutil.copy(copy / "model.safetensors", copy / "state.safetensors")
    data = {"settings": json.loads((tmp_path / HISTORY_FILE).read_text())["settings"]}
    data |= {"step": 40, "seconds": 1.0, "history": []}
    (copy / HISTORY_FILE).write_text(json.dumps(data))
    with pytest.raises(CheckpointError, match="damaged"):
        pretrain(prose, TINY, copy, resume=True, progress=False)


def test_text_that_fills_no_sequence_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="one sequence"):
        pretrain(PretrainingText(["a b"], ["c"], []), TINY, tmp_path, progress=False)


def test_without_other_register_none_is_measured(
    prose: PretrainingText, tmp_path: Path
) -> None:
    text = replace(prose, out_of_domain=[])
    report = pretrain(text, replace(TINY, steps=1), tmp_path, progress=False)
    assert "out_of_domain" not in report["final"]


@pytest.mark.component("A2")
def test_the_folder_opens_in_transformers_and_in_our_text_encoder(
    bert_run: Path, tiny_bert: BertFolder
) -> None:
    classes = transformers_classes()
    theirs = classes.BertModel.from_pretrained(
        str(bert_run), local_files_only=True, add_pooling_layer=False
    ).eval()
    ours = TextEncoder(text_config(tiny_bert), width=16).eval()
    ours.bert.load_state_dict(tiny_bert.encoder.state_dict())
    ids = torch.tensor([tiny_bert.tokenizer().encode("zorbitis at sea").ids])
    seen = torch.ones_like(ids)
    expected = theirs(input_ids=ids, attention_mask=seen).last_hidden_state
    found = ours.bert(input_ids=ids, attention_mask=seen).last_hidden_state
    assert torch.allclose(found, expected, atol=1e-5)
    tokenizer = classes.AutoTokenizer.from_pretrained(
        str(bert_run), local_files_only=True
    )
    words = "Humming at NIGHT, zorbitis"
    own = tiny_bert.tokenizer().encode(words).ids
    assert tokenizer(words, add_special_tokens=False)["input_ids"] == own


def test_half_precision_halves_the_file_and_still_opens(
    bert_run: Path, tmp_path: Path
) -> None:
    size = export_half(bert_run, tmp_path)
    assert size < 0.6 * (bert_run / "model.safetensors").stat().st_size
    half, whole = load_bert(tmp_path), load_bert(bert_run)
    for one, other in zip(half.encoder.parameters(), whole.encoder.parameters()):
        assert torch.allclose(one, other, atol=2e-3)


def test_old_names_of_the_norms_are_read() -> None:
    state = {
        "bert.embeddings.LayerNorm.gamma": torch.ones(2),
        "cls.bias": torch.ones(1),
    }
    assert list(encoder_state(state)) == ["embeddings.LayerNorm.weight"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("vocab.txt", None),
        ("vocab.txt", "a\nb\n"),
        ("vocab.txt", "".join(f"{p}\n" for p in (*SPECIAL, *range(3000)))),
        ("config.json", "{"),
        ("config.json", "[]"),
        ("config.json", '{"model_type": "gpt2"}'),
        ("config.json", '{"vocab_size": 9000, "hidden_size": 48}'),
        ("config.json", '{"hidden_size": 50, "num_attention_heads": 7}'),
        ("model.safetensors", None),
        ("model.safetensors", "damaged"),
    ],
)
def test_a_broken_bert_folder_is_refused(
    name: str, content: str | None, bert_run: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "bert"
    shutil.copytree(bert_run, folder)
    (folder / name).unlink()
    if content is not None:
        (folder / name).write_text(content)
    with pytest.raises(CheckpointError):
        load_bert(folder)


def test_perplexity_of_an_unbounded_loss() -> None:
    assert perplexity(0.0) == 1.0 and perplexity(1e4) == float("inf")
