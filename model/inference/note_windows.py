"""Notes to word pieces: whole where they fit, else the best overlapping windows.

The rule. All notes of a record, in their order, make one stream of word pieces with
[SEP] behind each note. A stream that fits a window is read whole. A longer one is cut
into windows that overlap by STRIDE pieces; each is scored by the mean weight of the
sections that its pieces stand in (SECTION_WEIGHT), and the best are read, in the order
of the text; between equals the earlier one. With one window only, the stream is read
from its start up to the limit. Sentences unlike all that the model has learnt to read
are blanked first, where the vocabulary can tell (:mod:`.familiar_text`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from fhir_adapters.patient_record import ClinicalNote, Section
from fhir_adapters.resources.sections import find_sections
from model.inference.familiar_text import readable
from model.inference.vocabulary import InputVocabulary
from model.network.inputs import SECTION_KINDS

STRIDE = 64

# First match in the lower-case title wins, so the narrower words come first.
_TITLES = (
    ("family", "family"),
    ("social", "background"),
    ("past", "background"),
    ("medical history", "background"),
    ("chief", "complaint"),
    ("reason", "complaint"),
    ("indication", "complaint"),
    ("presenting", "complaint"),
    ("medication", "medication"),
    ("treatment", "medication"),
    ("allerg", "allergy"),
    ("physical", "examination"),
    ("objective", "examination"),
    ("vital", "measurement"),
    ("lab", "measurement"),
    ("result", "measurement"),
    ("finding", "imaging"),
    ("imaging", "imaging"),
    ("radiolog", "imaging"),
    ("technique", "imaging"),
    ("comparison", "imaging"),
    ("impression", "assessment"),
    ("assessment", "assessment"),
    ("conclusion", "assessment"),
    ("diagnosis", "assessment"),
    ("interpretation", "assessment"),
    ("plan", "plan"),
    ("recommendation", "plan"),
    ("exam", "examination"),
    ("hpi", "history"),
    ("history", "history"),
    ("subjective", "history"),
)
SECTION_WEIGHT = {
    "complaint": 3.0,
    "assessment": 3.0,
    "history": 2.0,
    "imaging": 2.0,
    "examination": 2.0,
    "measurement": 1.5,
    "": 1.0,
    "background": 1.0,
    "plan": 1.0,
    "medication": 0.5,
    "allergy": 0.5,
    "family": 0.25,
}


@dataclass(slots=True)
class TextRow:
    """Word pieces of one record over all its notes, one list per tensor."""

    ids: list[int] = field(default_factory=list)
    word: list[int] = field(default_factory=list)
    start: list[int] = field(default_factory=list)
    end: list[int] = field(default_factory=list)
    note: list[int] = field(default_factory=list)
    section: list[int] = field(default_factory=list)
    window: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Piece:
    """One word piece: its word's number over all notes, and the word's characters."""

    number: int
    word: int
    start: int
    end: int
    note: int
    section: int = 0


def section_kind(title: str) -> str:
    """The kind of section a heading announces; empty for one we do not know."""
    low = title.lower()
    return next((kind for word, kind in _TITLES if word in low), "")


def text_row(notes: Sequence[ClinicalNote], vocabulary: InputVocabulary) -> TextRow:
    """[CLS] pieces [SEP] for each window read; empty when no note holds a word."""
    stream = _stream(notes, vocabulary)
    if all(piece.word < 0 for piece in stream):
        return TextRow()
    room = vocabulary.max_tokens - 1  # behind [CLS]
    if vocabulary.max_windows == 1 or len(stream) <= room:
        return _row([_first(stream, room)], vocabulary)
    return _row(
        [
            (*stream[start:stop], _end(stream[stop - 1], vocabulary))
            for start, stop in best_windows(
                [SECTION_WEIGHT[SECTION_KINDS[piece.section]] for piece in stream],
                room - 1,
                vocabulary.max_windows,
            )
        ],
        vocabulary,
    )


def best_windows(
    weights: Sequence[float], length: int, count: int
) -> list[tuple[int, int]]:
    """The windows to read, by the rule stated at the top of this module.

    Args:
        weights: Weight of each piece of the stream.
        length: Pieces of a window.
        count: Windows to keep.

    Returns:
        (first piece, piece behind the last) in the order of the text.
    """
    step = length - min(STRIDE, length // 2)
    starts = range(0, max(1, len(weights) - length + step), step)
    spans = [(start, min(start + length, len(weights))) for start in starts]
    ranked = sorted(
        spans,
        key=lambda span: (-sum(weights[slice(*span)]) / (span[1] - span[0]), span),
    )
    return sorted(ranked[:count])


def _stream(notes: Sequence[ClinicalNote], vocabulary: InputVocabulary) -> list[Piece]:
    """Every piece of every note, with [SEP] behind each note."""
    stream: list[Piece] = []
    words = 0
    for number, note in enumerate(notes):
        text = readable(note, vocabulary.known_pairs)
        encoded = vocabulary.tokenizer.encode(text, add_special_tokens=False)
        numbers = [0 if w is None else w for w in encoded.word_ids]
        spans = _word_spans(numbers, encoded.offsets)
        # a blanked sentence may have hidden a heading behind it on its line
        parts = note.sections if text == note.text else find_sections(text)
        kinds = _section_of(parts)
        for piece, word in zip(encoded.ids, numbers):
            start, end = spans[word]
            kind = next((k for a, b, k in kinds if a <= start < b), 0)
            stream.append(Piece(piece, words + word, start, end, number, kind))
        words += len(spans)
        stream.append(Piece(vocabulary.separator, -1, 0, 0, number))
    return stream


def _section_of(sections: Sequence[Section]) -> list[tuple[int, int, int]]:
    """(start, end, index into SECTION_KINDS) of a note's sections."""
    return [
        (part.start, part.end, SECTION_KINDS.index(section_kind(part.title)))
        for part in sections
    ]


def _first(stream: Sequence[Piece], room: int) -> tuple[Piece, ...]:
    """What fits from the start, the last place kept for the note's [SEP]."""
    if len(stream) <= room:
        return tuple(stream)
    kept = list(stream[: room - 1])
    last = kept[-1].note if kept else 0
    return (*kept, Piece(stream[-1].number, -1, 0, 0, last))


def _end(last: Piece, vocabulary: InputVocabulary) -> Piece:
    return Piece(vocabulary.separator, -1, 0, 0, last.note)


def _row(windows: Sequence[Sequence[Piece]], vocabulary: InputVocabulary) -> TextRow:
    row = TextRow()
    for number, pieces in enumerate(windows):
        first = Piece(vocabulary.classifier, -1, 0, 0, pieces[0].note)
        for piece in (first, *pieces):
            row.ids.append(piece.number)
            row.word.append(piece.word)
            row.start.append(piece.start)
            row.end.append(piece.end)
            row.note.append(piece.note)
            row.section.append(piece.section)
            row.window.append(number)
    return row


def _word_spans(
    words: Sequence[int], offsets: Sequence[tuple[int, int]]
) -> dict[int, tuple[int, int]]:
    """Characters of each word, from the characters of its pieces."""
    spans: dict[int, tuple[int, int]] = {}
    for word, (start, end) in zip(words, offsets):
        first, last = spans.get(word, (start, end))
        spans[word] = (min(first, start), max(last, end))
    return spans
