"""Shifts and unit errors through the real path."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import numpy as np
import pytest

from model.evaluation import film_shifts, robustness, unit_errors
from model.evaluation.bench import Bench
from model.evaluation.robustness import Shift, drop, film, not_read
from model.evaluation.unit_errors import (
    damaged,
    missing_unit,
    other_number,
    rounded_number,
    unit_rows,
    unknown_unit,
)
from model.inference.abstention import AbstentionPolicy
from model.inference.predictor import Predictor

MILD = [(n, shift) for n, shift in enumerate(robustness.SHIFTS) if shift.mild]


def test_eight_shifts_are_mild() -> None:
    assert len(MILD) == 8


@pytest.mark.component("A27")
@pytest.mark.parametrize("number, shift", MILD, ids=[shift.name for _, shift in MILD])
def test_a_mild_shift_costs_little(bench: Bench, number: int, shift: Shift) -> None:
    found = drop(bench, shift, number)
    assert found.value <= robustness.MILD_DROP
    assert found.low <= found.value <= found.high


@pytest.mark.component("A27")
@pytest.mark.parametrize("number", range(len(robustness.CAUGHT)))
def test_what_is_no_film_is_caught(bench: Bench, number: int) -> None:
    row = robustness._caught_row(bench, number, robustness.CAUGHT[number])
    assert row.value == 1.0 and row.holds


def test_noise_in_the_film_costs_more_than_none(bench: Bench) -> None:
    nothing = Shift("nothing", film(lambda pixels, random: pixels))
    assert drop(bench, nothing, 0).value == 0.0
    noise = Shift("noise", film(film_shifts.white_noise))
    assert drop(bench, noise, 0).value > 0.03


def test_a_usual_film_is_read(bench: Bench) -> None:
    assert not all(not_read(a) for a in bench.serve(bench.records[:4], "usual"))


@pytest.mark.component("A27")
def test_units_that_cannot_be_read_never_reach_an_estimate(bench: Bench) -> None:
    rows = {row.name: row for row in unit_rows(bench)}
    assert rows["caught: a unit that nobody knows"].holds
    assert rows["caught: no unit"].holds
    assert rows["logit change: the right number in another unit"].holds
    assert rows["caught: the number of another unit"].holds
    assert rows["plain values that are doubted"].holds
    rounded = rows["caught: the number of another unit, rounded"]
    assert rounded.value is not None and rounded.value >= 0.9


def test_what_slips_through_is_named_and_its_sway_is_measured(bench: Bench) -> None:
    vocabulary = bench.checkpoint.vocabulary
    codes = tuple(replace(code, decimals=None) for code in vocabulary.codes)
    blind = replace(
        bench.checkpoint, vocabulary=replace(vocabulary, codes=codes, company=())
    )
    few = replace(bench, checkpoint=blind, served_cases=12)
    few.__dict__["predictor"] = Predictor.of(blind, AbstentionPolicy())
    caught, sway = unit_errors._caught(few, 2, "another", other_number)
    assert caught.holds is False and "passed as plausible" in caught.note
    assert sway.value is not None and sway.value > 0 and 0 < sway.n < 12


def test_a_rounded_number_has_three_figures_and_a_zero_none() -> None:
    made = {"value": Decimal("435")}
    assert rounded_number("30934-4", made, np.random.default_rng(0))
    assert made["value"] == Decimal("126")
    nothing = {"value": Decimal(0)}
    assert not rounded_number("713-8", nothing, np.random.default_rng(0))


def test_damage_takes_one_value_and_nothing_else(bench: Bench) -> None:
    case, record = bench.cases[0], bench.records[0]
    for damage in (unknown_unit, missing_unit):
        found = damaged(case, record, damage, np.random.default_rng(1))
        assert found is not None
        kept = {v.loinc for v in found.record.values}
        assert {v.loinc for v in record.values} - kept == {found.loinc}
        assert found.record.images == record.images


def test_a_case_without_another_unit_is_left_out(bench: Bench) -> None:
    case = bench.cases[0]
    plain = replace(case, values=tuple(v for v in case.values if v.unit == "/min"))
    found = damaged(plain, bench.records[0], other_number, np.random.default_rng(1))
    assert found is None
    empty = replace(bench, cases=[plain], served_cases=1)
    rows = {row.name: row for row in unit_errors.unit_rows(empty)}
    assert rows["caught: the number of another unit"].value is None
    assert rows["logit change: the right number in another unit"].value is None
