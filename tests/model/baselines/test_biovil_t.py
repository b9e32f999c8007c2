"""BioViL-T style: the prior film has its place, words find their patches."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from model.baselines.biovil_t import TemporalTower, biovil_t, local_similarity
from model.baselines.contrastive import Embedded
from tests.model.baselines.samples import planted, shared


def _units(*shape: int) -> torch.Tensor:
    return F.normalize(torch.randn(*shape), dim=-1)


@pytest.mark.component("A24a")
def test_the_prior_film_is_optional_and_changes_the_embedding() -> None:
    torch.manual_seed(0)
    tower = TemporalTower(16, 2).eval()
    film, mask = torch.randn(3, 4, 16), torch.ones(3, 4, dtype=torch.bool)
    prior, has = torch.randn(3, 4, 16), mask.clone()
    has[0] = False  # the first patient has no prior film
    alone = tower(film, mask).whole
    both = tower(film, mask, prior, has).whole
    assert torch.allclose(alone[0], both[0], atol=1e-6)
    assert not torch.allclose(alone[1:], both[1:], atol=1e-3)
    other = tower(film, mask, prior.flip(0), has).whole
    assert not torch.allclose(both[1], other[1]) or torch.equal(
        prior[1], prior.flip(0)[1]
    )
    tower(film, mask).whole.sum().backward()
    assert tower.missing.grad is not None and tower.missing.grad.abs().sum() > 0


@pytest.mark.component("A24a")
def test_words_are_compared_with_the_patches_they_attend_to() -> None:
    torch.manual_seed(0)
    patches, words = _units(2, 6, 32), _units(2, 3, 32)
    words[0] = patches[0, :3]  # the first note's words lie on the first film
    mask = torch.ones(2, 6, dtype=torch.bool)
    heard = torch.ones(2, 3, dtype=torch.bool)
    films = Embedded(_units(2, 32), patches, mask)
    found = local_similarity(films, Embedded(_units(2, 32), words, heard))
    assert found.shape == (2, 2) and found[0, 0] > found[1, 0] + 0.2
    mask[0, :3] = False  # those patches do not exist: the match is gone
    hidden = local_similarity(films, Embedded(_units(2, 32), words, heard))
    assert hidden[0, 0] < found[0, 0] - 0.2


@pytest.mark.component("A24a")
def test_the_true_note_ranks_above_others_after_training() -> None:
    found = biovil_t(planted(shared()))
    assert found.figures["true_pair_rank"] < 0.1  # .5 is chance
    assert set(found.tested) == {"image+text", "image"}
    assert len(found.tested["image"]) == len(shared().tested.cases)
