"""Every bar holds on the good side and fails on the bad one."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from model.baselines.checks import checks
from model.baselines.paper import PAPER_ABLATION
from model.baselines.shared import COALITION_KEYS, FULL


def _good() -> dict[str, Any]:
    """A report that meets every bar."""
    paper = {key: row.auroc for key, row in PAPER_ABLATION.items()}
    ablation = [
        {
            "name": key,
            "auroc": {"value": paper.get(key, 0.84)},
            "gap": 0.009,
            "ece": 0.029,
            "conformal_recall": 0.895,
            "conformal_error": 0.004,
        }
        for key in COALITION_KEYS
    ]
    scores = {"m_llm": 0.923, "concat": 0.925, "late": 0.865, "trees": 0.86}
    rows = [{"name": n, "auroc": {"value": x}} for n, x in scores.items()]
    against = {
        "late": {"value": 0.06, "worst_p": 0.002},
        "concat": {"value": -0.004, "worst_p": 0.2},
    }
    return {"ablation": ablation, "rows": rows, "against": against}


def _failing(report: dict[str, Any]) -> list[str]:
    return [check["name"] for check in checks(report) if not check["holds"]]


def test_a_good_report_meets_every_bar() -> None:
    assert _failing(_good()) == []
    assert len(checks(_good())) == 7 + 1 + 2 + 1 + 4 + 7 + 7


@pytest.mark.parametrize(
    ("field", "value", "wanted"),
    [
        ("gap", 0.0101, "ceiling minus AUROC"),
        ("ece", 0.031, "ECE"),
        ("conformal_recall", 0.8915, "conformal recall"),
    ],
)
@pytest.mark.parametrize("number", range(7))
def test_one_bad_coalition_fails_its_own_bar_only(
    field: str, value: float, wanted: str, number: int
) -> None:
    report = _good()
    report["ablation"][number][field] = value
    assert _failing(report) == [f"{wanted}, {COALITION_KEYS[number]}"]


def test_the_paper_pattern_has_a_tolerance_either_way() -> None:
    for away in (0.016, -0.016):
        report = _good()
        report["ablation"][3]["auroc"]["value"] += away
        assert _failing(report) == ["distance to the paper's AUROC, image+text"]


def test_a_pair_too_close_to_the_full_model_fails() -> None:
    report = _good()
    row = next(r for r in report["ablation"] if r["name"] == FULL)
    row["auroc"]["value"] = 0.912
    assert "full minus best pair, AUROC" in _failing(report)


@pytest.mark.parametrize(
    ("name", "changes", "wanted"),
    [
        ("late", {"worst_p": 0.01}, "full against late fusion"),
        ("late", {"value": -0.06}, "full against late fusion"),
        ("concat", {"value": -0.0051}, "full minus concat MLP"),
    ],
)
def test_other_fusions(name: str, changes: dict[str, float], wanted: str) -> None:
    report = copy.deepcopy(_good())
    report["against"][name].update(changes)
    (found,) = _failing(report)
    assert found.startswith(wanted)


def test_another_baseline_above_the_full_model_fails_but_concat_may_be() -> None:
    report = _good()
    report["rows"][-1]["auroc"]["value"] = 0.924
    assert _failing(report) == ["full minus best other baseline, AUROC"]
