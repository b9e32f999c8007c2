"""The tri-modal model and the ways of fusing that it is compared with.

All start from the same frozen encoders and get the same schedules and modality dropout;
``concat`` has as many parameters as the cross-attention fusion (``catm``).
"""

from __future__ import annotations

import torch
from torch import Tensor

from model.baselines.scored import Floats, Scored
from model.baselines.shared import COALITION_KEYS, Part, Shared, pattern_of
from model.network.fusion import TriModalModel
from model.training.calibrate import pattern_logits
from model.training.stages import fusion_parameters, train_fusion


def fused(shared: Shared, fusion: str) -> Scored:
    """Train one fusion on the shared encoders and score all seven coalitions.

    Args:
        shared: Cases and encoders of one seed.
        fusion: Name in the fusion registry: "catm", "late", "concat", ...

    Raises:
        ConfigurationError: no such fusion.
    """
    model, recipe = shared.network(fusion), shared.recipe
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        train_fusion(
            model,
            shared.training.prepared,
            (recipe.pooled, recipe.fusion),
            dropout=recipe.dropout,
            seed=recipe.seed,
            progress=recipe.progress,
        )
    model.eval()
    count = sum(p.numel() for p in fusion_parameters(model))
    return Scored(
        {key: _logits(model, shared.held_out, key) for key in COALITION_KEYS},
        {key: _logits(model, shared.tested, key) for key in COALITION_KEYS},
        {"parameters": float(count)},
    )


def _logits(model: TriModalModel, part: Part, coalition: str) -> Floats:
    """Logits (n,) of the label with a coalition's modalities in use."""
    present = part.prepared.inputs.present
    logits: Tensor = pattern_logits(model, part.tokens, present, pattern_of(coalition))
    scores: Floats = logits[:, 0].double().numpy()  # (n, C) -> (n,)
    return scores
