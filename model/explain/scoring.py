"""The arithmetic of explanation measures: arrays in, plain numbers out.

Nothing here knows the model, so that every measure can be checked by hand.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

#: Shares of the words taken away or kept (DeYoung et al. 2020, ERASER).
WORD_SHARES = (0.01, 0.05, 0.10, 0.20, 0.50)
TOP_SHARE = 0.15


def upsampled(grid: Sequence[Sequence[float]], shape: tuple[int, int]) -> Floats:
    """A patch grid drawn over the film's pixels (H, W), bilinear, as it is shown."""
    small = Image.fromarray(np.asarray(grid, dtype=np.float32))
    height, width = shape
    large = small.resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(large, dtype=np.float64)


def pointing_hit(heat: Floats, mask: Flags) -> bool:
    """Whether the highest point lies inside the mask (Zhang et al. 2018)."""
    return bool(mask.ravel()[int(heat.argmax())])


def mass_inside(heat: Floats, mask: Flags) -> float:
    """Share of the map's mass inside the mask; 0 for an empty map."""
    total = float(heat.sum())
    return float(heat[mask].sum()) / total if total > 0 else 0.0


def top_overlap(heat: Floats, mask: Flags, share: float = TOP_SHARE) -> float:
    """Intersection over union of the mask and the map's top share of the pixels."""
    count = max(1, round(share * heat.size))
    top = np.zeros(heat.size, dtype=np.bool_)
    top[np.argsort(-heat, axis=None, kind="stable")[:count]] = True
    inside = mask.ravel()
    union = int((top | inside).sum())
    return int((top & inside).sum()) / union


def average_precision(truth: Sequence[bool], score: Sequence[float]) -> float | None:
    """Area under precision and recall; ties count as the share of hits among them.

    None without a hit and without a miss.
    """
    hits = np.asarray(truth, dtype=np.float64)
    if not 0 < hits.sum() < len(hits):
        return None
    values, group = np.unique(-np.asarray(score, dtype=np.float64), return_inverse=True)
    found = np.cumsum(np.bincount(group, weights=hits, minlength=len(values)))
    taken = np.cumsum(np.bincount(group, minlength=len(values)))
    gained = np.diff(np.concatenate([[0.0], found])) / hits.sum()
    return float((gained * found / taken).sum())


def removal_area(shares: Sequence[float], values: Sequence[float]) -> float:
    """Area under a curve of mean estimates, scaled from its end (0) to its start (1).

    For deletion: 1 where nothing happens until all is gone, 0 where the first step does
    it all. For insertion read the curve from the blurred film: 0 at its start.

    Args:
        shares: Share of the pixels changed, from 0 to 1.
        values: Mean estimate after each change.
    """
    curve = np.asarray(values, dtype=np.float64)
    span = curve[0] - curve[-1]
    if abs(span) < 1e-9:
        return 1.0
    return float(np.trapezoid((curve - curve[-1]) / span, np.asarray(shares)))


def rank_correlation(a: Sequence[float], b: Sequence[float]) -> float:
    """Spearman's correlation with mean ranks for ties; 0 where one side is constant."""
    x, y = _ranks(np.asarray(a, float)), _ranks(np.asarray(b, float))
    x, y = x - x.mean(), y - y.mean()
    scale = float(np.sqrt((x @ x) * (y @ y)))
    return float(x @ y) / scale if scale > 0 else 0.0


def _ranks(values: Floats) -> Floats:
    _, group, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    means: Floats = (last - (counts - 1) / 2)[group]
    return means


def infidelity(predicted: Sequence[float], changed: Sequence[float]) -> float | None:
    """Share of the changes that scores leave unexplained, at their best scale.

    Infidelity (Yeh et al., 2019): the mean squared difference between what the scores
    say that a perturbation does and what it does; with the one scale that minimises
    it, divided by what scores of zero would leave. 0: perfect, 1: no better than none.

    Args:
        predicted: Sum of the scores that each perturbation takes away.
        changed: Fall of the output.

    Returns:
        None where no perturbation changed anything.
    """
    said, done = np.asarray(predicted, float), np.asarray(changed, float)
    nothing = float(done @ done)
    if nothing <= 0:
        return None
    explained = float(said @ done) ** 2 / float(said @ said) if said.any() else 0.0
    return 1.0 - explained / nothing


def symmetrised(values: Sequence[float], one: int, other: int) -> list[float]:
    """A game of 8 values in which two players are interchangeable.

    The mean of the game and of the game with the two swapped: their Shapley values
    must be equal.
    """
    swapped = []
    for group in range(8):
        rest = group & ~(1 << one) & ~(1 << other)
        rest |= (group >> one & 1) << other | (group >> other & 1) << one
        swapped.append(values[rest])
    return [(a + b) / 2 for a, b in zip(values, swapped)]


def mean_of(values: Sequence[float]) -> float:
    """The mean; NaN-free: 0 of nothing."""
    return float(np.mean(values)) if len(values) else 0.0


def score_of(parts: Sequence[float]) -> float:
    """The Explainability Score: mean of the parts, each held between 0 and 1."""
    return float(np.clip(np.asarray(parts, dtype=np.float64), 0.0, 1.0).mean())
