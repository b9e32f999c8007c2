"""The tri-modal network, whole: three encoders, then one of the fusion modules.

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

from model.network.blocks import AttentionPool, blank_invalid
from model.network.config import TriModalConfig
from model.network.fusions.catm import CatmFusion
from model.network.fusions.contract import Fused, FusionOutput, Readable
from model.network.fusions.registry import build_fusion
from model.network.image_encoder import ImageEncoder
from model.network.inputs import IMAGE, MODALITIES, TEXT, TriModalInputs
from model.network.structured_encoder import StructuredEncoder
from model.network.text_encoder import TextEncoder

__all__ = ["FusionOutput", "Tokens", "TriModalModel"]


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


class TriModalModel(nn.Module):
    """Image, note and measurements of one patient to one logit per label."""

    def __init__(self, config: TriModalConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.image_encoder = ImageEncoder(config.image, width)
        self.text_encoder = TextEncoder(config.text, width)
        self.values_encoder = StructuredEncoder(config.values, width)
        self.fusion = build_fusion(config)
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
        parts = [self.encode_modality(inputs, m) for m in range(len(MODALITIES))]
        return Tokens(*(x for x, _ in parts), *(mask for _, mask in parts))

    def encode_modality(self, inputs: TriModalInputs, m: int) -> tuple[Tensor, Tensor]:
        """Run one encoder.

        Args:
            inputs: A batch.
            m: Index into MODALITIES.

        Returns:
            Tokens (B, Nm, D) and their mask (B, Nm), False where the modality is
            absent.
        """
        here = inputs.present[:, m : m + 1]  # (B, 1)
        if m == IMAGE:
            image, mask = self.image_encoder(
                inputs.pixels,
                inputs.pixel_mask & here,
                inputs.view_kind,
                inputs.view_dt,
                inputs.view_place,
            )
            return image, mask  # (B, Ni, D), (B, Ni)
        if m == TEXT:
            text = self.text_encoder(
                inputs.input_ids, inputs.attn, inputs.section, inputs.window
            )
            return text, inputs.attn & here  # (B, Nt, D), (B, Nt)
        values = self.values_encoder(
            inputs.code,
            inputs.value,
            inputs.dt_hours,
            inputs.flag,
            inputs.kind,
            inputs.obs_mask,
        )
        return values, inputs.obs_mask & here  # (B, Ns, D), (B, Ns)

    def fuse(self, tokens: Tokens, present: Tensor) -> FusionOutput:
        """Mix the modalities and read the labels off.

        Args:
            tokens: Encoder outputs.
            present: (B, 3), which modalities may be used; any subset, even none.

        Returns:
            Logits and what else comes for free; see :class:`FusionOutput`.
        """
        readable = self._readable(tokens, present)
        fused: Fused = self.fusion(readable)
        return FusionOutput(
            logits=fused.logits,
            unimodal=self._unimodal(readable.summaries),
            attention=fused.attention,
            state=fused.state,
            steps=fused.steps,
        )

    def forward(self, inputs: TriModalInputs) -> FusionOutput:
        """Encode, then fuse with what is present."""
        return self.fuse(self.encode(inputs), inputs.present)

    def _readable(self, tokens: Tokens, present: Tensor) -> Readable:
        """Each modality's summary before its tokens, blank where it is absent.

        The summary is the modality's pooled state: what it says as a whole. A modality
        that no record of the batch has is dropped, which equals masking it.
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
        return Readable(tuple(streams), tuple(masks), torch.stack(summaries, dim=1))

    def _unimodal(self, summaries: Tensor) -> Tensor:
        """Each modality's own estimate from its summary: (B, 3, D) -> (B, 3, C)."""
        parts = zip(self.unimodal_heads, summaries.unbind(1))
        return torch.stack([head(summary) for head, summary in parts], dim=1)

    def direction_gates(self) -> dict[str, list[float]]:
        """tanh(g) of every direction, one number per layer ("text->image": ...).

        Empty for a fusion without gates.
        """
        if isinstance(self.fusion, CatmFusion):
            return self.fusion.direction_gates()
        return {}
