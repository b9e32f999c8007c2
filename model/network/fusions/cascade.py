"""``fusion=cascade``: label queries read one modality after the other, in rounds.

Cascaded cross-attention as in 3MT (Liu et al. 2023, "Cascaded Multi-Modal Mixing
Transformers for Alzheimer's disease classification with incomplete data"): a latent of
fixed length queries each modality in turn, so any of them may be absent. The modality
dropout of that work is the one that the training stages apply to every fusion.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from model.network.config import TriModalConfig
from model.network.fusions.catm import LabelDecoderLayer
from model.network.fusions.contract import (
    Fused,
    FusionModule,
    Readable,
    learnt_tokens,
)
from model.network.inputs import MODALITIES


class CascadeFusion(FusionModule):
    """``decoder_layers`` rounds over image, text, values, own weights each time."""

    def __init__(self, config: TriModalConfig) -> None:
        super().__init__(config)
        self.missing = learnt_tokens(len(MODALITIES), self.width)
        self.label_queries = learnt_tokens(self.labels, self.width)
        self.rounds = nn.ModuleList(
            nn.ModuleList(
                LabelDecoderLayer(self.width, config.heads, config.dropout)
                for _ in MODALITIES
            )
            for _ in range(config.decoder_layers)
        )
        self.norm = nn.LayerNorm(self.width)
        self.head = nn.Linear(self.width, 1)

    def forward(self, readable: Readable) -> Fused:
        """Read in turn; attention is the last round's, one third a modality."""
        batch = readable.summaries.shape[0]
        queries = self.label_queries.expand(batch, -1, -1)  # (B, C, D)
        looked: list[Tensor] = []
        for layers in self.rounds:
            looked = []
            for m, layer in enumerate(layers.children()):
                first = self.missing[m].expand(batch, 1, -1)  # (B, 1, D)
                stream = torch.cat([first, readable.streams[m]], dim=1)
                mask = readable.masks[m]
                valid = torch.cat([mask.new_ones(batch, 1), mask], dim=1)
                queries, weight = layer(queries, stream, valid)  # (B, C, 2+Nm)
                looked.append(weight / len(MODALITIES))
        attention = torch.cat(
            [w[..., :1] for w in looked] + [w[..., 1:] for w in looked], dim=-1
        )  # (B, C, 6+N)
        logits = self.head(self.norm(queries)).squeeze(-1)  # (B, C)
        return Fused(logits, attention, queries)
