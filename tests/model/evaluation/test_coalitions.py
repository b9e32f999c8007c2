"""Coalitions beside the exact posterior."""

from __future__ import annotations

import pytest

from model.evaluation.bench import Bench
from model.evaluation.coalitions import (
    Coalition,
    calibration_rows,
    coalition_chances,
    coalition_table,
    curves,
    discrimination_rows,
)
from model.evaluation.missingness import missing_rows

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
