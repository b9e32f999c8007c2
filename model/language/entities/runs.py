"""The entity tagger trained and scored from folders, with a record of how."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from model.language.bert_folder import load_bert
from model.language.corpora.annotated import AnnotatedText, Corpus
from model.language.corpora.planted import planted_texts
from model.language.entities.tagger import ENTITIES_FILE, EntityTagger, load_tagger
from model.language.entities.train import (
    REAL,
    TaggerSettings,
    evaluate_tagger,
    mentions,
    read_split,
    train_tagger,
)
from model.synthetic.latents import Split
from model.training.synthetic_set import synthetic_cases

#: One file a split, so that a look at dev never hides the figures on test.
EVALUATION_FILES = {"dev": "evaluation-dev.json", "test": "evaluation.json"}
#: Namespace of the synthetic notes; training and test notes never meet.
SYNTHETIC_SEED = 41
SYNTHETIC_TEST = 200


@dataclass(frozen=True, slots=True)
class NerRun:
    """What to train on, and for how long."""

    corpora: tuple[str, ...] = tuple(REAL)
    splits: tuple[str, ...] = ("train",)
    synthetic: int = 500
    epochs: int = 3
    rate: float = 1e-3
    seed: int = 7


def documents_of(data: Path, run: NerRun) -> list[AnnotatedText]:
    """All training documents of the run.

    Raises:
        CorpusError: a corpus is missing or malformed.
    """
    found: list[AnnotatedText] = []
    for name in run.corpora:
        corpus = Corpus(name)
        if corpus is Corpus.SYNTHETIC:
            found += planted_notes(run.synthetic, Split.TRAIN)
        else:
            for split in run.splits:
                found += read_split(data, corpus, split)
    return found


def planted_notes(count: int, split: Split) -> list[AnnotatedText]:
    """Synthetic notes of one split of the seed that is kept for them."""
    return planted_texts(
        synthetic_cases(count, SYNTHETIC_SEED, split=split, image_size=32)
    )


def train_entities(
    bert: Path, data: Path, out: Path, run: NerRun, *, progress: bool = True
) -> dict[str, Any]:
    """Fine-tune on the chosen corpora and write the tagger to ``out``.

    Returns:
        What ``entities.json`` holds of the run.

    Raises:
        CheckpointError: ``bert`` is no BERT folder.
        CorpusError: a corpus is missing or malformed.
    """
    started = time.monotonic()
    documents = documents_of(data, run)
    torch.manual_seed(run.seed)
    tagger = EntityTagger(load_bert(bert))
    settings = TaggerSettings(epochs=run.epochs, rate=run.rate, seed=run.seed)
    losses = train_tagger(tagger, documents, settings, progress=progress)
    record = {
        "run": asdict(run),
        "documents": len(documents),
        "mentions": dict(mentions(documents)),
        "losses": losses,
        "seconds": round(time.monotonic() - started),
    }
    tagger.save(out, record)
    return record


def evaluate_entities(folder: Path, data: Path, split: str = "test") -> dict[str, Any]:
    """Strict scores on every corpus that the tagger was trained on; also written.

    Raises:
        CheckpointError: the folder holds no tagger.
        CorpusError: a corpus is missing or malformed.
    """
    tagger = load_tagger(folder)
    record = json.loads((folder / ENTITIES_FILE).read_text(encoding="utf-8"))
    corpora: dict[str, Any] = {}
    for name in record["run"]["corpora"]:
        corpus = Corpus(name)
        if corpus is Corpus.SYNTHETIC:
            held = Split.TEST if split == "test" else Split.VALIDATION
            documents = planted_notes(SYNTHETIC_TEST, held)
        else:
            documents = read_split(data, corpus, split)
        corpora[name] = evaluate_tagger(tagger, documents, corpus)
    report = {"split": split, "training": record, "corpora": corpora}
    text = json.dumps(report, indent=1) + "\n"
    (folder / EVALUATION_FILES[split]).write_text(text, encoding="utf-8")
    return report
