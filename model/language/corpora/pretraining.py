"""Text for masked-word training: every sentence once, and no text of any test.

Sources: MedQuAD, ACI-BENCH, MTS-Dialog (train and dev), BC5CDR, NCBI disease and
MACCROBAT (train and dev), PubMedQA (the 500 questions that are not test) and HEAD-QA
train (question with its right answer). PriMock57 stays out as text of another register,
on which the loss is also measured.

Kept out, and asserted: whatever shares a run of :data:`RUN` words with a test text of
an NER or question corpus, and every sentence that stands whole in one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from model.errors import CorpusError
from model.language.corpora.annotated import Corpus
from model.language.corpora.brat import read_maccrobat
from model.language.corpora.prose import (
    read_aci_bench,
    read_medquad,
    read_mts_dialog,
    read_primock57,
)
from model.language.corpora.pubtator import read_pubtator
from model.language.corpora.questions import (
    MMLU_SUBJECTS,
    ChoiceQuestion,
    read_head_qa,
    read_mmlu,
    read_pubmedqa,
)

#: Words in a row that make two texts share a passage.
RUN = 12
#: Shorter sentences ("Okay.") may repeat: they are how people talk.
SHORT = 5
#: One document in so many is held out, per source.
HELD_OUT_EVERY = 40
_SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z0-9\"(\[])|\n+")
_WORD = re.compile(r"[^\W_]+")

Shingles = frozenset[tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class PretrainingText:
    """Documents to learn from, held-out documents, and of another register.

    ``counts`` tells for each source its documents and words before and after.
    """

    train: list[str]
    held_out: list[str]
    out_of_domain: list[str]
    counts: dict[str, dict[str, int]] = field(default_factory=dict)


def sentences(text: str) -> list[str]:
    """Sentences of a text, white space made even; a line end ends one too."""
    parts = (" ".join(part.split()) for part in _SENTENCE.split(text))
    return [part for part in parts if part]


def words_of(text: str) -> tuple[str, ...]:
    """Letters and digits in lower case: what counts when texts are compared."""
    return tuple(_WORD.findall(text.lower()))


def runs_of(words: Sequence[str]) -> Iterable[tuple[str, ...]]:
    """Every run of :data:`RUN` words, or all words where there are fewer."""
    if len(words) <= RUN:
        return [tuple(words)] if words else []
    return (tuple(words[at : at + RUN]) for at in range(len(words) - RUN + 1))


def shingles(texts: Iterable[str]) -> Shingles:
    """The runs of words of all sentences of the texts; short sentences left out."""
    found: set[tuple[str, ...]] = set()
    for text in texts:
        found.update(runs_of(words_of(text)))
        for sentence in sentences(text):
            words = words_of(sentence)
            if len(words) >= SHORT:
                found.update(runs_of(words))
    return frozenset(found)


def pretraining_text(data: Path) -> PretrainingText:
    """Deduplicated text of all sources below ``data`` (``texts`` and ``pubmedqa``).

    Raises:
        CorpusError: a corpus is missing or malformed, or a test text is still in.
    """
    texts = data / "texts"
    forbidden = shingles(texts_of_tests(data))
    held_out: list[str] = []
    train: list[str] = []
    counts: dict[str, dict[str, int]] = {}
    seen: set[tuple[str, ...]] = set()
    for source, documents in _sources(texts, data / "pubmedqa").items():
        kept = [_once(document, seen, forbidden) for document in documents]
        kept = [document for document in kept if document]
        counts[source] = {
            "documents": len(documents),
            "documents_kept": len(kept),
            "words": sum(len(document.split()) for document in documents),
            "words_kept": sum(len(document.split()) for document in kept),
        }
        held_out += kept[HELD_OUT_EVERY - 1 :: HELD_OUT_EVERY]
        train += [d for n, d in enumerate(kept, 1) if n % HELD_OUT_EVERY]
    assert_disjoint([*train, *held_out], forbidden)
    visits = read_primock57(texts / "primock57")
    other = [part for visit in visits for part in (visit.note, visit.dialogue)]
    return PretrainingText(train, held_out, other, counts)


def assert_disjoint(documents: Iterable[str], forbidden: Shingles) -> None:
    """Stop when a document shares a run of words with a test text.

    Raises:
        CorpusError: naming the number of documents, not their words.
    """
    found = sum(_shares(document, forbidden) for document in documents)
    if found:
        raise CorpusError(f"{found} documents share a passage with a test text")


def _shares(document: str, forbidden: Shingles) -> bool:
    return any(
        not forbidden.isdisjoint(runs_of(words_of(sentence)))
        for sentence in sentences(document)
    )


def _once(document: str, seen: set[tuple[str, ...]], forbidden: Shingles) -> str:
    """The document without sentences that occurred before or belong to a test."""
    kept = []
    for sentence in sentences(document):
        words = words_of(sentence)
        if len(words) >= SHORT and words in seen:
            continue
        if not forbidden.isdisjoint(runs_of(words)):
            continue
        seen.add(words)
        kept.append(sentence)
    return " ".join(kept)


def texts_of_tests(data: Path) -> list[str]:
    """All text of the test splits of the NER and question corpora."""
    texts = data / "texts"
    found = [
        document.text
        for corpus in (Corpus.BC5CDR, Corpus.NCBI)
        for document in read_pubtator(texts / corpus, corpus, "test")
    ]
    report = read_maccrobat(texts / Corpus.MACCROBAT)
    found += [document.text for document in report["test"]]
    questions = [
        *read_pubmedqa(data / "pubmedqa")["test"],
        *read_head_qa(texts / "head-qa-en", "test"),
        *read_head_qa(texts / "head-qa-en", "dev"),
    ]
    for subject in MMLU_SUBJECTS:
        questions += read_mmlu(texts / "mmlu-medical", subject)
    for question in questions:
        found += [question.question, *question.context]
    return found


def _with_answer(question: ChoiceQuestion) -> str:
    return f"{question.question} {question.options[question.answer]}"


def _sources(texts: Path, pubmedqa: Path) -> dict[str, list[str]]:
    """Documents by source, notes and reports before the large web text."""
    reports = read_maccrobat(texts / Corpus.MACCROBAT)
    aci = [
        visit
        for split in ("train", "dev")
        for visit in read_aci_bench(texts / "aci-bench", split)
    ]
    mts = [
        visit
        for split in ("train", "dev")
        for visit in read_mts_dialog(texts / "mts-dialog", split)
    ]
    found = {
        "maccrobat2020": [d.text for s in ("train", "dev") for d in reports[s]],
        "aci-bench": [t for visit in aci for t in (visit.note, visit.dialogue)],
        "mts-dialog": [t for visit in mts for t in (visit.note, visit.dialogue)],
        "pubmedqa": [
            "\n".join((question.question, *question.context))
            for question in read_pubmedqa(pubmedqa)["train"]
        ],
        "head-qa-en": [
            _with_answer(question)
            for question in read_head_qa(texts / "head-qa-en", "train")
            if not question.image
        ],
        "medquad": [
            f"{pair.question}\n{pair.answer}"
            for pair in read_medquad(texts / "medquad")
        ],
    }
    for corpus in (Corpus.BC5CDR, Corpus.NCBI):
        found[corpus] = [
            document.text
            for split in ("train", "dev")
            for document in read_pubtator(texts / corpus, corpus, split)
        ]
    return found
