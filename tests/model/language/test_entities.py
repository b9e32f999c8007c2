"""Windows, tags, strict scores, negation, and the tagger itself."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from model.errors import CheckpointError, ConfigurationError
from model.language.bert_folder import BertFolder
from model.language.corpora.annotated import (
    AnnotatedText,
    Corpus,
    EntitySpan,
    EntityType,
)
from model.language.entities.runs import (
    NerRun,
    evaluate_entities,
    planted_notes,
    train_entities,
)
from model.language.entities.score import EntityScore, errors, score
from model.language.entities.tagger import EntityTagger, load_tagger
from model.language.entities.tags import (
    BEGIN,
    INSIDE,
    OUTSIDE,
    TYPES,
    UNKNOWN,
    best_tags,
    decode,
    encode,
)
from model.language.entities.train import (
    TaggerSettings,
    evaluate_tagger,
    examples_of,
    tag_loss,
    train_tagger,
)
from model.language.negation import is_negated
from model.language.windows import Shape, shape_of, windows_of
from model.language.word_pieces import count_words, learn_pieces, tokenizer_of
from model.synthetic.case import SpanKind
from model.synthetic.latents import Split
from model.training.synthetic_set import synthetic_cases

DISEASE, SYMPTOM = EntityType.DISEASE, EntityType.SYMPTOM
TEXT = "Fever came. It went (38.5 C) at noon.\nThen a cough"


@pytest.fixture(scope="module")
def tokenizer():
    return tokenizer_of(learn_pieces(count_words([TEXT] * 9), 90, letter_count=1))


def test_windows_end_with_sentences_and_hold_every_word_once(tokenizer) -> None:
    whole = windows_of(TEXT, tokenizer, 64)
    assert len(whole) == 1
    assert whole[0].ids[whole[0].first[0]] == tokenizer.encode("fever").ids[0]
    parts = windows_of(TEXT, tokenizer, 16)
    words = [TEXT[a:b] for window in parts for a, b in window.words]
    assert words == [TEXT[a:b] for a, b in whole[0].words]
    assert all(len(window.ids) <= 16 for window in parts) and len(parts) > 1
    assert windows_of("  ", tokenizer, 16) == []


def test_a_vocabulary_without_ends_is_refused() -> None:
    with pytest.raises(CheckpointError, match="lacks"):
        windows_of(TEXT, tokenizer_of(("[UNK]", "a")), 16)


def test_a_sentence_longer_than_a_window_is_cut(tokenizer) -> None:
    long = "fever cough " * 20
    parts = windows_of(long, tokenizer, 12)
    assert sum(len(window.words) for window in parts) == 40
    assert all(len(window.ids) <= 12 for window in parts)
    (one,) = windows_of("feverfeverfeverfever", tokenizer, 4)
    assert len(one.ids) <= 4 and len(one.words) == 1


@pytest.mark.parametrize(
    ("word", "shape"),
    [
        ("12", Shape.NUMBER),
        ("IL6", Shape.WITH_DIGIT),
        ("-", Shape.OTHER),
        ("pain", Shape.LOWER),
        ("COPD", Shape.ALL_CAPITALS),
        ("A", Shape.CAPITAL),
        ("Pain", Shape.CAPITAL),
        ("mRNA", Shape.MIXED),
    ],
)
def test_how_a_word_is_written(word: str, shape: Shape) -> None:
    assert shape_of(word) is shape


def test_tags_and_spans_agree_and_unlabelled_types_are_unknown() -> None:
    words = [(0, 4), (5, 9), (10, 14), (15, 19)]
    spans = [EntitySpan(0, 9, DISEASE), EntitySpan(12, 14, DISEASE)]
    tags = encode(words, spans, frozenset({DISEASE}))
    column = TYPES.index(DISEASE)
    assert tags[:, column].tolist() == [BEGIN, INSIDE, BEGIN, OUTSIDE]
    others = [n for n in range(len(TYPES)) if n != column]
    assert (tags[:, others] == UNKNOWN).all()
    found = [span for span, _, _ in decode(words, tags[:, column], DISEASE)]
    assert found == [EntitySpan(0, 9, DISEASE), EntitySpan(10, 14, DISEASE)]
    loose = decode(words, np.array([OUTSIDE, INSIDE, INSIDE, OUTSIDE]), DISEASE)
    assert [span for span, _, _ in loose] == [EntitySpan(5, 14, DISEASE)]


def test_inside_never_follows_outside() -> None:
    logits = np.log(np.array([[0.6, 0.3, 0.1], [0.3, 0.05, 0.65]]))
    assert best_tags(logits).tolist() == [BEGIN, INSIDE]
    assert best_tags(np.zeros((0, 3))).tolist() == []
    assert best_tags(np.array([[0.0, 0.0, 9.0]]))[0] != INSIDE


def test_strict_scores_of_hand_made_cases() -> None:
    truth = [[EntitySpan(0, 5, DISEASE), EntitySpan(9, 14, SYMPTOM)], []]
    exact = score(truth, truth, {DISEASE, SYMPTOM})
    assert exact["all"]["f1"] == 1.0 and exact["disease"]["right"] == 1
    claimed = [[EntitySpan(0, 6, DISEASE), EntitySpan(9, 14, SYMPTOM)], []]
    wrong = score(truth, claimed, {DISEASE, SYMPTOM})
    assert wrong["disease"]["f1"] == 0.0, "a boundary error counts nothing"
    assert wrong["all"]["f1"] == 0.5
    assert wrong["all"]["precision"] == wrong["all"]["recall"] == 0.5
    assert wrong["all"]["f1_low"] <= 0.5 <= wrong["all"]["f1_high"]
    only = score(truth, claimed, {SYMPTOM})
    assert only["all"]["f1"] == 1.0, "types that are not labelled do not count"
    assert score([], [], {SYMPTOM})["all"]["f1_high"] == 0.0
    empty = EntityScore(0, 0, 0)
    assert empty.precision == empty.recall == empty.f1 == 0.0


def test_errors_by_kind() -> None:
    truth = [
        [
            EntitySpan(0, 5, DISEASE),
            EntitySpan(9, 14, SYMPTOM),
            EntitySpan(20, 25, DISEASE),
        ]
    ]
    claimed = [
        [
            EntitySpan(0, 4, DISEASE),
            EntitySpan(9, 14, DISEASE),
            EntitySpan(30, 33, SYMPTOM),
        ]
    ]
    assert errors(truth, claimed) == {
        "type": 1,
        "bounds": 1,
        "spurious": 1,
        "missed": 2,
    }


@pytest.mark.parametrize(
    ("text", "mention", "denied"),
    [
        ("No fever today.", "fever", True),
        ("He denies chest pain or cough.", "cough", True),
        ("Fever denied, cough present.", "Fever", True),
        ("Pneumothorax was ruled out.", "Pneumothorax", True),
        ("No fever. Cough for days.", "Cough", False),
        ("No rash but fever.", "fever", False),
        ("No increase in pain.", "pain", False),
        ("No evidence of effusion", "effusion", True),
        ("Fever and cough", "cough", False),
        ("no fever at all", "no fever", True),
        ("nothing to suggest pneumonia", "nothing to suggest pneumonia", True),
        ("neither wheeze nor stridor", "stridor", True),
        ("no one two three four five six cough", "cough", False),
        ("cough; absent rash", "cough", False),
        ("Effusion, pneumonia cannot be excluded", "pneumonia", False),
    ],
)
def test_negation(text: str, mention: str, denied: bool) -> None:
    start = text.index(mention)
    assert is_negated(text, start, start + len(mention)) is denied


def test_types_that_a_corpus_does_not_label_have_no_part_in_the_loss(
    tiny_bert: BertFolder,
) -> None:
    tagger = EntityTagger(tiny_bert)
    spans = (EntitySpan(0, 8, DISEASE),)
    document = AnnotatedText("1", "Zorbitis at sea", spans, Corpus.NCBI)
    (example,) = examples_of(tagger, [document])
    logits, there = tagger([example.window], [Corpus.NCBI])
    assert logits.shape == (1, 3, len(TYPES), 3) and there.all()
    logits.retain_grad()
    tag_loss(logits, example.tags.unsqueeze(0)).backward()
    column = TYPES.index(DISEASE)
    assert logits.grad[:, :, column].abs().sum() > 0
    others = [n for n in range(len(TYPES)) if n != column]
    assert logits.grad[:, :, others].abs().sum() == 0


def test_padding_does_not_change_what_is_found(tiny_bert: BertFolder) -> None:
    tagger = EntityTagger(tiny_bert).eval()
    short, long = tagger.windows("No wobble."), tagger.windows("A tailor hums " * 6)
    alone, _ = tagger(short, [Corpus.BC5CDR])
    beside, there = tagger([*short, *long], [Corpus.BC5CDR] * 2)
    assert there[0].sum() == 3
    assert torch.allclose(beside[0, :3], alone[0], atol=1e-5)


@pytest.mark.component("A3")
def test_planted_spans_of_synthetic_notes_are_found(
    synthetic_tagger: EntityTagger,
) -> None:
    notes = planted_notes(60, Split.TEST)
    found = evaluate_tagger(synthetic_tagger, notes, Corpus.SYNTHETIC)
    assert found["documents"] == 60
    assert found["scores"]["symptom"]["f1"] >= 0.95


@pytest.mark.component("A3")
def test_negated_spans_are_flagged_and_asserted_ones_are_not(
    synthetic_tagger: EntityTagger,
) -> None:
    cases = synthetic_cases(60, 41, split=Split.TEST, image_size=32)
    texts = [case.note.text for case in cases]
    flags: dict[bool, list[bool]] = {True: [], False: []}
    for case, found in zip(cases, synthetic_tagger.find(texts, Corpus.SYNTHETIC)):
        places = {(entity.start, entity.end): entity for entity in found}
        for span in case.note.spans:
            entity = places.get((span.start, span.end))
            if entity is None:
                continue
            assert 0 < entity.score <= 1 and entity.type is SYMPTOM
            if span.kind is SpanKind.NEGATED:
                flags[True].append(entity.negated)
            elif span.kind is SpanKind.SEVERITY and span.state == "high":
                flags[False].append(entity.negated)
    assert len(flags[True]) > 50 and all(flags[True])
    assert len(flags[False]) > 30 and np.mean(flags[False]) < 0.05


def test_a_tagger_trains_on_all_corpora_is_saved_and_opens_alike(
    corpora: Path, bert_run: Path, tmp_path: Path
) -> None:
    run = NerRun(
        corpora=("bc5cdr", "ncbi-disease", "maccrobat2020", "synthetic"),
        synthetic=4,
        epochs=20,
        rate=6e-3,
    )
    record = train_entities(bert_run, corpora, tmp_path, run, progress=False)
    assert record["documents"] == 8 + 6 + 14 + 4
    assert record["losses"][-1] < 0.5 * record["losses"][0]
    report = evaluate_entities(tmp_path, corpora)
    assert set(report["corpora"]) == set(run.corpora)
    assert report["corpora"]["bc5cdr"]["scores"]["all"]["f1"] > 0.5
    assert "symptom" not in report["corpora"]["bc5cdr"]["scores"]
    dev = evaluate_entities(tmp_path, corpora, "dev")
    assert dev["corpora"]["maccrobat2020"]["documents"] == 3
    tagger = load_tagger(tmp_path)
    (found,) = tagger.find(["Gave velumab to him. No zorbitis."], Corpus.BC5CDR)
    assert {entity.type for entity in found} <= {DISEASE, EntityType.MEDICATION}
    path = tmp_path / "entities.json"
    path.write_text(path.read_text().replace('"treatment"', '"care"'))
    with pytest.raises(CheckpointError, match="other types"):
        load_tagger(tmp_path)
    path.unlink()
    with pytest.raises(CheckpointError, match="no entity tagger"):
        load_tagger(tmp_path)


def test_weights_without_the_head_are_refused(
    bert_run: Path, tiny_bert: BertFolder, tmp_path: Path
) -> None:
    EntityTagger(tiny_bert).save(tmp_path, {})
    shutil.copy(bert_run / "model.safetensors", tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match="do not fit"):
        load_tagger(tmp_path)


def test_nothing_to_learn_from_is_refused(tiny_bert: BertFolder) -> None:
    tagger = EntityTagger(tiny_bert)
    with pytest.raises(ConfigurationError):
        train_tagger(tagger, [], TaggerSettings(), progress=False)
    assert evaluate_tagger(tagger, [], Corpus.NCBI)["documents"] == 0
