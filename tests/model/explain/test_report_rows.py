"""Rows: value, interval, target, and the verdict that follows from them."""

from __future__ import annotations

import numpy as np
import pytest

from model.explain.perturbation import FILM_SHARES
from model.explain.report_rows import (
    RowMaker,
    at_least,
    at_most,
    figure,
    film_rows,
    interval_of,
    note_rows,
    rule_rows,
    value_rows,
)
from model.explain.tally import Tally


def tally(**numbers: list[float]) -> Tally:
    made = Tally()
    for name, values in numbers.items():
        for value in values:
            made.add(name, value)
    return made


@pytest.mark.parametrize(
    ("value", "bar", "target", "holds"),
    [
        (0.9, at_least(0.9), ">= 0.9", True),
        (0.89, at_least(0.9), ">= 0.9", False),
        (0.2, at_most(0.2), "<= 0.2", True),
        (0.21, at_most(0.2), "<= 0.2", False),
        (0.5, None, None, None),
        (None, at_least(0.9), ">= 0.9", None),
    ],
)
def test_a_verdict_follows_from_value_and_target(
    value: float | None, bar: object, target: str | None, holds: bool | None
) -> None:
    row = figure(value, bar)  # type: ignore[arg-type]
    assert (row["value"], row["target"], row["holds"]) == (value, target, holds)
    assert row["low"] is None and row["high"] is None


def test_nothing_is_added_for_what_was_not_measured() -> None:
    made = Tally()
    made.add("x", None)
    assert "x" not in made.numbers
    made.add("x", True)
    assert made.numbers["x"] == [1.0]


def test_an_interval_covers_the_mean_and_narrows_with_cases() -> None:
    values = np.random.default_rng(1).normal(2.0, 1.0, 400)
    wide = interval_of(25, lambda rows: float(values[:25][rows].mean()), 7)
    low, high = interval_of(400, lambda rows: float(values[rows].mean()), 7)
    assert low < values.mean() < high
    assert high - low == pytest.approx(2 * 1.96 / 20, rel=0.15)
    assert wide[1] - wide[0] > 2 * (high - low)
    again = interval_of(400, lambda rows: float(values[rows].mean()), 7)
    assert again == (low, high)


def test_means_ratios_and_gaps_are_of_the_same_cases() -> None:
    rows = RowMaker(tally(a=[2.0, 4.0, 6.0], b=[1.0, 2.0, 3.0]), 3)
    assert rows.mean("a")["value"] == 4.0 and rows.mean("a")["n"] == 3
    ratio = rows.ratio("a", "b", at_least(2.0))
    assert ratio["value"] == 2.0 and ratio["holds"] is True
    assert ratio["low"] == ratio["high"] == pytest.approx(2.0)
    assert rows.gap("a", "b")["value"] == 2.0
    by = rows.standard_errors("a", "b", at_least(3.0))
    assert by["value"] == pytest.approx(2.0 / (1.0 / 3**0.5))
    assert by["holds"] is True


def test_what_no_case_told_is_not_measured() -> None:
    rows = RowMaker(tally(one=[1.0], other=[0.5]), 3)
    for row in (
        rows.mean("none", at_least(1.0)),
        rows.ratio("none", "nothing"),
        rows.gap("none", "nothing", at_least(0.0)),
        rows.standard_errors("one", "other", at_least(3.0)),
    ):
        assert row["value"] is None and row["holds"] is None


def test_removal_compares_the_areas_of_map_and_chance() -> None:
    made = Tally()
    early = [1.0, *[0.0] * (len(FILM_SHARES) - 1)]
    late = [*[1.0] * (len(FILM_SHARES) - 1), 0.0]
    made.curves["deletion_map"] += [early, early]
    made.curves["deletion_random"] += [late, late]
    row = RowMaker(made, 5).removal("deletion", lambda own, other: own / other)
    assert row["value"] == pytest.approx(0.01 / 0.95, rel=0.01)
    assert row["n"] == 2


def test_every_section_asks_for_what_is_measured() -> None:
    names = ("map", "attention", "best", "random")
    film = {f"{kind}_{n}": [0.6] for kind in ("pointing", "mass") for n in names}
    film |= {f"overlap_{n}": [0.3] for n in names}
    film |= {"road_map": [0.5], "road_random": [0.1]}
    made = tally(**film, mass_patches=[0.9], lesion_area=[0.05], drawn=[1.0])
    flat = [1.0] * (len(FILM_SHARES) - 1)
    for name in ("deletion_map", "insertion_map", "deletion_random"):
        made.curves[name].append([*flat, 0.0])
    made.curves["insertion_random"].append([*flat, 0.0])
    found = film_rows(RowMaker(made, 1))
    assert found["mass_in_lesion"]["holds"] is True
    assert found["pointing_game"]["holds"] is False
    assert found["mass_over_attention"]["value"] == pytest.approx(1.0)
    assert found["mass_over_attention"]["holds"] is False
    assert found["road_above_random"]["value"] == pytest.approx(0.4)
    words = note_rows(RowMaker(tally(comprehensiveness=[0.4], sufficiency=[0.1]), 1))
    assert words["comprehensiveness"]["holds"] is True
    assert words["sufficiency"]["holds"] is False
    labs = value_rows(RowMaker(tally(lab_precision=[0.95, 0.9]), 1))
    assert labs["lab_auprc"]["holds"] is True and labs["lab_auprc"]["n"] == 2


def test_one_failed_sentence_fails_the_row() -> None:
    good = {"efficiency": [1e-9, 2e-9], "dummy": [0.0], "symmetry": [0.0]}
    found = rule_rows(
        tally(**good, sentence_passes=[1.0, 1.0, 0.0], plant_caught=[1.0])
    )
    assert found["shapley_efficiency_error"]["value"] == 2e-9
    assert found["shapley_efficiency_error"]["holds"] is True
    assert found["sentences_verified"]["holds"] is False
    assert found["false_sentences_caught"]["holds"] is True
