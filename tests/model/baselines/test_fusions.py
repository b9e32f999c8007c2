"""Fusions on shared encoders: what each can and cannot find."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from model.baselines.fusions import fused
from model.baselines.shared import COALITION_KEYS, FULL, pattern_of
from model.evaluation.metrics import auroc
from model.training.calibrate import pattern_logits
from tests.model.baselines.samples import shared, with_tokens


def test_all_coalitions_are_scored_and_absent_modalities_are_never_read() -> None:
    first = fused(shared(), "late")
    assert tuple(first.tested) == COALITION_KEYS
    assert all(len(x) == len(shared().tested.cases) for x in first.tested.values())
    blind = with_tokens(
        shared(), "tested", image=torch.full_like(shared().tested.tokens.image, 9.0)
    )
    again = fused(blind, "late")
    for key in COALITION_KEYS:
        same = np.array_equal(first.tested[key], again.tested[key])
        assert same == ("image" not in key.split("+")), key


def test_concat_is_as_large_as_the_cross_attention_fusion() -> None:
    def size(fusion: str) -> int:
        network = shared().network(fusion)
        names = ("_encoder.", "pools.")
        return sum(
            p.numel()
            for name, p in network.named_parameters()
            if not any(part in name for part in names)
        )

    assert abs(size("concat") / size("catm") - 1) < 0.01
    assert size("late") < size("catm") / 100


@pytest.mark.component("A26a")
@pytest.mark.component("A26b")
@pytest.mark.component("A26c")
def test_each_ablation_comes_within_its_ceiling_on_the_same_cases() -> None:
    part = shared().tested
    for key in ("image+values", "text+values", "image+text", FULL):
        logits = pattern_logits(
            shared().model, part.tokens, part.prepared.inputs.present, pattern_of(key)
        )
        reached = auroc(logits[:, 0].double().numpy(), part.truth)
        assert reached >= auroc(part.posteriors[key], part.truth) - 0.015, key
