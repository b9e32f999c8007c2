"""Radiograph to tokens: a timm vision transformer, patch tokens projected to D.

The patch tokens, not the class token, go to the fusion module: with a head on the class
token alone the last block's patch outputs would have no gradient, and no map could be
drawn from them.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from model.inference.torchvision_ops import declare_missing_operators
from model.network.config import ImageConfig


def _vision_transformer(config: ImageConfig) -> Any:
    """A timm ViT with one input channel and no head, randomly initialised."""
    declare_missing_operators()
    import timm  # after the operators exist

    return timm.create_model(
        "vit_tiny_patch16_224",
        pretrained=False,
        in_chans=1,
        num_classes=0,
        img_size=config.size,
        patch_size=config.patch,
        embed_dim=config.width,
        depth=config.depth,
        num_heads=config.heads,
    )


class ImageEncoder(nn.Module):
    """(B, V, 1, H, W) pixels to (B, V * grid * grid, D) tokens."""

    def __init__(self, config: ImageConfig, width: int) -> None:
        super().__init__()
        self.config = config
        self.vit = _vision_transformer(config)
        self.view = nn.Embedding(config.views, width)
        self.project = nn.Linear(config.width, width)
        self.norm = nn.LayerNorm(width)

    @property
    def grid(self) -> tuple[int, int]:
        """Patches from top to bottom and from left to right."""
        rows, columns = self.vit.patch_embed.grid_size
        return int(rows), int(columns)

    def forward(self, pixels: Tensor, pixel_mask: Tensor) -> tuple[Tensor, Tensor]:
        """Encode every view.

        Args:
            pixels: (B, V, 1, H, W) standardised intensities.
            pixel_mask: (B, V), which views exist.

        Returns:
            Tokens (B, Ni, D), row-major over the patch grid of each view in turn, and
            their mask (B, Ni).
        """
        batch, views = pixel_mask.shape
        features = self.vit.forward_features(pixels.flatten(0, 1))  # (B*V, P+N, W)
        patches = features[:, self.vit.num_prefix_tokens :]  # (B*V, N, W)
        patches = patches.unflatten(0, (batch, views))  # (B, V, N, W)
        tokens = self.project(patches)  # (B, V, N, D)
        numbers = torch.arange(views, device=pixels.device)
        tokens = self.norm(tokens + self.view(numbers)[:, None])  # (B, V, N, D)
        mask = pixel_mask[:, :, None].expand(-1, -1, tokens.shape[2])  # (B, V, N)
        return tokens.flatten(1, 2), mask.flatten(1)  # (B, Ni, D), (B, Ni)
