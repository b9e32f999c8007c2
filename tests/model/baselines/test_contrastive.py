"""The frame of the contrastive baselines: losses, ranks, what feeds the classifier."""

from __future__ import annotations

import math

import pytest
import torch

from model.baselines.contrastive import (
    DualEncoder,
    Tower,
    embeddings,
    info_nce,
    pair_features,
    true_pair_rank,
)
from tests.model.baselines.samples import shared


def test_info_nce_is_least_for_the_true_pairs() -> None:
    right, wrong = 20.0 * torch.eye(4), 20.0 * torch.eye(4).roll(1, 0)
    assert float(info_nce(right)) < 1e-4 < 10 < float(info_nce(wrong))
    assert float(info_nce(torch.zeros(4, 4))) == pytest.approx(math.log(4))


def test_the_scale_stays_between_one_and_a_hundred() -> None:
    model = DualEncoder(8, 2)
    for value, wanted in ((9.0, 100.0), (-3.0, 1.0)):
        model.log_scale.data.fill_(value)
        assert float(model.scale.detach()) == pytest.approx(wanted, rel=1e-4)


def test_embeddings_have_unit_length_and_ignore_padding() -> None:
    torch.manual_seed(0)
    tower = Tower(8, 2).eval()
    x, mask = torch.randn(2, 5, 8), torch.ones(2, 5, dtype=torch.bool)
    mask[0, 3:] = False
    first = tower(x, mask)
    x[0, 3:] = 100.0
    again = tower(x, mask)
    assert torch.allclose(first.whole, again.whole, atol=1e-6)
    assert torch.allclose(first.whole.norm(dim=1), torch.ones(2), atol=1e-5)


def test_rank_of_the_true_pair() -> None:
    points = torch.nn.functional.normalize(torch.randn(9, 16), dim=1)
    assert true_pair_rank(points, points) == 0.0
    assert true_pair_rank(points, -points) == 1.0
    assert true_pair_rank(points[:1], points[:1]) == 0.0


def test_features_hold_both_embeddings_and_their_product() -> None:
    films, notes = embeddings(DualEncoder(64, 4).eval(), shared().held_out)
    assert films.shape == notes.shape == (60, 64)
    features = pair_features(films, notes)
    assert features.shape == (60, 192)
    assert features[0, 128] == pytest.approx(8 * float(films[0, 0] * notes[0, 0]))
