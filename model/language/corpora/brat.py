"""MACCROBAT 2020: case reports with brat standoff annotations.

Of an ``.ann`` file only text-bound annotations count (``T1<TAB>Type start end<TAB>
mention``); events, relations, attributes, groups and comments are skipped. A
discontinuous mention (``start end;start end``) becomes its outer span and is counted.
Corpus: Caufield, figshare 9764942. Format: brat standoff, brat.nlplab.org.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from model.errors import CorpusError
from model.language.corpora.annotated import (
    AnnotatedText,
    Corpus,
    EntitySpan,
    EntityType,
    annotated,
)
from model.language.corpora.files import members

ARCHIVE = "MACCROBAT2020.zip"
_TYPES = {
    "Disease_disorder": EntityType.DISEASE,
    "Sign_symptom": EntityType.SYMPTOM,
    "Medication": EntityType.MEDICATION,
    "Therapeutic_procedure": EntityType.TREATMENT,
}
#: Shares of train and dev; the rest is test.
_TRAIN, _DEV = 0.7, 0.15


def read_maccrobat(folder: Path) -> dict[str, list[AnnotatedText]]:
    """All documents by split.

    No official split exists. Ours is by document, in the order of the MD5 digest of
    the document's name: the first 70 % train, the next 15 % dev, the rest test, so that
    it depends on the names alone (140, 30 and 30 of the 200 documents).

    Args:
        folder: Holds the archive, or the ``.txt`` and ``.ann`` files.

    Raises:
        CorpusError: a file is missing or a line breaks the format.
    """
    texts = {_stem(name): text for name, text in members(folder, ARCHIVE, ".txt")}
    marks = {_stem(name): text for name, text in members(folder, ARCHIVE, ".ann")}
    if texts.keys() != marks.keys():
        raise CorpusError(f"{folder.name}: texts and annotations do not pair up")
    ordered = sorted(texts, key=_digest)
    train = round(_TRAIN * len(ordered))
    dev = train + round(_DEV * len(ordered))
    parts = {
        "train": ordered[:train],
        "dev": ordered[train:dev],
        "test": ordered[dev:],
    }
    return {
        split: [read_standoff(name, texts[name], marks[name]) for name in sorted(names)]
        for split, names in parts.items()
    }


def _stem(name: str) -> str:
    return name.rsplit("/", 1)[-1].rsplit(".", 1)[0]


def _digest(name: str) -> str:
    return hashlib.md5(name.encode(), usedforsecurity=False).hexdigest()


def read_standoff(name: str, text: str, marks: str) -> AnnotatedText:
    """One document from its text and the lines of its ``.ann`` file.

    Raises:
        CorpusError: a malformed line, or offsets that miss their mention.
    """
    spans, fragments = [], 0
    for number, line in enumerate(marks.split("\n"), 1):
        if not line.startswith("T"):
            continue
        place = f"{name}.ann, line {number}"
        fields = line.split("\t", 2)  # a mention may hold a tab itself
        if len(fields) != 3:
            raise CorpusError(f"{place}: malformed annotation")
        kind, _, places = fields[1].partition(" ")
        if kind not in _TYPES:
            continue
        bounds = _bounds(places, place)
        mention = " ".join(text[start:end] for start, end in bounds)
        if _flat(mention) != _flat(fields[2]):
            raise CorpusError(f"{place}: offsets miss their mention")
        fragments += len(bounds) > 1
        outer = bounds[0][0], max(end for _, end in bounds)
        spans.append(EntitySpan(*outer, _TYPES[kind]))
    return annotated(name, text, spans, Corpus.MACCROBAT, fragments)


def _bounds(places: str, place: str) -> list[tuple[int, int]]:
    """``3 8;12 20`` as sorted pairs."""
    try:
        pairs = [part.split() for part in places.split(";")]
        return sorted((int(start), int(end)) for start, end in pairs)
    except ValueError as error:
        raise CorpusError(f"{place}: malformed offsets") from error


def _flat(text: str) -> str:
    """White space made even: a mention may run over a line end."""
    return " ".join(text.split())
