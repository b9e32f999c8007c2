"""``fusion=late``: every modality decides alone, and the logits are averaged.

The baseline that cannot see agreement: no token of one modality meets another.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from model.network.config import TriModalConfig
from model.network.fusions.contract import (
    Fused,
    FusionModule,
    Readable,
    uniform_attention,
)
from model.network.inputs import MODALITIES


class LateFusion(FusionModule):
    """Mean of one linear head per modality over the present ones."""

    def __init__(self, config: TriModalConfig) -> None:
        super().__init__(config)
        self.heads = nn.ModuleList(
            nn.Linear(self.width, self.labels) for _ in MODALITIES
        )
        self.prior = nn.Parameter(torch.zeros(self.labels))

    def forward(self, readable: Readable) -> Fused:
        """Average; with nothing present the learnt prior answers."""
        there = readable.there.unsqueeze(-1)  # (B, 3, 1)
        summaries = readable.summaries  # (B, 3, D)
        own = torch.stack(
            [head(x) for head, x in zip(self.heads, summaries.unbind(1))], dim=1
        )  # (B, 3, C)
        logits = mean_where(own, there)  # (B, C)
        logits = torch.where(there.any(1), logits, self.prior)  # (B, C)
        state = mean_where(summaries, there).unsqueeze(1)  # (B, 1, D)
        return Fused(
            logits,
            uniform_attention(readable, self.labels),
            state.expand(-1, self.labels, -1),  # (B, C, D)
        )


def mean_where(x: Tensor, there: Tensor) -> Tensor:
    """Mean over axis 1 of (B, M, K) where ``there`` (B, M, 1); 0 where nothing is."""
    kept = torch.where(there, x, x.new_zeros(()))  # (B, M, K)
    return kept.sum(1) / there.sum(1).clamp(min=1)  # (B, K)
