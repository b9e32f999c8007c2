"""An extractive summary: sentences of the note itself, never new words.

Score of a sentence = how much it says that the rest of the note says too (cosine of its
TF-IDF vector with the mean of all, the centroid method of Radev et al., 2004; less for
a sentence of fewer than four words that tell something), plus 0.15 for each asserted
mention in it (three at most), plus a bonus for its section (assessment, impression,
plan, diagnosis: 0.4; complaint, history of the illness, examination: 0.2), plus 0.2 for
the first sentence of a section, half of it for the second and so on, minus 0.6 times
its likeness to the sentence most like it that was chosen already (maximal marginal
relevance, Carbonell and Goldstein, 1998). A sentence that says the same as a chosen one
(likeness above 0.95: text that was copied on) is not chosen. Chosen sentences keep the
order of the note.

Mentions are entities where a tagger found some, else the words of the table of
:mod:`model.language.link_concepts`; denied ones count nothing.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from fhir_adapters.patient_record import Section
from model.explain.word_lists import STOP_WORDS
from model.language.entities.tagger import Entity
from model.language.link_concepts import concepts
from model.language.negation import is_negated
from model.language.sentences import sentence_bounds

ENTITY_BONUS, MOST_ENTITIES = 0.15, 3
REPEAT_PENALTY, SAME = 0.6, 0.95
FULL_SENTENCE = 4
FIRST_BONUS = 0.2
CONCLUDES, TELLS = 0.4, 0.2
SECTION_BONUS = {
    **dict.fromkeys(("assessment", "impression", "plan", "diagnosis"), CONCLUDES),
    **dict.fromkeys(("conclusion", "summary"), CONCLUDES),
    **dict.fromkeys(("complaint", "history of present", "hpi", "clinical his"), TELLS),
    **dict.fromkeys(("subjective", "exam", "objective", "arrival", "triage"), TELLS),
}
_WORD = re.compile(r"[^\W_]+")
Vector = dict[str, float]


@dataclass(frozen=True, slots=True)
class SummarySentence:
    """Characters ``start`` to ``end`` of the note, with the score that chose them."""

    start: int
    end: int
    score: float


def summarise(
    text: str,
    *,
    sections: Sequence[Section] = (),
    entities: Sequence[Entity] | None = None,
    limit: int = 3,
) -> list[SummarySentence]:
    """Choose at most ``limit`` sentences of a note.

    Args:
        text: The note.
        sections: Its headed parts, where known.
        entities: Its entities; None where no tagger looked for any.
        limit: Most sentences.

    Returns:
        Chosen sentences in the order of the note; none for a note without words.
    """
    bounds, places = _sentences(text, sections)
    vectors = _vectors([text[start:end] for start, end in bounds])
    middle: Counter[str] = Counter()
    for vector in vectors:
        middle.update(vector)
    scores = [
        _likeness(vector, middle) * min(1.0, len(vector) / FULL_SENTENCE)
        + _section_bonus(start, sections)
        + FIRST_BONUS / (1 + place)
        + ENTITY_BONUS * min(MOST_ENTITIES, _asserted(text, start, end, entities))
        for vector, (start, end), place in zip(vectors, bounds, places)
    ]
    chosen: dict[int, float] = {}
    open_places = [place for place, vector in enumerate(vectors) if vector]
    while open_places and len(chosen) < limit:
        gains = {
            place: scores[place]
            - REPEAT_PENALTY
            * max((_likeness(vectors[place], vectors[c]) for c in chosen), default=0.0)
            for place in open_places
        }
        best = max(open_places, key=lambda place: (gains[place], -place))
        chosen[best] = gains[best]
        open_places = [
            place
            for place in open_places
            if place != best and _likeness(vectors[place], vectors[best]) <= SAME
        ]
    return [SummarySentence(*bounds[place], chosen[place]) for place in sorted(chosen)]


def _sentences(
    text: str, sections: Sequence[Section]
) -> tuple[list[tuple[int, int]], list[int]]:
    """Bounds of sentences, and the number of each within its section.

    None crosses the end of a section; headings are left out.
    """
    bounds, places = [], []
    parts = [(section.start, section.end) for section in sections] or [(0, len(text))]
    for low, high in parts:
        for place, (start, end) in enumerate(sentence_bounds(text[low:high])):
            bounds.append((low + start, low + end))
            places.append(place)
    return bounds, places


def _vectors(passages: Sequence[str]) -> list[Vector]:
    """TF-IDF of each passage, function words left out, length 1."""
    counts = [
        Counter(w for w in _WORD.findall(p.lower()) if w not in STOP_WORDS)
        for p in passages
    ]
    holding = Counter(word for count in counts for word in count)
    vectors = []
    for count in counts:
        weights = {
            word: n * (1 + math.log(len(passages) / holding[word]))
            for word, n in count.items()
        }
        length = math.sqrt(sum(w * w for w in weights.values()))
        vectors.append({word: w / length for word, w in weights.items()})
    return vectors


def _likeness(one: Vector, other: Vector | Counter[str]) -> float:
    """Cosine; ``one`` has length 1 or holds nothing."""
    length = math.sqrt(sum(w * w for w in other.values()))
    shared = sum(weight * other.get(word, 0.0) for word, weight in one.items())
    return shared / length if length else 0.0


def _asserted(
    text: str, start: int, end: int, entities: Sequence[Entity] | None
) -> int:
    """Mentions of a sentence that are not denied."""
    if entities is not None:
        return sum(
            start <= entity.start and entity.end <= end and not entity.negated
            for entity in entities
        )
    named = (concept.words.search(text, start, end) for concept in concepts())
    return sum(
        found is not None and not is_negated(text, found.start(), found.end())
        for found in named
    )


def _section_bonus(start: int, sections: Sequence[Section]) -> float:
    for section in sections:
        if section.start <= start < section.end:
            title = section.title.lower()
            return max((b for w, b in SECTION_BONUS.items() if w in title), default=0.0)
    return 0.0
