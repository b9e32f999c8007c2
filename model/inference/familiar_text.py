"""Sentences that are unlike all that the model has learnt to read are not read.

A note may hold what no clinician wrote for a reader: an instruction to the reader's
software, a remark that presses for an answer. A small language model has no idea of
such text and moves anyway. What it does know is which words follow each other in the
notes that it was trained on; a sentence in which nearly no pair of neighbouring words
is among them (a novelty score over word bigrams) is blanked before the note becomes
tokens. Characters keep their places, and the record says which were left out.

The detector is fitted on training notes alone. It has seen no example of what it is
meant to stop, so it does not depend on the wording of one; it also leaves out honest
sentences of a style that is foreign to the model, which then rests on the remainder.
What it cannot stop is a lie told in the model's own words.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from fhir_adapters.patient_record import (
    ClinicalNote,
    Modality,
    ModalityState,
    ModalityStatus,
    PatientRecord,
    Skip,
)

REASON = "foreign_text"
#: A sentence with fewer words is always read: too few pairs to judge by.
FEWEST_WORDS = 4
#: Share of unknown pairs from which on a sentence is foreign.
FOREIGN_SHARE = 0.75

Follows = tuple[tuple[str, tuple[str, ...]], ...]
Known = Mapping[str, frozenset[str]]

_WORD = re.compile(r"[A-Za-z]+|[0-9]+(?:[.,/][0-9]+)*")
_SENTENCE = re.compile(r"[^.!?\n]+[.!?]*")
_NUMBER = "0"  # all numbers are one word


def fit_follows(notes: Iterable[str]) -> Follows:
    """For each word of the notes, in order, the words that came after it."""
    after: dict[str, set[str]] = {}
    for note in notes:
        for start, end in sentences(note):
            for first, second in _pairs(note[start:end]):
                after.setdefault(first, set()).add(second)
    return tuple((word, tuple(sorted(after[word]))) for word in sorted(after))


def sentences(text: str) -> list[tuple[int, int]]:
    """Start and end of every sentence; a line's end is one, too."""
    return [found.span() for found in _SENTENCE.finditer(text)]


def strangeness(sentence: str, known: Known) -> float:
    """Share of neighbouring words that never stood so in a training note.

    Args:
        sentence: Any text; 0 where it has fewer than FEWEST_WORDS words.
        known: Word to the words that may follow it.
    """
    pairs = _pairs(sentence)
    if len(pairs) + 1 < FEWEST_WORDS:
        return 0.0
    return sum(b not in known.get(a, ()) for a, b in pairs) / len(pairs)


def foreign_spans(text: str, known: Known) -> list[tuple[int, int]]:
    """Sentences that are not read; none where nothing was learnt to compare with."""
    if not known:
        return []
    return [
        (start, end)
        for start, end in sentences(text)
        if strangeness(text[start:end], known) >= FOREIGN_SHARE
    ]


def blanked(text: str, spans: Sequence[tuple[int, int]]) -> str:
    """The text with spaces in these places: nothing else moves."""
    for start, end in spans:
        text = text[:start] + " " * (end - start) + text[end:]
    return text


def readable(note: ClinicalNote, known: Known) -> str:
    """The text of a note as the model reads it."""
    return blanked(note.text, foreign_spans(note.text, known))


def _pairs(sentence: str) -> list[tuple[str, str]]:
    words = [
        _NUMBER if word[0].isdigit() else word.lower()
        for word in _WORD.findall(sentence)
    ]
    return list(zip(words, words[1:]))


def without_foreign_text(record: PatientRecord, known: Known) -> PatientRecord:
    """The record with a note of what is not read; the texts themselves stay whole.

    Args:
        record: As received.
        known: Word to the words that may follow it; empty where nothing was learnt.

    Returns:
        The record itself where all is read; else one with a skipped item per note
        (how many sentences, no word of them) and, where no sentence of any note is
        left, the modality unreadable.
    """
    left = {id(note): foreign_spans(note.text, known) for note in record.notes if known}
    if not any(left.values()):
        return record
    skips = tuple(
        Skip(note.provenance.reference, REASON, f"{len(left[id(note)])} sentences")
        for note in record.notes
        if left[id(note)]
    )
    states = dict(record.states)
    if not any(blanked(n.text, left[id(n)]).strip() for n in record.notes):
        states[Modality.TEXT] = ModalityState(ModalityStatus.UNREADABLE, REASON)
    return replace(record, states=states, skipped=(*record.skipped, *skips))
