"""Scores of probabilities against truth: numbers in, plain floats out.

Every score takes ``(chance, truth)`` and depends on no order of the rows. A score that
is not defined on its rows (one class only, nothing called positive) is NaN, never a
convenient number; :mod:`model.evaluation.resampling` leaves such draws out.

Definitions: AUROC as the Mann-Whitney statistic with half a win for a tie; AUPRC as
average precision (no interpolation); ECE over bins of equal mass (Naeini et al., 2015);
calibration slope as in Cox (1958): logistic regression of the truth on the log-odds.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import nan, sqrt

import numpy as np
from numpy.typing import ArrayLike, NDArray

from model.errors import ConfigurationError

Floats = NDArray[np.float64]

BINS = 15
HALF = 0.5
#: Probabilities are kept this far from 0 and 1 before a logarithm.
FLOOR = 1e-12
_STEPS = 50
_CONVERGED, _DIVERGED = 1e-10, 1e3


@dataclass(frozen=True, slots=True)
class Share:
    """A share with its binomial standard error; ``value`` is NaN when n is 0."""

    value: float
    error: float
    n: int

    def at_least(self, target: float) -> bool:
        """Not below the target by more than two standard errors."""
        return self.value >= target - 2 * self.error


def checked(chance: ArrayLike, truth: ArrayLike) -> tuple[Floats, Floats]:
    """Both as (n,) float64.

    Raises:
        ConfigurationError: no rows, different lengths, a chance that is not a
            number, or a truth that is not 0 or 1.
    """
    first = np.asarray(chance, dtype=np.float64)
    second = np.asarray(truth, dtype=np.float64)
    if first.ndim != 1 or first.shape != second.shape or not len(first):
        raise ConfigurationError("scores need two equally long, non-empty columns")
    if np.isnan(first).any():
        raise ConfigurationError("a chance is not a number")
    if not np.isin(second, (0.0, 1.0)).all():
        raise ConfigurationError("the truth of a score is 0 or 1")
    return first, second


def auroc(chance: ArrayLike, truth: ArrayLike) -> float:
    """Chance that a positive outranks a negative; a tie counts half."""
    scores, labels = checked(chance, truth)
    negatives = np.sort(scores[labels == 0], kind="stable")
    positives = np.sort(scores[labels == 1], kind="stable")
    if not len(negatives) or not len(positives):
        return nan
    below = np.searchsorted(negatives, positives, "left")
    up_to = np.searchsorted(negatives, positives, "right")
    return float((below + up_to).mean() / (2 * len(negatives)))


def auprc(chance: ArrayLike, truth: ArrayLike) -> float:
    """Average precision: precision at each threshold, weighted by recall gained."""
    scores, labels = checked(chance, truth)
    total = labels.sum()
    if not total:
        return nan
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    last = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1)  # tie ends
    hits = np.cumsum(labels[order])[last]
    gained = np.diff(hits, prepend=0.0) / total
    return float((gained * hits / (last + 1)).sum())


def confusion(
    chance: ArrayLike, truth: ArrayLike, threshold: float = HALF
) -> tuple[int, int, int, int]:
    """True positives, false positives, false negatives, true negatives.

    A case is called positive when its chance is at least the threshold.
    """
    scores, labels = checked(chance, truth)
    called, ill = scores >= threshold, labels == 1
    hits, alarms = int((called & ill).sum()), int((called & ~ill).sum())
    return hits, alarms, int(ill.sum()) - hits, int((~ill).sum()) - alarms


def accuracy(chance: ArrayLike, truth: ArrayLike, threshold: float = HALF) -> float:
    """Share of cases on the right side of the threshold."""
    hits, alarms, missed, calm = confusion(chance, truth, threshold)
    return (hits + calm) / (hits + alarms + missed + calm)


def precision(chance: ArrayLike, truth: ArrayLike, threshold: float = HALF) -> float:
    """Share of positives among those called positive."""
    hits, alarms, _, _ = confusion(chance, truth, threshold)
    return _ratio(hits, hits + alarms)


def recall(chance: ArrayLike, truth: ArrayLike, threshold: float = HALF) -> float:
    """Share of positives that are called positive (true positive rate)."""
    hits, _, missed, _ = confusion(chance, truth, threshold)
    return _ratio(hits, hits + missed)


def specificity(chance: ArrayLike, truth: ArrayLike, threshold: float = HALF) -> float:
    """Share of negatives that are not called positive."""
    _, alarms, _, calm = confusion(chance, truth, threshold)
    return _ratio(calm, alarms + calm)


def f1(chance: ArrayLike, truth: ArrayLike, threshold: float = HALF) -> float:
    """Harmonic mean of precision and recall."""
    hits, alarms, missed, _ = confusion(chance, truth, threshold)
    return _ratio(2 * hits, 2 * hits + alarms + missed)


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else nan


def brier(chance: ArrayLike, truth: ArrayLike) -> float:
    """Mean squared distance of the probability from the truth."""
    scores, labels = checked(chance, truth)
    return float(((scores - labels) ** 2).mean())


def nll(chance: ArrayLike, truth: ArrayLike) -> float:
    """Mean negative log-likelihood in nats."""
    scores, labels = checked(chance, truth)
    sure = np.clip(scores, FLOOR, 1 - FLOOR)
    return float(-(labels * np.log(sure) + (1 - labels) * np.log1p(-sure)).mean())


def ece(chance: ArrayLike, truth: ArrayLike, bins: int = BINS) -> float:
    """Expected calibration error over bins of equal mass."""
    predicted, observed, size = reliability(chance, truth, bins)
    return float((np.abs(predicted - observed) * size).sum() / size.sum())


def reliability(
    chance: ArrayLike, truth: ArrayLike, bins: int = BINS
) -> tuple[Floats, Floats, Floats]:
    """Points of a reliability diagram: mean chance, share of positives, size; (b,).

    Bins have equal mass; with fewer rows than bins there are fewer bins.
    """
    scores, labels = checked(chance, truth)
    order = np.argsort(scores, kind="stable")
    scores, labels = scores[order], labels[order]
    # Rows of one chance share their mean truth, so that no order of rows matters.
    starts = np.flatnonzero(np.diff(scores, prepend=scores[0] - 1))
    ties = np.diff(np.append(starts, len(scores)))
    labels = np.repeat(np.add.reduceat(labels, starts) / ties, ties)
    parts = [part for part in np.array_split(np.arange(len(scores)), bins) if len(part)]
    return (
        np.array([scores[part].mean() for part in parts]),
        np.array([labels[part].mean() for part in parts]),
        np.array([float(len(part)) for part in parts]),
    )


def calibration_fit(chance: ArrayLike, truth: ArrayLike) -> tuple[float, float]:
    """Intercept and slope of the truth on the log-odds; (0, 1) is calibrated.

    NaN for both with one class, constant chances, or classes that hardly overlap.
    """
    scores, labels = checked(chance, truth)
    sure = np.clip(scores, FLOOR, 1 - FLOOR)
    design = np.stack([np.ones_like(sure), np.log(sure) - np.log1p(-sure)], 1)  # (n,2)
    if np.ptp(design[:, 1]) == 0 or auroc(scores, labels) in (0.0, 1.0):
        return nan, nan
    if len(np.unique(labels)) == 1:
        return nan, nan
    weights = np.array([0.0, 1.0])
    for _ in range(_STEPS):
        fitted = np.exp(-np.logaddexp(0.0, -(design @ weights)))  # (n,)
        curvature = design.T @ (design * (fitted * (1 - fitted))[:, None])  # (2, 2)
        step = np.linalg.lstsq(curvature, design.T @ (labels - fitted), rcond=None)[0]
        weights = weights + step
        if np.abs(weights).max() > _DIVERGED:
            return nan, nan
        if np.abs(step).max() < _CONVERGED:
            return float(weights[0]), float(weights[1])
    return nan, nan


def calibration_slope(chance: ArrayLike, truth: ArrayLike) -> float:
    """Slope of :func:`calibration_fit`: below 1 is over-confident."""
    return calibration_fit(chance, truth)[1]


def share(successes: int, n: int) -> Share:
    """A share and its binomial standard error."""
    if not n:
        return Share(nan, nan, 0)
    value = successes / n
    return Share(value, sqrt(value * (1 - value) / n), n)


def conformal_recall(chance: ArrayLike, truth: ArrayLike, threshold: float) -> Share:
    """Recall at a conformal threshold with its standard error."""
    hits, _, missed, _ = confusion(chance, truth, threshold)
    return share(hits, hits + missed)


def all_scores(
    chance: ArrayLike, truth: ArrayLike, threshold: float = HALF
) -> dict[str, float]:
    """Every score of a table at once, by its name; ``n`` and ``prevalence`` too."""
    scores, labels = checked(chance, truth)
    found = {score.__name__: score(scores, labels) for score in (auroc, auprc)}
    for decided in (accuracy, precision, recall, f1):
        found[decided.__name__] = decided(scores, labels, threshold)
    for probabilistic in (ece, brier, nll, calibration_slope):
        found[probabilistic.__name__] = probabilistic(scores, labels)
    return {**found, "n": len(labels), "prevalence": float(labels.mean())}
