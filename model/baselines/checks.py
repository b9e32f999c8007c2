"""The bars of the comparison: each with its value, its target and whether it holds.

Read off a finished report, so that a report and its verdicts cannot disagree.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from model.baselines.paper import PAPER_ABLATION
from model.baselines.registry import CONCAT, LATE, MAIN
from model.baselines.shared import COALITION_KEYS, FULL

BELOW_CEILING = 0.010
ABOVE_BEST_PAIR = 0.05
LATE_P = 0.01
BELOW_CONCAT = 0.005
FROM_PAPER = 0.015
CALIBRATION_ERROR = 0.03
KEPT_RECALL = 0.90
#: Fusions of the same three modalities; both have bars of their own.
_PEERS = frozenset({MAIN, CONCAT})


def checks(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """All bars, in the order of the tables.

    Args:
        report: With ``rows``, ``ablation`` and ``against``.
    """
    rows = {row["name"]: row for row in report["rows"]}
    ablation = {row["name"]: row for row in report["ablation"]}
    full = ablation[FULL]["auroc"]["value"]
    return [
        *_ceilings(ablation),
        _best_pair(ablation, full),
        *_fusions(report["against"]),
        _others(rows),
        *_paper_pattern(ablation),
        *_calibration(ablation),
    ]


def _bar(name: str, value: float, target: str, holds: bool) -> dict[str, Any]:
    return {"name": name, "value": value, "target": target, "holds": bool(holds)}


def _ceilings(ablation: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Distance to the exact ceiling on the same cases."""
    return [
        _bar(
            f"ceiling minus AUROC, {key}",
            ablation[key]["gap"],
            f"<= {BELOW_CEILING:.3f}",
            ablation[key]["gap"] <= BELOW_CEILING,
        )
        for key in COALITION_KEYS
    ]


def _best_pair(ablation: Mapping[str, Any], full: float) -> dict[str, Any]:
    pairs = [ablation[k]["auroc"]["value"] for k in COALITION_KEYS if k.count("+") == 1]
    above = full - max(pairs)
    return _bar(
        "full minus best pair, AUROC",
        above,
        f">= {ABOVE_BEST_PAIR:.2f}",
        above >= ABOVE_BEST_PAIR,
    )


def _fusions(against: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The full model against late fusion and against concat, on the same cases."""
    late, concat = against[LATE], against[CONCAT]
    return [
        _bar(
            "full against late fusion, largest paired p of the seeds",
            late["worst_p"],
            f"< {LATE_P:.2f}, and better",
            late["worst_p"] < LATE_P and late["value"] > 0,
        ),
        _bar(
            "full minus concat MLP, AUROC",
            concat["value"],
            f">= -{BELOW_CONCAT:.3f}",
            concat["value"] >= -BELOW_CONCAT,
        ),
    ]


def _others(rows: Mapping[str, Any]) -> dict[str, Any]:
    """The best of all other baselines stays below the full model."""
    full = rows[MAIN]["auroc"]["value"]
    best = max(
        row["auroc"]["value"] for name, row in rows.items() if name not in _PEERS
    )
    return _bar(
        "full minus best other baseline, AUROC", full - best, "> 0", full > best
    )


def _paper_pattern(ablation: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The paper's ablation rows."""
    found = []
    for key, row in PAPER_ABLATION.items():
        away = abs(ablation[key]["auroc"]["value"] - row.auroc)
        found.append(
            _bar(
                f"distance to the paper's AUROC, {key}",
                away,
                f"<= {FROM_PAPER:.3f}",
                away <= FROM_PAPER,
            )
        )
    return found


def _calibration(ablation: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Calibration error and conformal recall of every coalition."""
    found = []
    for key in COALITION_KEYS:
        error = ablation[key]["ece"]
        found.append(
            _bar(
                f"ECE, {key}",
                error,
                f"<= {CALIBRATION_ERROR:.2f}",
                error <= CALIBRATION_ERROR,
            )
        )
    for key in COALITION_KEYS:
        row = ablation[key]
        least = KEPT_RECALL - 2 * row["conformal_error"]
        found.append(
            _bar(
                f"conformal recall, {key}",
                row["conformal_recall"],
                f">= {KEPT_RECALL:.2f} - 2 SE = {least:.4f}",
                row["conformal_recall"] >= least,
            )
        )
    return found
