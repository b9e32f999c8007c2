"""BC5CDR and the NCBI disease corpus: PubTator text and, for BC5CDR, BioC XML.

PubTator: ``PMID|t|title``, ``PMID|a|abstract``, then tab-separated annotations (start,
end, mention, type, id) with offsets into title, one space and abstract, and relations,
which are skipped. Documents are parted by blank lines. Format: Wei, Kao and Lu,
PubTator, Nucleic Acids Research 2013; BioC: Comeau et al., Database 2013.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

from model.errors import CorpusError
from model.language.corpora.annotated import (
    AnnotatedText,
    Corpus,
    EntitySpan,
    EntityType,
    annotated,
)
from model.language.corpora.files import find_file, parse_xml, read_text

SPLITS = ("train", "dev", "test")
_FILES = {
    Corpus.BC5CDR: {
        "train": "CDR_TrainingSet.PubTator.txt",
        "dev": "CDR_DevelopmentSet.PubTator.txt",
        "test": "CDR_TestSet.PubTator.txt",
    },
    Corpus.NCBI: {
        "train": "NCBItrainset_corpus.txt",
        "dev": "NCBIdevelopset_corpus.txt",
        "test": "NCBItestset_corpus.txt",
    },
}
_TYPES = {
    Corpus.BC5CDR: {
        "Chemical": EntityType.MEDICATION,
        "Disease": EntityType.DISEASE,
    },
    # The usual setting: the four classes of the corpus are one type.
    Corpus.NCBI: dict.fromkeys(
        ("SpecificDisease", "Modifier", "DiseaseClass", "CompositeMention"),
        EntityType.DISEASE,
    ),
}
_TITLE = re.compile(r"(\d+)\|t\|(.*)")
_ABSTRACT = re.compile(r"(\d+)\|a\|(.*)")


def read_pubtator(folder: Path, corpus: Corpus, split: str) -> list[AnnotatedText]:
    """One split of BC5CDR or of the NCBI disease corpus.

    A PubMed id that occurs twice is kept once, at its first place.

    Args:
        folder: Holds the files under their published names, plain or gzip.
        corpus: Corpus.BC5CDR or Corpus.NCBI.
        split: "train", "dev" or "test".

    Raises:
        CorpusError: a file is missing or a line breaks the format.
    """
    path = find_file(folder, _FILES[corpus][split])
    documents: dict[str, AnnotatedText] = {}
    for number, block in _blocks(read_text(path)):
        # The second copy of the one repeated NCBI abstract has wrong offsets.
        if block[0].split("|", 1)[0] not in documents:
            document = _document(block, corpus, f"{path.name}, line {number}")
            documents[document.name] = document
    if not documents:
        raise CorpusError(f"{path.name} holds no document")
    return list(documents.values())


def _blocks(text: str) -> Iterator[tuple[int, list[str]]]:
    """Runs of lines that are not blank, with the number of the first."""
    block: list[str] = []
    for number, line in enumerate([*text.split("\n"), ""], 1):
        if line.strip():
            block.append(line)
        elif block:
            yield number - len(block), block
            block = []


def _document(block: list[str], corpus: Corpus, place: str) -> AnnotatedText:
    """Title, abstract and annotations of one document."""
    if len(block) < 2:
        raise CorpusError(f"{place}: no title and abstract")
    title, abstract = _TITLE.fullmatch(block[0]), _ABSTRACT.fullmatch(block[1])
    if not title or not abstract or title[1] != abstract[1]:
        raise CorpusError(f"{place}: no title and abstract")
    text = f"{title[2]} {abstract[2]}"
    spans = []
    for line in block[2:]:
        fields = line.split("\t")
        if len(fields) == 4:  # a relation
            continue
        spans.append(_span(fields, text, corpus, place))
    return annotated(title[1], text, spans, corpus)


def _span(fields: list[str], text: str, corpus: Corpus, place: str) -> EntitySpan:
    """One annotation; its offsets must reproduce its mention."""
    try:
        start, end, mention = int(fields[1]), int(fields[2]), fields[3]
        kind = _TYPES[corpus][fields[4]]
    except (IndexError, ValueError, KeyError) as error:
        raise CorpusError(f"{place}: malformed annotation") from error
    found = text[start:end]
    if found.split() != mention.split() or not found.strip():
        raise CorpusError(f"{place}: offsets {start}-{end} miss their mention")
    # One mention of the NCBI corpus ends in a blank; no scorer should ask for it.
    return EntitySpan(start, end - len(found) + len(found.rstrip()), kind)


def read_bioc(path: Path) -> list[AnnotatedText]:
    """BC5CDR in BioC XML: the same documents as the PubTator files.

    Passages are joined at their own offsets, so a span's offsets stay as annotated.

    Raises:
        CorpusError: not BioC, or offsets that miss their mention.
    """
    root = parse_xml(read_text(path), path.name)
    if root.tag != "collection":
        raise CorpusError(f"{path.name} is no BioC collection")
    return [_bioc_document(item, path.name) for item in root.iter("document")]


def _bioc_document(item: ElementTree.Element, place: str) -> AnnotatedText:
    name, text = _content(item, "id", place), ""
    spans: list[EntitySpan] = []
    for passage in item.iter("passage"):
        offset = _number(_content(passage, "offset", place), place)
        if offset < len(text):
            raise CorpusError(f"{place}: document {name}: passages overlap")
        text = text.ljust(offset) + (passage.findtext("text") or "")
        for mark in passage.iter("annotation"):
            spans += _bioc_spans(mark, place)
    for span in spans:
        if not 0 <= span.start < span.end <= len(text):
            raise CorpusError(f"{place}: document {name}: offset outside the text")
    return annotated(name, text, spans, Corpus.BC5CDR)


def _bioc_spans(mark: ElementTree.Element, place: str) -> list[EntitySpan]:
    """The outer span of one annotation; none for types that are not entities."""
    kinds = {infon.get("key"): infon.text for infon in mark.iter("infon")}
    kind = _TYPES[Corpus.BC5CDR].get(kinds.get("type") or "")
    if kind is None:
        return []
    bounds = []
    for location in mark.iter("location"):
        start = _number(location.get("offset"), place)
        bounds += [start, start + _number(location.get("length"), place)]
    if not bounds:
        raise CorpusError(f"{place}: annotation without location")
    return [EntitySpan(min(bounds), max(bounds), kind)]


def _content(item: ElementTree.Element, tag: str, place: str) -> str:
    text = item.findtext(tag)
    if not text:
        raise CorpusError(f"{place}: no {tag}")
    return text


def _number(text: str | None, place: str) -> int:
    try:
        return int(text or "")
    except ValueError as error:
        raise CorpusError(f"{place}: an offset is no number") from error
