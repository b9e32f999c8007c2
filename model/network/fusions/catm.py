"""The cross-attention transformer module: gated cross-attention in all directions.

Every modality reads every other one through its own gate, so that "text reads image"
can be logged and measured apart; then label queries read all tokens. A product of the
three summaries is handed to the label queries, because agreement of all three is what
a sum of attended values cannot say.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from model.network.blocks import FeedForward, attend, join_heads, split_heads
from model.network.config import TriModalConfig
from model.network.fusions.contract import (
    Fused,
    FusionModule,
    Readable,
    learnt_tokens,
)
from model.network.inputs import MODALITIES


class CrossAttentionLayer(nn.Module):
    """One CATM layer: every modality reads every other one through its own gate.

    X_m <- X_m + O_m sum over j of tanh(g_mj) Attention(X_m, [missing_j, X_j]), then a
    feed-forward. Keys and values are projected once per modality, and each direction
    has its own gate, so that "text reads image" can be measured apart.
    """

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.gates = nn.Parameter(torch.full((3, 3), 0.1))  # (reader, read)
        self.norm = nn.ModuleList(nn.LayerNorm(width) for _ in MODALITIES)
        self.query = nn.ModuleList(nn.Linear(width, width) for _ in MODALITIES)
        self.key_value = nn.ModuleList(nn.Linear(width, 2 * width) for _ in MODALITIES)
        self.out = nn.ModuleList(nn.Linear(width, width) for _ in MODALITIES)
        self.feed_forward = nn.ModuleList(
            FeedForward(width, dropout=dropout) for _ in MODALITIES
        )

    def forward(
        self, streams: list[Tensor], missing: Tensor, valid: list[Tensor]
    ) -> list[Tensor]:
        """One layer over all three streams.

        Args:
            streams: Three tensors (B, Nm, D), summary first; Nm may be 0.
            missing: (3, D), the tokens that are always valid.
            valid: Three masks (B, 1 + Nm) over [missing token, content].

        Returns:
            The three updated streams, same shapes.
        """
        gate = torch.tanh(self.gates)  # (3, 3)
        normed = [norm(x) for norm, x in zip(self.norm, streams)]  # (B, Nm, D)
        keys, values = [], []
        for m, x in enumerate(normed):
            first = missing[m].expand(x.shape[0], 1, -1)  # (B, 1, D)
            both = self.key_value[m](torch.cat([first, x], dim=1))  # (B, 1+Nm, 2D)
            k, v = both.chunk(2, dim=-1)
            keys.append(split_heads(k, self.heads))  # (B, h, 1+Nm, d)
            values.append(split_heads(v, self.heads))  # (B, h, 1+Nm, d)
        updated = []
        for m, x in enumerate(streams):
            if x.shape[1] == 0:  # dropped: nobody reads and nobody is read
                updated.append(x)
                continue
            q = split_heads(self.query[m](normed[m]), self.heads)  # (B, h, Nm, d)
            read = torch.stack(
                [
                    gate[m, j] * attend(q, keys[j], values[j], valid[j])
                    for j in range(3)
                    if j != m
                ]
            ).sum(
                0
            )  # (B, h, Nm, d)
            x = x + self.out[m](join_heads(read))  # (B, Nm, D)
            updated.append(self.feed_forward[m](x))  # (B, Nm, D)
        return updated


class Synergy(nn.Module):
    """What the modalities say together: a product of one factor per modality.

    z = W product over m of (1 + U_m s_m), s_m the summary of modality m; an absent one
    contributes the factor 1. Expanded, the product holds every single, pairwise and
    three-way interaction, so agreement of all three is one step away for the optimiser;
    a sum of what was attended to would have to build it in a feed-forward.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.factors = nn.ModuleList(
            nn.Linear(width, 2 * width, bias=False) for _ in MODALITIES
        )
        self.norm = nn.LayerNorm(2 * width)
        self.out = nn.Linear(2 * width, width)

    def forward(self, summaries: Tensor) -> Tensor:
        """(B, 3, D), zero where a modality is absent -> (B, D)."""
        image, text, values = summaries.unbind(1)  # 3 x (B, D)
        own = (self.factors[m](x) for m, x in enumerate((image, text, values)))
        product = torch.stack([1.0 + factor for factor in own]).prod(0)  # (B, 2D)
        state: Tensor = self.out(self.norm(product))  # (B, D)
        return state


class LabelDecoderLayer(nn.Module):
    """Label queries read all tokens; plain softmax: its weights are returned."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm_queries = nn.LayerNorm(width)
        self.norm_tokens = nn.LayerNorm(width)
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)
        self.feed_forward = FeedForward(width, multiple=4, dropout=dropout)

    def forward(
        self, queries: Tensor, tokens: Tensor, valid: Tensor
    ) -> tuple[Tensor, Tensor]:
        """(B, C, D), (B, N, D), (B, N) -> states (B, C, D), attention (B, C, N)."""
        q = split_heads(self.query(self.norm_queries(queries)), self.heads)
        k, v = self.key_value(self.norm_tokens(tokens)).chunk(2, dim=-1)
        k, v = split_heads(k, self.heads), split_heads(v, self.heads)  # (B, h, N, d)
        score = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5  # (B, h, C, N)
        score = score.masked_fill(~valid[:, None, None, :], float("-inf"))
        weight = score.softmax(-1)  # (B, h, C, N)
        queries = queries + self.out(join_heads(weight @ v))  # (B, C, D)
        return self.feed_forward(queries), weight.mean(1)  # (B, C, D), (B, C, N)


class CatmFusion(FusionModule):
    """``fusion=catm``: the paper's fusion, with every direction gated and logged."""

    def __init__(self, config: TriModalConfig) -> None:
        super().__init__(config)
        width = config.width
        self.missing = learnt_tokens(len(MODALITIES), width)
        self.catm = nn.ModuleList(
            CrossAttentionLayer(width, config.heads, config.dropout)
            for _ in range(config.layers)
        )
        self.synergy = Synergy(width)
        self.label_queries = learnt_tokens(self.labels, width)
        self.decoder = nn.ModuleList(
            LabelDecoderLayer(width, config.heads, config.dropout)
            for _ in range(config.decoder_layers)
        )
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 1)

    def forward(self, readable: Readable) -> Fused:
        """Mix the streams, then let the label queries read all of them."""
        streams, masks = list(readable.streams), readable.masks
        batch = readable.summaries.shape[0]
        together = self.synergy(readable.summaries).unsqueeze(1)  # (B, 1, D)
        always = masks[0].new_ones(batch, len(MODALITIES))  # (B, 3), missing tokens
        valid = [torch.cat([always[:, :1], mask], dim=1) for mask in masks]
        for layer in self.catm:
            streams = layer(streams, self.missing, valid)  # 3 x (B, 1+Nm, D)
        missing = self.missing.expand(batch, -1, -1)  # (B, 3, D)
        everything = torch.cat([missing, *streams], dim=1)  # (B, 6+N, D)
        valid_all = torch.cat([always, *masks], dim=1)  # (B, 6+N)
        queries = self.label_queries + together  # (B, C, D)
        attention = everything.new_zeros(())
        for decoder in self.decoder:
            queries, attention = decoder(queries, everything, valid_all)
        logits = self.head(self.norm(queries)).squeeze(-1)  # (B, C)
        return Fused(logits, attention, queries)

    def direction_gates(self) -> dict[str, list[float]]:
        """tanh(g) of every direction, one number per layer ("text->image": ...)."""
        gates: dict[str, list[float]] = {}
        for m, reader in enumerate(MODALITIES):
            for j, read in enumerate(MODALITIES):
                if m != j:
                    gates[f"{reader}->{read}"] = [
                        float(torch.tanh(layer.get_parameter("gates")[m, j].detach()))
                        for layer in self.catm
                    ]
        return gates
