"""A note cut into pieces: plain, marked word, section heading; pure.

The page shows the note as it was written. A mark's level (1 to 4) is the word's score
as a share of the strongest word of all notes; words that lower the estimate or carry
nothing stay unmarked.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from fhir_adapters.patient_record import ClinicalNote
from model.jobs.explanation import WordScore

LEVELS = 4
FAINTEST_SHARE = 0.1


@dataclass(frozen=True, slots=True)
class Piece:
    """A run of characters of the note; ``level`` 0 means unmarked."""

    text: str
    level: int = 0
    score: float = 0.0


def pieces(
    note: ClinicalNote, scores: Iterable[WordScore], strongest: float
) -> list[Piece]:
    """Cut ``note`` at its scored words.

    Args:
        note: the note; offsets of ``scores`` count its characters.
        scores: word scores of this note.
        strongest: the largest score over all notes; 0 marks nothing.
    """
    result: list[Piece] = []
    position = 0
    for word in sorted(scores, key=lambda s: s.start):
        share = word.score / strongest if strongest > 0 else 0.0
        inside = position <= word.start < word.end <= len(note.text)
        if share < FAINTEST_SHARE or not inside:
            continue
        if word.start > position:
            result.append(Piece(note.text[position : word.start]))
        level = min(LEVELS, 1 + int(share * LEVELS))
        result.append(Piece(note.text[word.start : word.end], level, word.score))
        position = word.end
    if position < len(note.text):
        result.append(Piece(note.text[position:]))
    return result
