"""What modalities say together, and whether one speaks for all."""

from __future__ import annotations

import pytest

from model.explain import commands
from model.explain.attribution import CoalitionValues, modality_shares, shapley
from model.explain.sanity import MODULES
from model.explain.synergy import (
    DOMINANCE_LIMIT,
    dividend,
    dividends,
    dominance,
    dominance_of,
)
from model.jobs.explanation import ModalityShare

GAME = (0.0, 1.0, 2.0, 5.0, 4.0, 6.0, 9.0, 20.0)


def shares(image: float, text: float, values: float) -> tuple[ModalityShare, ...]:
    sizes = {"image": image, "text": text, "values": values}
    return tuple(ModalityShare(name, size, 0.0) for name, size in sizes.items())


def test_a_dividend_is_what_a_group_adds_beyond_its_parts() -> None:
    assert dividend(GAME, 0b001) == 1.0
    assert dividend(GAME, 0b011) == 5 - 1 - 2
    assert dividend(GAME, 0b111) == 20 - (1 + 2 + 4) - (2 + 1 + 3)


def test_dividends_divided_evenly_are_shapley_values() -> None:
    found = {
        d.modalities: d.logit for d in dividends(CoalitionValues(GAME, GAME, GAME))
    }
    alone = {"image": 1.0, "text": 2.0, "values": 4.0}
    for player, name in enumerate(alone):
        total = alone[name] + sum(
            size / len(group) for group, size in found.items() if name in group
        )
        assert total == pytest.approx(shapley(GAME)[player])
    assert len(found) == 4


def test_dominance_is_the_share_of_the_largest() -> None:
    assert dominance_of(shares(3.0, -1.0, 0.0)) == pytest.approx(0.75)
    assert dominance_of(shares(0.0, 0.0, 0.0)) is None
    found = dominance([shares(1.0, -3.0, 1.0), shares(1.0, 3.0, 1.0)])
    assert found is not None
    assert (found.index, found.modality, found.alert) == (0.6, "text", False)
    assert dominance([shares(0.0, 0.0, 0.0)]) is None


@pytest.mark.parametrize(("limit", "alert"), [(0.59, True), (0.6, False)])
def test_the_limit_is_the_sites(limit: float, alert: bool) -> None:
    found = dominance([shares(1.0, 3.0, 1.0)], limit)
    assert found is not None and found.alert is alert


def test_the_options_defaults_are_those_of_the_measures() -> None:
    assert commands.DOMINANCE_LIMIT == DOMINANCE_LIMIT
    assert commands.MODULES == MODULES


def test_shares_of_a_game_are_on_both_scales() -> None:
    values = CoalitionValues(GAME, GAME, tuple(x / 20 for x in GAME))
    found = modality_shares(values)
    assert sum(s.logit for s in found) == pytest.approx(20)
    assert sum(s.probability for s in found) == pytest.approx(1)
