"""Which phrase, which section: word relevance put together where language is.

A contextual encoder spreads the evidence of a phrase over its tokens unevenly: the word
that holds most of it is often not the word a reader would mark. So relevance is read
per phrase, a run of words between two marks of punctuation, from two sides:

- the word's signed share of the logit (integrated gradients along all coalitions);
- the change of the logit when the word alone is masked, everything present.

The first divides what the note contributed and finds words that say the same as others;
the second finds words that the estimate hangs on. The weight of a phrase is the mean
over its words of both, each as a fraction of its largest. ``explain-report`` measures
it against planted words.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fhir_adapters.patient_record import ClinicalNote
from model.explain.attribution import Question, says_something
from model.jobs.explanation import PhraseScore, SectionScore
from model.network.inputs import TEXT

BREAKS = frozenset(".;:,!?\n")
ROWS = 128  # most masked notes in one batch


@dataclass(frozen=True, slots=True)
class NoteWord:
    """One word of a note: its place, its pieces, and what it is worth.

    ``share`` is its signed share of the logit, ``weight`` its importance in [0, 1];
    ``phrase`` numbers the phrases of the record in reading order.
    """

    note: int
    start: int
    end: int
    says: bool
    phrase: int
    share: float
    weight: float


def note_words(
    question: Question, text_gradient: Tensor, text: Sequence[str]
) -> tuple[NoteWord, ...]:
    """All words that the model read, in reading order.

    Args:
        question: The case.
        text_gradient: (1, Nt, D) from ``text_path_gradient``.
        text: The note texts, in the order of the inputs' notes.
    """
    places, pieces = _places(question)
    if not places:
        return ()
    relevance = (text_gradient * question.tokens.text).sum(-1)[0].double().cpu()
    share = [float(relevance[p].sum()) for p in pieces]
    raised = [float(relevance[p].clamp(min=0).sum()) for p in pieces]
    says = [says_something(text[note][start:end]) for note, start, end in places]
    raised = [r if s else 0.0 for r, s in zip(raised, says)]
    change = [abs(c) if s else 0.0 for c, s in zip(_left_out(question, pieces), says)]
    most, moved = max(raised) or 1.0, max(change) or 1.0
    phrases = _phrase_numbers(places, text)
    return tuple(
        NoteWord(
            note=note,
            start=start,
            end=end,
            says=says[w],
            phrase=phrases[w],
            share=share[w],
            weight=(raised[w] / most + change[w] / moved) / 2,
        )
        for w, (note, start, end) in enumerate(places)
    )


def _places(
    question: Question,
) -> tuple[list[tuple[int, int, int]], list[list[int]]]:
    """(note, start, end) of each word, and the tokens that spell it."""
    inputs = question.inputs
    kept = (question.tokens.text_mask[0] & (inputs.word[0] >= 0)).tolist()
    columns = zip(
        kept,
        inputs.note[0].tolist(),
        inputs.word_start[0].tolist(),
        inputs.word_end[0].tolist(),
    )
    found: dict[tuple[int, int, int], list[int]] = {}
    for token, (keep, note, start, end) in enumerate(columns):
        if keep:
            found.setdefault((note, start, end), []).append(token)
    places = sorted(found)
    return places, [found[place] for place in places]


def _left_out(question: Question, pieces: Sequence[Sequence[int]]) -> list[float]:
    """Change of the raw logit when each word's tokens are masked, (words,)."""
    changes: list[float] = []
    whole = question.tokens.text_mask  # (1, Nt)
    with torch.no_grad():
        output = question.model.fuse(question.tokens, question.present)
        everything = float(output.logits[0, question.column])
        for first in range(0, len(pieces), ROWS):
            part = pieces[first : first + ROWS]
            mask = whole.repeat(len(part), 1)  # (R, Nt)
            for row, tokens in enumerate(part):
                mask[row, list(tokens)] = False
            repeated = replace(question.tokens.repeat(len(part)), text_mask=mask)
            present = question.present.repeat(len(part), 1)  # (R, 3)
            present[:, TEXT] &= mask.any(1)
            logits = question.model.fuse(repeated, present).logits  # (R, C)
            changes += (everything - logits[:, question.column].double()).tolist()
    return changes


def _phrase_numbers(
    places: Sequence[tuple[int, int, int]], text: Sequence[str]
) -> list[int]:
    """Number of each word's phrase: a new one after punctuation and in a new note."""
    numbers = [0]
    for (note, start, _), (other, begin, _) in zip(places, places[1:]):
        gap = text[note][start:begin] if note == other else "\n"
        numbers.append(numbers[-1] + (not BREAKS.isdisjoint(gap)))
    return numbers


def phrase_scores(
    words: Sequence[NoteWord], references: Sequence[str]
) -> tuple[PhraseScore, ...]:
    """Phrases with at least one word that says something, in reading order.

    Args:
        words: From :func:`note_words`.
        references: The notes' references, in the order of the inputs' notes.
    """
    phrases: dict[int, list[NoteWord]] = {}
    for word in words:
        phrases.setdefault(word.phrase, []).append(word)
    scores = []
    for members in phrases.values():
        telling = [word.weight for word in members if word.says]
        if telling:
            scores.append(
                PhraseScore(
                    reference=references[members[0].note],
                    start=members[0].start,
                    end=members[-1].end,
                    score=round(sum(word.share for word in members), 6),
                    weight=round(sum(telling) / len(telling), 6),
                )
            )
    return tuple(scores)


def section_scores(
    words: Sequence[NoteWord], notes: Sequence[ClinicalNote]
) -> tuple[SectionScore, ...]:
    """Share of the logit of each headed section; a note without any is one section.

    Args:
        words: From :func:`note_words`.
        notes: In the order of the inputs' notes.
    """
    scores = []
    for number, note in enumerate(notes):
        parts = [(s.title, s.start, s.end) for s in note.sections]
        for title, start, end in parts or [("", 0, len(note.text))]:
            inside = [
                word.share
                for word in words
                if word.note == number and start <= word.start < end
            ]
            if inside:
                total = round(sum(inside), 6)
                reference = note.provenance.reference
                scores.append(SectionScore(reference, title, start, end, total))
    return tuple(scores)
