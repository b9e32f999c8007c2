"""What modalities say together, and whether one of them speaks for all.

The Harsanyi dividend of a group is what it adds beyond all of its parts; a modality's
Shapley value is the sum of its groups' dividends, each divided evenly. Negative pairs
mean that two modalities say the same, a positive triple that only all three together
tell something.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from model.explain.attribution import CoalitionValues
from model.jobs.explanation import Dividend, ModalityShare
from model.network.inputs import MODALITIES

#: Above this share of one modality the report raises an alert. Three equal ones have
#: a third each; at 0.7 the two others together hold less than half of the largest.
DOMINANCE_LIMIT = 0.7
_GROUPS = (3, 5, 6, 7)  # bits of the pairs and of the triple, in PATTERNS order


@dataclass(frozen=True, slots=True)
class Dominance:
    """The largest modality of one label over many cases, and its share."""

    index: float
    modality: str
    alert: bool


def dividend(values: Sequence[float], group: int) -> float:
    """Harsanyi dividend of a group (as bits) in a game of 8 values.

    Args:
        values: Worth of each coalition, in PATTERNS order.
        group: Bits of its members.
    """
    total = 0.0
    for part in range(8):
        if part & group == part:
            sign = (-1) ** (group.bit_count() - part.bit_count())
            total += sign * values[part]
    return total


def dividends(values: CoalitionValues) -> tuple[Dividend, ...]:
    """The three pairs and the triple, on the calibrated logit and the probability."""
    return tuple(
        Dividend(
            modalities=tuple(n for m, n in enumerate(MODALITIES) if group >> m & 1),
            logit=dividend(values.logit, group),
            probability=dividend(values.probability, group),
        )
        for group in _GROUPS
    )


def dominance_of(shares: Sequence[ModalityShare]) -> float | None:
    """Share of the largest modality in the absolute contributions of one case."""
    size = [abs(share.logit) for share in shares]
    return max(size) / sum(size) if sum(size) > 0 else None


def dominance(
    cases: Sequence[Sequence[ModalityShare]], limit: float = DOMINANCE_LIMIT
) -> Dominance | None:
    """Share of the summed absolute Shapley values that one modality holds.

    Args:
        cases: Shares of one label, case by case.
        limit: Above it there is an alert.

    Returns:
        None where no modality ever moved the estimate.
    """
    size = dict.fromkeys(MODALITIES, 0.0)
    for shares in cases:
        for share in shares:
            size[share.modality] += abs(share.logit)
    total = sum(size.values())
    if total <= 0:
        return None
    largest = max(size, key=lambda name: size[name])
    index = size[largest] / total
    return Dominance(index, largest, index > limit)
