"""Fine-tune the choice head, and score it beside what needs no model.

Accuracy with a bootstrap interval over questions; beside it a guess at random, the
constant that would have been best on the test set itself (an upper bound of what the
place of an option gives away), the most frequent answer of the training set, and the
longest option.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from model.errors import ConfigurationError
from model.language.choice.scorer import ChoiceModel, Reading
from model.language.corpora.questions import ChoiceQuestion
from model.language.fine_tune import FineTuneSettings, fine_tune

_DRAWS = 1000
#: The readings of a question's options, and the place of the right one.
Example = tuple[list[Reading], int]


@dataclass(frozen=True, slots=True)
class ChoiceSettings(FineTuneSettings):
    """``batch`` counts questions."""

    epochs: int = 2
    rate: float = 5e-4
    batch: int = 8


def choice_loss(
    scores: Tensor, counts: Sequence[int], answers: Sequence[int]
) -> Tensor:
    """Mean cross entropy over questions with different numbers of options.

    Args:
        scores: (sum of counts,) scores of all options in a row.
        counts: Options of each question.
        answers: Place of the right option of each.
    """
    rows = torch.nn.utils.rnn.pad_sequence(
        list(torch.split(scores, list(counts))),
        batch_first=True,
        padding_value=-math.inf,
    )  # (B, O)
    return functional.cross_entropy(rows, torch.tensor(list(answers)))


def train_choice(
    model: ChoiceModel,
    questions: Sequence[ChoiceQuestion],
    settings: ChoiceSettings,
    *,
    progress: bool = True,
) -> list[float]:
    """Fine-tune encoder and head; questions that need a missing image are left out.

    Returns:
        Mean loss of each epoch.

    Raises:
        ConfigurationError: there is nothing to learn from.
    """
    usable = [question for question in questions if not question.image]
    if not usable:
        raise ConfigurationError("no question to learn from")
    return fine_tune(
        model,
        model.bert,
        [(model.readings(q), q.answer) for q in usable],
        settings,
        length=lambda example: max(len(reading.ids) for reading in example[0]),
        loss_of=lambda batch: _batch_loss(model, batch),
        name="choice",
        progress=progress,
    )


def _batch_loss(model: ChoiceModel, batch: Sequence[Example]) -> Tensor:
    readings = [reading for found, _ in batch for reading in found]
    counts = [len(found) for found, _ in batch]
    return choice_loss(model(readings), counts, [answer for _, answer in batch])


def evaluate_choice(
    model: ChoiceModel,
    questions: Sequence[ChoiceQuestion],
    training: Sequence[ChoiceQuestion] = (),
    *,
    seed: int = 0,
) -> dict[str, Any]:
    """Accuracy of the model and of the baselines on the same questions.

    Args:
        model: A trained head.
        questions: With their answers; those that need a missing image are reported
            apart and never scored.
        training: For the most frequent answer; empty where a set has no training part.
        seed: Of the bootstrap.

    Returns:
        ``questions``, ``left_out``, ``accuracy`` with ``low`` and ``high`` (95 %),
        ``macro_f1`` over the places of the options, and ``baselines``.

    Raises:
        ConfigurationError: no question can be scored.
    """
    usable = [question for question in questions if not question.image]
    if not usable:
        raise ConfigurationError("no question to score")
    shares = model.probabilities(usable)
    chosen = [int(np.argmax(row)) for row in shares]
    answers = [question.answer for question in usable]
    right = np.array([c == a for c, a in zip(chosen, answers)], dtype=np.float64)
    rng = np.random.default_rng(seed)
    draws = right[rng.integers(len(right), size=(_DRAWS, len(right)))].mean(axis=1)
    low, high = np.quantile(draws, [0.025, 0.975])
    return {
        "questions": len(usable),
        "left_out": len(questions) - len(usable),
        "accuracy": float(right.mean()),
        "low": float(low),
        "high": float(high),
        "macro_f1": macro_f1(answers, chosen),
        "baselines": baselines(usable, training),
    }


def macro_f1(answers: Sequence[int], chosen: Sequence[int]) -> float:
    """Mean F1 over the answers that occur: the second figure of PubMedQA."""
    figures = []
    for place in sorted(set(answers)):
        right = sum(a == c == place for a, c in zip(answers, chosen))
        total = sum(a == place for a in answers) + sum(c == place for c in chosen)
        figures.append(2 * right / total)
    return sum(figures) / len(figures)


def baselines(
    questions: Sequence[ChoiceQuestion], training: Sequence[ChoiceQuestion]
) -> dict[str, float]:
    """Accuracy of four ways to answer without reading."""
    places = Counter(question.answer for question in questions)
    found = {
        "random": float(np.mean([1 / len(question.options) for question in questions])),
        "best_constant": places.most_common(1)[0][1] / len(questions),
        "longest": float(np.mean([longest(q) == q.answer for q in questions])),
    }
    if training:
        most = Counter(question.answer for question in training).most_common(1)[0][0]
        found["most_frequent_in_training"] = places[most] / len(questions)
    return found


def longest(question: ChoiceQuestion) -> int:
    """Place of the longest option; of equal ones the first."""
    lengths = [len(option) for option in question.options]
    return lengths.index(max(lengths))
