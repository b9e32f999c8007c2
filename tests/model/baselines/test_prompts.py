"""Prompts: what they say, and that they go through the note encoder."""

from __future__ import annotations

import torch

from model.baselines.contrastive import DualEncoder
from model.baselines.prompts import (
    embed_prompts,
    finding_pairs,
    finding_prompts,
    prompt_margin,
)
from tests.model.baselines.samples import shared


def test_finding_prompts_are_phrases_of_the_notes_without_gaps() -> None:
    ill, well = finding_prompts("high"), finding_prompts("low")
    assert len(ill) > 20 and len(well) > 20 and not set(ill) & set(well)
    assert all("{" not in p and p.endswith(".") for p in (*ill, *well))
    assert "High fever." in ill and "No fever." in well


def test_a_pair_differs_by_the_negation_only() -> None:
    for positive, negative in finding_pairs():
        assert negative == f"no {positive}"


def test_prompts_are_embedded_apart_and_the_margin_tells_them_apart() -> None:
    model = DualEncoder(64, 4).eval()
    points = embed_prompts(shared(), model, ["high fever.", "no fever."])
    assert points.shape == (2, 64)
    assert torch.allclose(points.norm(dim=1), torch.ones(2), atol=1e-5)
    margin = prompt_margin(points, points[:1], points[1:])
    assert margin[0] > 0 > margin[1]
