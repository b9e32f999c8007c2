"""Entity-level exact match: the strict figure that publications of NER quote.

A found span counts only with the annotated start, end and type. Everything else is an
error, sorted by kind: right place but another type, overlap with wrong bounds, spurious
or missed. Intervals are bootstrapped over documents, because the mentions of one
document are not independent.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.language.corpora.annotated import EntitySpan, EntityType

Spans = Iterable[EntitySpan]
ALL = "all"
_DRAWS = 1000


@dataclass(frozen=True, slots=True)
class EntityScore:
    """Counts of one type: right, found, annotated; and the measures they give.

    A measure without anything to measure (nothing found, nothing annotated) is 0.
    """

    right: int
    found: int
    annotated: int

    @property
    def precision(self) -> float:
        """Share of what was found that is right."""
        return self.right / self.found if self.found else 0.0

    @property
    def recall(self) -> float:
        """Share of what was annotated that was found."""
        return self.right / self.annotated if self.annotated else 0.0

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall."""
        total = self.found + self.annotated
        return 2 * self.right / total if total else 0.0


def counts(annotated: Spans, found: Spans, kind: EntityType | None) -> EntityScore:
    """Exact matches of one document; all types together for None."""
    truth = {s for s in annotated if kind in (None, s.type)}
    claimed = {s for s in found if kind in (None, s.type)}
    return EntityScore(len(truth & claimed), len(claimed), len(truth))


def score(
    annotated: Sequence[Spans],
    found: Sequence[Spans],
    types: Iterable[EntityType],
    *,
    seed: int = 0,
) -> dict[str, dict[str, float]]:
    """Strict scores over documents, by type and for all types together.

    Args:
        annotated: The truth, one collection of spans a document.
        found: What was found, in the same order.
        types: Types that the corpus labels; found spans of others are not counted.
        seed: Of the bootstrap.

    Returns:
        For each type, and for "all": precision, recall, f1, the 95 % interval of f1
        (f1_low, f1_high), and the counts.

    Raises:
        ValueError: as many documents in both are needed.
    """
    kinds = sorted(types)
    pairs = [
        ([s for s in truth if s.type in kinds], [s for s in claim if s.type in kinds])
        for truth, claim in zip(annotated, found, strict=True)
    ]
    result: dict[str, dict[str, float]] = {}
    for kind in (*kinds, None):
        rows = [counts(truth, claim, kind) for truth, claim in pairs]
        table = np.array([(r.right, r.found, r.annotated) for r in rows]).reshape(-1, 3)
        total = EntityScore(*(int(n) for n in table.sum(axis=0)))
        low, high = _interval(table, seed)
        result[str(kind or ALL)] = {
            "precision": total.precision,
            "recall": total.recall,
            "f1": total.f1,
            "f1_low": low,
            "f1_high": high,
            "right": total.right,
            "found": total.found,
            "annotated": total.annotated,
        }
    return result


def _interval(table: NDArray[Any], seed: int) -> tuple[float, float]:
    """2.5th and 97.5th percentile of f1 over documents drawn with replacement."""
    if not len(table):
        return 0.0, 0.0
    rng = np.random.default_rng(seed)
    draws = rng.multinomial(
        len(table), np.full(len(table), 1 / len(table)), size=_DRAWS
    )
    sums = draws @ table  # (draws, 3)
    f1 = 2 * sums[:, 0] / np.maximum(sums[:, 1] + sums[:, 2], 1)
    low, high = np.quantile(f1, [0.025, 0.975])
    return float(low), float(high)


def errors(annotated: Sequence[Spans], found: Sequence[Spans]) -> dict[str, int]:
    """How the wrong ones are wrong.

    Returns:
        "type": the bounds are right, the type is not; "bounds": overlaps a missed span
        of its type; "spurious": neither; "missed": annotated spans that no found span
        of the type touches.
    """
    total = {"type": 0, "bounds": 0, "spurious": 0, "missed": 0}
    for truth, claim in zip(annotated, found, strict=True):
        real, claimed = set(truth), set(claim)
        places = {(s.start, s.end) for s in real}
        for span in claimed - real:
            if (span.start, span.end) in places:
                total["type"] += 1
            elif any(_touch(span, other) for other in real):
                total["bounds"] += 1
            else:
                total["spurious"] += 1
        total["missed"] += sum(
            not any(_touch(span, other) for other in claimed) for span in real
        )
    return total


def _touch(one: EntitySpan, other: EntitySpan) -> bool:
    same = one.type is other.type
    return same and one.start < other.end and other.start < one.end
