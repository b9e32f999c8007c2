"""CheXzero style: "X" against "no X", batches of any size."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from model.baselines.chexzero import chexzero, softmax_score
from tests.model.baselines.samples import planted, shared


@pytest.mark.component("A24c")
def test_a_film_near_the_finding_scores_above_one_near_its_absence() -> None:
    torch.manual_seed(0)
    positive, negative = (F.normalize(torch.randn(3, 8), dim=1) for _ in range(2))
    films = torch.stack([positive.mean(0), negative.mean(0)])
    score = softmax_score(films, positive, negative)
    assert score.shape == (2,) and ((score > 0) & (score < 1)).all()
    assert score[0] > 0.5 > score[1]
    one = softmax_score(films[:1], positive, negative)
    assert torch.allclose(one[0], score[0])  # a batch equals single films
    assert torch.allclose(softmax_score(films, negative, positive), 1 - score)


@pytest.mark.component("A24c")
def test_the_true_note_ranks_above_others_without_any_label() -> None:
    found = chexzero(planted(shared()))
    assert found.figures["true_pair_rank"] < 0.1  # .5 is chance
    assert ((found.tested["image"] > 0) & (found.tested["image"] < 1)).all()
