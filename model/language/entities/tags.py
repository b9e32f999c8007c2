"""Spans as tags and back: begin, inside, outside, for each type on its own.

Every type has tags of its own, so spans of two types may share words, and a type that
a corpus does not label can be left out of the loss without touching the others.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from model.language.corpora.annotated import (
    EntitySpan,
    EntityType,
    without_overlap,
)

OUTSIDE, BEGIN, INSIDE = 0, 1, 2
#: Tag of a word that no loss counts.
UNKNOWN = -100
TYPES = tuple(EntityType)
Floats = NDArray[np.float64]
Tags = NDArray[np.int64]


def encode(
    words: Sequence[tuple[int, int]],
    spans: Sequence[EntitySpan],
    labelled: frozenset[EntityType],
) -> Tags:
    """Tags of words.

    A span covers every word that it touches, so a boundary inside a word moves out to
    the word's own. Of overlapping spans of one type the longer one is kept.

    Args:
        words: Character bounds, in order.
        spans: What was annotated.
        labelled: Types of which a missing span means that there is none.

    Returns:
        (W, T) tags; :data:`UNKNOWN` in the columns of types not labelled.
    """
    tags = np.full((len(words), len(TYPES)), UNKNOWN, dtype=np.int64)
    for column, kind in enumerate(TYPES):
        if kind in labelled:
            tags[:, column] = OUTSIDE
    for span in without_overlap(spans):
        column, tag = TYPES.index(span.type), BEGIN
        for row, (start, end) in enumerate(words):
            if start < span.end and span.start < end:
                tags[row, column] = tag
                tag = INSIDE
    return tags


def best_tags(logits: Floats) -> Tags:
    """Most probable tags (W,) of one type in which INSIDE never follows OUTSIDE.

    The best path, not the best tag of each word (Viterbi).

    Args:
        logits: (W, 3) scores of the words in order.
    """
    if not len(logits):
        return np.zeros(0, dtype=np.int64)
    peak = logits.max(axis=1, keepdims=True)
    scores = logits - peak - np.log(np.exp(logits - peak).sum(axis=1, keepdims=True))
    allowed = np.zeros((3, 3))
    allowed[OUTSIDE, INSIDE] = -np.inf
    path = scores[0].copy()
    path[INSIDE] = -np.inf
    back = np.zeros(scores.shape, dtype=np.int64)
    for row in range(1, len(scores)):
        ways = path[:, None] + allowed  # (from, to)
        back[row] = ways.argmax(axis=0)
        path = ways.max(axis=0) + scores[row]
    tags = np.zeros(len(scores), dtype=np.int64)
    tags[-1] = path.argmax()
    for row in range(len(scores) - 1, 0, -1):
        tags[row - 1] = back[row, tags[row]]
    return tags


def decode(
    words: Sequence[tuple[int, int]], tags: Tags, kind: EntityType
) -> list[tuple[EntitySpan, int, int]]:
    """Spans of one type with their first word and the one after their last.

    An INSIDE without a BEGIN before it starts a span of its own.
    """
    found: list[tuple[int, int]] = []
    before = OUTSIDE
    for place, tag in enumerate(tags):
        if tag == BEGIN or (tag == INSIDE and before == OUTSIDE):
            found.append((place, place + 1))
        elif tag == INSIDE:
            found[-1] = (found[-1][0], place + 1)
        before = int(tag)
    return [
        (EntitySpan(words[first][0], words[end - 1][1], kind), first, end)
        for first, end in found
    ]
