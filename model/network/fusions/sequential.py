"""``fusion=sequential``: one state, updated by one modality after the other.

As in MultiModN (Swamy et al. 2023): an absent modality is skipped, not replaced, so
that missingness itself cannot become a feature; and every intermediate state can be
decoded, which shows what each modality added. Skipping is decided row by row: nothing
in one record can switch an update off for another.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from model.network.blocks import FeedForward
from model.network.config import TriModalConfig
from model.network.fusions.contract import (
    Fused,
    FusionModule,
    Readable,
    learnt_tokens,
    uniform_attention,
)
from model.network.inputs import MODALITIES


class StateUpdate(nn.Module):
    """State and one modality's summary to the next state."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(2 * width)
        self.mix = nn.Linear(2 * width, width)
        self.feed_forward = FeedForward(width, multiple=4, dropout=dropout)

    def forward(self, state: Tensor, summary: Tensor) -> Tensor:
        """(B, D), (B, D) -> (B, D)."""
        both = self.norm(torch.cat([state, summary], dim=-1))  # (B, 2D)
        changed: Tensor = self.feed_forward(state + self.mix(both))  # (B, D)
        return changed


class SequentialFusion(FusionModule):
    """Image, text, values in turn, with a decision after each."""

    def __init__(self, config: TriModalConfig) -> None:
        super().__init__(config)
        self.start = learnt_tokens(1, self.width)
        self.updates = nn.ModuleList(
            StateUpdate(self.width, config.dropout) for _ in MODALITIES
        )
        self.norm = nn.LayerNorm(self.width)
        self.head = nn.Linear(self.width, self.labels)

    def forward(self, readable: Readable) -> Fused:
        """Update the state with what is there; ``steps`` are its four decisions."""
        there = readable.there  # (B, 3)
        state = self.start.expand(there.shape[0], -1)  # (B, D)
        steps = [self.head(self.norm(state))]  # (B, C)
        for m, update in enumerate(self.updates):
            changed = update(state, readable.summaries[:, m])  # (B, D)
            state = torch.where(there[:, m : m + 1], changed, state)  # (B, D)
            steps.append(self.head(self.norm(state)))
        return Fused(
            steps[-1],
            uniform_attention(readable, self.labels),
            state.unsqueeze(1).expand(-1, self.labels, -1),  # (B, C, D)
            torch.stack(steps, dim=1),  # (B, 4, C)
        )
