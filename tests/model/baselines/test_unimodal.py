"""One modality alone: near its ceiling, and blind to the other two."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from model.baselines.scored import Scored
from model.baselines.unimodal import unimodal
from model.evaluation.scores import auroc
from tests.model.baselines.samples import shared, with_tokens


def _near_its_ceiling(modality: str) -> Scored:
    found, part = unimodal(shared(), modality), shared().tested
    ceiling = auroc(part.posteriors[modality], part.truth)
    assert auroc(found.tested[modality], part.truth) >= ceiling - 0.015
    return found


@pytest.mark.component("A24d")
def test_text_only_reaches_its_ceiling_and_cannot_see_images() -> None:
    found = _near_its_ceiling("text")
    tokens = shared().tested.tokens
    blind = with_tokens(
        shared(),
        "tested",
        image=torch.randn_like(tokens.image),
        values=torch.randn_like(tokens.values),
    )
    again = unimodal(blind, "text").tested["text"]
    assert np.array_equal(found.tested["text"], again)
    empty = with_tokens(shared(), "tested", text=torch.zeros_like(tokens.text))
    assert np.ptp(unimodal(empty, "text").tested["text"]) < 1e-5


@pytest.mark.component("A24e")
def test_image_only_reaches_its_ceiling_and_cannot_read() -> None:
    found = _near_its_ceiling("image")
    tokens = shared().tested.tokens
    blind = with_tokens(shared(), "tested", text=torch.randn_like(tokens.text))
    again = unimodal(blind, "image").tested["image"]
    assert np.array_equal(found.tested["image"], again)


def test_labs_only_reaches_its_ceiling() -> None:
    _near_its_ceiling("values")
