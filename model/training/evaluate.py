"""Kept for importers; see :mod:`model.evaluation.evaluate`."""

from __future__ import annotations

from model.evaluation.evaluate import (
    FULL,
    bootstrap_auroc,
    calibration_error,
    checks,
    evaluate_synthetic,
    key_of,
    refuse_training_seed,
    score_coalitions,
    scores,
)

__all__ = [
    "FULL",
    "bootstrap_auroc",
    "calibration_error",
    "checks",
    "evaluate_synthetic",
    "key_of",
    "refuse_training_seed",
    "score_coalitions",
    "scores",
]
