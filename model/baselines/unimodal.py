"""One modality alone: the note, the film or the measurements.

The encoder is the shared one of that modality (a ViT, a BERT, a transformer over
values), its pooled state goes through a small perceptron. Nothing of the other two
modalities is ever read.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.baselines.scored import Floats, Scored
from model.baselines.shared import Part, Shared
from model.network.inputs import MODALITIES
from model.training.optimise import optimise


class StateHead(nn.Module):
    """State (B, D) to one logit (B,)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, width),
            nn.GELU(),
            nn.Linear(width, 1),
        )

    def forward(self, state: Tensor) -> Tensor:
        """(B, D) -> (B,)."""
        logit: Tensor = self.layers(state).squeeze(-1)  # (B,)
        return logit


@torch.no_grad()
def states(shared: Shared, part: Part, m: int) -> Tensor:
    """Pooled state (n, D) of modality ``m`` of every case."""
    content, masks = part.tokens.content()[m], part.tokens.masks()[m]
    pooled: Tensor = shared.model.pools[m](content, masks)  # (n, D)
    return pooled


def unimodal(shared: Shared, modality: str) -> Scored:
    """Fit the perceptron on one modality's state.

    Args:
        shared: Cases and encoders of one seed.
        modality: "image", "text" or "values".
    """
    m, recipe = MODALITIES.index(modality), shared.recipe
    seen = states(shared, shared.training, m)  # (n, D)
    target = shared.training.prepared.targets[:, 0]  # (n,)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        head = StateHead(seen.shape[1])
        optimise(
            f"{modality} alone",
            head.parameters(),
            len(seen),
            lambda rows: F.binary_cross_entropy_with_logits(
                head(seen[rows]), target[rows]
            ),
            shared.settings.head,
            seed=recipe.seed,
            progress=recipe.progress,
        )
    head.eval()

    def logits(part: Part) -> Floats:
        with torch.no_grad():
            found: Floats = head(states(shared, part, m)).double().numpy()
        return found

    count = float(sum(p.numel() for p in head.parameters()))
    return Scored(
        {modality: logits(shared.held_out)},
        {modality: logits(shared.tested)},
        {"parameters": count},
    )
