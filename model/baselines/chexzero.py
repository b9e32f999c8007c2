"""CheXzero style: films and their own notes, then "X" against "no X".

After Tiu et al. 2022, "Expert-level detection of pathologies from unannotated chest
X-ray images via self-supervised learning" (Nature Biomedical Engineering 6), which
trains CLIP (Radford et al. 2021, ICML) on films with reports. Kept: InfoNCE over the
pairs of a batch, no label in training; a film's score for a finding is the softmax
over its similarity to the prompts "X" and "no X". Written from the description; no
weights or code of that work.
"""

from __future__ import annotations

import torch
from torch import Tensor

from model.baselines.contrastive import DualEncoder, align, scored
from model.baselines.prompts import embed_prompts, finding_pairs
from model.baselines.scored import Floats, Scored
from model.baselines.shared import Shared
from model.training.stages import pick


def softmax_score(films: Tensor, with_it: Tensor, without_it: Tensor) -> Tensor:
    """Mean over findings of the softmax of "X" over "X" and "no X".

    Args:
        films: (n, P).
        with_it: (k, P) prompts "X".
        without_it: (k, P) prompts "no X", same order.

    Returns:
        (n,) in (0, 1), batch sizes above 1 included.
    """
    pair = torch.stack([films @ with_it.T, films @ without_it.T], dim=-1)  # (n, k, 2)
    return pair.softmax(-1)[..., 0].mean(1)  # (n,)


def chexzero(shared: Shared) -> Scored:
    """Align films with their notes, then score by prompts."""
    config = shared.model.config
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(shared.recipe.seed)
        model = DualEncoder(config.width, config.heads)
        tokens = shared.training.tokens
        align(
            shared,
            model,
            lambda rows: model.loss(*model.embed(pick(tokens, rows))),
            "CheXzero style",
        )
    positive, negative = zip(*finding_pairs(), strict=True)
    with_it = embed_prompts(shared, model, positive)  # (k, P)
    without_it = embed_prompts(shared, model, negative)  # (k, P)

    def zero_shot(films: Tensor) -> Floats:
        score: Floats = softmax_score(films, with_it, without_it).double().numpy()
        return score

    return scored(shared, model, zero_shot)
