"""Explanations measured against what was planted: every figure with its target.

Cases are drawn fresh and refused when training used their seed. Word and pixel
perturbations are judged by the note or the film alone (see :mod:`.perturbation`); the
attributions were never trained on them. ``explainability_score`` is the mean of six
parts between 0 and 1: localisation, deletion gap, comprehensiveness, precision for
values, 1 - Shapley error, and verified sentences, which must be 1.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from model.errors import ConfigurationError, InferenceError
from model.evaluation.evaluate import refuse_training_seed
from model.explain.asked import Asked
from model.explain.attribution import (
    Question,
    image_path_gradient,
    text_path_gradient,
)
from model.explain.case_measures import Tally, measure_case
from model.explain.explanation_of import explanation_of
from model.explain.grad_cam import relevance_map
from model.explain.perturbation import FILM_SHARES
from model.explain.scoring import mean_of, rank_correlation, removal_area, score_of
from model.explain.synergy import DOMINANCE_LIMIT, dominance
from model.inference.abstention import AbstentionPolicy
from model.inference.predictor import Predictor
from model.inference.weights import LoadedCheckpoint
from model.jobs.explanation import ModalityShare
from model.synthetic.case import SynthCase
from model.synthetic.emit import to_record
from model.synthetic.latents import Split
from model.training.stages import fusion_parameters
from model.training.synthetic_set import synthetic_cases

SANITY_CASES = 40
EXTRA_FALSE = 0.01
CALIBRATION_CASES = 1000

Figure = dict[str, Any]


def explanation_report(
    checkpoint: LoadedCheckpoint,
    cases: Sequence[SynthCase],
    *,
    seed: int,
    progress: bool = True,
    calibration_cases: int = CALIBRATION_CASES,
) -> dict[str, Any]:
    """Explain and measure every case.

    Args:
        checkpoint: Any with the label of the synthetic set.
        cases: Of a seed that training did not use.
        seed: That seed; also of the random orders and of the randomised fusion.
        progress: Show a bar.
        calibration_cases: Cases of the calibration's own seed, for its share of false
            positives; 0, or a checkpoint that names no such seed: not compared.

    Returns:
        Plain JSON: ``model``, ``data`` (cases, refused, called), ``figures`` (each with
        value, target and ``holds``, None where there is no target) and
        ``explainability_score`` with its ``parts``.

    Raises:
        SeedRefusedError: the seed was used in training.
        ConfigurationError: no case could be measured.
    """
    refuse_training_seed(checkpoint.training, seed)
    predictor = Predictor.of(checkpoint, AbstentionPolicy(max_age_days=0))
    random = np.random.default_rng(seed)
    tally, refused = Tally(), 0
    shares: list[tuple[ModalityShare, ...]] = []
    kept: list[Asked] = []
    for case in tqdm(cases, "explain", disable=not progress):
        try:
            asked = predictor.ask(to_record(case))
        except InferenceError:
            refused += 1
            continue
        explanation = explanation_of(asked, checkpoint.vocabulary)
        measure_case(tally, case, asked, explanation, random)
        shares.append(explanation.modalities)
        if len(kept) < SANITY_CASES:
            kept.append(asked)
    if not tally.curves or not tally.numbers["comprehensiveness"]:
        raise ConfigurationError("too few cases are called positive to be measured")
    figures = _figures(tally)
    figures |= _sanity([asked.question for asked in kept], seed)
    figures |= _false_findings(tally, checkpoint, predictor, calibration_cases)
    figures |= _dominance(shares)
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
            "with_lesion": len(tally.numbers["pointing"]),
        },
        "figures": figures,
        "explainability_score": {"value": score, "parts": parts},
    }


def figure(
    value: float, *, at_least: float | None = None, at_most: float | None = None
) -> Figure:
    """One measured value with its target and whether it holds (None: no target)."""
    if at_least is not None:
        return {
            "value": value,
            "target": f">= {at_least:g}",
            "holds": value >= at_least,
        }
    if at_most is not None:
        return {"value": value, "target": f"<= {at_most:g}", "holds": value <= at_most}
    return {"value": value, "target": None, "holds": None}


def _figures(tally: Tally) -> dict[str, Figure]:
    """All figures that the tally holds on its own."""
    n = tally.numbers
    area = {
        name: removal_area(FILM_SHARES, np.mean(curves, axis=0).tolist())
        for name, curves in tally.curves.items()
    }
    deletion = area["deletion_map"] / max(area["deletion_random"], 1e-9)
    gained = area["insertion_random"] - area["insertion_map"]
    return {
        "pointing_game": figure(mean_of(n["pointing"]), at_least=0.85),
        "mass_in_lesion": figure(mean_of(n["mass"]), at_least=0.5),
        "lesion_area": figure(mean_of(n["lesion_area"])),
        "iou_top_15": figure(mean_of(n["overlap"])),
        "maps_drawn": figure(mean_of(n["drawn"])),
        "deletion_over_random": figure(deletion, at_most=0.5),
        "insertion_above_random": figure(gained, at_least=0.2),
        "comprehensiveness": figure(mean_of(n["comprehensiveness"]), at_least=0.3),
        "sufficiency": figure(mean_of(n["sufficiency"]), at_most=0.05),
        "word_auprc": figure(mean_of(n["word_precision"])),
        "word_auprc_by_phrase": figure(mean_of(n["phrase_precision"]), at_least=0.9),
        "planted_words": figure(mean_of(n["planted_words"])),
        "lab_auprc": figure(mean_of(n["lab_precision"]), at_least=0.9),
        "lab_auprc_integrated": figure(mean_of(n["lab_path_precision"])),
        "lab_completeness_gap": figure(mean_of(n["lab_path_gap"])),
        "shapley_efficiency_error": figure(max(n["efficiency"]), at_most=1e-5),
        "shapley_dummy_error": figure(max(n["dummy"]), at_most=1e-9),
        "shapley_symmetry_error": figure(max(n["symmetry"]), at_most=1e-9),
        "sentences_verified": figure(mean_of(n["sentence_passes"]), at_least=1.0),
        "false_sentences_caught": figure(mean_of(n["plant_caught"]), at_least=1.0),
        "counterfactual_found": figure(mean_of(n["edit_found"])),
    }


def _false_findings(
    tally: Tally,
    checkpoint: LoadedCheckpoint,
    predictor: Predictor,
    calibration_cases: int,
) -> dict[str, Figure]:
    """Findings on normals, against the share of false positives at calibration."""
    n = tally.numbers
    limit = _calibrated_false(checkpoint, predictor, calibration_cases)
    bar = None if limit is None else round(limit + EXTRA_FALSE, 4)
    found = {
        "findings_on_normals": figure(mean_of(n["normal_called"]), at_most=bar),
        "findings_on_negatives": figure(mean_of(n["negative_called"])),
        # The floor is the 95th percentile of such films.
        "maps_on_plain_films": figure(mean_of(n["plain_film_drawn"]), at_most=0.06),
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


def _sanity(questions: Sequence[Question], seed: int) -> dict[str, Figure]:
    """Rank correlation with the maps of a model whose fusion is random.

    An explanation that survives it explains the input, not the model (Adebayo et al.
    2018).
    """
    maps, words = [], []
    blind = copy.deepcopy(questions[0].model)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in fusion_parameters(blind):
            spread = float(parameter.std()) if parameter.numel() > 1 else 0.1
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(noise * max(spread, 1e-3))
    for question in questions:
        other = Question(
            blind,
            question.calibration,
            question.inputs,
            question.tokens,
            question.present,
            question.label,
            question.column,
        )
        maps.append(rank_correlation(_film_map(question), _film_map(other)))
        words.append(rank_correlation(_note_map(question), _note_map(other)))
    return {
        "sanity_film": figure(abs(mean_of(maps)), at_most=0.2),
        "sanity_words": figure(abs(mean_of(words)), at_most=0.2),
    }


def _film_map(question: Question) -> list[float]:
    tokens = question.tokens
    gradient = image_path_gradient(question)
    heat = relevance_map(tokens.image, gradient, tokens.image_mask)
    found: list[float] = heat[0].tolist()
    return found


def _note_map(question: Question) -> list[float]:
    heat = text_path_gradient(question) * question.tokens.text
    found: list[float] = heat.sum(-1).clamp(min=0)[0].tolist()
    return found


def _dominance(shares: Sequence[tuple[ModalityShare, ...]]) -> dict[str, Figure]:
    """Share of the largest modality over all cases; above the limit is an alert."""
    found = dominance(shares)
    if found is None:
        return {}
    row = figure(found.index, at_most=DOMINANCE_LIMIT)
    return {"dominance_index": {**row, "modality": found.modality}}


def explainability_score(
    figures: dict[str, Figure],
) -> tuple[float, dict[str, float]]:
    """The Explainability Score and its six parts."""
    value = {name: float(row["value"]) for name, row in figures.items()}
    parts = {
        "localisation": value["pointing_game"],
        "deletion_gap": 1.0 - value["deletion_over_random"],
        "comprehensiveness": value["comprehensiveness"],
        "lab_auprc": value["lab_auprc"],
        "shapley": 1.0 - value["shapley_efficiency_error"],
        "verifier": value["sentences_verified"],
    }
    return score_of(list(parts.values())), parts
