"""Each value's signed share of what the values say together: its Owen value.

Leave-one-out on the whole record is blind where values say the same: without either
leukocytes or saturation the other still tells that the patient is ill, the change is
next to nothing, and its sign is chance. The Owen value (Owen 1977: a Shapley value
whose players come in groups that join together) asks instead what a value adds on
average, in every order in which measurements could have become known, in every
coalition of film and note. Film, note and values are the groups, so the shares of the
values add up to the values' own Shapley value among the modalities, exactly.

Three values or fewer are asked in all orders, more in a fixed sample of orders, each
followed by its reverse, so that one that came early also comes late. Every single
order adds up, so the sample changes how the whole is divided and never the whole.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import permutations

import numpy as np
import torch

from model.explain.attribution import SHAPLEY_WEIGHTS, Question
from model.explain.value_subsets import JOINED, Pattern, logits_of, tokens_of
from model.network.inputs import VALUES

#: Orders over all four coalitions, divided as their Shapley weights: 8, 4, 4, 8.
ORDERS = 24
_ALL_ORDERS = 3  # up to so many values, every order is asked
_SEED = 1977
_BATCH = 128

Order = tuple[int, ...]
Group = frozenset[int]
#: What each group of measurements is worth, in logits.
Game = Callable[[Sequence[Group]], Sequence[float]]


def value_shares(question: Question) -> tuple[float, ...]:
    """Owen value of each measurement, on the calibrated logit.

    Args:
        question: The case.

    Returns:
        One share per measurement, positive where it raises the estimate; none without
        values. Their sum is the Shapley value of the modality.
    """
    count = len(question.inputs.value_ids[0])
    if not count or not bool(question.present[0, VALUES]):
        return ()
    shares = np.zeros(count)
    for number, pattern in enumerate(JOINED):
        weight = SHAPLEY_WEIGHTS[sum(pattern) - 1]
        asked = orders(count, round(ORDERS * weight), _SEED + number)
        shares += weight * np.array(shares_of(_game(question, pattern), asked))
    return tuple(shares.tolist())


def orders(count: int, number: int, seed: int) -> tuple[Order, ...]:
    """In which orders ``count`` players come: all, or a sample with its reverses.

    Args:
        count: Players, at least one.
        number: Size of the sample, even.
        seed: Of the sample.
    """
    if count <= _ALL_ORDERS:
        return tuple(permutations(range(count)))
    random = np.random.default_rng([seed, count])
    drawn = [tuple(random.permutation(count).tolist()) for _ in range(number // 2)]
    return tuple(one for order in drawn for one in (order, order[::-1]))


def shares_of(game: Game, asked: Sequence[Order]) -> list[float]:
    """Mean gain of each player over these orders.

    Args:
        game: Worth of groups of players.
        asked: Orders of the same players.

    Returns:
        Shares that add up to what all are worth less what none are.
    """
    met = {frozenset(order[:size]) for order in asked for size in range(len(order) + 1)}
    groups = sorted(met, key=sorted)
    worth = dict(zip(groups, game(groups), strict=True))
    shares = [0.0] * len(asked[0])
    for order in asked:
        for place, player in enumerate(order):
            before = frozenset(order[:place])
            shares[player] += worth[before | {player}] - worth[before]
    return [share / len(asked) for share in shares]


def _game(question: Question, pattern: Pattern) -> Game:
    """The estimate with these measurements, beside the rest of one coalition."""
    valid = question.inputs.obs_mask

    def worth(groups: Sequence[Group]) -> list[float]:
        kept = torch.zeros(
            (len(groups), valid.shape[1]), dtype=torch.bool, device=valid.device
        )
        for row, group in enumerate(groups):
            kept[row, list(group)] = True
        found: list[float] = []
        for part in torch.split(kept, _BATCH):
            found += logits_of(question, tokens_of(question, part), pattern)
        return found

    return worth
