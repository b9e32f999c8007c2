"""``fusion=concat``: pooled states side by side into one wide perceptron.

Its parameter count is that of the CATM with the same configuration, so that a
difference between the two is one of structure, not of size.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from model.network.config import TriModalConfig
from model.network.fusions.catm import CatmFusion
from model.network.fusions.contract import (
    Fused,
    FusionModule,
    Readable,
    learnt_tokens,
    uniform_attention,
)
from model.network.inputs import MODALITIES


def catm_parameters(config: TriModalConfig) -> int:
    """Parameters of the CATM with this configuration, counted without memory."""
    with torch.device("meta"):
        return sum(p.numel() for p in CatmFusion(config).parameters())


def hidden_width(config: TriModalConfig) -> int:
    """Width h of both hidden layers that makes the perceptron as large as the CATM.

    With input i = 3D + 3 its parameters are h^2 + h(i + D + 6) + 3D + D(C + 1) + C.
    """
    width, labels = config.width, len(config.labels)
    inputs = len(MODALITIES) * (width + 1)
    linear = inputs + width + 6
    constant = len(MODALITIES) * width + width * (labels + 1) + labels
    wanted = max(catm_parameters(config) - constant, linear + 1)
    return max(1, round((math.sqrt(linear**2 + 4 * wanted) - linear) / 2))


class ConcatFusion(FusionModule):
    """Missing tokens in the place of what is absent, presence flags beside."""

    def __init__(self, config: TriModalConfig) -> None:
        super().__init__(config)
        hidden = hidden_width(config)
        self.missing = learnt_tokens(len(MODALITIES), self.width)
        self.perceptron = nn.Sequential(
            nn.Linear(len(MODALITIES) * (self.width + 1), hidden),
            nn.GELU(),
            nn.LayerNorm(hidden),
            nn.Dropout(config.dropout),
            nn.Linear(hidden, hidden),
            nn.GELU(),
            nn.LayerNorm(hidden),
            nn.Dropout(config.dropout),
            nn.Linear(hidden, self.width),
        )
        self.head = nn.Linear(self.width, self.labels)

    def forward(self, readable: Readable) -> Fused:
        """One pass of the perceptron."""
        there = readable.there  # (B, 3)
        parts: Tensor = torch.where(
            there.unsqueeze(-1), readable.summaries, self.missing
        )  # (B, 3, D)
        flags = there.to(parts.dtype)  # (B, 3)
        state = self.perceptron(torch.cat([parts.flatten(1), flags], dim=1))  # (B, D)
        return Fused(
            self.head(state),  # (B, C)
            uniform_attention(readable, self.labels),
            state.unsqueeze(1).expand(-1, self.labels, -1),  # (B, C, D)
        )
