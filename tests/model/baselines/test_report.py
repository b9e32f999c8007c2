"""The report: means over seeds, intervals, ceilings, pairs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from model.baselines.report import build_report
from model.baselines.scored import Scored
from model.baselines.shared import FULL
from tests.model.baselines.samples import SETTINGS, seed_result


@pytest.mark.component("A25a")
@pytest.mark.component("A25c")
@pytest.mark.component("A25d")
@pytest.mark.component("A25e")
def test_the_scores_of_a_hand_made_case() -> None:
    result = seed_result(7, n=100)
    # 50 positives, 40 found; 50 negatives, 10 false alarms: the scores say so plainly
    sure = np.where(result.tested == 1, 2.0, -2.0)
    flipped = np.r_[np.flatnonzero(sure > 0)[:10], np.flatnonzero(sure < 0)[:10]]
    sure[flipped] *= -1
    scores = Scored({FULL: sure}, {FULL: sure})
    methods = {**result.methods, "late": scores}
    report = build_report(SETTINGS, [replace(result, methods=methods)])
    row = {row["name"]: row for row in report["rows"]}["late"]
    for name in ("accuracy", "precision", "recall", "f1", "auroc"):
        assert row[name]["value"] == pytest.approx(0.8)
        assert row[name]["low"] <= 0.8 <= row[name]["high"]


def test_figures_are_means_over_seeds_and_gaps_are_on_the_same_cases() -> None:
    results = [seed_result(7), seed_result(17)]
    report = build_report(SETTINGS, results)
    assert report["data"]["seeds"] == [7, 17]
    for row in report["rows"]:
        assert row["auroc"]["value"] == pytest.approx(np.mean(row["by_seed"]))
    for row in report["ablation"]:
        assert row["ceiling"] == 1.0  # this posterior knows the truth
        assert row["gap"] == pytest.approx(1.0 - row["auroc"]["value"])
        assert row["gap"] == pytest.approx(np.mean(row["gap_by_seed"]))
    full = {row["name"]: row for row in report["rows"]}["m_llm"]
    assert full["paper"]["auroc"] == 0.923


def test_pairs_are_compared_on_the_same_cases_seed_by_seed() -> None:
    report = build_report(SETTINGS, [seed_result(7, 600), seed_result(17, 600)])
    late = report["against"]["late"]
    assert late["value"] > 0.05 and len(late["seeds"]) == 2
    assert late["worst_p"] == max(d["p"] for d in late["seeds"])
    concat = report["against"]["concat"]
    assert abs(concat["value"]) < 0.05


def test_the_contrastive_rows_have_a_zero_shot_row_too() -> None:
    report = build_report(SETTINGS, [seed_result(7)])
    assert {r["reads"] for r in report["zero_shot"]} == {"image"}
    assert {r["name"] for r in report["zero_shot"]} == {
        "biovil_t",
        "medclip",
        "chexzero",
    }
    assert all(r["paper"] is None for r in report["zero_shot"])
