"""Texts with marked entities, and what each corpus does and does not label.

A corpus that does not label a type says nothing about it: its texts are no negative
examples of that type. :data:`LABELLED` holds that mask, and training honours it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from model.errors import CorpusError


class EntityType(StrEnum):
    """The four kinds of entity that the text stream names."""

    DISEASE = "disease"
    SYMPTOM = "symptom"
    MEDICATION = "medication"
    TREATMENT = "treatment"


class Corpus(StrEnum):
    """Where a text comes from; each has its own annotation guideline."""

    MACCROBAT = "maccrobat2020"
    BC5CDR = "bc5cdr"
    NCBI = "ncbi-disease"
    SYNTHETIC = "synthetic"


#: Types that each corpus labels. BC5CDR's diseases hold symptoms too, and its
#: chemicals are not all drugs: the guideline differs, which the head is told.
LABELLED: Mapping[Corpus, frozenset[EntityType]] = {
    Corpus.MACCROBAT: frozenset(EntityType),
    Corpus.BC5CDR: frozenset({EntityType.DISEASE, EntityType.MEDICATION}),
    Corpus.NCBI: frozenset({EntityType.DISEASE}),
    Corpus.SYNTHETIC: frozenset({EntityType.SYMPTOM}),
}


@dataclass(frozen=True, slots=True, order=True)
class EntitySpan:
    """Characters ``start`` to ``end`` of a text, and what they name."""

    start: int
    end: int
    type: EntityType


@dataclass(frozen=True, slots=True)
class AnnotatedText:
    """One document with its entities, in order of their place.

    ``fragments`` counts discontinuous mentions, which were closed to one outer span.
    """

    name: str
    text: str
    spans: tuple[EntitySpan, ...]
    corpus: Corpus
    fragments: int = 0

    @property
    def labelled(self) -> frozenset[EntityType]:
        """The types that the document was annotated for."""
        return LABELLED[self.corpus]


def annotated(
    name: str,
    text: str,
    spans: Sequence[EntitySpan],
    corpus: Corpus,
    fragments: int = 0,
) -> AnnotatedText:
    """A document whose spans are sorted, distinct and inside its text.

    Raises:
        CorpusError: a span outside the text, empty, or of a type that the corpus does
            not label.
    """
    for span in spans:
        if not 0 <= span.start < span.end <= len(text):
            raise CorpusError(f"{corpus} {name}: span {span.start}-{span.end}")
        if span.type not in LABELLED[corpus]:
            raise CorpusError(f"{corpus} {name}: {span.type} is not labelled there")
    return AnnotatedText(name, text, tuple(sorted(set(spans))), corpus, fragments)


def without_overlap(spans: Sequence[EntitySpan]) -> list[EntitySpan]:
    """At most one span of a type at every place; of two, the longer, then the first.

    Tags of one type cannot nest. Spans of different types may share characters.
    """
    kept: list[EntitySpan] = []
    ranked = sorted(spans, key=lambda s: (s.start - s.end, s.start, s.type))
    for span in ranked:
        clash = any(
            other.type is span.type
            and other.start < span.end
            and span.start < other.end
            for other in kept
        )
        if not clash:
            kept.append(span)
    return sorted(kept)
