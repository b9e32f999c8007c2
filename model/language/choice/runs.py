"""The choice head trained and scored from folders, with a record of how."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from model.language.bert_folder import load_bert
from model.language.choice.scorer import CHOICE_FILE, ChoiceModel, load_choice
from model.language.choice.train import ChoiceSettings, evaluate_choice, train_choice
from model.language.corpora.questions import (
    MMLU_SUBJECTS,
    ChoiceQuestion,
    medqa_choices,
    read_head_qa,
    read_mmlu,
    read_pubmedqa,
)

EVALUATION_FILE = "evaluation.json"


@dataclass(frozen=True, slots=True)
class ChoiceRun:
    """Which set to train on ("head-qa", "pubmedqa" or "medqa"), and for how long.

    ``limit`` is the most questions to learn from, drawn by the seed; 0 for all.
    """

    name: str = "head-qa"
    epochs: int = 1
    rate: float = 5e-4
    longest: int = 128
    layout: str = "five"
    limit: int = 0
    seed: int = 7


def questions_of(
    data: Path, name: str, split: str, layout: str = "five"
) -> list[ChoiceQuestion]:
    """Questions of a set; MMLU has a test part only, all its subjects together.

    Raises:
        DatasetError: the set is missing or malformed.
    """
    texts = data / "texts"
    if name == "head-qa":
        return read_head_qa(texts / "head-qa-en", split)
    if name == "pubmedqa":
        return read_pubmedqa(data / "pubmedqa")[split]
    if name == "medqa":
        return list(medqa_choices(data / "medqa", split, layout))
    return [q for s in MMLU_SUBJECTS for q in read_mmlu(texts / "mmlu-medical", s)]


def train_choices(
    bert: Path, data: Path, out: Path, run: ChoiceRun, *, progress: bool = True
) -> dict[str, Any]:
    """Fine-tune on one set and write the head to ``out``.

    Returns:
        What ``choice.json`` holds of the run.

    Raises:
        CheckpointError: ``bert`` is no BERT folder.
        DatasetError: the set is missing or malformed.
    """
    started = time.monotonic()
    questions = questions_of(data, run.name, "train", run.layout)
    if run.limit:
        order = np.random.default_rng(run.seed).permutation(len(questions))
        questions = [questions[place] for place in order[: run.limit]]
    torch.manual_seed(run.seed)
    model = ChoiceModel(load_bert(bert), run.longest)
    settings = ChoiceSettings(epochs=run.epochs, rate=run.rate, seed=run.seed)
    losses = train_choice(model, questions, settings, progress=progress)
    record = {
        "run": asdict(run),
        "questions": sum(not question.image for question in questions),
        "losses": losses,
        "seconds": round(time.monotonic() - started),
    }
    model.save(out, record)
    return record


def evaluate_choices(folder: Path, data: Path, sets: Sequence[str]) -> dict[str, Any]:
    """Accuracy on the test part of each set; also written beside the model.

    Raises:
        CheckpointError: the folder holds no choice head.
        DatasetError: a set is missing or malformed.
    """
    model = load_choice(folder)
    record = json.loads((folder / CHOICE_FILE).read_text(encoding="utf-8"))
    trained, layout = record["run"]["name"], record["run"]["layout"]
    found: dict[str, Any] = {}
    for name in sets:
        training = questions_of(data, name, "train", layout) if name == trained else []
        questions = questions_of(data, name, "test", layout)
        found[name] = evaluate_choice(model, questions, training)
    report = {"training": record, "sets": found}
    text = json.dumps(report, indent=1) + "\n"
    (folder / EVALUATION_FILE).write_text(text, encoding="utf-8")
    return report
