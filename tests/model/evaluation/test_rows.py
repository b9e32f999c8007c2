"""Rows: verdicts, intervals, and what cannot be measured."""

from __future__ import annotations

from math import nan

import pytest

from model.evaluation.resampling import Interval
from model.evaluation.rows import (
    at_least,
    at_most,
    judged,
    missed,
    not_measured,
    reported,
)


def test_a_limit_itself_holds() -> None:
    assert at_most("a", 0.03, 0.03).holds is True
    assert at_most("a", 0.0301, 0.03).holds is False
    assert at_least("a", 0.9, 0.9).holds is True
    assert at_least("a", 0.89, 0.9).holds is False


def test_an_interval_gives_its_bounds_and_n() -> None:
    row = at_most("a", Interval(0.5, 0.4, nan, 9), 0.6, note="why")
    assert (row.value, row.low, row.high, row.n) == (0.5, 0.4, None, 9)
    assert row.to_json()["note"] == "why" and row.target == "\u2264 0.6"


def test_what_is_not_defined_is_not_measured() -> None:
    row = at_least("a", nan, 0.5)
    assert row.value is None and row.holds is None and row.note
    assert not_measured("a", "", "no data").note == "no data"


def test_only_broken_targets_are_missed() -> None:
    broken = judged("b", 0.0, "= 1", False)
    rows = [reported("a", 1.0, n=3), broken, at_most("c", 0.0, 1.0)]
    assert missed(rows) == [broken]
    assert rows[0].holds is None and rows[0].n == 3


@pytest.mark.parametrize("value", [0, 1])
def test_whole_numbers_are_numbers_too(value: int) -> None:
    assert reported("a", value).value == float(value)
