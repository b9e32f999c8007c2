"""Fine-tune the tagger on one or several corpora at once, and score it.

Every window counts for the types that its corpus labels and for no other. Documents of
different corpora are mixed in one batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from model.errors import ConfigurationError
from model.language.corpora.annotated import AnnotatedText, Corpus
from model.language.corpora.brat import read_maccrobat
from model.language.corpora.pubtator import read_pubtator
from model.language.entities.score import errors, score
from model.language.entities.tagger import EntityTagger
from model.language.entities.tags import TYPES, UNKNOWN, encode
from model.language.fine_tune import FineTuneSettings, fine_tune
from model.language.windows import Window

REAL = (Corpus.BC5CDR, Corpus.NCBI, Corpus.MACCROBAT)


TaggerSettings = FineTuneSettings


@dataclass(frozen=True, slots=True)
class Example:
    """A window, its corpus, and the (W, T) tags that it should get."""

    window: Window
    corpus: Corpus
    tags: Tensor


def read_split(data: Path, corpus: Corpus, split: str) -> list[AnnotatedText]:
    """Documents of one split of a real corpus below ``data`` / texts.

    Raises:
        CorpusError: the corpus is missing or malformed.
    """
    folder = data / "texts" / corpus
    if corpus is Corpus.MACCROBAT:
        return read_maccrobat(folder)[split]
    return read_pubtator(folder, corpus, split)


def examples_of(
    tagger: EntityTagger, documents: Sequence[AnnotatedText]
) -> list[Example]:
    """Windows with the tags of the spans that lie in them."""
    examples = []
    for number, document in enumerate(documents):
        for window in tagger.windows(document.text, number):
            low, high = window.words[0][0], window.words[-1][1]
            spans = [s for s in document.spans if s.start < high and low < s.end]
            tags = encode(window.words, spans, document.labelled)
            examples.append(Example(window, document.corpus, torch.from_numpy(tags)))
    return examples


def tag_loss(logits: Tensor, tags: Tensor) -> Tensor:
    """Mean cross entropy over words and types that are labelled.

    Args:
        logits: (B, W, T, 3).
        tags: (B, W, T), :data:`UNKNOWN` where nothing is known.
    """
    return functional.cross_entropy(
        logits.flatten(0, 2), tags.flatten(), ignore_index=UNKNOWN
    )


def train_tagger(
    tagger: EntityTagger,
    documents: Sequence[AnnotatedText],
    settings: TaggerSettings,
    *,
    progress: bool = True,
) -> list[float]:
    """Fine-tune encoder and head.

    Returns:
        Mean loss of each epoch.

    Raises:
        ConfigurationError: there is nothing to learn from.
    """
    examples = examples_of(tagger, documents)
    if not examples:
        raise ConfigurationError("no document holds a word to learn from")
    return fine_tune(
        tagger,
        tagger.bert,
        examples,
        settings,
        length=lambda example: len(example.window.ids),
        loss_of=lambda batch: _batch_loss(tagger, batch),
        name="entities",
        progress=progress,
    )


def _batch_loss(tagger: EntityTagger, batch: Sequence[Example]) -> Tensor:
    logits, _ = tagger([e.window for e in batch], [e.corpus for e in batch])
    return tag_loss(logits, _stacked([e.tags for e in batch]))


def _stacked(rows: Sequence[Tensor]) -> Tensor:
    """(B, W, T) tags, filled up with :data:`UNKNOWN`."""
    longest = max(len(row) for row in rows)
    stacked = torch.full((len(rows), longest, len(TYPES)), UNKNOWN)
    for number, row in enumerate(rows):
        stacked[number, : len(row)] = row
    return stacked


def evaluate_tagger(
    tagger: EntityTagger,
    documents: Sequence[AnnotatedText],
    corpus: Corpus,
    *,
    seed: int = 0,
) -> dict[str, Any]:
    """Strict scores on documents of one corpus.

    Returns:
        ``scores`` as :func:`model.language.entities.score.score`, ``errors`` by kind,
        and the number of ``documents``.
    """
    found = tagger.find([document.text for document in documents], corpus)
    claimed = [[entity.span() for entity in each] for each in found]
    annotated = [document.spans for document in documents]
    labelled = documents[0].labelled if documents else frozenset()
    return {
        "documents": len(documents),
        "scores": score(annotated, claimed, labelled, seed=seed),
        "errors": errors(annotated, claimed),
    }


def mentions(documents: Sequence[AnnotatedText]) -> Mapping[str, int]:
    """How many mentions of each type the documents hold."""
    found: dict[str, int] = {}
    for document in documents:
        for span in document.spans:
            found[span.type] = found.get(span.type, 0) + 1
    return dict(sorted(found.items()))
