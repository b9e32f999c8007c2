"""Synthetic notes as an annotated corpus: what the generator planted is the truth.

Passages planted for severity or syndrome and denied findings are symptoms; relatives'
illnesses and irrelevant facts are decoys that no span must cover.
"""

from __future__ import annotations

from collections.abc import Sequence

from model.language.corpora.annotated import (
    AnnotatedText,
    Corpus,
    EntitySpan,
    EntityType,
    annotated,
)
from model.synthetic.case import SpanKind, SynthCase

SYMPTOM_KINDS = frozenset({SpanKind.SEVERITY, SpanKind.SYNDROME, SpanKind.NEGATED})


def planted_texts(cases: Sequence[SynthCase]) -> list[AnnotatedText]:
    """The note of each case with its planted spans."""
    return [
        annotated(
            case.case_id,
            case.note.text,
            [
                EntitySpan(span.start, span.end, EntityType.SYMPTOM)
                for span in case.note.spans
                if span.kind in SYMPTOM_KINDS
            ],
            Corpus.SYNTHETIC,
        )
        for case in cases
    ]
