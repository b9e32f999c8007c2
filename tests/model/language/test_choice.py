"""Questions with options: the head, its training, its scores, its evidence."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from model.errors import CheckpointError, ConfigurationError, DatasetError
from model.language.bert_folder import BertFolder
from model.language.choice.evidence import answer
from model.language.choice.runs import (
    ChoiceRun,
    evaluate_choices,
    questions_of,
    train_choices,
)
from model.language.choice.scorer import ChoiceModel, load_choice
from model.language.choice.train import (
    ChoiceSettings,
    baselines,
    choice_loss,
    evaluate_choice,
    longest,
    macro_f1,
    train_choice,
)
from model.language.corpora.questions import ChoiceQuestion

QUESTION = ChoiceQuestion(
    "1", "A tailor hums at night. What helps?", ("velumab", "rest", "korvex"), 1
)
WITH_CONTEXT = ChoiceQuestion(
    "2",
    "Does velumab help?",
    ("yes", "no"),
    0,
    ("Trial one followed sixty tailors. They had zorbitis.", "It ended well."),
)


def test_an_option_is_read_behind_the_end_of_a_long_question(
    tiny_bert: BertFolder,
) -> None:
    model = ChoiceModel(tiny_bert, longest=16)
    readings = model.readings(QUESTION)
    assert len(readings) == 3
    whole = model.tokenizer.encode(QUESTION.question, add_special_tokens=False).ids
    for reading, option in zip(readings, QUESTION.options):
        chosen = model.tokenizer.encode(option, add_special_tokens=False).ids
        assert len(reading.ids) <= 16
        assert list(reading.ids[reading.question : -1]) == chosen
        read = list(reading.ids[1 : reading.question - 1])
        assert read == whole[len(whole) - len(read) :], "the end of the stem asks"


def test_context_stands_behind_the_question_and_keeps_its_end(
    tiny_bert: BertFolder,
) -> None:
    short = ChoiceModel(tiny_bert, longest=20)
    cut, whole = (
        model.readings(WITH_CONTEXT)[0]
        for model in (short, ChoiceModel(tiny_bert, longest=96))
    )
    stem = short.tokenizer.encode(WITH_CONTEXT.question, add_special_tokens=False).ids
    assert list(cut.ids[1 : len(stem) + 1]) == list(whole.ids[1 : len(stem) + 1])
    assert len(cut.ids) == 20 < len(whole.ids)
    kept = cut.ids[len(stem) + 1 :]
    assert whole.ids[-len(kept) :] == kept
    crowded = ChoiceModel(tiny_bert, longest=len(stem) + 4).readings(WITH_CONTEXT)[0]
    assert list(crowded.ids[1 : crowded.question - 1]) == stem, "no context is read"
    narrow = ChoiceModel(tiny_bert, longest=8).readings(
        ChoiceQuestion("", WITH_CONTEXT.question, ("rest " * 40, "no"), 0)
    )
    assert [len(reading.ids) for reading in narrow] == [8, 8]


def test_questions_may_have_different_numbers_of_options(
    tiny_bert: BertFolder,
) -> None:
    model = ChoiceModel(tiny_bert)
    shares = model.probabilities([QUESTION, WITH_CONTEXT])
    assert [len(row) for row in shares] == [3, 2]
    assert all(math.isclose(sum(row), 1.0, rel_tol=1e-5) for row in shares)
    alone = model.probabilities([QUESTION])[0]
    assert np.allclose(alone, shares[0], atol=1e-5)
    assert model.probabilities([]) == []
    scores = torch.tensor([0.0, 1.0, 2.0, 0.5, 0.5])
    expected = (
        -torch.log_softmax(scores[:3], 0)[2] - torch.log_softmax(scores[3:], 0)[0]
    )
    assert torch.isclose(choice_loss(scores, [3, 2], [2, 0]), expected / 2)


@pytest.mark.component("A5")
@pytest.mark.component("A23c")
@pytest.mark.parametrize(("layout", "options"), [("five", 5), ("four", 4)])
def test_the_head_trains_on_files_of_the_medqa_layout(
    layout: str, options: int, corpora: Path, bert_run: Path, tmp_path: Path
) -> None:
    run = ChoiceRun("medqa", epochs=50, rate=3e-2, layout=layout)
    record = train_choices(bert_run, corpora, tmp_path, run, progress=False)
    assert record["questions"] == 8 and len(record["losses"]) == 50
    assert record["losses"][-1] < 0.5 * record["losses"][0]
    questions = questions_of(corpora, "medqa", "train", layout)
    assert {len(question.options) for question in questions} == {options}
    model = load_choice(tmp_path)
    assert evaluate_choice(model, questions)["accuracy"] >= 0.75
    for question in questions:
        found = answer(model, question)
        assert found.evidence_id.startswith("question/0")
        assert found.shares[found.chosen] == max(found.shares)


@pytest.mark.component("A5")
def test_an_answer_rests_on_the_sentence_whose_loss_lowers_it_most(
    tiny_bert: BertFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = ChoiceModel(tiny_bert)

    def knowing(questions: list[ChoiceQuestion]) -> list[list[float]]:
        return [
            [0.9, 0.1] if any("zorbitis" in part for part in q.context) else [0.6, 0.4]
            for q in questions
        ]

    monkeypatch.setattr(model, "probabilities", knowing)
    found = answer(model, WITH_CONTEXT)
    assert found.chosen == 0 and found.support == pytest.approx(0.3)
    assert found.evidence is not None
    part = WITH_CONTEXT.context[found.evidence.index]
    assert part[found.evidence.start : found.evidence.end] == "They had zorbitis."
    assert found.evidence_id == "context/0#sentence=1&char=34,52"


def test_without_context_the_question_itself_is_evidence(
    tiny_bert: BertFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = ChoiceModel(tiny_bert)
    monkeypatch.setattr(
        model,
        "probabilities",
        lambda qs: [[0.2, 0.7, 0.1] if "hums" in q.question else [1, 0, 0] for q in qs],
    )
    found = answer(model, QUESTION)
    assert found.evidence_id == "question/0#sentence=0&char=0,23"
    monkeypatch.setattr(
        model, "probabilities", lambda qs: [[0.2, 0.7, 0.1] for _ in qs]
    )
    none = answer(model, QUESTION)
    assert none.evidence is None and none.support == 0.0
    assert none.evidence_id == "question/0", "no passage stands out"


def test_scores_of_hand_made_answers() -> None:
    assert macro_f1([0, 0, 1], [0, 0, 1]) == 1.0
    assert macro_f1([0, 0, 1, 1], [0, 1, 1, 1]) == pytest.approx((2 / 3 + 0.8) / 2)
    assert macro_f1([0, 1], [1, 0]) == 0.0
    questions = [
        ChoiceQuestion("a", "?", ("long one", "b"), 0),
        ChoiceQuestion("b", "?", ("a", "b", "c", "the longest"), 0),
        ChoiceQuestion("c", "?", ("a", "b"), 1),
    ]
    assert longest(questions[1]) == 3 and longest(questions[2]) == 0
    found = baselines(questions, [])
    assert found["random"] == pytest.approx((0.5 + 0.25 + 0.5) / 3)
    assert found["best_constant"] == pytest.approx(2 / 3)
    assert found["longest"] == pytest.approx(1 / 3)
    assert "most_frequent_in_training" not in found
    told = baselines(questions, [questions[2]])
    assert told["most_frequent_in_training"] == pytest.approx(1 / 3)


def test_questions_about_a_missing_image_are_neither_learnt_nor_scored(
    corpora: Path, bert_run: Path, tmp_path: Path
) -> None:
    run = ChoiceRun("head-qa", epochs=1, longest=48)
    record = train_choices(bert_run, corpora, tmp_path, run, progress=False)
    assert record["questions"] == 23
    report = evaluate_choices(tmp_path, corpora, ("head-qa", "mmlu", "pubmedqa"))
    sets = report["sets"]
    assert (sets["head-qa"]["questions"], sets["head-qa"]["left_out"]) == (7, 1)
    assert sets["mmlu"]["questions"] == 18 and sets["pubmedqa"]["questions"] == 6
    assert "most_frequent_in_training" in sets["head-qa"]["baselines"]
    assert "most_frequent_in_training" not in sets["mmlu"]["baselines"]
    for found in sets.values():
        assert 0 <= found["low"] <= found["accuracy"] <= found["high"] <= 1
    assert json.loads((tmp_path / "evaluation.json").read_text()) == report


def test_a_rerun_agrees(corpora: Path, bert_run: Path, tmp_path: Path) -> None:
    run = ChoiceRun("pubmedqa", epochs=1, longest=48)
    one = train_choices(bert_run, corpora, tmp_path / "one", run, progress=False)
    two = train_choices(bert_run, corpora, tmp_path / "two", run, progress=False)
    assert one["losses"] == two["losses"] and one["questions"] == 6
    few = replace(run, limit=4)
    some = train_choices(bert_run, corpora, tmp_path / "few", few, progress=False)
    assert some["questions"] == some["run"]["limit"] == 4


def test_nothing_to_learn_from_or_to_score_is_refused(tiny_bert: BertFolder) -> None:
    model = ChoiceModel(tiny_bert)
    pictured = ChoiceQuestion("1", "See the plate?", ("a", "b"), 0, image=True)
    with pytest.raises(ConfigurationError, match="learn"):
        train_choice(model, [pictured], ChoiceSettings(), progress=False)
    with pytest.raises(ConfigurationError, match="score"):
        evaluate_choice(model, [pictured])


def test_a_missing_set_is_refused(tmp_path: Path) -> None:
    for name in ("head-qa", "mmlu", "pubmedqa", "medqa"):
        with pytest.raises(DatasetError):
            questions_of(tmp_path, name, "test")


def test_a_folder_without_a_fitting_head_is_refused(
    bert_run: Path, tiny_bert: BertFolder, tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError, match="no choice head"):
        load_choice(bert_run)
    ChoiceModel(tiny_bert, 40).save(tmp_path, {"run": {}})
    assert load_choice(tmp_path).longest == 40
    shutil.copy(bert_run / "model.safetensors", tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match="do not fit"):
        load_choice(tmp_path)
