"""Bootstrap intervals of scores, over cases or over patients.

Resampling whole patients keeps several cases of one patient together (cluster
bootstrap, percentile intervals; Efron and Tibshirani, 1993). A pair of models is
compared on the *same* resampled cases, which removes what they share.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from math import isnan, nan

import numpy as np
from numpy.typing import ArrayLike, NDArray

from model.errors import ConfigurationError
from model.evaluation.scores import Floats, checked

Metric = Callable[[Floats, Floats], float]
Rows = NDArray[np.int64]

DRAWS = 1_000
_TAILS = (0.025, 0.975)


@dataclass(frozen=True, slots=True)
class Interval:
    """A score with its 95 % interval on n cases; NaN where it is not defined."""

    value: float
    low: float
    high: float
    n: int

    def to_json(self) -> dict[str, float | None]:
        """Plain JSON: null where it is not defined."""
        return _plain(asdict(self))


@dataclass(frozen=True, slots=True)
class Difference:
    """First minus second with its 95 % interval and two-sided p on n cases."""

    value: float
    low: float
    high: float
    p: float
    n: int

    def to_json(self) -> dict[str, float | None]:
        """Plain JSON: null where it is not defined."""
        return _plain(asdict(self))


def _plain(numbers: dict[str, float]) -> dict[str, float | None]:
    return {name: None if isnan(x) else x for name, x in numbers.items()}


def bootstrap(
    metric: Metric,
    chance: ArrayLike,
    truth: ArrayLike,
    groups: ArrayLike | None = None,
    draws: int = DRAWS,
    seed: int = 0,
) -> Interval:
    """A score and its percentile interval.

    Args:
        metric: Any ``(chance, truth) -> float`` that no order of rows changes, as in
            :mod:`model.evaluation.scores`; NaN where not defined.
        chance: (n,).
        truth: (n,) in {0, 1}.
        groups: (n,) patient of each row; None resamples rows.
        draws: Resamples; those where the metric is not defined are left out.
        seed: Of the resampling.

    Raises:
        ConfigurationError: columns of different lengths, or a truth not 0 or 1.
    """
    scores, labels = checked(chance, truth)
    order = np.argsort(scores, kind="stable")  # sorted rows make each draw's sort cheap
    scores, labels = scores[order], labels[order]
    kin = None if groups is None else _checked_groups(groups, len(labels))[order]
    values = [
        metric(scores[rows], labels[rows])
        for rows in resamples(len(labels), kin, draws, seed)
    ]
    low, high = _percentiles(values)
    return Interval(float(metric(scores, labels)), low, high, len(labels))


def paired_bootstrap(
    metric: Metric,
    a: ArrayLike,
    b: ArrayLike,
    truth: ArrayLike,
    groups: ArrayLike | None = None,
    draws: int = DRAWS,
    seed: int = 0,
) -> Difference:
    """Score of ``a`` minus score of ``b``, both on the same resampled cases.

    ``p`` is two-sided: twice the smaller share of draws on either side of zero, each
    counted with one added (Davison and Hinkley, 1997), so that it is never 0.

    Args:
        metric: As for :func:`bootstrap`.
        a: (n,) chances of the first model.
        b: (n,) chances of the second model on the same cases.
        truth: (n,) in {0, 1}.
        groups: (n,) patient of each row; None resamples rows.
        draws: Resamples.
        seed: Of the resampling.

    Raises:
        ConfigurationError: columns of different lengths, or a truth not 0 or 1.
    """
    first, labels = checked(a, truth)
    second, _ = checked(b, truth)
    order = np.argsort(first, kind="stable")
    first, second, labels = first[order], second[order], labels[order]
    kin = None if groups is None else _checked_groups(groups, len(labels))[order]
    values = [
        metric(first[rows], labels[rows]) - metric(second[rows], labels[rows])
        for rows in resamples(len(labels), kin, draws, seed)
    ]
    low, high = _percentiles(values)
    value = float(metric(first, labels) - metric(second, labels))
    return Difference(value, low, high, _two_sided(values), len(labels))


def resamples(n: int, groups: Rows | None, draws: int, seed: int) -> Iterator[Rows]:
    """Row numbers of each draw, ascending; whole groups where groups are given."""
    random = np.random.default_rng(seed)
    every = np.arange(n)
    units = n if groups is None else int(groups.max()) + 1
    for _ in range(draws):
        times = np.bincount(random.integers(0, units, units), minlength=units)
        yield np.repeat(every, times if groups is None else times[groups])


def _checked_groups(groups: ArrayLike, n: int) -> Rows:
    """Groups as numbers from 0 on; (n,)."""
    named = np.asarray(groups)
    if named.shape != (n,):
        raise ConfigurationError("each case needs one group")
    return np.asarray(np.unique(named, return_inverse=True)[1], dtype=np.int64)


def _percentiles(values: list[float]) -> tuple[float, float]:
    """The 95 % interval of what is defined; NaN when nothing is."""
    found = np.array([value for value in values if not isnan(value)])
    if not len(found):
        return nan, nan
    low, high = np.quantile(found, _TAILS)
    return float(low), float(high)


def _two_sided(values: list[float]) -> float:
    found = np.array([value for value in values if not isnan(value)])
    if not len(found):
        return nan
    below, above = int((found <= 0).sum()), int((found >= 0).sum())
    return min(1.0, 2 * (1 + min(below, above)) / (1 + len(found)))
