"""The tri-modal network, whole: three encoders, gated cross-attention, label decoder.

Read :meth:`TriModalModel.encode` and :meth:`TriModalModel.fuse`; the forward pass is
the one after the other. Explanations need gradients through :meth:`fuse` only: the
encoders' output tokens are their leaves.

Invariants (each has a test): what an absent modality holds changes nothing, bit for
bit; masking an absent modality equals dropping it; the order of the values is
irrelevant. B records, D width, C labels, N tokens of all modalities together.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from model.network.blocks import (
    AttentionPool,
    FeedForward,
    attend,
    blank_invalid,
    join_heads,
    split_heads,
)
from model.network.config import TriModalConfig
from model.network.image_encoder import ImageEncoder
from model.network.inputs import MODALITIES, TriModalInputs
from model.network.structured_encoder import StructuredEncoder
from model.network.text_encoder import TextEncoder


@dataclass(frozen=True, slots=True)
class Tokens:
    """Encoder outputs: the interface between the encoders and the fusion module.

    Each of ``image``, ``text``, ``values`` is (B, Nm, D), each mask (B, Nm).
    """

    image: Tensor
    text: Tensor
    values: Tensor
    image_mask: Tensor
    text_mask: Tensor
    values_mask: Tensor

    def content(self) -> tuple[Tensor, Tensor, Tensor]:
        """The three token tensors in MODALITIES order."""
        return self.image, self.text, self.values

    def masks(self) -> tuple[Tensor, Tensor, Tensor]:
        """The three masks in MODALITIES order."""
        return self.image_mask, self.text_mask, self.values_mask

    def repeat(self, times: int) -> Tokens:
        """Each record ``times`` times in a row: coalitions of one case in one batch."""
        parts = (*self.content(), *self.masks())
        return Tokens(*(part.repeat_interleave(times, dim=0) for part in parts))

    def with_content(self, image: Tensor, text: Tensor, values: Tensor) -> Tokens:
        """The same masks around other token tensors (leaves of a gradient)."""
        return replace(self, image=image, text=text, values=values)


@dataclass(frozen=True, slots=True)
class FusionOutput:
    """What one pass through the fusion module gives.

    ``attention`` is where the label queries looked in the last decoder layer, over
    [3 missing tokens, then of each modality its summary and its tokens]: attention,
    not attribution.
    """

    logits: Tensor  # (B, C)
    unimodal: Tensor  # (B, 3, C), each modality's own head; meaningless where absent
    attention: Tensor  # (B, C, 6 + N), rows sum to 1
    state: Tensor  # (B, C, D), the label queries after the decoder


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


class TriModalModel(nn.Module):
    """Image, note and measurements of one patient to one logit per label."""

    def __init__(self, config: TriModalConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.image_encoder = ImageEncoder(config.image, width)
        self.text_encoder = TextEncoder(config.text, width)
        self.values_encoder = StructuredEncoder(config.values, width)
        self.missing = nn.Parameter(torch.randn(len(MODALITIES), width) * 0.5)
        self.catm = nn.ModuleList(
            CrossAttentionLayer(width, config.heads, config.dropout)
            for _ in range(config.layers)
        )
        self.synergy = Synergy(width)
        self.label_queries = nn.Parameter(torch.randn(len(config.labels), width) * 0.5)
        self.decoder = nn.ModuleList(
            LabelDecoderLayer(width, config.heads, config.dropout)
            for _ in range(config.decoder_layers)
        )
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 1)
        self.pools = nn.ModuleList(AttentionPool(width) for _ in MODALITIES)
        self.unimodal_heads = nn.ModuleList(
            nn.Linear(width, len(config.labels)) for _ in MODALITIES
        )

    def encode(self, inputs: TriModalInputs) -> Tokens:
        """Run the three encoders.

        Args:
            inputs: A batch; see :class:`TriModalInputs` for shapes.

        Returns:
            Tokens of all modalities; what belongs to an absent one is masked.
        """
        present = inputs.present  # (B, 3)
        image, image_mask = self.image_encoder(inputs.pixels, inputs.pixel_mask)
        text = self.text_encoder(inputs.input_ids, inputs.attn)  # (B, Nt, D)
        values = self.values_encoder(
            inputs.code,
            inputs.value,
            inputs.dt_hours,
            inputs.flag,
            inputs.kind,
            inputs.obs_mask,
        )  # (B, Ns, D)
        return Tokens(
            image=image,
            text=text,
            values=values,
            image_mask=image_mask & present[:, :1],  # (B, Ni)
            text_mask=inputs.attn & present[:, 1:2],  # (B, Nt)
            values_mask=inputs.obs_mask & present[:, 2:],  # (B, Ns)
        )

    def fuse(self, tokens: Tokens, present: Tensor) -> FusionOutput:
        """Mix the modalities and read the labels off.

        Args:
            tokens: Encoder outputs.
            present: (B, 3), which modalities may be used; any subset, even none.

        Returns:
            Logits and what else comes for free; see :class:`FusionOutput`.
        """
        streams, masks, summaries = self._readable(tokens, present)
        unimodal = self._unimodal(summaries)  # (B, 3, C)
        together = self.synergy(summaries).unsqueeze(1)  # (B, 1, D)
        always = torch.ones_like(present)  # (B, 3), for the missing tokens
        valid = [torch.cat([always[:, :1], mask], dim=1) for mask in masks]
        for layer in self.catm:
            streams = layer(streams, self.missing, valid)  # 3 x (B, 1+Nm, D)
        batch = present.shape[0]
        missing = self.missing.expand(batch, -1, -1)  # (B, 3, D)
        everything = torch.cat([missing, *streams], dim=1)  # (B, 6+N, D)
        readable = torch.cat([always, *masks], dim=1)  # (B, 6+N)
        queries = self.label_queries + together  # (B, C, D)
        attention = everything.new_zeros(())
        for decoder in self.decoder:
            queries, attention = decoder(queries, everything, readable)
        logits = self.head(self.norm(queries)).squeeze(-1)  # (B, C)
        return FusionOutput(logits, unimodal, attention, queries)

    def forward(self, inputs: TriModalInputs) -> FusionOutput:
        """Encode, then fuse with what is present."""
        return self.fuse(self.encode(inputs), inputs.present)

    def _readable(
        self, tokens: Tokens, present: Tensor
    ) -> tuple[list[Tensor], list[Tensor], Tensor]:
        """Each modality's summary before its tokens, blank where it is absent.

        The summary is the modality's pooled state: what it says as a whole. A modality
        that no record of the batch has is dropped, which equals masking it.

        Returns:
            Streams 3 x (B, 1+Nm, D), masks 3 x (B, 1+Nm), summaries (B, 3, D), which
            are zero where the modality is absent.
        """
        streams, masks, summaries = [], [], []
        for m, (x, mask) in enumerate(zip(tokens.content(), tokens.masks())):
            keep = mask & present[:, m : m + 1]  # (B, Nm)
            there = keep.any(1, keepdim=True)  # (B, 1)
            if not bool(there.any()):
                streams.append(x[:, :0])  # (B, 0, D)
                masks.append(keep[:, :0])  # (B, 0)
                summaries.append(x.new_zeros(x.shape[0], x.shape[2]))  # (B, D)
                continue
            x = blank_invalid(x, keep)  # (B, Nm, D)
            summary = self.pools[m](x, keep)  # (B, D)
            summary = blank_invalid(summary.unsqueeze(1), there)  # (B, 1, D)
            streams.append(torch.cat([summary, x], dim=1))  # (B, 1+Nm, D)
            masks.append(torch.cat([there, keep], dim=1))  # (B, 1+Nm)
            summaries.append(summary.squeeze(1))
        return streams, masks, torch.stack(summaries, dim=1)

    def _unimodal(self, summaries: Tensor) -> Tensor:
        """Each modality's own estimate from its summary: (B, 3, D) -> (B, 3, C)."""
        parts = zip(self.unimodal_heads, summaries.unbind(1))
        return torch.stack([head(summary) for head, summary in parts], dim=1)

    def direction_gates(self) -> dict[str, list[float]]:
        """tanh(g) of every direction, one number per layer ("text->image": ...)."""
        gates: dict[str, list[float]] = {}
        for m, reader in enumerate(MODALITIES):
            for j, read in enumerate(MODALITIES):
                if m != j:
                    name = f"{reader}->{read}"
                    gates[name] = [
                        float(torch.tanh(layer.get_parameter("gates")[m, j].detach()))
                        for layer in self.catm
                    ]
        return gates
