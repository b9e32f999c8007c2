"""Scores and their intervals behind one import; see the two modules for definitions.

>>> from model.evaluation.metrics import auroc, bootstrap
>>> bootstrap(auroc, [0.1, 0.4, 0.6, 0.9], [0, 0, 1, 1], draws=10).value
1.0
"""

from __future__ import annotations

from model.evaluation.resampling import (
    Difference,
    Interval,
    bootstrap,
    paired_bootstrap,
)
from model.evaluation.scores import (
    Share,
    accuracy,
    all_scores,
    auprc,
    auroc,
    brier,
    calibration_fit,
    calibration_slope,
    conformal_recall,
    confusion,
    ece,
    f1,
    nll,
    precision,
    recall,
    reliability,
    share,
    specificity,
)

__all__ = [
    "Difference",
    "Interval",
    "Share",
    "accuracy",
    "all_scores",
    "auprc",
    "auroc",
    "bootstrap",
    "brier",
    "calibration_fit",
    "calibration_slope",
    "conformal_recall",
    "confusion",
    "ece",
    "f1",
    "nll",
    "paired_bootstrap",
    "precision",
    "recall",
    "reliability",
    "share",
    "specificity",
]
