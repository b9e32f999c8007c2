"""Abstention precision by hand and on the demonstration checkpoint."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from model.evaluation.abstentions import abstention_rows
from model.evaluation.bench import Bench
from model.evaluation.coalitions import Coalition
from model.inference.calibration import pattern_name
from model.inference.conformal import ConformalSet
from model.training.synthetic_set import LABEL


def few(bench: Bench, low: float, high: float) -> Bench:
    """Four cases, two of them ill, under a conformal set made by hand."""
    calibration = replace(
        bench.checkpoint.calibration,
        conformal={pattern_name((True,) * 3): {LABEL: ConformalSet(low, high)}},
    )
    made = replace(
        bench,
        checkpoint=replace(bench.checkpoint, calibration=calibration),
        served_cases=3,
    )
    made.__dict__["truth"] = np.array([1.0, 0.0, 1.0, 0.0])
    return made


def rows(bench: Bench, *chance: float) -> list:
    one = Coalition("all", np.array(chance), np.array(chance))
    return abstention_rows(bench, {"all": one})


def test_precision_by_hand(bench: Bench) -> None:
    # .45 (ill) and .55 (well) lie between the thresholds, and both are wrong.
    share, precision, plain = rows(few(bench, 0.4, 0.6), 0.45, 0.55, 0.9, 0.1)
    assert share.value == 0.5 and precision.value == 1.0 and precision.holds
    assert "elsewhere 0.0000" in precision.note and plain.n == 3
    # the doubted ones are right, the others wrong: worth nothing
    _, precision, _ = rows(few(bench, 0.4, 0.6), 0.55, 0.45, 0.1, 0.9)
    assert precision.value == 0.0 and precision.holds is False


def test_nobody_or_everybody_doubted_is_not_measured(bench: Bench) -> None:
    assert rows(few(bench, 0.6, 0.6), 0.2, 0.3, 0.8, 0.9)[1].value is None
    found = rows(few(bench, 0.0, 1.0), 0.2, 0.3, 0.8, 0.9)[1]
    assert found.value == 0.5 and found.holds is False


def test_without_conformal_sets_it_is_said(bench: Bench) -> None:
    made = few(bench, 0.4, 0.6)
    bare = replace(made.checkpoint.calibration, conformal={})
    other = replace(made, checkpoint=replace(made.checkpoint, calibration=bare))
    found = rows(other, 0.2, 0.3, 0.8, 0.9)
    assert found[0].value is None and "no conformal" in found[0].note


def test_the_demonstration_doubts_the_cases_that_it_gets_wrong(bench: Bench) -> None:
    one = Coalition("all", bench.chance, bench.chance)
    share, precision, plain = abstention_rows(bench, {"all": one})
    assert 0 < share.value < 0.5 and precision.holds
    assert plain.value <= 0.1
