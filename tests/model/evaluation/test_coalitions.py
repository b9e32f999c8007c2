"""Coalitions beside the exact posterior."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from model.baselines.paper import PAPER_MODELS
from model.evaluation.bench import Bench
from model.evaluation.coalitions import (
    Coalition,
    calibration_rows,
    coalition_chances,
    coalition_table,
    curves,
    discrimination_rows,
    paper_rows,
)
from model.evaluation.missingness import missing_rows
from model.evaluation.resampling import Metric, bootstrap
from model.evaluation.scores import accuracy, auroc, f1, precision, recall

NAMES = ["image", "text", "values", "image+text", "image+values", "text+values", "all"]


@pytest.fixture(scope="module")
def chances(bench: Bench) -> dict[str, Coalition]:
    """Every coalition on every case of the bench."""
    return coalition_chances(bench)


@pytest.mark.component("A25a")
@pytest.mark.component("A25b")
@pytest.mark.component("A25c")
@pytest.mark.component("A25d")
@pytest.mark.component("A25e")
def test_every_score_of_every_coalition_has_an_interval(
    bench: Bench, chances: dict[str, Coalition]
) -> None:
    table = coalition_table(bench, chances)
    assert list(table) == NAMES
    for row in table.values():
        for score in ("auroc", "auprc", "accuracy", "precision", "recall", "f1"):
            found = row["intervals"][score]
            assert found["low"] <= found["value"] <= found["high"]
            assert found["value"] == row["model"][score]
        assert row["ceiling"]["n"] == len(bench.cases)
        assert row["at_threshold"]["recall"] >= row["model"]["recall"]


def test_the_full_input_is_compared_with_the_best_pair(
    bench: Bench, chances: dict[str, Coalition]
) -> None:
    rows = discrimination_rows(bench, chances)
    assert [r.name.split(", ")[-1] for r in rows[:-1]] == NAMES
    assert rows[-1].value is not None and rows[-1].value > 0.02
    assert rows[-1].low is not None and "exact posterior" in rows[-1].note


def test_a_perfect_model_is_not_below_the_ceiling(
    bench: Bench, chances: dict[str, Coalition]
) -> None:
    perfect = {name: Coalition(name, c.best, c.best) for name, c in chances.items()}
    assert all(row.value == 0 for row in discrimination_rows(bench, perfect)[:-1])
    assert all(row.holds for row in missing_rows(bench, perfect))


def test_calibration_names_the_exact_figures_beside(
    bench: Bench, chances: dict[str, Coalition]
) -> None:
    rows = {row.name: row for row in calibration_rows(bench, chances)}
    assert all("exact" in rows[f"ECE, {name}"].note for name in NAMES)
    assert rows["recall at the conformal threshold, all"].holds is not None
    assert rows["recall at the conformal threshold, all"].n == bench.truth.sum()


def test_points_of_plots_are_few_and_end_in_the_corners(
    bench: Bench, chances: dict[str, Coalition]
) -> None:
    for lines in curves(bench, chances).values():
        x, y = lines["roc_model"]
        assert len(x) <= 120 and (x[0], y[0], x[-1], y[-1]) == (0, 0, 1, 1)
        assert sum(lines["reliability_model"][2]) == len(bench.cases)


def test_absence_that_depends_on_the_label_costs_little(
    bench: Bench, chances: dict[str, Coalition]
) -> None:
    rows = missing_rows(bench, chances)
    assert len(rows) == 6
    assert all(row.value is not None and row.value < 0.04 for row in rows)


@pytest.mark.component("A26a")
@pytest.mark.component("A26b")
@pytest.mark.component("A26c")
def test_the_ablation_stands_beside_the_papers_and_near_its_own_ceiling(
    bench: Bench, chances: dict[str, Coalition]
) -> None:
    rows = {row.name.split(",")[0]: row for row in paper_rows(bench, chances)}
    stated = {
        "AUROC without text": ("image+values", "paper 0.857, accuracy 0.825"),
        "AUROC without images": ("text+values", "paper 0.863, accuracy 0.832"),
        "AUROC without structured record": (
            *("image+text", "paper 0.849, accuracy 0.819"),
        ),
    }
    for name, (coalition, words) in stated.items():
        row, one = rows[name], chances[coalition]
        assert words in row.note and "ceiling" in row.note and row.holds
        assert row.value == pytest.approx(auroc(one.chance, bench.truth))
        assert auroc(one.best, bench.truth) - row.value <= 0.015
    assert rows["AUROC nothing (full)"].holds
    flat = {n: Coalition(n, 0 * c.chance + 0.5, c.best) for n, c in chances.items()}
    assert not any(row.holds for row in paper_rows(bench, flat))


@pytest.mark.parametrize(
    ("metric", "by_hand", "paper"),
    [
        pytest.param(accuracy, 7 / 10, 0.896, marks=pytest.mark.component("A25a")),
        pytest.param(auroc, 19 / 24, 0.923, marks=pytest.mark.component("A25b")),
        pytest.param(precision, 3 / 5, 0.874, marks=pytest.mark.component("A25c")),
        pytest.param(recall, 3 / 4, 0.869, marks=pytest.mark.component("A25d")),
        pytest.param(f1, 6 / 9, 0.871, marks=pytest.mark.component("A25e")),
    ],
)
def test_a_case_made_by_hand_and_the_papers_value(
    metric: Metric,
    by_hand: float,
    paper: float,
    bench: Bench,
    chances: dict[str, Coalition],
) -> None:
    # Ten patients, four ill. Called ill from .5 on: .9 .8 .7 .6 .5, three rightly; one
    # ill one (.3) is missed. Of the 24 pairs of an ill and a well one, the well .7
    # outranks .6 and .3, the well .5 and .4 outrank .3, and .35 does so, too.
    chance = np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.35, 0.3, 0.2, 0.1])
    truth = np.array([1.0, 1, 0, 1, 0, 0, 0, 1, 0, 0])
    assert metric(chance, truth) == pytest.approx(by_hand)
    found = bootstrap(metric, chance, truth, draws=200, seed=1)
    assert found.value == pytest.approx(by_hand) and found.low < found.high
    assert getattr(PAPER_MODELS["M-LLM"], metric.__name__) == paper
    for name in NAMES:  # the same function on each coalition of the label
        value = metric(chances[name].chance, bench.truth)
        table = coalition_table(replace(bench, draws=5), {name: chances[name]})
        assert table[name]["intervals"][metric.__name__]["value"] == value
