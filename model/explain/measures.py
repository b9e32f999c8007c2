"""Explanations measured against what was planted: every figure with its target.

Cases are drawn fresh and refused when training used their seed. Word and pixel
perturbations are judged by the note or the film alone (see :mod:`.perturbation`); the
attributions were never trained on them. ``explainability_score`` is the mean of six
parts between 0 and 1: localisation, deletion gap, comprehensiveness, precision for
values, 1 - Shapley error, and verified sentences, which must be 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from tqdm import tqdm

from model.errors import ConfigurationError, InferenceError
from model.evaluation.evaluate import refuse_training_seed
from model.explain.asked import Asked
from model.explain.attribution import coalition_values, modality_shares
from model.explain.case_measures import measure_case
from model.explain.explanation_of import explanation_of
from model.explain.report_rows import (
    Figure,
    RowMaker,
    at_most,
    figure,
    film_rows,
    note_rows,
    rule_rows,
    value_rows,
)
from model.explain.sanity import MODULES, sanity_rows
from model.explain.scoring import mean_of, score_of
from model.explain.synergy import DOMINANCE_LIMIT, dominance
from model.explain.tally import Tally
from model.inference.abstention import AbstentionPolicy
from model.inference.predictor import Predictor
from model.inference.weights import LoadedCheckpoint
from model.jobs.explanation import ModalityShare
from model.synthetic.case import SynthCase
from model.synthetic.emit import to_record
from model.synthetic.latents import Split
from model.training.synthetic_set import synthetic_cases

SANITY_CASES = 40
EXTRA_FALSE = 0.01
CALIBRATION_CASES = 1000

Shares = dict[str, list[tuple[ModalityShare, ...]]]


def explanation_report(
    checkpoint: LoadedCheckpoint,
    cases: Sequence[SynthCase],
    *,
    seed: int,
    progress: bool = True,
    calibration_cases: int = CALIBRATION_CASES,
    modules: int = MODULES,
    dominance_limit: float = DOMINANCE_LIMIT,
) -> dict[str, Any]:
    """Explain and measure every case.

    Args:
        checkpoint: Any with the label of the synthetic set.
        cases: Of a seed that training did not use.
        seed: That seed; also of the random orders and of the randomised fusion.
        progress: Show a bar.
        calibration_cases: Cases of the calibration's own seed, for its share of false
            positives; 0, or a checkpoint that names no such seed: not compared.
        modules: Randomised fusion modules that maps are compared with.
        dominance_limit: Above it one modality dominates a label: an alert.

    Returns:
        Plain JSON: ``model``, ``data`` (cases, refused, called), ``figures`` (each with
        value, interval, target and ``holds``, None where there is no target),
        ``alerts`` and ``explainability_score`` with its ``parts``.

    Raises:
        SeedRefusedError: the seed was used in training.
        ConfigurationError: no case could be measured.
    """
    refuse_training_seed(checkpoint.training, seed)
    predictor = Predictor.of(checkpoint, AbstentionPolicy(max_age_days=0))
    random = np.random.default_rng(seed)
    tally, refused = Tally(), 0
    shares: Shares = {label: [] for label in predictor.labels}
    kept: list[Asked] = []
    for case in tqdm(cases, "explain", disable=not progress):
        try:
            asked = predictor.ask(to_record(case))
        except InferenceError:
            refused += 1
            continue
        explanation = explanation_of(asked, checkpoint.vocabulary)
        measure_case(tally, case, asked, explanation, random)
        _add_shares(shares, asked)
        if len(kept) < SANITY_CASES:
            kept.append(asked)
    if not tally.curves or not tally.numbers["comprehensiveness"]:
        raise ConfigurationError("too few cases are called positive to be measured")
    rows = RowMaker(tally, seed)
    figures = {**film_rows(rows), **note_rows(rows), **value_rows(rows)}
    figures |= rule_rows(tally)
    figures |= sanity_rows(kept, seed, modules=modules, progress=progress)
    figures |= _false_findings(tally, checkpoint, predictor, calibration_cases)
    dominating, alerts = dominance_rows(shares, dominance_limit)
    figures |= dominating
    score, parts = explainability_score(figures)
    return {
        "model": {
            "name": checkpoint.identity.name,
            "version": checkpoint.identity.version,
            "sha256": checkpoint.identity.sha256,
        },
        "data": {
            "source": "synthetic",
            "seed": seed,
            "cases": len(cases),
            "refused": refused,
            "called": len(tally.numbers["comprehensiveness"]),
            "with_lesion": len(tally.numbers["lesion_area"]),
        },
        "figures": figures,
        "alerts": alerts,
        "explainability_score": {"value": score, "parts": parts},
    }


def _add_shares(shares: Shares, asked: Asked) -> None:
    """Shapley values of every label of one case."""
    for column, label in enumerate(shares):
        question = replace(asked.question, label=label, column=column)
        shares[label].append(modality_shares(coalition_values(question)))


def _false_findings(
    tally: Tally,
    checkpoint: LoadedCheckpoint,
    predictor: Predictor,
    calibration_cases: int,
) -> dict[str, Figure]:
    """Findings on normals, against the share of false positives at calibration."""
    n = tally.numbers
    limit = _calibrated_false(checkpoint, predictor, calibration_cases)
    bar = None if limit is None else at_most(round(limit + EXTRA_FALSE, 4))
    found = {
        "findings_on_normals": figure(
            mean_of(n["normal_called"]), bar, n=len(n["normal_called"])
        ),
        "findings_on_negatives": figure(
            mean_of(n["negative_called"]), n=len(n["negative_called"])
        ),
        # The floor is the 95th percentile of such films.
        "maps_on_plain_films": figure(
            mean_of(n["plain_film_drawn"]), at_most(0.06), n=len(n["plain_film_drawn"])
        ),
    }
    if limit is not None:
        found["calibrated_false_positives"] = figure(limit)
    return found


def _calibrated_false(
    checkpoint: LoadedCheckpoint, predictor: Predictor, count: int
) -> float | None:
    """Share of negatives called positive among the calibration's own cases."""
    seed = checkpoint.training.get("seeds", {}).get("calibration")
    parameters = checkpoint.training.get("data", {}).get("parameters", "P0")
    if seed is None or not count:
        return None
    called = []
    for case in synthetic_cases(
        count,
        int(seed),
        split=Split.VALIDATION,
        parameters=str(parameters),
        image_size=checkpoint.config.image.size,
    ):
        if not case.label:
            estimates = predictor.predict(to_record(case)).estimates
            called += [estimates[0].positive] if estimates else []
    return mean_of(called)


def dominance_rows(
    shares: Shares, limit: float = DOMINANCE_LIMIT
) -> tuple[dict[str, Figure], list[str]]:
    """Share of the largest modality of each label, and an alert above the limit.

    Args:
        shares: Shapley values by label, case by case.
        limit: Of a site; see ``synergy.DOMINANCE_LIMIT``.
    """
    rows, alerts = {}, []
    for label, cases in shares.items():
        found = dominance(cases, limit)
        if found is None:
            continue
        row = figure(found.index, at_most(limit), n=len(cases))
        row["note"] = f"largest: {found.modality}"
        rows[f"dominance_index_{label}"] = row
        if found.alert:
            alerts.append(
                f"{found.modality} dominates {label}: {found.index:.2f} of the "
                f"absolute Shapley values, limit {limit:g}"
            )
    return rows, alerts


def explainability_score(
    figures: dict[str, Figure],
) -> tuple[float, dict[str, float]]:
    """The Explainability Score and its six parts; a part not measured counts 0."""
    value = {name: float(row["value"] or 0.0) for name, row in figures.items()}
    parts = {
        "localisation": value["pointing_game"],
        "deletion_gap": 1.0 - value["deletion_over_random"],
        "comprehensiveness": value["comprehensiveness"],
        "lab_auprc": value["lab_auprc"],
        "shapley": 1.0 - value["shapley_efficiency_error"],
        "verifier": value["sentences_verified"],
    }
    return score_of(list(parts.values())), parts
