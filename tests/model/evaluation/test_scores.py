"""Scores against cases worked out by hand, and the properties they must have."""

from __future__ import annotations

from math import isnan, log

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from model.errors import ConfigurationError
from model.evaluation.scores import (
    accuracy,
    all_scores,
    auprc,
    auroc,
    brier,
    calibration_fit,
    calibration_slope,
    conformal_recall,
    confusion,
    ece,
    f1,
    nll,
    precision,
    recall,
    reliability,
    share,
    specificity,
)

#: Six cases in the order of their chance; worked out on paper below.
CHANCE = [0.1, 0.3, 0.4, 0.6, 0.8, 0.9]
TRUTH = [0, 0, 1, 0, 1, 1]

_columns = st.integers(2, 40).flatmap(
    lambda n: st.tuples(
        st.lists(st.integers(1, 98).map(lambda x: x / 99), min_size=n, max_size=n),
        st.lists(st.sampled_from([0.0, 1.0]), min_size=n, max_size=n),
    )
)


@pytest.mark.component("A25b")
def test_auroc_counts_pairs() -> None:
    # 9 pairs; only (.4 positive, .6 negative) is the wrong way round.
    assert auroc(CHANCE, TRUTH) == pytest.approx(8 / 9)
    # A tie is half a win: pairs (.5,.5) and (.5,.2).
    assert auroc([0.5, 0.5, 0.2], [1, 0, 0]) == pytest.approx(0.75)


def test_auprc_is_average_precision() -> None:
    # Ranks of the positives: 1, 2, 4 -> precisions 1, 1, 3/4.
    assert auprc(CHANCE, TRUTH) == pytest.approx((1 + 1 + 3 / 4) / 3)
    # All tied: one step whose precision is the prevalence.
    assert auprc([0.5] * 4, [1, 0, 0, 0]) == pytest.approx(0.25)


@pytest.mark.component("A25a")
@pytest.mark.component("A25c")
@pytest.mark.component("A25d")
@pytest.mark.component("A25e")
def test_decisions_at_a_threshold_agree_with_a_table_made_by_hand() -> None:
    # At one half .6, .8, .9 are called positive: two rightly; .4 is missed.
    assert confusion(CHANCE, TRUTH) == (2, 1, 1, 2)
    assert accuracy(CHANCE, TRUTH) == pytest.approx(4 / 6)
    assert precision(CHANCE, TRUTH) == pytest.approx(2 / 3)
    assert recall(CHANCE, TRUTH) == pytest.approx(2 / 3)
    assert specificity(CHANCE, TRUTH) == pytest.approx(2 / 3)
    assert f1(CHANCE, TRUTH) == pytest.approx(2 / 3)
    # The threshold itself is positive.
    assert confusion(CHANCE, TRUTH, 0.4) == (3, 1, 0, 2)


def test_probabilistic_scores_by_hand() -> None:
    assert brier([0.2, 0.9], [0, 1]) == pytest.approx((0.04 + 0.01) / 2)
    assert nll([0.2, 0.9], [0, 1]) == pytest.approx(-(log(0.8) + log(0.9)) / 2)
    assert nll([0.0, 1.0], [1, 1]) == pytest.approx(-log(1e-12) / 2)


def test_calibration_error_by_hand() -> None:
    # Two bins of two: |.2 - .5| and |.8 - 1|.
    chance, truth = [0.1, 0.3, 0.7, 0.9], [0, 1, 1, 1]
    assert ece(chance, truth, bins=2) == pytest.approx((0.3 + 0.2) / 2)
    predicted, observed, size = reliability(chance, truth, bins=2)
    assert_allclose(predicted, [0.2, 0.8])
    assert_allclose(observed, [0.5, 1.0])
    assert_allclose(size, [2, 2])


def test_calibration_error_of_one_constant_is_its_distance_from_the_prevalence() -> (
    None
):
    truth = [0] * 30 + [1] * 15
    assert ece([0.4] * 45, truth) == pytest.approx(0.4 - 1 / 3)
    assert ece([0.4] * 45, truth[::-1]) == pytest.approx(0.4 - 1 / 3)


def test_fewer_rows_than_bins_make_fewer_bins() -> None:
    assert len(reliability([0.2, 0.8], [0, 1])[2]) == 2


def test_calibration_fit_finds_the_scale_that_was_planted() -> None:
    random = np.random.default_rng(3)
    logit = random.normal(size=20_000) * 2
    truth = (random.random(20_000) < 1 / (1 + np.exp(-(0.5 + logit)))) * 1.0
    over_confident = 1 / (1 + np.exp(-2 * logit))
    intercept, slope = calibration_fit(over_confident, truth)
    assert intercept == pytest.approx(0.5, abs=0.05)
    assert slope == pytest.approx(0.5, abs=0.02)


def test_a_score_that_is_not_defined_is_not_a_number() -> None:
    assert isnan(auroc([0.1, 0.2], [1, 1]))
    assert isnan(auprc([0.1, 0.2], [0, 0]))
    assert isnan(precision([0.1, 0.2], [0, 1]))
    assert isnan(recall([0.1, 0.2], [0, 0]))
    assert isnan(f1([0.1, 0.2], [0, 0]))
    assert isnan(share(0, 0).value)
    assert isnan(calibration_slope([0.3, 0.3], [0, 1]))  # constant chance
    assert isnan(calibration_slope([0.3, 0.4], [1, 1]))  # one class
    assert isnan(calibration_slope([0.3, 0.4], [0, 1]))  # separated


def test_conformal_recall_is_judged_with_two_standard_errors() -> None:
    found = conformal_recall([0.9] * 85 + [0.1] * 15, [1] * 100, 0.5)
    assert found.value == pytest.approx(0.85)
    assert found.error == pytest.approx((0.85 * 0.15 / 100) ** 0.5)
    assert found.at_least(0.90)  # .85 + 2 * .0357 = .921
    assert not found.at_least(0.95)


def test_all_scores_name_each_score_once() -> None:
    found = all_scores(CHANCE, TRUTH)
    assert found["auroc"] == auroc(CHANCE, TRUTH)
    assert found["f1"] == f1(CHANCE, TRUTH)
    assert found["n"] == 6 and found["prevalence"] == 0.5
    assert {"auprc", "accuracy", "precision", "recall", "ece", "brier"} < set(found)


@pytest.mark.parametrize(
    ("chance", "truth"),
    [
        ([], []),
        ([0.1], [0, 1]),
        ([[0.1]], [[1]]),
        ([0.1], [0.5]),
        ([float("nan")], [1]),
    ],
)
def test_columns_that_are_no_scores_are_refused(chance: list, truth: list) -> None:
    with pytest.raises(ConfigurationError):
        auroc(chance, truth)


@settings(max_examples=60, deadline=None)
@given(_columns)
def test_auroc_does_not_change_under_a_monotone_map(columns: tuple) -> None:
    chance, truth = np.array(columns[0]), columns[1]
    assert_allclose(auroc(chance, truth), auroc(np.log(chance), truth))
    assert_allclose(auroc(chance, truth), auroc(chance**3, truth))


@settings(max_examples=60, deadline=None)
@given(_columns)
def test_auroc_of_the_complement_is_the_complement(columns: tuple) -> None:
    chance, truth = np.array(columns[0]), np.array(columns[1])
    assert_allclose(auroc(chance, truth), 1 - auroc(-chance, truth))
    assert_allclose(auroc(chance, truth), auroc(1 - chance, 1 - truth), atol=1e-9)


@settings(max_examples=60, deadline=None)
@given(_columns, st.randoms(use_true_random=False))
def test_no_order_of_rows_matters(columns: tuple, random: object) -> None:
    rows = list(range(len(columns[0])))
    random.shuffle(rows)  # type: ignore[attr-defined]
    chance, truth = np.array(columns[0]), np.array(columns[1])
    before, after = all_scores(chance, truth), all_scores(chance[rows], truth[rows])
    before.pop("calibration_slope"), after.pop("calibration_slope")  # by iteration
    for name, value in before.items():
        assert_allclose(after[name], value, atol=1e-9, err_msg=name)


@settings(max_examples=60, deadline=None)
@given(_columns)
def test_scores_stay_in_their_range(columns: tuple) -> None:
    found = all_scores(*columns)
    for name in ("auroc", "auprc", "accuracy", "precision", "recall", "f1", "ece"):
        assert isnan(found[name]) or 0 <= found[name] <= 1
    assert 0 <= found["brier"] <= 1 and found["nll"] >= 0
