"""Owen shares of measured values: by hand, and on the shipped checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import permutations

import pytest
import torch

from model.explain.asked import Asked
from model.explain.attribution import coalition_values, shapley
from model.explain.value_shares import Group, orders, shares_of, value_shares
from model.network.inputs import VALUES
from model.synthetic.case import Carries, SynthCase
from model.synthetic.values import ITEMS


def alike(groups: Sequence[Group]) -> list[float]:
    """Any of the players 0 to 3 tells everything; player 4 tells nothing."""
    return [float(bool(group - {4})) for group in groups]


def test_values_that_say_the_same_divide_it_and_an_idle_one_gets_nothing() -> None:
    shares = shares_of(alike, orders(5, 40, 1))
    assert sum(shares) == pytest.approx(1.0)
    assert shares[4] == 0.0
    assert all(0.1 < share < 0.4 for share in shares[:4])
    assert shares_of(alike, tuple(permutations(range(5)))) == pytest.approx(
        [0.25, 0.25, 0.25, 0.25, 0.0]
    )


def test_values_that_add_up_get_what_they_add() -> None:
    own = (1.0, -2.0, 0.5, 0.0)
    shares = shares_of(lambda gs: [sum(own[p] for p in g) for g in gs], orders(4, 8, 3))
    assert shares == pytest.approx(list(own))


def test_few_values_are_asked_in_every_order_and_many_also_in_reverse() -> None:
    assert set(orders(3, 8, 1)) == set(permutations(range(3)))
    asked = orders(9, 8, 1)
    assert len(asked) == 8 and asked == orders(9, 8, 1) != orders(9, 8, 2)
    assert all(a == b[::-1] for a, b in zip(asked[::2], asked[1::2]))
    assert all(sorted(order) == list(range(9)) for order in asked)


@pytest.mark.component("A19")
def test_shares_add_up_to_the_modalitys_own(ill: tuple[SynthCase, Asked]) -> None:
    question = ill[1].question
    shares = value_shares(question)
    assert len(shares) == len(question.inputs.value_ids[0])
    whole = shapley(coalition_values(question).logit)[VALUES]
    assert sum(shares) == pytest.approx(whole, abs=1e-4)
    assert max(map(abs, shares)) > 0.01


def test_a_case_without_values_has_none(ill: tuple[SynthCase, Asked]) -> None:
    question = ill[1].question
    present = torch.tensor([[True, True, False]])
    assert value_shares(replace(question, present=present)) == ()


def test_one_severe_value_tells_as_much_as_two() -> None:
    """Why the share is shown: leaving one of them out changes nothing in the truth."""
    told = [item for item in ITEMS if item.carries is Carries.SEVERITY]
    assert {"6690-2", "59408-5"} <= {item.loinc for item in told}
    for item in told:
        ends = sorted(item.bands)
        assert all(low[1] < high[0] for low, high in zip(ends, ends[1:])), item.name
