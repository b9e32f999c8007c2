"""Figures of findings in films, with intervals over patients.

A film is no independent draw: patients have up to a dozen. All intervals resample
patients. NaN marks a question that was never asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.evaluation.resampling import DRAWS, Interval, bootstrap, resamples
from model.evaluation.scores import accuracy, auprc, auroc, f1, precision, recall
from model.films.folder import NO_FINDING, FilmRow

Floats = NDArray[np.floating[Any]]

#: A finding enters the mean when the test films hold this many positives.
ENOUGH = 20


@dataclass(frozen=True)
class Scored:
    """Logits and answers (n, questions) of the same films, with their patients."""

    logits: Floats
    truth: Floats
    patients: NDArray[np.int64]

    def column(self, question: int) -> tuple[Floats, Floats, NDArray[np.int64]]:
        """Chance, truth and patient of the films that were asked one question."""
        known = ~np.isnan(self.truth[:, question])
        chance = chance_of(self.logits[known, question])
        return chance, self.truth[known, question], self.patients[known]


def chance_of(logits: Floats) -> Floats:
    """Logits to (0, 1), without overflow."""
    return 0.5 * (1.0 + np.tanh(0.5 * np.asarray(logits, dtype=np.float64)))


def patients_of(rows: Sequence[FilmRow]) -> NDArray[np.int64]:
    """(n,) numbers: equal for the films of one patient."""
    names = [row.patient for row in rows]
    return np.asarray(np.unique(names, return_inverse=True)[1], dtype=np.int64)


def film_auroc(scores: Floats, truth: Floats) -> float:
    """AUROC over the asked films; NaN where one answer is missing."""
    known = ~np.isnan(truth)
    return auroc(scores[known], truth[known]) if known.any() else float("nan")


def mean_auroc(scores: Floats, truth: Floats, *, without_none: bool) -> float:
    """Mean over the questions (n, questions) that have both answers.

    Args:
        scores: (n, questions).
        truth: (n, questions), NaN where not asked.
        without_none: Leave the last question, "no finding", out.
    """
    last = truth.shape[1] - 1 if without_none else truth.shape[1]
    found = [film_auroc(scores[:, q], truth[:, q]) for q in range(last)]
    return float(np.nanmean(found)) if not np.isnan(found).all() else float("nan")


def counted(truth: Floats, questions: Sequence[str], enough: int = ENOUGH) -> list[int]:
    """Questions that enter the mean: real findings with enough positives."""
    positives = np.nansum(truth, axis=0)
    return [
        number
        for number, name in enumerate(questions)
        if name != NO_FINDING and positives[number] >= enough
    ]


def best_threshold(scored: Scored, question: int) -> float:
    """The chance at which F1 is highest; chosen on validation films."""
    chance, truth, _ = scored.column(question)
    if not truth.any():
        return 0.5
    levels = np.unique(np.quantile(chance, np.linspace(0.02, 0.98, 49)))
    found = [np.nan_to_num(f1(chance, truth, float(level))) for level in levels]
    return float(levels[int(np.argmax(found))])


def finding_row(
    scored: Scored, question: int, threshold: float, draws: int = DRAWS
) -> dict[str, Any]:
    """All figures of one question on the tested films; plain JSON.

    Args:
        scored: Of the tested films.
        question: Its place.
        threshold: From :func:`best_threshold` on other patients.
        draws: Resamples of patients.
    """
    chance, truth, patients = scored.column(question)
    decided = {
        score.__name__: plain(score(chance, truth, threshold))
        for score in (accuracy, precision, recall, f1)
    }
    return {
        "positives": int(truth.sum()),
        "n": len(truth),
        "auroc": bootstrap(auroc, chance, truth, patients, draws).to_json(),
        "auprc": bootstrap(auprc, chance, truth, patients, draws).to_json(),
        "threshold": threshold,
        **decided,
    }


def mean_decisions(
    scored: Scored, validation: Scored, questions: Sequence[int]
) -> dict[str, float | None]:
    """Mean AUPRC, accuracy, precision, recall and F1 of several questions.

    Args:
        scored: Of the tested films.
        validation: Of other patients: chooses the threshold of each question; without
            films it is 0.5.
        questions: Places that enter the mean. Precision of a question for which
            nothing was marked counts as 0.
    """
    scores = (accuracy, precision, recall, f1)
    names = ("auprc", *(score.__name__ for score in scores))
    found: dict[str, list[float]] = {name: [] for name in names}
    for question in questions:
        chance, truth, _ = scored.column(question)
        has_val = len(validation.truth) > 0
        level = best_threshold(validation, question) if has_val else 0.5
        found["auprc"].append(auprc(chance, truth))
        for score in scores:
            found[score.__name__].append(np.nan_to_num(score(chance, truth, level)))
    return {n: plain(float(np.mean(x))) if x else None for n, x in found.items()}


def mean_row(
    scored: Scored,
    questions: Sequence[int],
    against: Scored | None = None,
    draws: int = DRAWS,
) -> Interval:
    """Mean AUROC of several questions, or its difference to another's, over patients.

    Args:
        scored: Of the tested films.
        questions: Places that enter the mean.
        against: Other scores of the same films; the result is the difference then.
        draws: Resamples of patients.
    """

    def value(rows: NDArray[np.int64]) -> float:
        total = 0.0
        for question in questions:
            truth = scored.truth[rows, question]
            total += film_auroc(scored.logits[rows, question], truth)
            if against is not None:
                total -= film_auroc(against.logits[rows, question], truth)
        return total / max(1, len(questions))

    n = len(scored.truth)
    drawn = [value(rows) for rows in resamples(n, scored.patients, draws, 0)]
    kept = np.array([x for x in drawn if not np.isnan(x)])
    low, high = np.quantile(kept, (0.025, 0.975)) if len(kept) else (np.nan, np.nan)
    return Interval(value(np.arange(n)), float(low), float(high), n)


def within(scored: Scored, questions: Sequence[int], groups: Sequence[str]) -> float:
    """Mean AUROC when films are compared with films of their own group only.

    Each group counts by its pairs of a positive and a negative. A score that only
    tells the groups apart falls to 0.5.
    """
    named = np.asarray(groups)
    found = []
    for question in questions:
        truth, scores = scored.truth[:, question], scored.logits[:, question]
        total = pairs = 0.0
        for group in np.unique(named):
            own = (named == group) & ~np.isnan(truth)
            weight = float((truth[own] == 1).sum() * (truth[own] == 0).sum())
            if weight:
                total += weight * film_auroc(scores[own], truth[own])
                pairs += weight
        if pairs:
            found.append(total / pairs)
    return float(np.mean(found)) if found else float("nan")


def plain(number: float) -> float | None:
    """Plain JSON: null for what is not defined."""
    return None if np.isnan(number) else float(number)
