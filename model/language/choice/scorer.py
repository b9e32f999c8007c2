"""A head that scores one option of a question at a time: [CLS] question [SEP] option.

Options are scored apart, so a question may have any number of them. The head sees the
mean state of the question, that of the option, and how they differ: masked-word
training alone gives the [CLS] state no meaning (InferSent's matching features, Conneau
et al., 2017).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from model.errors import CheckpointError
from model.language.bert_folder import (
    WEIGHTS_FILE,
    BertFolder,
    load_bert,
    read_weights,
    save_head,
)
from model.language.corpora.questions import ChoiceQuestion
from model.language.windows import ends_of, padded

CHOICE_FILE = "choice.json"
#: Most pieces of an option; the rest of the room is the question's.
OPTION_PIECES = 48
_BATCH = 64
_STATES = 4


@dataclass(frozen=True, slots=True)
class Reading:
    """One question with one option as pieces; ``question`` counts those before it."""

    ids: tuple[int, ...]
    question: int


class ChoiceModel(nn.Module):
    """Encoder and head; ``longest`` bounds the pieces of question and option."""

    def __init__(
        self, bert: BertFolder, longest: int = 128, dropout: float = 0.1
    ) -> None:
        super().__init__()
        self.folder = bert
        self.bert = bert.encoder
        for part in self.bert.modules():  # masked-word training goes without
            if isinstance(part, nn.Dropout):
                part.p = dropout
        self.longest = min(longest, bert.max_tokens)
        self.mix = nn.Linear(bert.width * _STATES, bert.width)
        self.dropout = nn.Dropout(dropout)
        self.score = nn.Linear(bert.width, 1)
        self.tokenizer = bert.tokenizer()

    def readings(self, question: ChoiceQuestion) -> list[Reading]:
        """Each option behind the question; a long stem keeps its end, where it asks.

        Context stands behind the stem and keeps its end as well: results and
        assessments come last.
        """
        begin, part = ends_of(self.tokenizer)
        stem = self._pieces(question.question)
        context = [n for part in question.context for n in self._pieces(part)]
        readings = []
        for option in question.options:
            chosen = self._pieces(option)[: min(OPTION_PIECES, self.longest // 2)]
            room = self.longest - len(chosen) - 3
            asked = stem[max(0, len(stem) - room) :]
            about = context[max(0, len(context) - room + len(asked)) :]
            before = (begin, *asked, *about, part)
            readings.append(Reading((*before, *chosen, part), len(before)))
        return readings

    def _pieces(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def forward(self, readings: Sequence[Reading]) -> Tensor:
        """(B,) scores of B questions with one option each."""
        ids = padded([reading.ids for reading in readings])  # (B, L)
        lengths = torch.tensor([len(reading.ids) for reading in readings]).unsqueeze(1)
        cuts = torch.tensor([reading.question for reading in readings]).unsqueeze(1)
        places = torch.arange(ids.shape[1]).unsqueeze(0)  # (1, L)
        exists = places < lengths  # (B, L)
        second = exists & (places >= cuts)  # (B, L)
        states = self.bert(
            input_ids=ids, attention_mask=exists.long(), token_type_ids=second.long()
        ).last_hidden_state  # (B, L, H)
        asked = _mean(states, exists & ~second)  # (B, H)
        option = _mean(states, second)  # (B, H)
        seen = torch.cat([asked, option, (asked - option).abs(), asked * option], 1)
        mixed = functional.gelu(self.mix(self.dropout(seen)))  # (B, H)
        scored: Tensor = self.score(self.dropout(mixed)).squeeze(1)  # (B,)
        return scored

    @torch.no_grad()
    def probabilities(self, questions: Iterable[ChoiceQuestion]) -> list[list[float]]:
        """Share of each option of each question, in the order of the options."""
        self.eval()
        kept = list(questions)
        readings = [
            (number, place, reading)
            for number, question in enumerate(kept)
            for place, reading in enumerate(self.readings(question))
        ]
        readings.sort(key=lambda item: len(item[2].ids))
        scores = [torch.zeros(len(question.options)) for question in kept]
        for start in range(0, len(readings), _BATCH):
            batch = readings[start : start + _BATCH]
            found = self.forward([reading for _, _, reading in batch])
            for (number, place, _), score in zip(batch, found):
                scores[number][place] = score
        return [[float(p) for p in torch.softmax(row, 0)] for row in scores]

    def save(self, folder: Path, record: dict[str, Any]) -> None:
        """Write a BERT folder that also holds the head, and ``choice.json``."""
        save_head(folder, self.bert, self.state_dict(), self.folder)
        text = json.dumps({"longest": self.longest, **record}, indent=1) + "\n"
        (folder / CHOICE_FILE).write_text(text, encoding="utf-8")


def _mean(states: Tensor, mask: Tensor) -> Tensor:
    """(B, H) mean of the states (B, L, H) where mask (B, L) holds."""
    weight = mask.unsqueeze(2).to(states.dtype)  # (B, L, 1)
    return (states * weight).sum(1) / weight.sum(1).clamp(min=1.0)


def load_choice(folder: Path) -> ChoiceModel:
    """Open what :meth:`ChoiceModel.save` wrote.

    Raises:
        CheckpointError: a file is missing or damaged.
    """
    try:
        record = json.loads((folder / CHOICE_FILE).read_text(encoding="utf-8"))
        longest = int(record["longest"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError("the folder holds no choice head") from error
    model = ChoiceModel(load_bert(folder), longest)
    try:
        model.load_state_dict(read_weights(folder / WEIGHTS_FILE))
    except RuntimeError as error:
        raise CheckpointError("the weights of the choice head do not fit") from error
    return model.eval()
