"""Subgroups: gaps by hand, and a planted bias that must be found."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from model.evaluation.bench import Bench
from model.evaluation.fairness import (
    age_band,
    attributes,
    fairness_rows,
    gap,
    style,
)
from model.evaluation.scores import accuracy, auroc


def test_a_gap_by_hand() -> None:
    chance = np.array([0.9, 0.1, 0.9, 0.9])
    truth = np.array([1.0, 0.0, 1.0, 0.0])
    names = np.array(["a", "a", "b", "b"])
    found = gap(accuracy, chance, truth, names, draws=20, seed=0)
    assert found.value == 0.5 and found.n == 4
    assert 0 <= found.low <= found.high <= 1


def test_equal_groups_have_no_gap() -> None:
    chance, truth = np.tile([0.2, 0.4, 0.6, 0.8], 2), np.tile([0.0, 1, 0, 1], 2)
    found = gap(auroc, chance, truth, np.repeat(["a", "b"], 4), draws=5, seed=0)
    assert found.value == 0.0


def test_bands_and_styles(bench: Bench) -> None:
    assert [age_band(a) for a in (20, 39, 40, 74, 75, 95)] == [
        *("20-39", "20-39", "40-59", "60-74", "75-89", "90+")
    ]
    case = bench.cases[0]
    for text, wanted in (("pt c/o cough, SOB", "telegraphic"), ("a cough", "prose")):
        assert style(replace(case, note=replace(case.note, text=text))) == wanted
    groups = attributes(bench.cases)
    assert set(groups["sex"]) == {"female", "male"}
    assert set(groups["language style"]) == {"telegraphic", "prose"}


def test_a_planted_bias_is_found_and_every_subgroup_is_listed(bench: Bench) -> None:
    rows, table = fairness_rows(bench)
    planted = rows[-1]
    assert planted.name.startswith("planted bias") and planted.holds, planted
    assert {row["attribute"] for row in table} == {
        *("sex", "age", "language style", "site")
    }
    for attribute in ("sex", "age", "language style", "site"):
        members = [row for row in table if row["attribute"] == attribute]
        assert sum(row["n"] for row in members) == len(bench.cases)
    assert all(row.low is not None for row in rows)
