"""Thresholds with a finite-sample guarantee, and what they leave undecided.

Conformal risk control (Angelopoulos et al. 2022) with the share of missed cases as the
risk: with n exchangeable held-out positives, the threshold below which at most
``floor(alpha (n + 1)) - 1`` of them lie misses a fresh positive with probability of at
most ``alpha``, whatever the model and however few the cases. The same from the other
side bounds the false alarms; between the two, both outcomes belong to the set.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

MISSED_SHARE = 0.10  # at most this share of either outcome is missed
UNGUARANTEED = 0.5  # with fewer than 9 positives nothing can be guaranteed


@dataclass(frozen=True, slots=True)
class ConformalSet:
    """Which outcomes a probability is compatible with, for one label and pattern.

    "Yes" belongs to the set from ``positive_from`` on, "no" below ``negative_below``;
    each holds the true outcome with probability 0.9 or more.
    """

    positive_from: float
    negative_below: float

    def ambiguous(self, probability: float) -> bool:
        """True where both outcomes belong to the set."""
        return self.positive_from <= probability < self.negative_below


def conformal_threshold(probabilities: Floats, targets: Floats) -> float:
    """The largest threshold that misses at most 10 % of positives, guaranteed.

    Args:
        probabilities: (n,) calibrated.
        targets: (n,) in {0, 1}.

    Returns:
        Rounded down to four digits, so that the guarantee survives the rounding; 0.5
        where there are too few positives for one.
    """
    found = _lowest_kept(probabilities[targets > 0.5])
    return UNGUARANTEED if found is None else found


def conformal_set(probabilities: Floats, targets: Floats) -> ConformalSet | None:
    """Both thresholds; None where either outcome is too rare for a guarantee.

    Args:
        probabilities: (n,) calibrated.
        targets: (n,) in {0, 1}.
    """
    low = _lowest_kept(probabilities[targets > 0.5])
    high = _lowest_kept(-probabilities[targets <= 0.5])
    if low is None or high is None:
        return None
    # "No" is kept at -high itself, and the comparison is a strict one.
    return ConformalSet(low, round(-high + 1e-4, 4))


def _lowest_kept(scores: Floats) -> float | None:
    """The threshold at or above which enough scores lie, None without a guarantee."""
    ordered = np.sort(scores)
    allowed = int(np.floor(MISSED_SHARE * (len(ordered) + 1))) - 1
    if allowed < 0:
        return None
    return float(np.floor(ordered[allowed] * 1e4) / 1e4)
