"""What a summary keeps, on synthetic notes whose telling passages are planted.

A summary of a few sentences is scored by the share of the note's asserted passages on
severity and syndrome that stand in it, beside the first and beside random sentences of
the same note, as many of them; and by the share of its characters.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from model.language.entities.tagger import Entity
from model.language.sentences import sentence_bounds
from model.language.summary import summarise
from model.synthetic.case import SpanKind, SynthCase
from model.synthetic.generate import generate
from model.synthetic.latents import Split

LIMIT = 3
_IMAGE_SIZE = 32
_TELLING = frozenset({SpanKind.SEVERITY, SpanKind.SYNDROME})
Bounds = tuple[int, int]
Finder = Callable[[SynthCase], Sequence[Entity]]


def summary_report(
    count: int, seed: int, find: Finder | None = None, *, limit: int = LIMIT
) -> dict[str, Any]:
    """Score summaries of synthetic test notes.

    Args:
        count: Notes.
        seed: Of the notes and of the random sentences.
        find: Entities of a note, to prefer sentences that assert some.
        limit: Sentences a summary.

    Returns:
        ``notes``, ``seed``, ``limit``; ``kept`` by way (summary, first sentences,
        random sentences) and ``length``, the share of the note's characters, both as
        shares of 1 over all notes.
    """
    rng = np.random.default_rng(seed)
    kept = {"summary": 0, "first sentences": 0, "random sentences": 0}
    told = dict.fromkeys(kept, 0)
    passages = characters = 0
    for case in generate(count, seed, "P0", _IMAGE_SIZE, Split.TEST):
        whole = [
            (part.start + start, part.start + end)
            for part in case.note.sections
            for start, end in sentence_bounds(case.note.text[part.start : part.end])
        ]
        order = rng.permutation(len(whole))[:limit]
        found = summarise(
            case.note.text,
            sections=case.note.sections,
            entities=find(case) if find else None,
            limit=limit,
        )
        ways = {
            "summary": [(each.start, each.end) for each in found],
            "first sentences": whole[:limit],
            "random sentences": [whole[place] for place in order],
        }
        planted = telling(case)
        passages += len(planted)
        characters += len(case.note.text)
        for way, chosen in ways.items():
            kept[way] += sum(_within(place, chosen) for place in planted)
            told[way] += sum(end - start for start, end in chosen)
    return {
        "notes": count,
        "seed": seed,
        "limit": limit,
        "passages": passages,
        "kept": {way: n / max(1, passages) for way, n in kept.items()},
        "length": {way: n / max(1, characters) for way, n in told.items()},
    }


def telling(case: SynthCase) -> list[Bounds]:
    """Asserted passages that were planted for severity or syndrome."""
    return [
        (span.start, span.end)
        for span in case.note.spans
        if span.kind in _TELLING and span.state != "low"
    ]


def _within(place: Bounds, chosen: Sequence[Bounds]) -> bool:
    return any(start <= place[0] and place[1] <= end for start, end in chosen)
