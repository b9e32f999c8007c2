"""How close a checkpoint comes to the best that anybody could do.

Synthetic cases have an exact posterior, so every coalition of modalities has a ceiling:
the AUROC of that posterior *on the same cases* (over the population it varies by
several thousandths). Cases are drawn fresh from a seed that training must not have
used; a training seed is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isnan
from typing import Any

import numpy as np

from fhir_adapters.patient_record import Modality
from model.errors import ConfigurationError, SeedRefusedError
from model.evaluation.resampling import bootstrap
from model.evaluation.scores import Floats, all_scores, auroc
from model.inference.calibration import Calibration
from model.inference.tensors import to_tensors
from model.inference.weights import LoadedCheckpoint
from model.jobs.prediction import Validation
from model.network.fusion import TriModalModel
from model.network.inputs import TriModalInputs
from model.synthetic.case import SynthCase
from model.synthetic.ceiling import (
    COALITIONS,
    coalition_name,
    population_ceiling,
    posterior,
)
from model.synthetic.latents import Split
from model.training.calibrate import pattern_logits
from model.training.stages import cache_tokens
from model.training.synthetic_set import LABEL, synthetic_cases, synthetic_set

#: Bars on parameter set P0.
BELOW_CEILING = 0.015
ABOVE_BEST_PAIR = 0.04
#: Two checkpoints of one recipe differ by no more, on any coalition.
CLOSE_TO_OTHER = 0.005
FULL = "all"


def refuse_training_seed(training: Mapping[str, Any], seed: int) -> None:
    """Stop an evaluation on cases that training may have seen.

    Raises:
        SeedRefusedError: the checkpoint's training used this seed.
    """
    used = training.get("seeds", {})
    if seed in set(used.values()):
        raise SeedRefusedError(
            f"seed {seed} was used in training; choose another one for fresh cases"
        )


def key_of(coalition: frozenset[Modality]) -> str:
    """Name of a coalition in reports: "image+text", and "all" for the full input."""
    return FULL if len(coalition) == len(Modality) else coalition_name(coalition)


def evaluate_synthetic(
    checkpoint: LoadedCheckpoint,
    *,
    cases: int,
    seed: int,
    parameters: str = "P0",
    against: LoadedCheckpoint | None = None,
) -> dict[str, Any]:
    """Evaluate all seven coalitions on fresh synthetic cases.

    Args:
        checkpoint: Any with the label of the synthetic set.
        cases: Number of cases.
        seed: Not one of the training seeds.
        parameters: Parameter set of the generator.
        against: A second checkpoint, to be compared on the same cases.

    Returns:
        The report as plain JSON. ``model``: which checkpoint and label; ``data``: which
        cases; ``coalitions``: for each its AUROC, accuracy, calibration error (ece) and
        Brier score on n cases, and the ceilings on the same cases and on the
        population; ``checks``: the bars, see :func:`checks`; ``unstaged``: the figures
        of an end-to-end run that ``training.json`` quotes, or None. With a second
        checkpoint also ``against``: its ``model``, AUROC of the first minus the
        second for each of ``coalitions``, and the ``largest_difference`` either way.

    Raises:
        SeedRefusedError: the seed was used in training.
        ConfigurationError: a checkpoint does not estimate the synthetic label, or the
            two read films of different sizes.
    """
    for each in (checkpoint, against or checkpoint):
        refuse_training_seed(each.training, seed)
        if LABEL not in each.config.labels:
            raise ConfigurationError(
                "this checkpoint does not estimate the synthetic label"
            )
        if each.config.image.size != checkpoint.config.image.size:
            raise ConfigurationError("the checkpoints read films of different sizes")
    size = checkpoint.config.image.size
    drawn = synthetic_cases(
        cases, seed, split=Split.TEST, parameters=parameters, image_size=size
    )
    coalitions = _scored(checkpoint, drawn)
    report: dict[str, Any] = {
        "model": _model_of(checkpoint),
        "data": {"source": "synthetic", "parameters": parameters, "seed": seed},
        "coalitions": coalitions,
        "checks": checks(coalitions),
        "unstaged": checkpoint.training.get("unstaged"),
    }
    if against is not None:
        compared = _compared(coalitions, _scored(against, drawn))
        largest = compared["largest_difference"]
        report["against"] = {"model": _model_of(against), **compared}
        report["checks"]["close_to_other"] = _bar(
            largest, CLOSE_TO_OTHER, largest <= CLOSE_TO_OTHER
        )
    return report


def _model_of(checkpoint: LoadedCheckpoint) -> dict[str, str]:
    """Which checkpoint it is."""
    identity = checkpoint.identity
    return {
        "name": identity.name,
        "version": identity.version,
        "sha256": identity.sha256,
        "trained_on": identity.trained_on,
        "label": LABEL,
    }


def _scored(
    checkpoint: LoadedCheckpoint, cases: Sequence[SynthCase]
) -> dict[str, dict[str, float]]:
    """Scores of a checkpoint on cases, computed where its weights are."""
    inputs = to_tensors(synthetic_set(cases).records, checkpoint.vocabulary)
    device = next(checkpoint.model.parameters()).device
    return score_coalitions(
        checkpoint.model, checkpoint.calibration, inputs.to(device), cases
    )


def _compared(
    first: Mapping[str, Mapping[str, float]], second: Mapping[str, Mapping[str, float]]
) -> dict[str, Any]:
    """AUROC of the first minus the second, for each coalition."""
    difference = {name: first[name]["auroc"] - second[name]["auroc"] for name in first}
    largest = max(abs(value) for value in difference.values())
    return {"largest_difference": largest, "coalitions": difference}


def score_coalitions(
    model: TriModalModel,
    calibration: Calibration,
    inputs: TriModalInputs,
    cases: Sequence[SynthCase],
) -> dict[str, dict[str, float]]:
    """Scores of each coalition beside the ceiling on the same cases."""
    column = model.config.labels.index(LABEL)
    truth = np.array([case.label for case in cases], dtype=np.float64)
    population = population_ceiling(cases[0].parameters)
    tokens = cache_tokens(model, inputs)
    report = {}
    for coalition in COALITIONS:
        pattern = tuple(m in coalition for m in Modality)
        logits = pattern_logits(model, tokens, inputs.present, pattern)[:, column]
        platt = calibration.of(pattern, LABEL)
        chance = np.array([platt.probability(x) for x in logits.double().tolist()])
        best = posterior(cases, coalition)
        report[key_of(coalition)] = {
            **scores(chance, truth),
            "ceiling": _auroc(best, truth),
            "population_ceiling": population[coalition].auroc,
            "ceiling_accuracy": float(((best >= 0.5) == (truth > 0.5)).mean()),
            "ceiling_brier": float(((best - truth) ** 2).mean()),
        }
    return report


def scores(chance: Floats, truth: Floats) -> dict[str, float]:
    """Discrimination, decisions at one half, calibration; a number for each.

    What is not defined (one class only, nothing called positive) is 0.5 for AUROC and 0
    for the others, so that the report is plain JSON.

    Args:
        chance: (n,) calibrated probabilities.
        truth: (n,) in {0, 1}.
    """
    found = all_scores(chance, truth)
    kept = ("auprc", "accuracy", "precision", "recall", "f1", "ece", "brier", "nll")
    plain = {name: 0.0 if isnan(found[name]) else found[name] for name in kept}
    return {"auroc": _auroc(chance, truth), **plain, "n": len(truth)}


def _auroc(chance: Floats, truth: Floats) -> float:
    """AUROC; NaN-free: 0.5 when only one class is there."""
    found = auroc(chance, truth)
    return 0.5 if isnan(found) else found


def checks(coalitions: Mapping[str, Mapping[str, float]]) -> dict[str, Any]:
    """The bars, each with its value, its limit and whether it is met."""
    full = coalitions[FULL]
    pairs = [row["auroc"] for name, row in coalitions.items() if name.count("+") == 1]
    below = full["ceiling"] - full["auroc"]
    worst = max(row["ceiling"] - row["auroc"] for row in coalitions.values())
    above = full["auroc"] - max(pairs)
    return {
        "full_below_ceiling": _bar(below, BELOW_CEILING, below <= BELOW_CEILING),
        "full_above_best_pair": _bar(above, ABOVE_BEST_PAIR, above >= ABOVE_BEST_PAIR),
        "worst_below_ceiling": _bar(worst, BELOW_CEILING, worst <= BELOW_CEILING),
    }


def _bar(value: float, limit: float, passed: bool) -> dict[str, Any]:
    return {"value": value, "limit": limit, "passed": passed}


def bootstrap_auroc(
    chance: Floats, truth: Floats, *, method: str, seed: int = 0, draws: int = 1000
) -> Validation:
    """AUROC with a 95 % interval over resampled patients.

    Args:
        chance: (n,).
        truth: (n,), both classes present.
        method: The data and the split in words a clinician can read.
        seed: Of the resampling.
        draws: Resamples; one without both classes is left out.
    """
    found = bootstrap(auroc, chance, truth, draws=draws, seed=seed)
    return Validation(
        metric="AUROC",
        value=round(found.value, 4),
        low=round(found.low, 4),
        high=round(found.high, 4),
        n=len(truth),
        method=method,
    )
