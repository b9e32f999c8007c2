"""One head on the BERT encoder that names all four types of entity.

Each word is told by its first piece (Devlin et al., 2019) and its last, by how it is
written and spelt, and by the guideline it is asked under: what BC5CDR calls a disease
MACCROBAT often calls a symptom, so one head without that word would be taught both at
once.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
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
from model.language.corpora.annotated import (
    LABELLED,
    Corpus,
    EntitySpan,
    EntityType,
)
from model.language.entities.tags import TYPES, best_tags, decode
from model.language.negation import is_negated
from model.language.windows import SPELLINGS, Shape, Window, padded, windows_of

ENTITIES_FILE = "entities.json"
TAGS = 3
LONGEST = 128
_BATCH = 32
_SHAPE_WIDTH, _SPELLING_WIDTH = 16, 48
_CORPORA = tuple(Corpus)


@dataclass(frozen=True, slots=True)
class Entity:
    """A mention: characters ``start`` to ``end`` of the original text.

    ``score`` is the mean probability of its tags; ``negated`` says that the text denies
    it.
    """

    start: int
    end: int
    type: EntityType
    score: float
    negated: bool

    def span(self) -> EntitySpan:
        """Place and type alone."""
        return EntitySpan(self.start, self.end, self.type)


class EntityTagger(nn.Module):
    """Encoder and head; ``bert`` says how text is read."""

    def __init__(self, bert: BertFolder, dropout: float = 0.1) -> None:
        super().__init__()
        self.folder = bert
        self.bert = bert.encoder
        for part in self.bert.modules():  # masked-word training goes without
            if isinstance(part, nn.Dropout):
                part.p = dropout
        self.shape = nn.Embedding(len(Shape), _SHAPE_WIDTH)
        self.spelling = nn.Embedding(SPELLINGS, _SPELLING_WIDTH)
        self.guideline = nn.Embedding(len(_CORPORA), bert.width)
        # Over three words: where a mention ends shows in the word behind it.
        told = 2 * bert.width + _SHAPE_WIDTH + _SPELLING_WIDTH
        self.mix = nn.Conv1d(told, bert.width, 3, padding=1)
        self.norm = nn.LayerNorm(bert.width)
        self.dropout = nn.Dropout(dropout)
        self.tags = nn.Linear(bert.width, len(TYPES) * TAGS)
        self.tokenizer = bert.tokenizer()

    @property
    def longest(self) -> int:
        """Most pieces of a window."""
        return min(LONGEST, self.folder.max_tokens)

    def forward(
        self, windows: Sequence[Window], corpora: Sequence[Corpus]
    ) -> tuple[Tensor, Tensor]:
        """Logits of every word.

        Args:
            windows: B windows.
            corpora: The guideline of each.

        Returns:
            (B, W, T, 3) logits, and (B, W) which words exist.
        """
        ids = padded([window.ids for window in windows])  # (B, L)
        exists = padded([[1] * len(window.ids) for window in windows])  # (B, L)
        states = self.bert(input_ids=ids, attention_mask=exists).last_hidden_state
        first = padded([window.first for window in windows])  # (B, W)
        last = padded([window.last for window in windows])  # (B, W)
        there = padded([[1] * len(window.first) for window in windows]).bool()
        rows = torch.arange(len(windows)).unsqueeze(1)  # (B, 1)
        words, ends = states[rows, first], states[rows, last]  # (B, W, H) each
        shapes = self.shape(padded([window.shapes for window in windows], 0))
        spelt = self.spelling(_spellings(windows, first.shape[1])).mean(2)
        asked = torch.tensor([_CORPORA.index(corpus) for corpus in corpora])
        told = torch.cat([words, ends, shapes, spelt], dim=2)  # (B, W, 2 H + S)
        seen = self.dropout(told) * there.unsqueeze(2)
        mixed = self.mix(seen.transpose(1, 2)).transpose(1, 2)  # (B, W, H)
        mixed = functional.gelu(mixed + self.guideline(asked).unsqueeze(1))
        logits = self.tags(self.dropout(self.norm(mixed + words)))  # (B, W, T * 3)
        return logits.unflatten(2, (len(TYPES), TAGS)), there

    def windows(self, text: str, document: int = 0) -> list[Window]:
        """The text cut for this encoder."""
        return windows_of(text, self.tokenizer, self.longest, document)

    @torch.no_grad()
    def find(self, texts: Sequence[str], guideline: Corpus) -> list[list[Entity]]:
        """Entities of each text, in order of their place.

        Args:
            texts: Original texts, of any length.
            guideline: Whose understanding of the types is asked for; types that this
                corpus does not label are not looked for.
        """
        self.eval()
        windows = [w for n, text in enumerate(texts) for w in self.windows(text, n)]
        order = sorted(range(len(windows)), key=lambda n: len(windows[n].ids))
        found: list[list[Entity]] = [[] for _ in texts]
        for start in range(0, len(order), _BATCH):
            batch = [windows[n] for n in order[start : start + _BATCH]]
            logits, _ = self.forward(batch, [guideline] * len(batch))
            for window, scores in zip(batch, logits.double().numpy()):
                text = texts[window.document]
                found[window.document] += _entities(text, window, scores, guideline)
        return [sorted(each, key=lambda e: (e.start, e.end, e.type)) for each in found]

    def save(self, folder: Path, record: dict[str, Any]) -> None:
        """Write a BERT folder that also holds the head, and ``entities.json``."""
        save_head(folder, self.bert, self.state_dict(), self.folder)
        described = {"types": list(TYPES), "guidelines": list(_CORPORA), **record}
        text = json.dumps(described, indent=1) + "\n"
        (folder / ENTITIES_FILE).write_text(text, encoding="utf-8")


def _spellings(windows: Sequence[Window], longest: int) -> Tensor:
    """(B, W, 6) numbers of the words' spellings, 0 where no word is."""
    blank = (0,) * len(windows[0].spellings[0])
    rows = [w.spellings + (blank,) * (longest - len(w.spellings)) for w in windows]
    return torch.tensor(rows)


def _entities(
    text: str, window: Window, scores: Any, guideline: Corpus
) -> list[Entity]:
    """Mentions in one window; ``scores`` (W, T, 3), padding behind."""
    found = []
    count = len(window.words)
    for column, kind in enumerate(TYPES):
        if kind not in LABELLED[guideline]:
            continue
        logits = scores[:count, column]  # (W, 3)
        tags = best_tags(logits)
        sure = np.exp(logits - logits.max(1, keepdims=True))
        sure = (sure / sure.sum(1, keepdims=True))[np.arange(count), tags]  # (W,)
        for span, first, end in decode(window.words, tags, kind):
            negated = is_negated(text, span.start, span.end)
            score = float(sure[first:end].mean())
            found.append(Entity(span.start, span.end, kind, score, negated))
    return found


def load_tagger(folder: Path) -> EntityTagger:
    """Open what :meth:`EntityTagger.save` wrote.

    Raises:
        CheckpointError: a file is missing or damaged, or it is another version's.
    """
    try:
        record = json.loads((folder / ENTITIES_FILE).read_text(encoding="utf-8"))
        same = record["types"] == list(TYPES)
        same = same and record["guidelines"] == list(_CORPORA)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError("the folder holds no entity tagger") from error
    if not same:
        raise CheckpointError("the tagger names other types or guidelines")
    tagger = EntityTagger(load_bert(folder))
    try:
        tagger.load_state_dict(read_weights(folder / WEIGHTS_FILE))
    except RuntimeError as error:
        raise CheckpointError("the tagger's weights do not fit") from error
    return tagger.eval()
