"""``fusion=bottleneck``: modalities meet in a handful of shared tokens only.

Attention bottlenecks (Nagrani et al. 2021): in each layer every modality attends to
itself and to the bottleneck tokens, and the bottlenecks of the present modalities are
averaged. Label queries read the bottlenecks alone, so nothing goes around them.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from model.network.blocks import SelfAttention
from model.network.config import TriModalConfig
from model.network.fusions.catm import LabelDecoderLayer
from model.network.fusions.contract import (
    Fused,
    FusionModule,
    Readable,
    learnt_tokens,
    uniform_attention,
)
from model.network.inputs import MODALITIES

BOTTLENECKS = 4


class BottleneckFusion(FusionModule):
    """``layers`` layers of self-attention per modality around shared tokens."""

    def __init__(self, config: TriModalConfig) -> None:
        super().__init__(config)
        self.bottleneck = learnt_tokens(BOTTLENECKS, self.width)
        self.missing = learnt_tokens(len(MODALITIES), self.width)
        self.layers = nn.ModuleList(
            nn.ModuleList(
                SelfAttention(self.width, config.heads, config.dropout)
                for _ in MODALITIES
            )
            for _ in range(max(2, config.layers))  # one layer only gathers
        )
        self.label_queries = learnt_tokens(self.labels, self.width)
        self.decoder = LabelDecoderLayer(self.width, config.heads, config.dropout)
        self.norm = nn.LayerNorm(self.width)
        self.head = nn.Linear(self.width, 1)

    def forward(self, readable: Readable) -> Fused:
        """Exchange through the bottlenecks, then read the labels off them."""
        there = readable.there  # (B, 3)
        batch = there.shape[0]
        shared = self.bottleneck.expand(batch, -1, -1)  # (B, K, D)
        streams = list(readable.streams)
        for layers in self.layers:
            views = []
            for m, layer in enumerate(layers.children()):
                both = torch.cat([shared, streams[m]], dim=1)  # (B, K+1+Nm, D)
                mask = readable.masks[m]
                open_ = mask.new_ones(batch, BOTTLENECKS)
                both = layer(both, torch.cat([open_, mask], dim=1))
                views.append(both[:, :BOTTLENECKS])  # (B, K, D)
                streams[m] = both[:, BOTTLENECKS:]  # (B, 1+Nm, D)
            shared = _averaged(shared, views, there)  # (B, K, D)
        absent = torch.where(
            there.unsqueeze(-1), shared.new_zeros(()), self.missing
        )  # (B, 3, D)
        readings = torch.cat([shared, absent], dim=1)  # (B, K+3, D)
        queries = self.label_queries.expand(batch, -1, -1)  # (B, C, D)
        always = there.new_ones(batch, readings.shape[1])
        queries, _ = self.decoder(queries, readings, always)  # (B, C, D)
        logits = self.head(self.norm(queries)).squeeze(-1)  # (B, C)
        return Fused(logits, uniform_attention(readable, self.labels), queries)


def _averaged(before: Tensor, views: list[Tensor], there: Tensor) -> Tensor:
    """Mean of the present modalities' (B, K, D); as ``before`` where none is."""
    kept = there[:, :, None, None]  # (B, 3, 1, 1)
    stacked = torch.stack(views, dim=1)  # (B, 3, K, D)
    total = torch.where(kept, stacked, stacked.new_zeros(())).sum(1)  # (B, K, D)
    count = there.sum(1)[:, None, None]  # (B, 1, 1)
    return torch.where(count > 0, total / count.clamp(min=1), before)
