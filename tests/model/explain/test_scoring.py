"""The arithmetic of explanation measures, checked by hand."""

from __future__ import annotations

import numpy as np
import pytest

from model.explain.scoring import (
    average_precision,
    infidelity,
    mass_inside,
    mean_of,
    pointing_hit,
    rank_correlation,
    removal_area,
    score_of,
    symmetrised,
    top_overlap,
    upsampled,
)

MASK = np.array([[False, True], [False, False]])


def test_pointing_and_mass_look_at_the_mask() -> None:
    heat = np.array([[1.0, 2.0], [0.5, 0.5]])
    assert pointing_hit(heat, MASK) is True
    assert pointing_hit(heat.T, MASK) is False
    assert mass_inside(heat, MASK) == pytest.approx(0.5)
    assert mass_inside(np.zeros((2, 2)), MASK) == 0.0


def test_overlap_is_of_the_top_pixels() -> None:
    heat = np.arange(16.0).reshape(4, 4)
    mask = heat >= 12
    assert top_overlap(heat, mask, share=0.25) == 1.0
    assert top_overlap(heat, mask, share=0.125) == 0.5
    assert top_overlap(-heat, mask, share=0.25) == 0.0


def test_an_upsampled_grid_keeps_its_peak_in_its_place() -> None:
    large = upsampled([[0.0, 0.0], [0.0, 4.0]], (8, 8))
    assert large.shape == (8, 8)
    assert large[7, 7] == large.max() == pytest.approx(4.0)


@pytest.mark.parametrize(
    ("truth", "score", "expected"),
    [
        ([True, False], [2.0, 1.0], 1.0),
        ([False, True], [2.0, 1.0], 0.5),
        ([True, False], [1.0, 1.0], 0.5),
        ([True, False, True], [3.0, 2.0, 1.0], (1 + 2 / 3) / 2),
        ([True, True], [1.0, 2.0], None),
        ([False, False], [1.0, 2.0], None),
    ],
)
def test_average_precision_counts_ties_as_shares(
    truth: list[bool], score: list[float], expected: float | None
) -> None:
    assert average_precision(truth, score) == pytest.approx(expected)


def test_a_removal_curve_that_falls_at_once_has_no_area() -> None:
    shares = (0.0, 0.5, 1.0)
    assert removal_area(shares, [1.0, 0.2, 0.2]) == pytest.approx(0.25)
    assert removal_area(shares, [1.0, 1.0, 0.2]) == pytest.approx(0.75)
    assert removal_area(shares, [0.4, 0.9, 0.4]) == 1.0  # it ends where it began


def test_rank_correlation_knows_order_only() -> None:
    assert rank_correlation([1, 2, 3], [10, 200, 3000]) == pytest.approx(1.0)
    assert rank_correlation([1, 2, 3], [3, 2, 1]) == pytest.approx(-1.0)
    assert rank_correlation([1, 1, 1], [1, 2, 3]) == 0.0
    assert rank_correlation([1, 1, 2], [1, 1, 5]) == pytest.approx(1.0)


def test_infidelity_is_what_scores_leave_unexplained() -> None:
    assert infidelity([1.0, 2.0], [3.0, 6.0]) == pytest.approx(0.0)  # scale is free
    assert infidelity([1.0, -1.0], [1.0, 1.0]) == pytest.approx(1.0)
    assert infidelity([1.0, 0.0], [1.0, 1.0]) == pytest.approx(0.5)
    assert infidelity([0.0, 0.0], [1.0, 2.0]) == 1.0
    assert infidelity([1.0], [0.0]) is None


def test_a_symmetrised_game_is_the_same_for_both_players() -> None:
    game = symmetrised([0, 1, 2, 4, 8, 16, 32, 64], 0, 2)
    assert game[1] == game[4] == 4.5
    assert game[3] == game[6] == 18
    assert game[7] == 64


def test_a_score_is_held_between_zero_and_one() -> None:
    assert score_of([2.0, -1.0, 0.5]) == pytest.approx(0.5)
    assert mean_of([]) == 0.0 and mean_of([1, 3]) == 2.0
