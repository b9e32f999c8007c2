"""From the scores of all seeds to one report: figures, intervals, checks.

A figure is the mean over the seeds, each on its own cases. Its interval comes from
bootstrap draws of the cases within each seed: a draw's figure is the mean over the
seeds, so the interval tells what other test cases would have given with these weights.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.baselines.checks import checks
from model.baselines.compare import SeedResult, data_of
from model.baselines.paper import PAPER_ABLATION, PAPER_MODELS, WITHOUT, PaperRow
from model.baselines.registry import CONCAT, LATE, MAIN, METHODS, Method
from model.baselines.scored import Answer, calibrated
from model.baselines.settings import CompareSettings
from model.baselines.shared import COALITION_KEYS, FULL
from model.evaluation.resampling import paired_bootstrap, resamples
from model.evaluation.scores import (
    accuracy,
    auroc,
    brier,
    conformal_recall,
    ece,
    f1,
    precision,
    recall,
)

Floats = NDArray[np.float64]
Score = Callable[[Floats, Floats], float]

SCORES: dict[str, Score] = {
    "accuracy": accuracy,
    "auroc": auroc,
    "precision": precision,
    "recall": recall,
    "f1": f1,
}


def build_report(
    settings: CompareSettings, results: Sequence[SeedResult]
) -> dict[str, Any]:
    """Everything that the command prints, as plain JSON.

    Args:
        settings: Of the run; ``draws`` bootstrap draws for the intervals.
        results: At least one seed, with every method.

    Returns:
        ``data``; ``rows`` of the comparison table; ``zero_shot`` scores of the
        contrastive methods; ``ablation`` rows by coalition; ``against`` the paired
        differences of the full model; ``checks``.
    """
    answers = {result.seed: _answers(result) for result in results}
    rows = [
        _row(method, method.reads, results, answers, settings) for method in METHODS
    ]
    ablation = [_coalition(key, results, answers, settings) for key in COALITION_KEYS]
    against = {
        name: _paired(name, results, answers, settings) for name in (LATE, CONCAT)
    }
    report: dict[str, Any] = {
        "data": data_of(settings, results),
        "rows": rows,
        "zero_shot": [
            _row(method, method.zero_shot, results, answers, settings)
            for method in METHODS
            if method.zero_shot
        ],
        "ablation": ablation,
        "against": against,
    }
    return {**report, "checks": checks(report)}


Answers = Mapping[int, Mapping[tuple[str, str], Answer]]


def _answers(result: SeedResult) -> dict[tuple[str, str], Answer]:
    """Calibrated answers of every method on every coalition it has scores for."""
    return {
        (name, key): calibrated(scored, key, result.held_out)
        for name, scored in result.methods.items()
        for key in scored.held_out
    }


def _row(
    method: Method,
    coalition: str,
    results: Sequence[SeedResult],
    answers: Answers,
    settings: CompareSettings,
) -> dict[str, Any]:
    """One method on what it reads: five scores with intervals, and its size."""
    chances = [answers[r.seed][method.name, coalition].chance for r in results]
    truths = [r.tested for r in results]
    paper = PAPER_MODELS.get(method.paper) if coalition == method.reads else None
    figures = [r.methods[method.name].figures for r in results]
    return {
        "name": method.name,
        "title": method.title,
        "reads": coalition,
        **_mean_scores(chances, truths, settings.draws),
        "by_seed": [auroc(c, t) for c, t in zip(chances, truths)],
        "parameters": figures[0].get("parameters"),
        "seconds": _mean([f.get("seconds", 0.0) for f in figures]),
        "true_pair_rank": (
            _mean([f["true_pair_rank"] for f in figures])
            if "true_pair_rank" in figures[0]
            else None
        ),
        "paper": _paper(paper, method.paper),
    }


def _coalition(
    key: str,
    results: Sequence[SeedResult],
    answers: Answers,
    settings: CompareSettings,
) -> dict[str, Any]:
    """The full model restricted to a coalition, beside the exact posterior."""
    mine = [answers[r.seed][MAIN, key] for r in results]
    chances, truths = [a.chance for a in mine], [r.tested for r in results]
    best = [r.posteriors[key] for r in results]
    kept = [conformal_recall(a.chance, t, a.threshold) for a, t in zip(mine, truths)]
    row: dict[str, Any] = {
        "name": key,
        "without": WITHOUT.get(key, ""),
        **_mean_scores(chances, truths, settings.draws),
        "ceiling": _mean([auroc(b, t) for b, t in zip(best, truths)]),
        "ceiling_accuracy": _mean([accuracy(b, t) for b, t in zip(best, truths)]),
        "gap_by_seed": [
            auroc(b, t) - auroc(c, t) for b, c, t in zip(best, chances, truths)
        ],
        "ece": _mean([ece(c, t) for c, t in zip(chances, truths)]),
        "ece_by_seed": [ece(c, t) for c, t in zip(chances, truths)],
        "ceiling_ece": _mean([ece(b, t) for b, t in zip(best, truths)]),
        "brier": _mean([brier(c, t) for c, t in zip(chances, truths)]),
        "ceiling_brier": _mean([brier(b, t) for b, t in zip(best, truths)]),
        "conformal_recall": _mean([k.value for k in kept]),
        "conformal_error": _mean([k.error for k in kept]),
        "paper": _paper(PAPER_ABLATION.get(key), ""),
    }
    row["gap"] = row["ceiling"] - row["auroc"]["value"]
    return row


def _paper(row: PaperRow | None, name: str) -> dict[str, Any] | None:
    return None if row is None else {"name": name, **asdict(row)}


def _mean_scores(
    chances: Sequence[Floats], truths: Sequence[Floats], draws: int
) -> dict[str, dict[str, float]]:
    """Mean over seeds of each score at one half, with its percentile interval."""
    drawn: dict[str, list[float]] = {name: [] for name in SCORES}
    streams = [resamples(len(t), None, draws, n) for n, t in enumerate(truths)]
    # sorted once, so that every draw's sort is cheap
    orders = [np.argsort(c, kind="stable") for c in chances]
    sides = [(c[o], t[o]) for c, t, o in zip(chances, truths, orders)]
    for many in zip(*streams):
        for name, score in SCORES.items():
            values = [score(c[rows], t[rows]) for (c, t), rows in zip(sides, many)]
            drawn[name].append(_mean(values))
    found = {}
    for name, score in SCORES.items():
        low, high = np.nanquantile(drawn[name], [0.025, 0.975])
        value = _mean([score(c, t) for c, t in sides])
        found[name] = {"value": value, "low": float(low), "high": float(high)}
    return found


def _paired(
    name: str,
    results: Sequence[SeedResult],
    answers: Answers,
    settings: CompareSettings,
) -> dict[str, Any]:
    """AUROC of the full model minus another's on the same cases, seed by seed."""
    found = [
        paired_bootstrap(
            auroc,
            answers[r.seed][MAIN, FULL].chance,
            answers[r.seed][name, FULL].chance,
            r.tested,
            draws=settings.draws,
            seed=r.seed,
        )
        for r in results
    ]
    return {
        "value": _mean([d.value for d in found]),
        "worst_p": max(d.p for d in found),
        "seeds": [d.to_json() for d in found],
    }


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values))
