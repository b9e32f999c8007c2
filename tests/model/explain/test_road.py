"""ROAD: pixels solved from their neighbours, removed in both orders."""

from __future__ import annotations

import numpy as np
import pytest

from model.explain.asked import Asked
from model.explain.road import SHARES, RoadCurves, imputed, road_curves
from model.synthetic.case import SynthCase


def test_a_removed_pixel_is_the_weighted_mean_of_its_neighbours() -> None:
    film = np.array([[1.0, 2.0, 3.0], [4.0, 99.0, 6.0], [7.0, 8.0, 9.0]])
    gone = np.zeros((3, 3), dtype=bool)
    gone[1, 1] = True
    filled = imputed(film, gone, np.zeros((3, 3)))
    direct, diagonal = 2 + 4 + 6 + 8, 1 + 3 + 7 + 9
    assert filled[1, 1] == pytest.approx(direct / 6 + diagonal / 12)
    assert np.array_equal(filled[~gone], film[~gone])


def test_neighbours_that_are_gone_too_are_solved_together() -> None:
    # Between two known columns of 0 and 3 the solution rises evenly.
    film = np.tile(np.array([0.0, -9.0, -9.0, 3.0]), (5, 1))
    gone = np.zeros((5, 4), dtype=bool)
    gone[:, 1:3] = True
    filled = imputed(film, gone, np.full((5, 4), 0.25))
    assert filled[2] == pytest.approx([0.0, 1.25, 2.25, 3.0], abs=1e-9)
    assert filled[0] == pytest.approx(filled[4])


def test_the_planted_lesion_is_a_better_order_than_chance(
    ill: tuple[SynthCase, Asked],
) -> None:
    case, asked = ill
    random = np.random.default_rng(3)
    truth = road_curves(asked.question, case.mask.astype(float), random)
    assert len(truth.most_first) == len(truth.least_first) == len(SHARES)
    shuffled = road_curves(asked.question, random.random(case.mask.shape), random)
    assert truth.gap > 0.1
    assert abs(shuffled.gap) < truth.gap / 2
    assert RoadCurves((0.2, 0.4), (0.8, 0.6)).gap == pytest.approx(0.4)
