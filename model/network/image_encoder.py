"""Films and slices to tokens: any timm backbone, its patch tokens projected to D.

The patch tokens, not the class token alone, go to the fusion module: with a head on the
class token the last block's patch outputs would have no gradient, and no map could be
drawn from them. Where ``global_token`` is set, the global state of each view follows
after all patch tokens, so that the place of a patch stays what the grid says.

Views that do not exist are never encoded: they cost nothing and hold nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from model.network.config import ImageConfig
from model.network.image_backbone import Backbone, build_backbone, grid_of
from model.network.inputs import VIEW_KINDS

_DAYS_SCALE = 8.0  # log1p of some eight years


@dataclass(frozen=True, slots=True)
class ImageFeatures:
    """What the encoder makes of a batch of studies."""

    tokens: Tensor  # (B, Ni, D), row-major over the grid of each view in turn
    mask: Tensor  # (B, Ni) bool
    whole: Tensor  # (B, V, D), global state of each view, zero where there is none


class ImageEncoder(nn.Module):
    """(B, V, 1, H, W) pixels to (B, V * rows * columns, D) tokens."""

    def __init__(self, config: ImageConfig, width: int) -> None:
        super().__init__()
        self.config = config
        self.vit: Backbone = build_backbone(config)  # named when there were only ViTs
        self.grid: tuple[int, int] = grid_of(self.vit, config.size)
        several = config.views > 1
        self.view = nn.Embedding(len(VIEW_KINDS) if several else 1, width)
        self.project = nn.Linear(self.vit.num_features, width)
        self.norm = nn.LayerNorm(width)
        if several:
            # From zero: a kind that training never showed must not add noise.
            self.age = nn.Linear(1, width, bias=False)
            self.place = nn.Linear(1, width, bias=False)
            for table in (self.view, self.age, self.place):
                nn.init.zeros_(table.weight)

    def forward(
        self,
        pixels: Tensor,
        pixel_mask: Tensor,
        view_kind: Tensor | None = None,
        view_dt: Tensor | None = None,
        view_place: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Encode every view that exists; see :meth:`features`.

        Returns:
            Tokens (B, Ni, D) and their mask (B, Ni).
        """
        found = self.features(pixels, pixel_mask, view_kind, view_dt, view_place)
        return found.tokens, found.mask

    def features(
        self,
        pixels: Tensor,
        pixel_mask: Tensor,
        view_kind: Tensor | None = None,
        view_dt: Tensor | None = None,
        view_place: Tensor | None = None,
    ) -> ImageFeatures:
        """Encode every view that exists.

        Args:
            pixels: (B, V, 1, H, W) standardised intensities.
            pixel_mask: (B, V), which views exist.
            view_kind: (B, V) index into VIEW_KINDS; frontal when not given.
            view_dt: (B, V) days by which the film is older than the current study.
            view_place: (B, V) place of a slice along its axis, 0 to 1.

        Returns:
            Patch tokens of each view in turn, row-major, and the global states.
        """
        batch, views = pixel_mask.shape
        rows = pixel_mask.flatten().nonzero().squeeze(1)  # (R,), the existing views
        about = self._about(pixel_mask, view_kind, view_dt, view_place)  # (B, V, D)
        cells = self.grid[0] * self.grid[1]
        full = about.new_zeros(batch * views, cells + 1, about.shape[-1])
        if len(rows):
            found = self._encoded(pixels.flatten(0, 1)[rows])  # (R, N+1, D)
            found = self.norm(found + about.flatten(0, 1)[rows].unsqueeze(1))
            full = full.to(found.dtype).index_copy(0, rows, found)  # (B*V, N+1, D)
        full = full.view(batch, views, *full.shape[1:])  # (B, V, N+1, D)
        places, states = full[:, :, :-1], full[:, :, -1]  # (B, V, N, D), (B, V, D)
        mask = pixel_mask[:, :, None].expand(-1, -1, places.shape[2])  # (B, V, N)
        tokens, mask = places.flatten(1, 2), mask.flatten(1)  # (B, Ni, D), (B, Ni)
        if self.config.global_token:
            tokens = torch.cat([tokens, states], dim=1)  # (B, V*N+V, D)
            mask = torch.cat([mask, pixel_mask], dim=1)
        return ImageFeatures(tokens, mask, states)

    def _encoded(self, pixels: Tensor) -> Tensor:
        """Patch tokens, then the global state: (R, 1, H, W) -> (R, N+1, D)."""
        raw = self.vit.forward_features(pixels)
        patches = patch_tokens(self.vit, raw)  # (R, N, W)
        whole = self.vit.forward_head(raw, pre_logits=True)  # (R, W)
        both = torch.cat([patches, whole.unsqueeze(1)], dim=1)  # (R, N+1, W)
        projected: Tensor = self.project(both)  # (R, N+1, D)
        return projected

    def _about(
        self,
        pixel_mask: Tensor,
        kind: Tensor | None,
        days: Tensor | None,
        place: Tensor | None,
    ) -> Tensor:
        """What is known of each view besides its pixels: (B, V, D)."""
        if self.config.views == 1:
            zero = torch.zeros_like(pixel_mask, dtype=torch.long)
            about: Tensor = self.view(zero)
            return about
        nothing = torch.zeros_like(pixel_mask, dtype=self.norm.weight.dtype)
        kind = torch.zeros_like(pixel_mask, dtype=torch.long) if kind is None else kind
        days = nothing if days is None else torch.log1p(days) / _DAYS_SCALE
        place = nothing if place is None else place
        older, where = self.age(days.unsqueeze(-1)), self.place(place.unsqueeze(-1))
        about = self.view(kind) + older + where  # (B, V, D)
        return about


def patch_tokens(backbone: Backbone, features: Tensor) -> Tensor:
    """The patch tokens of a backbone's feature map: (R, rows * columns, W).

    Args:
        backbone: Where the features come from.
        features: (R, P+N, W) with P prefix tokens, or a map (R, rows, columns, W) or
            (R, W, rows, columns).
    """
    if features.ndim == 3:
        return features[:, getattr(backbone, "num_prefix_tokens", 0) :]
    if getattr(backbone, "output_fmt", "NCHW") == "NHWC":
        return features.flatten(1, 2)
    return features.flatten(2).transpose(1, 2)
